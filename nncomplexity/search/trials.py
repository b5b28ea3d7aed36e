"""The candidates of a search: measured while the budget lasts, the smallest within each ε kept, and confirmed at the end."""

import math
import time
from collections.abc import Mapping, Sequence

from torch import Tensor

from nncomplexity.coarse import Decoded, Piece, decoded_together, overflows
from nncomplexity.errors import FormatError
from nncomplexity.search.contract import Candidate, Found, Problem
from nncomplexity.search.tensors import Tensors

_KEPT = 3
"""Candidates that are kept for each ε, should the smallest not be confirmed; of a large network one, as each is as long as the network."""
_BISECTION = 6
"""Evaluations that a bisection over uniform steps takes."""


class Trials:
    """What was measured in one search, for all ε that it is to answer.

    Args:
        problem: the network and its loss.
        tensors: which of its tensors move.
        eps: the ε to be answered. A candidate is kept for each one that it is within.
        budget: evaluations in all. One for each ε is kept back, to measure its answer.
    """

    def __init__(self, problem: Problem, tensors: Tensors, eps: Sequence[float], budget: float) -> None:
        self.problem, self.tensors, self.budget = problem, tensors, budget
        self._asked = budget
        self.distortion = problem.distortion
        self.kept: dict[float, list[tuple[float, list[Piece]]]] = {value: [] for value in eps}
        self._begin = self.distortion.evaluations, time.perf_counter(), time.process_time()

    @property
    def spent(self) -> float:
        return self.distortion.evaluations - self._begin[0]

    @property
    def left(self) -> float:
        """Evaluations not yet spent, but for those that measure the answers."""
        return self.budget - len(self.kept) - self.spent

    def last(self, cost: float) -> bool:
        """Whether so many evaluations more would leave too few for uniform quantization to find an answer, where an ε has none yet."""
        return self.left < cost + _BISECTION and not all(self.kept.values())

    def pace(self) -> None:
        """Where the time is limited, the budget is what it allows at the speed so far: a descent that is cut short hasn't arrived."""
        if self.problem.deadline:
            self.budget = self.problem.deadline.affords(self._asked, self.spent)

    def limit(self, eps: float) -> float:
        """The largest distortion within ε."""
        return self.distortion.tolerance(eps)

    def awaits(self, distortion: float) -> bool:
        """Whether some ε within which this is has no candidate yet."""
        return any(not kept and distortion <= self.limit(eps) for eps, kept in self.kept.items())

    def best(self, eps: float) -> float:
        """Bits of the smallest candidate within ε; infinite where there is none."""
        return self.kept[eps][0][0] if self.kept[eps] else math.inf

    def whole(self, moving: dict[str, Piece]) -> list[Piece]:
        """All tensors, in their order: those given, and those that the search keeps as they are."""
        coarse = self.tensors.held | moving
        return [coarse[spec.name] for spec in self.problem.skeleton.tensors]

    def bits(self, tensors: list[Piece]) -> float:
        return self.problem.weigh(tensors)

    def measure(self, moving: dict[str, Piece]) -> float:
        """The distortion of a candidate, kept where it serves; infinite when the budget is spent."""
        return self.measure_whole(self.whole(moving))

    def measure_whole(self, tensors: list[Piece]) -> float:
        if self.left < 1:
            return math.inf
        specs = self.problem.skeleton.tensors
        try:
            decode = Decoded if self.tensors.large else decoded_together
            decoded: Mapping[str, Tensor] = decode(specs, tensors, self.distortion.device)
            distortion = abs(self.distortion.loss(decoded) - self.distortion.original)
        except FormatError:  # symbols so large that the product of factors is no longer exact
            return math.inf
        self.keep(tensors, distortion)
        self.report("starting")
        return distortion if math.isfinite(distortion) else math.inf

    def keep(self, tensors: list[Piece], distortion: float) -> None:
        """Remember a measured candidate for every ε that it is within and whose last one is larger, unless it has an infinity in it that
        the original hasn't.
        """
        within = [eps for eps in self.kept if distortion <= self.limit(eps)]
        if within and not any(map(overflows, tensors, self.problem.skeleton.tensors)):
            bits = self.bits(tensors)
            for kept in (self.kept[eps] for eps in within):
                if not kept or bits < kept[0][0]:
                    kept.insert(0, (bits, tensors))
                    del kept[1 if self.tensors.large else _KEPT :]

    def found(self) -> list[Found]:
        """For each ε the smallest candidate, written, decoded and measured again; what the search took, in equal shares."""
        confirmed: dict[int, Candidate] = {}
        answers: list[Candidate | None] = []
        for eps, kept in self.kept.items():
            answers.append(None)
            for _, tensors in kept:
                candidate = confirmed.get(id(tensors)) or self.problem.candidate(tensors)
                confirmed[id(tensors)] = candidate
                if self.problem.feasible(candidate, eps):
                    answers[-1] = candidate
                    break
        count = len(answers)
        seconds, cpu_seconds = time.perf_counter() - self._begin[1], time.process_time() - self._begin[2]
        return [Found(answer, self.spent / count, seconds / count, cpu_seconds / count) for answer in answers]

    def report(self, what: str) -> None:
        values = ", ".join(f"{eps:g}" for eps in self.kept) if len(self.kept) <= 3 else f"{max(self.kept):g} to {min(self.kept):g}"
        self.problem.progress(min(self.spent, self.budget), self.budget, f"ε = {values}: {what}")
