"""The project's own search: rank, steps and symbols of every tensor, found by descending bits and loss together.

Tensors that few numbers make up in blocks or in another folding are taken so (`nncomplexity.search.looks`). Bisections over ranks and
steps find the lowest start from which the loss can be won back (`nncomplexity.search.opening`). The rest of the budget are gradients of
descents on bits and loss (`nncomplexity.search.descent`), which measure candidates once their rounding is whole: one to ε, one to the
network's outline and one from there where the start is mostly noise or made of factors (`nncomplexity.search.run`), or with a large budget
a chain of them (`nncomplexity.search.chain`).
Uniform quantization is tried wherever its file could be smaller. A loss without a gradient is searched by uniform quantization and
by moves alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nncomplexity.network import GRADIENT_COST
from nncomplexity.search.chain import LINK, inwards
from nncomplexity.search.contract import Found, Problem, UntilStopped
from nncomplexity.search.looks import with_looks
from nncomplexity.search.opening import Opening
from nncomplexity.search.run import Run
from nncomplexity.search.settings import Settings
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.trials import Trials

_FEW = 6
"""Gradients below which there is no descent at all."""
_FIRST = 0.35
"""The share of the budget that leads to a chain's first end."""
_AGAIN = 0.5
"""Evaluations that are worth another descent, as a share of those spent."""
_RUNG = 0.8
"""Halvings of ε from one rung of a chain's ladder to the next, or more."""
_SPARE = 1
"""Links of a chain that are left for one that misses."""


@dataclass(frozen=True)
class Tight(Settings):
    """The search for the smallest file within each ε. `Settings` has its attributes.

    >>> Tight().budget
    400
    """

    name = "tight"
    codec = "entropy"

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        problem = with_looks(problem)
        tensors = Tensors(problem)
        found = []
        for done, value in enumerate(eps):
            if problem.deadline:
                problem.deadline.share(len(eps) - done)
            found.append(self._found(Trials(problem, tensors, [value], self.budget), value))
        return found

    def _found(self, trials: Trials, eps: float) -> Found:
        opening = Opening(trials, self.schedule.precision)
        with UntilStopped(trials.problem.progress) as search:
            if (
                trials.problem.deadline is None
            ):  # one that is stopped before it has begun takes no evaluation; a limit on time allows one
                trials.report("starting")
            opening.early(eps)
            if trials.left >= _FEW * GRADIENT_COST and trials.tensors.with_gradient():
                trials.pace()
                self.approach(trials, eps, trials.budget)
                self._again(trials, eps)
            else:
                opening.quantize(eps)
                opening.moves(eps, trials.budget)
            opening.quantize(eps)
        return trials.found(search.stopped)[0]

    def approach(self, trials: Trials, eps: float, until: float, begin: float = 0.0) -> Run:
        """The descents to one ε, until so many evaluations are spent, of which others were spent before they began; where they ended."""
        run = Run(self, trials, eps, begin)
        outline = self.outline * run.opening.nothing({}) if until - begin >= self.chained else 0.0
        if outline > 2 * eps:
            chain = Run(self, trials, outline, begin)
            chain.descend(trials.spent + _FIRST * (until - begin))
            if chain.ended:
                left = min(trials.left, until - 1 - trials.spent)
                rungs = max(1, min(round(left / LINK) - _SPARE, math.ceil(math.log2(outline / eps) / _RUNG)))
                ladder = [outline * (eps / outline) ** (rung / rungs) for rung in range(rungs)] + [eps]
                for _ in inwards(chain, ladder, left, [eps], _SPARE):
                    pass
                return chain
        run.descend(until)
        return run

    def _again(self, trials: Trials, eps: float) -> None:
        """Where the time is limited and evaluations took less of it than was planned, one more descent, and so on."""
        trials.pace()
        while trials.problem.deadline and trials.left > _AGAIN * trials.spent:
            Run(self, trials, eps).descend(trials.budget)
            trials.pace()
