"""Algorithm 2 of DeMoss et al. 2025: one bin size for all weights, no decomposition.

A comparison with it shows how much the decomposition of Algorithm 1 saves: about half of the bits (their Fig. 7).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nncomplexity.search.contract import UNIFORM, Found, checked_budget
from nncomplexity.search.points import Gauge, Points, checked_range
from nncomplexity.search.problem import Problem
from nncomplexity.search.stopping import UntilStopped


@dataclass(frozen=True)
class Quantize:
    """Bin sizes Δ from small to large on a logarithmic grid. The answer is the smallest `paper_bytes` within ε.

    All bin sizes are tried, because the loss is not monotone in Δ. Each is measured once for all ε. With a codec other than bzip2, a bin size
    below a quarter of the largest one within ε is not compared, because it takes about two bits a weight more.

    Attributes:
        budget: loss evaluations. The last one measures the written file, and the grid has a bin size for each of the others.
        steps: the smallest and the largest Δ, in the units of the weights.
    """

    budget: float = 62
    steps: tuple[float, float] = (1e-3, 1.0)

    name = "quantize"
    codec = "bzip2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", checked_budget(self.budget, least=2))
        checked_range("steps", self.steps)

    def grid(self) -> list[float]:
        """The bin sizes, from small to large."""
        return [float(step) for step in np.geomspace(*self.steps, int(self.budget) - 1)]

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        """The smallest file for each ε, in the order of `eps`."""
        gauge = Gauge(problem)
        points = Points(problem, UNIFORM)
        tries = int(self.budget) - 1
        with UntilStopped(problem.progress) as search:
            for step in self.grid():
                problem.progress(len(points.measured), tries, f"bin size {step:.4g}")
                points.measure(step)
        shared = gauge.read().share(max(len(eps), 1))
        found = []
        for value in eps:
            best = points.best(value)
            found.append((shared + gauge.read()).found(best, search.stopped))
        return found
