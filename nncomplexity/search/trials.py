"""The candidates of a search for one ε. Each is measured, the smallest ones within ε are kept, and the answer is measured again at the end."""

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
"""Candidates to keep, in case the smallest one has another loss as a file. A large network keeps one, to save memory."""
Weigh = Callable[[Sequence[CoarseTensor]], float]
"""Gives the bits of a candidate's coarse tensors."""


class Kept(NamedTuple):
    """A candidate within ε: its bits, its tensors as a file has them, and its origin."""

    bits: float
    tensors: list[CoarseTensor]
    origin: str


class Trials:
    """The measurements of one search, which is for one ε.

    Args:
        problem: the network and its loss.
        tensors: which of its tensors may change.
        eps: ε.
        budget: evaluations in all; infinite if the search ends when it has converged. One is reserved, to measure the answer.
        expected: the evaluations that a search without a budget may need, for its progress bar.

    Attributes:
        kept: the candidates within ε, the smallest first.
        descended: whether there was a descent.
        last_change: the change of the loss of the candidate that was measured last. Below 0, its loss is below the original's.
    """

    def __init__(self, problem: Problem, tensors: Tensors, eps: float, budget: float, expected: float = 0.0) -> None:
        self.problem, self.tensors, self.eps, self.budget, self._expected = problem, tensors, eps, budget, expected
        self.distortion = problem.distortion
        self.kept: list[Kept] = []
        self.descended = False
        self.last_change = math.inf
        self._reached_by_descent = False
        self._begin = self.distortion.evaluations, time.perf_counter(), time.process_time()

    @property
    def spent(self) -> float:
        """Evaluations since the search began."""
        return self.distortion.evaluations - self._begin[0]

    @property
    def left(self) -> float:
        """Evaluations that are left, without the one reserved for the answer."""
        return self.budget - 1 - self.spent

    @contextmanager
    def at_most(self, evaluations: float) -> Iterator[None]:
        """A context in which the search may spend at most this number of evaluations."""
        budget, self.budget = self.budget, min(self.budget, self.spent + 1 + evaluations)
        try:
            yield
        finally:
            self.budget = budget

    @property
    def limit(self) -> float:
        """The largest distortion within ε."""
        return self.distortion.tolerance(self.eps)

    @property
    def best(self) -> float:
        """Bits of the smallest candidate within ε; infinite if there is none."""
        return self.kept[0].bits if self.kept else math.inf

    @property
    def by_descent(self) -> bool:
        """Whether the smallest candidate within ε was found by a descent."""
        return bool(self.kept) and self.kept[0].origin == DESCENT

    def whole(self, moving: Mapping[str, CoarseTensor]) -> list[CoarseTensor]:
        """All tensors in the skeleton's order: those in `moving`, and those that do not change."""
        coarse = {**self.tensors.held, **moving}
        return [coarse[spec.name] for spec in self.problem.skeleton.tensors]

    def bits(self, tensors: Sequence[CoarseTensor]) -> float:
        """Bits of coarse tensors, as `Problem.count_bits` counts them."""
        return self.problem.count_bits(tensors)

    def measure(self, moving: Mapping[str, CoarseTensor], origin: str = ROUNDING, bits: float | Weigh | None = None) -> float:
        """Measure a candidate, and keep it if it is within ε and smaller than the best one so far.

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
            self.last_change = self.distortion.loss(decoded) - self.distortion.original
        except FormatError:  # symbols so large that the product of factors is no longer exact
            return math.inf
        distortion = abs(self.last_change)
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
        """Keep a measured candidate if it is within ε and smaller than the best one so far.

        A candidate with an element beyond the range of its dtype is not kept: it would decode to an infinity.

        Args:
            tensors: all its coarse tensors, in the skeleton's order.
            distortion: the measured distortion.
            origin: see `Candidate`.
            bits: an estimate of its bits, or a function that counts them; None counts them.
        """
        if not self.distortion.is_within(distortion, self.eps):
            return
        # Its loss may be fine, such as with −∞ in a mask. But the original has a finite number there.
        if any(map(overflows, tensors, self.problem.skeleton.tensors)):
            return
        self._reached_by_descent |= origin == DESCENT
        told = bits if isinstance(bits, float) else (bits or self.bits)(tensors)
        if told < self.best:
            self.kept.insert(0, Kept(told, self.problem.whole(tensors), origin))
            del self.kept[1 if self.tensors.large else _KEPT :]

    def weigh(self) -> None:
        """Count the bits of a large network's candidates, which were only estimated so far."""
        if self.tensors.large:
            self.kept = [one._replace(bits=sum(count_bits(self.distortion.stored, one.tensors))) for one in self.kept]

    def found(self, stopped: bool = False) -> Found:
        """The smallest candidate, written, decoded and measured again, with the effort of the search.

        Args:
            stopped: whether the search was ended early.

        Returns:
            The answer.
        """
        answer = self._answer()
        seconds, cpu_seconds = time.perf_counter() - self._begin[1], time.process_time() - self._begin[2]
        return Found(answer, self.spent, seconds, cpu_seconds, stopped, not stopped and self._lost(answer))

    def _answer(self) -> Candidate | None:
        """The smallest candidate that is within ε as a file, too; None if there is none."""
        for one in self.kept:
            try:
                candidate = self.problem.written(one.tensors, origin=one.origin)
            except FormatError:  # decoding it would take more work than the format allows for so short a payload
                continue
            if self.problem.feasible(candidate, self.eps):
                return candidate
        return None

    def _lost(self, answer: Candidate | None) -> bool:
        """Whether there were descents, and none came within ε or was smaller than the file of uniform quantization."""
        if not self.descended or (answer is not None and not answer.bits):
            return False
        return answer is None or answer.origin == UNIFORM or not self._reached_by_descent

    def report(self, what: str) -> None:
        """Call the progress callback, which may raise `StopSearch`."""
        total = self.budget if math.isfinite(self.budget) else max(self._expected, self.spent)
        self.problem.progress(min(self.spent, total), total, f"ε = {self.eps:g}: {what}")
