"""NNCodec's best under a bound on the distortion, for which it has no search of its own.

`best_single` tries its tools with one quantization parameter for all tensors, `best_per_tensor` goes on from there with a parameter
for each. While searching, tensors are weighed by bitstreams of their own, which are kept, so that a trial encodes only what it
hasn't encoded before; what is reported was encoded, decoded and measured as one file.
"""

import heapq
import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from benchmarks.peers.int8_zstd import Answer
from benchmarks.peers.nncodec_client import Nncodec, Settings

OCTAVE = 16
"""Quantization parameters in a factor of two of the step."""
FINEST, COARSEST = -20 * OCTAVE, 10 * OCTAVE
FINE = -75 * OCTAVE // 4
"""NNCodec's default for tensors of one dimension: so fine that they are kept almost as they are."""
BEYOND = range(2, 18, 2)
"""How much coarser parameters are tried after a bisection: the loss doesn't grow steadily with the step."""
HEADROOM = 4 * OCTAVE
"""How much finer than the best single parameter the search by tensor begins."""
MOVES = ((64, 32, 16, 8, 4, 2, 1), (8, 4, 12, 8, 4, 2, 1))
"""Rounds of the greedy search: by how much a move coarsens a tensor."""
COARSER, FINER = (1, 2, 4, 8, 16, 32), (1, 2, 4, 8, 16)
"""Exchanges: one tensor gets coarser, another finer or none."""
IDLE = 0.01
"""The share of ε for which a tensor is rounded to nothing at once."""

State = dict[str, int]
"""A quantization parameter for each tensor."""


@dataclass(frozen=True)
class Best:
    """The smallest file within ε so far."""

    settings: Settings
    bytes: int
    loss: float
    distortion: float


