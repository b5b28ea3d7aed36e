"""The candidates of a search. Each is measured, the smallest ones within each ε are kept, and the answers are measured again at the end."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor

from nncomplexity.errors import FormatError
from nncomplexity.file import CoarseTensor, Decoded, count_bits, decoded_together, overflows
from nncomplexity.network import TensorSpec
from nncomplexity.search.batches import Minibatch
from nncomplexity.search.contract import DESCENT, ROUNDING, UNIFORM, Found
from nncomplexity.search.problem import Candidate, Problem
from nncomplexity.search.tensors import Overlaid, Tensors

_KEPT = 3
"""Candidates to keep for each ε, in case the smallest one has another loss as a file. A large network keeps one, to save memory."""
Weigh = Callable[[Sequence[CoarseTensor]], float]
"""Gives the bits of a candidate's coarse tensors."""


class Kept(NamedTuple):
    """A candidate within some ε: its bits, its tensors as a file has them, and its origin."""

    bits: float
    tensors: list[CoarseTensor]
    origin: str


class Trials:
    """The measurements of one search, for all its ε.

    Args:
        problem: the network and its loss.
        tensors: which of its tensors may change.
        eps: all ε. A candidate is kept for each ε that it is within.
        budget: evaluations in all; infinite if the search ends when it has converged. One for each ε is reserved, to measure the answer.
        expected: the evaluations that a search without a budget may need, for its progress bar.

    Attributes:
        kept: the candidates for each ε, the smallest first.
        descended: whether there was a descent.
    """

    def __init__(self, problem: Problem, tensors: Tensors, eps: Sequence[float], budget: float, expected: float = 0.0) -> None:
        self.problem, self.tensors, self.budget, self._expected = problem, tensors, budget, expected
        self.distortion = problem.distortion
        self.kept: dict[float, list[Kept]] = {value: [] for value in eps}
        self.descended = False
        self._reached_by_descent: set[float] = set()
        self._begin = self.distortion.evaluations, time.perf_counter(), time.process_time()

    @property
    def spent(self) -> float:
        """Evaluations since the search began."""
        return self.distortion.evaluations - self._begin[0]

    @property
    def left(self) -> float:
        """Evaluations that are left, without those reserved for the answers."""
        return self.budget - len(self.kept) - self.spent

    @contextmanager
    def at_most(self, evaluations: float) -> Iterator[None]:
        """A context in which the search may spend at most this number of evaluations."""
        budget, self.budget = self.budget, min(self.budget, self.spent + len(self.kept) + evaluations)
        try:
            yield
        finally:
            self.budget = budget

    def limit(self, eps: float) -> float:
        """The largest distortion within ε."""
        return self.distortion.tolerance(eps)

    def best(self, eps: float) -> float:
        """Bits of the smallest candidate within ε; infinite if there is none."""
        return self.kept[eps][0].bits if self.kept[eps] else math.inf

    def by_descent(self, eps: float) -> bool:
        """Whether the smallest candidate within ε was found by a descent."""
        return bool(self.kept[eps]) and self.kept[eps][0].origin == DESCENT

    def whole(self, moving: Mapping[str, CoarseTensor]) -> list[CoarseTensor]:
        """All tensors in the skeleton's order: those in `moving`, and those that do not change."""
        coarse = {**self.tensors.held, **moving}
        return [coarse[spec.name] for spec in self.problem.skeleton.tensors]

    def bits(self, tensors: Sequence[CoarseTensor]) -> float:
        """Bits of coarse tensors, as `Problem.count_bits` counts them."""
        return self.problem.count_bits(tensors)

    def measure(self, moving: Mapping[str, CoarseTensor], origin: str = ROUNDING, bits: float | Weigh | None = None) -> float:
        """Measure a candidate, and keep it for each ε that it is within.

        Args:
            moving: its coarse tensors that may change, by first name.
            origin: see `Candidate`.
            bits: an estimate of its bits, which `weigh` replaces later, or a function that counts them; None counts them now.

        Returns:
            Its distortion; infinite if the budget is spent, or if the candidate has no finite loss.
        """
        if self.left < 1:
            return math.inf
        tensors = self.whole(moving)
        try:
            decoded = self._decoded(self.problem.skeleton.tensors, tensors)
            distortion = abs(self.distortion.loss(decoded) - self.distortion.original)
        except FormatError:  # symbols so large that the product of factors is no longer exact
            return math.inf
        self.keep(tensors, distortion, origin, bits)
        self.report("starting")
        return distortion if math.isfinite(distortion) else math.inf

    def change(self, tensors: Mapping[str, Tensor], batch: Minibatch) -> float:
        """The change of the loss on some examples if these tensors take the places of the original's. It may be no finite number."""
        changed = self.distortion.loss(Overlaid(tensors, self.distortion.weights), batch.rows) - batch.original
        self.report("starting")
        return changed

    def on_batch(self, moving: Mapping[str, CoarseTensor], batch: Minibatch) -> float:
        """The distortion on some examples, with some tensors coarse and all others the original's.

        It is infinite if the budget is spent, or if there is no finite loss.
        """
        if self.left < 1:
            return math.inf
        specs = [spec for spec in self.problem.skeleton.tensors if spec.name in moving]
        try:
            distortion = abs(self.change(self._decoded(specs, [moving[spec.name] for spec in specs]), batch))
        except FormatError:  # symbols so large that the product of factors is no longer exact
            return math.inf
        return distortion if math.isfinite(distortion) else math.inf

    def _decoded(self, specs: Sequence[TensorSpec], tensors: Sequence[CoarseTensor]) -> Mapping[str, Tensor]:
        decode = Decoded if self.tensors.large else decoded_together
        return decode(specs, tensors, self.distortion.device)

    def keep(self, tensors: Sequence[CoarseTensor], distortion: float, origin: str, bits: float | Weigh | None = None) -> None:
        """Keep a measured candidate for each ε that it is within, if it is smaller than the best one so far.

        A candidate with an element beyond the range of its dtype is not kept: it would decode to an infinity.

        Args:
            tensors: all its coarse tensors, in the skeleton's order.
            distortion: the measured distortion.
            origin: see `Candidate`.
            bits: an estimate of its bits, or a function that counts them; None counts them.
        """
        within = [eps for eps in self.kept if self.distortion.is_within(distortion, eps)]
        # Its loss may be fine, such as with −∞ in a mask. But the original has a finite number there.
        if within and any(map(overflows, tensors, self.problem.skeleton.tensors)):
            return
        if origin == DESCENT:
            self._reached_by_descent.update(within)
        if within:
            told = bits if isinstance(bits, float) else (bits or self.bits)(tensors)
            found = Kept(told, self.problem.whole(tensors), origin)
            for kept in (self.kept[eps] for eps in within):
                if not kept or found.bits < kept[0].bits:
                    kept.insert(0, found)
                    del kept[1 if self.tensors.large else _KEPT :]

    def weigh(self) -> None:
        """Count the bits of a large network's candidates, which were only estimated so far."""
        if self.tensors.large:
            weighed: dict[int, Kept] = {}
            for kept in self.kept.values():
                for place, one in enumerate(kept):
                    weighed[id(one)] = weighed.get(id(one)) or one._replace(
                        bits=sum(count_bits(self.distortion.stored, one.tensors))
                    )
                    kept[place] = weighed[id(one)]

    def found(self, stopped: bool = False) -> list[Found]:
        """The smallest candidate for each ε, written, decoded and measured again, with an equal share of the effort.

        Args:
            stopped: whether the search was ended early.

        Returns:
            An answer for each ε.
        """
        confirmed: dict[int, Candidate] = {}
        answers: list[Candidate | None] = []
        for eps, kept in self.kept.items():
            answers.append(None)
            for one in kept:
                try:
                    candidate = confirmed.get(id(one)) or self.problem.written(one.tensors, origin=one.origin)
                except FormatError:  # decoding it would take more work than the format allows for so short a payload
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
        """Whether there were descents, and none came within ε or was smaller than the file of uniform quantization."""
        if not self.descended or (answer is not None and not answer.bits):
            return False
        return answer is None or answer.origin == UNIFORM or eps not in self._reached_by_descent

    def report(self, what: str) -> None:
        """Call the progress callback, which may raise `StopSearch`."""
        values = ", ".join(f"{eps:g}" for eps in self.kept) if len(self.kept) <= 3 else f"{max(self.kept):g} to {min(self.kept):g}"
        total = self.budget if math.isfinite(self.budget) else max(self._expected, self.spent)
        self.problem.progress(min(self.spent, total), total, f"ε = {values}: {what}")
