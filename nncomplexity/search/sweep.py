"""`tight` for many ε at once, from the finest to the coarsest. Every candidate is kept for every ε that it is within.

The finest ε is searched as if it were alone. The search for each coarser ε uses the same sensitivities, and its first start is the latents and
the dual variable at which the one before it has ended (a warm start). From there λ only has to grow; but some descents stay where they are,
because what a finer file holds is no good beginning for a file with another rank or far fewer weights. So the starts of a single search follow.
If no descent has found the smallest file of the search before, as with a small budget, there is no warm start.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nncomplexity.errors import InputError
from nncomplexity.search.contract import Found, Method, Problem, UntilStopped
from nncomplexity.search.layouts import with_layouts
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.tight import Search, Tight
from nncomplexity.search.trials import Trials


@dataclass(frozen=True)
class Sweep:
    """Settings of the search for many ε.

    Attributes:
        method: the search for one ε, with its budget.
        share: for each ε after the first, the budget as a share of a single search's; without one, the steps of the start that goes on.

    Raises:
        InputError: the share isn't in (0, 1].
    """

    method: Tight = field(default_factory=Tight)
    share: float = 0.5

    name = "tight"
    codec = "entropy"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"share: expected a number in (0, 1], got {self.share!r}")

    @property
    def budget(self) -> float | None:
        """Loss evaluations for a single ε; None if the search ends when it has converged."""
        return self.method.budget

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        """The smallest file found within each ε."""
        ordered = sorted(set(eps))
        if len(ordered) == 1:
            return self.method.search(problem, eps)
        problem = with_layouts(problem)
        if problem.deadline:
            # The searches for all ε are one search, with one limit on time.
            problem.deadline.share(1)
        others = len(ordered) - 1
        budget = math.inf if self.budget is None else (1 + self.share * others) * self.budget
        expected = self.method.expected(problem) + others * self._for(first=False).expected(problem)
        trials = Trials(problem, Tensors(problem), ordered[::-1], budget, expected)
        searches: list[Search] = []
        with UntilStopped(problem.progress) as until:
            # From the finest ε on: its candidates are within every other ε, too.
            for value in ordered:
                last = searches[-1] if searches else None
                searches.append(Search(self._for(last is None), trials, value))
                with trials.at_most(math.inf if self.budget is None else (self.share if last else 1.0) * self.budget):
                    searches[-1].run(last)
        found = dict(zip(ordered[::-1], trials.found(until.stopped), strict=True))
        for value, search in zip(ordered, searches, strict=False):
            found[value] = replace(found[value], last_gain=search.last_gain, converged=search.converged and not until.stopped)
        return [found[value] for value in eps]

    def _for(self, first: bool) -> Tight:
        """The settings of the search for the first ε, and of those for the others."""
        return self.method if first else replace(self.method, most=max(1, round(self.share * self.method.most)))


def for_many_eps(method: Method) -> Method:
    """`Tight` becomes a `Sweep`. Any other method is returned unchanged."""
    return Sweep(method) if isinstance(method, Tight) else method