class Search:
    """The search for one ε; evaluations are counted over all that is asked of it."""

    def __init__(self, codec: Nncodec, eps: float) -> None:
        self.codec, self.eps = codec, eps
        self.original = codec.case.loss(codec.case.weights)
        self.evaluations = 0
        self.best: Best | None = None

    def answer(self) -> Answer:
        best = self.best
        if best is None:
            return Answer(None, math.nan, math.nan, self.evaluations, {})
        settings = {"use_dq": best.settings.use_dq, "opt_qp": best.settings.opt_qp, "qp": dict(best.settings.qp)}
        return Answer(best.bytes, best.loss, best.distortion, self.evaluations, settings)

    def best_single(self) -> None:
        """One parameter, with and without trellis and the tool's own shifts, 1-D tensors at it or at the tool's default."""
        for use_dq, opt_qp, fine in itertools.product((True, False), (False, True), (False, True)):
            if opt_qp and fine:
                continue
            low, high = FINEST, COARSEST
            while high - low > 1:
                middle = (low + high) // 2
                within = self._within(self._single(middle, use_dq, opt_qp, fine))
                low, high = (middle, high) if within else (low, middle)
            coarser = [self._single(low + more, use_dq, opt_qp, fine) for more in (0, *BEYOND)]
            feasible = [settings for settings in coarser if self._within(settings)]
            if feasible:
                self.try_file(feasible[-1])

    def best_per_tensor(self, budget: int) -> None:
        """A parameter for each tensor: greedy searches from fine to coarse, then exchanges, on `budget` more evaluations.

        The bitstream's length is a sum over tensors and known without a loss; the distortion is measured.
        """
        if self.best is None:
            return
        stop = self.evaluations + budget - 1
        first, found = self.best.settings.use_dq, []
        for use_dq, moves in itertools.product((first, not first), MOVES):
            state = self._start(use_dq)
            if self.evaluations + len(state) < stop and (end := self._greedy(state, use_dq, moves, stop)):
                found.append((self._length(end, use_dq), use_dq, end))
        if not found:
            return
        _, use_dq, state = min(found, key=lambda entry: entry[0])
        self.try_file(Settings(self._exchange(state, use_dq, stop), use_dq))

    def try_file(self, settings: Settings) -> None:
        """Encode all tensors as one file and keep it where it is within ε and the smallest yet."""
        encoded = self.codec.encode(settings)
        loss = self._loss(encoded.weights)
        distortion = abs(loss - self.original)
        if distortion <= self.eps and (self.best is None or encoded.bytes < self.best.bytes):
            self.best = Best(settings, encoded.bytes, loss, distortion)

    def _start(self, use_dq: bool) -> State:
        """Finer than the best single parameter: all tensors alike where that is within ε, else each by as much."""
        assert self.best is not None
        qp = self.best.settings.qp
        matrices = self._matrices()
        alike = max(max(qp[name] for name in matrices) - HEADROOM, FINEST)
        state = dict.fromkeys(qp, alike)
        if self._distortion(state, use_dq) <= self.eps:
            return state
        return {name: max(value - HEADROOM, FINEST) for name, value in qp.items()}

    def _greedy(self, state: State, use_dq: bool, rounds: tuple[int, ...], stop: int) -> State | None:
        """Moves that save the most bytes for the distortion that they add, first; None where the start isn't within ε.

        A promise is measured again when its turn comes and another move was made since, which changes it but little.
        """
        distortion = self._distortion(state, use_dq)
        for name in sorted(state, key=lambda name: -self._bytes(name, state[name], use_dq)):
            after = self._distortion({**state, name: COARSEST}, use_dq)
            if after <= distortion + IDLE * self.eps:
                state[name], distortion = COARSEST, after
        for move in rounds:
            turn, made = itertools.count(), 0
            heap = [(-math.inf, next(turn), name, -1, 0.0) for name in state if state[name] + move <= COARSEST]
            while heap and self.evaluations < stop:
                score, _, name, measured_at, added = heapq.heappop(heap)
                coarser = {**state, name: state[name] + move}
                if measured_at == made:
                    state, distortion, made = coarser, distortion + added, made + 1
                    if state[name] + move <= COARSEST:
                        heapq.heappush(heap, (score, next(turn), name, -1, 0.0))
                    continue
                saved = self._length(state, use_dq) - self._length(coarser, use_dq)
                if saved > 0:
                    added = self._distortion(coarser, use_dq) - distortion
                    if distortion + added <= self.eps:
                        score = -saved / max(added, 1e-3 * self.eps)
                        heapq.heappush(heap, (score, next(turn), name, made, added))
        return state if distortion <= self.eps else None

    def _exchange(self, state: State, use_dq: bool, stop: int) -> State:
        """Changes of two tensors at a time that make the file smaller, in random order, as long as one is within ε."""
        order = random.Random(0)
        seen: set[tuple[int, ...]] = set()
        improved = True
        while improved:
            improved = False
            trials = [trial for trial in _neighbours(state) if self._length(trial, use_dq) < self._length(state, use_dq)]
            order.shuffle(trials)
            for trial in trials:
                if tuple(trial.values()) in seen:
                    continue
                if self.evaluations >= stop:
                    return state
                seen.add(tuple(trial.values()))
                if self._distortion(trial, use_dq) <= self.eps:
                    state, improved = trial, True
                    break
        return state

    def _single(self, qp: int, use_dq: bool, opt_qp: bool, fine: bool) -> Settings:
        matrices = self._matrices()
        return Settings({name: FINE if fine and name not in matrices else qp for name in self.codec.specs}, use_dq, opt_qp)

    def _matrices(self) -> set[str]:
        return {name for name, spec in self.codec.specs.items() if len(spec.shape) > 1} or set(self.codec.specs)

    def _within(self, settings: Settings) -> bool:
        if settings.opt_qp:  # the shifts depend on all tensors at once
            distortion = abs(self._loss(self.codec.encode(settings).weights) - self.original)
        else:
            distortion = self._distortion(settings.qp, settings.use_dq)
        return distortion <= self.eps

    def _bytes(self, name: str, qp: int, use_dq: bool) -> int:
        return self.codec.encode_one(name, qp, use_dq).bytes

    def _length(self, state: Mapping[str, int], use_dq: bool) -> int:
        return sum(self._bytes(name, qp, use_dq) for name, qp in state.items())

    def _distortion(self, state: Mapping[str, int], use_dq: bool) -> float:
        """∣L(θ) − L(θ̃)∣ of tensors coded each on its own; infinite where the loss is no finite number."""
        weights = {name: self.codec.encode_one(name, qp, use_dq).weights[name] for name, qp in state.items()}
        distortion = abs(self._loss(weights) - self.original)
        return distortion if math.isfinite(distortion) else math.inf

    def _loss(self, weights: Mapping[str, Tensor]) -> float:
        self.evaluations += 1
        return self.codec.loss(weights)


def _neighbours(state: State) -> list[State]:
    """One tensor coarser, and another finer or as it is."""
    found = []
    for name, coarser in itertools.product(state, COARSER):
        moved = {**state, name: state[name] + coarser}
        if moved[name] <= COARSEST:
            found.append(moved)
            finer = [(other, step) for other in state if other != name for step in FINER if state[other] - step >= FINEST]
            found += [{**moved, other: state[other] - step} for other, step in finer]
    return found
