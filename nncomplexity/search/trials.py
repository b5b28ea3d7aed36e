"""The candidates of a search: measured while the budget lasts, the smallest within each ε kept, and confirmed at the end."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor

from nncomplexity.errors import FormatError
from nncomplexity.file import CoarseTensor, Decoded, decoded_together, overflows, weigh
from nncomplexity.search.contract import DESCENT, ROUNDING, UNIFORM, Candidate, Found, Problem
from nncomplexity.search.tensors import Tensors

_KEPT = 3
"""Candidates that are kept for each ε, should the smallest not be confirmed; of a large network one, as each is as long as the network."""
Weigh = Callable[[Sequence[CoarseTensor]], float]
"""What tells the bits of a candidate's tensors."""
_BISECTION = 6
"""Evaluations that a bisection over uniform steps takes."""


class Kept(NamedTuple):
    """A candidate that is within some ε: its bits, its tensors as a file has them, and what found it."""

    bits: float
    tensors: list[CoarseTensor]
    origin: str


class Trials:
    """What was measured in one search, for all ε that it is to answer.

    Args:
        problem: the network and its loss.
        tensors: which of its tensors move.
        eps: the ε to be answered. A candidate is kept for each one that it is within.
        budget: evaluations in all; infinite where the search ends by itself. One for each ε is kept back, to measure its answer.
        expected: how many a search without a budget may take, which its progress is told by.

    Attributes:
        kept: the candidates for each ε, the smallest first.
        descended: whether a descent was made.
    """

    def __init__(self, problem: Problem, tensors: Tensors, eps: Sequence[float], budget: float, expected: float = 0.0) -> None:
        self.problem, self.tensors, self.budget, self._expected = problem, tensors, budget, expected
        self.distortion = problem.distortion
        self.kept: dict[float, list[Kept]] = {value: [] for value in eps}
        self.descended = False
        self._by_descent: set[float] = set()
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

    @contextmanager
    def at_most(self, evaluations: float) -> Iterator[None]:
        """A part of the search that may spend so many evaluations, if there are as many left."""
        budget, self.budget = self.budget, min(self.budget, self.spent + len(self.kept) + evaluations)
        try:
            yield
        finally:
            self.budget = budget

    def limit(self, eps: float) -> float:
        """The largest distortion within ε."""
        return self.distortion.tolerance(eps)

    def best(self, eps: float) -> float:
        """Bits of the smallest candidate within ε; infinite where there is none."""
        return self.kept[eps][0].bits if self.kept[eps] else math.inf

    def whole(self, moving: Mapping[str, CoarseTensor]) -> list[CoarseTensor]:
        """All tensors, in their order: those given, and those that the search keeps as they are."""
        coarse = {**self.tensors.held, **moving}
        return [coarse[spec.name] for spec in self.problem.skeleton.tensors]

    def bits(self, tensors: Sequence[CoarseTensor]) -> float:
        return self.problem.weigh(tensors)

    def measure(self, moving: Mapping[str, CoarseTensor], origin: str = ROUNDING, bits: float | Weigh | None = None) -> float:
        """The distortion of a candidate, kept where it serves; infinite when the budget is spent.

        Args:
            moving: its tensors that aren't held.
            origin: what it comes from.
            bits: an estimate of its bits, until `weigh`, or what tells them; None weighs it at once.
        """
        if self.left < 1:
            return math.inf
        tensors, specs = self.whole(moving), self.problem.skeleton.tensors
        try:
            decode = Decoded if self.tensors.large else decoded_together
            decoded: Mapping[str, Tensor] = decode(specs, tensors, self.distortion.device)
            distortion = abs(self.distortion.loss(decoded) - self.distortion.original)
        except FormatError:  # symbols so large that the product of factors is no longer exact
            return math.inf
        self.keep(tensors, distortion, origin, bits)
        self.report("starting")
        return distortion if math.isfinite(distortion) else math.inf

    def keep(self, tensors: Sequence[CoarseTensor], distortion: float, origin: str, bits: float | Weigh | None = None) -> None:
        """Remember a measured candidate for every ε that it is within and whose last one is larger, unless it has an infinity in it that
        the original hasn't.
        """
        within = [eps for eps in self.kept if distortion <= self.limit(eps)]
        if within and any(map(overflows, tensors, self.problem.skeleton.tensors)):
            return
        if origin == DESCENT:
            self._by_descent.update(within)
        if within:
            told = bits if isinstance(bits, float) else (bits or self.bits)(tensors)
            found = Kept(told, self.problem.whole(tensors), origin)
            for kept in (self.kept[eps] for eps in within):
                if not kept or found.bits < kept[0].bits:
                    kept.insert(0, found)
                    del kept[1 if self.tensors.large else _KEPT :]

    def weigh(self) -> None:
        """Weigh the candidates of a large network that are known by estimates."""
        if self.tensors.large:
            weighed: dict[int, Kept] = {}
            for kept in self.kept.values():
                for place, one in enumerate(kept):
                    weighed[id(one)] = weighed.get(id(one)) or one._replace(bits=sum(weigh(self.distortion.stored, one.tensors)))
                    kept[place] = weighed[id(one)]

    def found(self, stopped: bool = False) -> list[Found]:
        """For each ε the smallest candidate, written, decoded and measured again; what the search took, in equal shares.

        Args:
            stopped: whether the search was ended before it was done.
        """
        confirmed: dict[int, Candidate] = {}
        answers: list[Candidate | None] = []
        for eps, kept in self.kept.items():
            answers.append(None)
            for one in kept:
                try:
                    candidate = confirmed.get(id(one)) or self.problem.written(one.tensors, origin=one.origin)
                except FormatError:  # it asks for more work than so short a payload may
                    continue
                confirmed[id(one)] = candidate
                if self.problem.feasible(candidate, eps):
                    answers[-1] = candidate
                    break
        count = len(answers)
        seconds, cpu_seconds = time.perf_counter() - self._begin[1], time.process_time() - self._begin[2]
        return [
            Found(
                answer, self.spent / count, seconds / count, cpu_seconds / count, stopped, not stopped and self._lost(eps, answer)
            )
            for eps, answer in zip(self.kept, answers, strict=True)
        ]

    def _lost(self, eps: float, answer: Candidate | None) -> bool:
        """Whether descents were made for nothing: none came within ε, or uniform quantization's file is smaller than all of theirs."""
        if not self.descended or (answer is not None and not answer.bits):
            return False
        return answer is None or answer.origin == UNIFORM or eps not in self._by_descent

    def report(self, what: str) -> None:
        values = ", ".join(f"{eps:g}" for eps in self.kept) if len(self.kept) <= 3 else f"{max(self.kept):g} to {min(self.kept):g}"
        total = self.budget if math.isfinite(self.budget) else max(self._expected, self.spent)
        self.problem.progress(min(self.spent, total), total, f"ε = {values}: {what}")
