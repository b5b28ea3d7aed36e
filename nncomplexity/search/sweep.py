"""`tight` for many ε at once: a chain of descents, of which every candidate serves every ε that it is within.

The chain leads from the coarsest ε to the finest in a few links, each of which adds what the next ε needs and lands with more than that.
What is left then leads back outwards, each time to the ε whose file stands highest above the lower convex hull of all files, from the
link that ended below it. An ε so coarse that next to nothing of the network is left is no place to go on from: the chain begins at the
first ε below those, which only links outwards lead to.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from nncomplexity.errors import InputError
from nncomplexity.fits import lower_hull
from nncomplexity.search.chain import LINK, OUTWARD_LINK, inwards, outwards, thinned
from nncomplexity.search.contract import Found, Problem, StopSearch
from nncomplexity.search.looks import with_looks
from nncomplexity.search.moves import Plan
from nncomplexity.search.run import Run, State
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.tight import Tight
from nncomplexity.search.trials import Trials

_COARSE = 0.6
"""The share of the distortion of all weights zero above which an ε leaves too little to go on from."""
_INWARDS = 0.7
"""The share of what the first descent leaves that links inwards take."""
_LANDED = 1.5
"""How many times the size of where the chain ended the file for the finest ε may be, for the chain to have arrived there."""
_AGAIN = 2.0
"""From how many ε away one more link leads to it otherwise."""


@dataclass(frozen=True)
class Sweep:
    """Settings of the search for many ε.

    Attributes:
        method: the search for one ε, with its budget.
        cost: what all ε together may take, in single searches. So many ε or fewer are searched one by one.
    """

    method: Tight = field(default_factory=Tight)
    cost: float = 2.85

    name = "tight"
    codec = "entropy"

    def __post_init__(self) -> None:
        if not 1 <= self.cost < math.inf:
            raise InputError(f"cost: expected a number of single searches, at least 1, got {self.cost!r}")

    @property
    def budget(self) -> float:
        """Loss evaluations for each ε, were each searched by itself."""
        return self.method.budget

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        ordered = sorted(set(eps), reverse=True)
        if len(ordered) <= self.cost:
            return self.method.search(problem, eps)
        problem = with_looks(problem)
        trials = Trials(problem, Tensors(problem), ordered, self.cost * self.budget)
        with suppress(StopSearch):
            opening = Run(self.method, trials, ordered[0]).opening
            opening.early(ordered[-1])
            if trials.tensors.with_gradient():
                trials.pace()
                self._descend(trials, ordered, opening.nothing({}))
            else:
                plans: list[Plan] | None = None  # moves only ever make a network coarser: from the finest ε to the coarsest
                for done, value in enumerate(reversed(ordered)):
                    opening.quantize(value)
                    plans = opening.moves(value, trials.left / (len(ordered) - done), plans)
            # First the finest that has no answer: its own serves all the others.
            for value in sorted(ordered, key=lambda value: (bool(trials.kept[value]), value)):
                opening.quantize(value)
        found = dict(zip(ordered, trials.found(), strict=True))
        return [found[value] for value in eps]

    def _descend(self, trials: Trials, eps: Sequence[float], nothing: float) -> None:
        fine = [value for value in eps[:-1] if value <= _COARSE * nothing] + [eps[-1]]
        run = Run(self.method, trials, fine[0])
        single = trials.budget / self.cost
        run.descend(trials.spent + single)
        if run.ended:
            scale = single / Tight().budget
            places = self._inwards(run, fine, eps, scale)
            self._outwards(run, places, eps, nothing, max(1, round(trials.left / (OUTWARD_LINK * scale))))

    def _inwards(self, run: Run, fine: Sequence[float], eps: Sequence[float], scale: float) -> dict[float, State]:
        """The chain, and one link more where it has missed its end; where each link ended, by its ε."""
        trials, places = run.trials, {fine[0]: run.state()}
        share = _INWARDS * trials.left
        for reached in inwards(run, thinned(fine, round(share / (LINK * scale))), share, eps):
            if trials.tensors.large:
                places = {fine[0]: places[fine[0]]}  # each place is as long as the network
            places[reached] = run.state()
        if trials.best(fine[-1]) > _LANDED * run.bits():
            for reached in inwards(run, [fine[-1] * _AGAIN, fine[-1]], min(LINK * scale, trials.left), eps):
                places[reached] = run.state()
        return places

    def _outwards(self, run: Run, places: dict[float, State], eps: Sequence[float], nothing: float, links: int) -> None:
        """Links to the ε with most to gain, one after the other."""
        trials = run.trials
        open_eps = [value for value in eps if value > min(places)]
        for done in range(links):
            sizes = {value: trials.best(value) for value in eps if trials.kept[value]}
            wanted = [value for value in open_eps if value in sizes]
            if not wanted:
                return
            excess = excesses(sizes, nothing)
            chosen = max(wanted, key=lambda value: excess[value])
            open_eps.remove(chosen)
            run.restore(places[max(reached for reached in places if reached < chosen)])
            outwards(run, chosen, trials.left / (links - done))
            if not trials.tensors.large:
                places[chosen] = run.state()


def excesses(sizes: dict[float, float], nothing: float) -> dict[float, float]:
    """How many times the height of the lower convex hull of all sizes each of them is, over log ε, by ε.

    The hull goes down to no bits at the distortion of all weights zero.

    >>> {eps: round(excess, 2) for eps, excess in excesses({0.01: 400, 0.1: 380, 1: 100}, nothing=10).items()}
    {0.01: 1.0, 0.1: 1.52, 1: 1.0}
    """
    end = max(nothing if math.isfinite(nothing) else 0.0, 1.01 * max(sizes))
    points = [(math.log(eps), size) for eps, size in (sizes | {end: 0.0}).items()]
    hull = [points[index] for index in lower_hull(points)]
    heights = np.interp([math.log(eps) for eps in sizes], [at for at, _ in hull], [size for _, size in hull])
    return {eps: size / max(float(height), 1.0) for (eps, size), height in zip(sizes.items(), heights, strict=True)}
