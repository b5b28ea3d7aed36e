"""`tight` for many ε at once: one chain of descents, of which every candidate serves every ε that it is within.

The chain leads from the coarsest ε to the finest. An ε so coarse that next to nothing of the network is left is no place to go on
from: the chain begins at the first ε below those. What is kept back for a chain that doesn't arrive leads outwards from its beginning
where it does: to those coarser ε, or at the coarsest once more.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from nncomplexity.errors import InputError
from nncomplexity.search.chain import LINK, inwards, outwards, thinned
from nncomplexity.search.contract import Found, Problem, StopSearch
from nncomplexity.search.moves import Plan
from nncomplexity.search.run import Run
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.tight import Tight
from nncomplexity.search.trials import Trials

_COARSE = 0.6
"""The share of the distortion of all weights zero above which an ε leaves too little to go on from."""
_LANDED = 1.5
"""How many times the size of where the chain ended the file for the finest ε may be, for the chain to have arrived there."""
_AGAIN = 2.0
"""From how many ε away one more link leads to it otherwise, in place of those outwards; a small network is searched anew."""
_OUTWARD = 0.4
"""Single searches that an ε too coarse for the chain is worth; all of them at least a link, and at most half of what is left."""


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
        coarse = [value for value in eps[:-1] if value > _COARSE * nothing]
        fine = eps[len(coarse) :]
        run = Run(self.method, trials, fine[0])
        single = trials.budget / self.cost
        run.descend(trials.spent + single)
        if run.ended:
            begin, left, link = run.state(), trials.left, LINK * single / Tight().budget
            left -= min(left / 2, max(link, len(coarse) * _OUTWARD * single))
            inwards(run, thinned(fine, round(left / link)), left, eps)
            if trials.best(fine[-1]) > _LANDED * run.bits():
                if trials.tensors.small:
                    Run(self.method, trials, fine[-1]).descend(trials.spent + trials.left)
                else:
                    inwards(run, [fine[-1] * _AGAIN, fine[-1]], trials.left, eps)
            run.restore(begin)
            outwards(run, coarse[::-1] or fine[:1], trials.left)
