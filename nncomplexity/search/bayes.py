"""Algorithm 1 of DeMoss et al. 2025: Bayesian optimisation of one τ and one Δ for all weights, with ε as a constraint.

docs/paper.md says which parts are the paper's, where the authors' code departs from it, and how each departure changes the size.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from nncomplexity.search.constrained import ConstrainedStudy, load_optuna
from nncomplexity.search.contract import Found, checked_budget
from nncomplexity.search.points import Effort, Gauge, Point, Points, checked_range
from nncomplexity.search.problem import Problem
from nncomplexity.search.shared import START, Alone, Measure, SharedPoints
from nncomplexity.search.stopping import UntilStopped

_START = 12
"""Points measured before there is a model: two probes and ten random points, as in the authors' code."""

_GAUSSIAN = 10
"""The number of proposals by a Gaussian process. Each takes a tenth of a second, about as long as the loss of a small network."""


@dataclass(frozen=True)
class Bayes:
    """τ ∈ [0, 1] and log Δ, proposed by a Bayesian optimiser (`Optimizer`). The answer is the point with the smallest `paper_bytes` within ε.

    ε is a constraint on the optimiser's trials. So the optimiser ranks infeasible points by their violation, and can't mistake one for a large
    feasible point. Points don't depend on ε: the first dozen are measured once for all ε. The optimiser of each ε begins with the points that
    were measured before and are within it. The answer for each ε is the smallest of all measured points.

    Attributes:
        budget: loss evaluations for each ε. The last one measures the file that was written.
        steps: the smallest and the largest Δ, in the units of the weights.
        storage: where several processes share the search (`SharedPoints`): a URL such as sqlite:///search.db, the name of a file, or a
            storage of Optuna's. The budget is then that of all processes together, and the result depends on their timing.
    """

    budget: float = 62
    steps: tuple[float, float] = (1e-3, 1.0)
    storage: Any = field(default=None, compare=False, repr=False)  # where it is shared says nothing of what is found

    name = "bayes"
    codec = "bzip2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", checked_budget(self.budget, least=2))
        checked_range("steps", self.steps)

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        """The smallest file found for each ε, in the order of `eps`. Raises InputError where Optuna is not installed."""
        load_optuna()  # before anything is measured
        gauge = Gauge(problem)
        points = Points(problem, "Bayesian optimisation")
        tries = int(self.budget) - 1
        start = start_points(min(_START, tries), self.steps, problem.seed)
        total = len(start) + len(eps) * (tries - len(start))

        def measure(step: float, tau: float) -> Point:
            problem.progress(len(points.measured), total, f"bin size {step:.4g}, singular values {tau:.0%}")
            return points.measure(step, tau)

        turns = Alone(measure) if self.storage is None else SharedPoints(self.storage, problem, self.steps, measure)
        known: list[Point] = []
        with UntilStopped(problem.progress) as first:
            for step, tau in start:
                if point := turns.measure(START, len(start), step, tau):
                    known.append(point)
        others = turns.news()
        known += [point for part, point in others if part == START]
        points.measured += [point for _, point in sorted(others, key=lambda one: one[0] != START)]
        left = tries - (len(known) if self.storage is None else len(start))
        shared = gauge.read().share(max(len(eps), 1))
        efforts: list[Effort] = []
        stopped: list[bool] = []
        for done, value in enumerate(eps):
            if problem.deadline:
                problem.deadline.share(len(eps) - done)
            tolerance = problem.distortion.tolerance(value)
            # Many points just beyond this ε, measured for another ε, would draw the optimiser there.
            useful = known + [
                point for point in points.measured[len(known) :] if problem.distortion.is_within(point.distortion, value)
            ]
            optimizer, part = Optimizer(self.steps, problem.seed + turns.joined, tolerance, useful), f"eps {value!r}"
            hear = partial(_hear, turns, points, optimizer, part)
            with UntilStopped(problem.progress) as search:
                optimizer.take_turns(turns.of(part, left), partial(turns.measure, part, left), hear)
            efforts.append(shared + gauge.read())
            stopped.append(first.stopped or search.stopped)
        points.measured += [point for _, point in turns.news()]
        found = []
        for value, effort, ended in zip(eps, efforts, stopped, strict=True):
            best = points.best(value)
            found.append((effort + gauge.read()).found(best, ended))
        return found


def start_points(count: int, steps: tuple[float, float], seed: int) -> list[tuple[float, float]]:
    """`count` points (Δ, τ): two probes at τ = 1, where nothing is decomposed, as in Algorithm 2, and a Latin hypercube.

    The hypercube (McKay et al. 1979) divides log Δ, and τ, into equal parts, one for each of its points. Each part has one point.
    """
    probes = [(step, 1.0) for step in np.geomspace(*steps, 4)[1:3].tolist()][:count]
    spread = count - len(probes)
    rng = np.random.default_rng(seed)
    places = (np.stack([rng.permutation(spread) for _ in range(2)]) + rng.random((2, spread))) / max(spread, 1)
    low, high = np.log(steps)
    sizes = np.clip(np.exp(low + (high - low) * places[0]), *steps)
    return probes + list(zip(sizes.tolist(), places[1].tolist(), strict=True))


class Optimizer:
    """One constrained minimisation over (τ, Δ).

    A Gaussian process (Gardner et al. 2014) makes the first proposals: it learns a smooth surface from few points. A tree-structured Parzen
    estimator (Bergstra et al. 2011) makes the others: it is much cheaper, and its proposals are more widely spread.

    Args:
        steps: the smallest and the largest Δ.
        seed: decides every random choice.
        tolerance: the largest distortion within ε.
        known: points measured before, with which the model begins.
    """

    def __init__(self, steps: tuple[float, float], seed: int, tolerance: float, known: Iterable[Point]) -> None:
        distributions = load_optuna().distributions
        space = {"tau": distributions.FloatDistribution(0, 1), "step": distributions.FloatDistribution(*steps, log=True)}
        self._study = ConstrainedStudy(space, seed)
        self._tolerance = tolerance
        self.learn(known)

    def learn(self, known: Iterable[Point]) -> None:
        """Add points that were measured elsewhere to the model."""
        for point in known:
            self._study.add({"tau": point.tau, "step": point.step}, self._value(point), self._violation(point))

    def run(self, tries: int, measure: Measure) -> None:
        """Measure `tries` points. Each is the model's proposal after all points before it."""
        self.take_turns(range(tries), measure, lambda: None)

    def take_turns(self, turns: Iterable[int], measure: Callable[[float, float], Point | None], hear: Callable[[], None]) -> None:
        """Measure a point in each turn. `hear` is called before it, and may add points of other processes to the model."""
        for done in turns:
            hear()
            # The process is fitted by gradients, also if the caller has turned gradients off.
            # Its matrices have one row for each trial: so small that a second thread of the BLAS library waits longer than it computes.
            with threadpool_limits(1, user_api="blas"), torch.inference_mode(False), torch.enable_grad():
                trial = self._study.ask(gaussian=done < _GAUSSIAN)
            point = measure(trial.params["step"], trial.params["tau"])
            if point is None:  # other processes have taken the last turns
                continue
            self._study.tell(trial, self._value(point), self._violation(point))

    def allows(self, point: Point) -> bool:
        """Whether the point is within ε."""
        return point.distortion <= self._tolerance

    def _violation(self, point: Point) -> float:
        """log(distortion / largest allowed): at most 0 within ε. It is cut off at a value above which its size carries no information."""
        return math.log(min(max(point.distortion / self._tolerance, 1e-3), 1e3))

    def _value(self, point: Point) -> float:
        """The logarithm of the size, because sizes range over three orders of magnitude."""
        return math.log(point.paper_bytes)


def _hear(turns: Alone | SharedPoints, points: Points, optimizer: Optimizer, asked: str) -> None:
    """Record what other processes have measured, and add the points that are useful for an ε to its optimiser's model."""
    news = turns.news()
    points.measured += [point for _, point in news]
    optimizer.learn(point for part, point in news if part in (START, asked) or optimizer.allows(point))
