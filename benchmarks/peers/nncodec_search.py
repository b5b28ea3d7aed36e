"""Searches for NNCodec's smallest file within ε. NNCodec itself has no such search.

`best_single` tries its tools with one quantization parameter for all tensors; `best_per_tensor` continues with a parameter for each. During
the search each tensor is encoded alone, and its bitstream is kept, so that a trial encodes only what is new. The reported file is encoded,
decoded and measured as a whole.
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
"""Quantization parameters for each factor of two in the step size."""
FINEST, COARSEST = -20 * OCTAVE, 10 * OCTAVE
FINE = -75 * OCTAVE // 4
"""NNCodec's default for tensors of one dimension: so fine that they are kept almost as they are."""
BEYOND = range(2, 18, 2)
"""After a bisection, parameters that are coarser by up to this number are tried, because the loss isn't monotone in the step size."""
HEADROOM = 4 * OCTAVE
"""The search by tensor begins with parameters that are finer than the best single one by this number."""
MOVES = ((64, 32, 16, 8, 4, 2, 1), (8, 4, 12, 8, 4, 2, 1))
"""For each round of the greedy search, by how much a move coarsens a tensor."""
COARSER, FINER = (1, 2, 4, 8, 16, 32), (1, 2, 4, 8, 16)
"""Exchanges: one tensor gets coarser, and another one finer or stays."""
IDLE = 0.01
"""A tensor is set to zero at once if this costs less than this share of ε."""

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
    """The search for one ε. Its evaluations are counted over all calls."""

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
        """One parameter, with and without trellis quantization and the tool's shifts, for all tensors or for all but 1-D ones."""
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
        """A parameter for each tensor: greedy searches from fine to coarse, then exchanges, with `budget` more evaluations."""
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
        """Encode all tensors as one file, and keep it if it is within ε and smaller than all before."""
        encoded = self.codec.encode(settings)
        loss = self._loss(encoded.weights)
        distortion = abs(loss - self.original)
        if distortion <= self.eps and (self.best is None or encoded.bytes < self.best.bytes):
            self.best = Best(settings, encoded.bytes, loss, distortion)

    def _start(self, use_dq: bool) -> State:
        """Parameters finer than the best single one: the same for all tensors if that is within ε, else finer by the same number."""
        assert self.best is not None
        qp = self.best.settings.qp
        matrices = self._matrices()
        alike = max(max(qp[name] for name in matrices) - HEADROOM, FINEST)
        state = dict.fromkeys(qp, alike)
        if self._distortion(state, use_dq) <= self.eps:
            return state
        return {name: max(value - HEADROOM, FINEST) for name, value in qp.items()}

    def _greedy(self, state: State, use_dq: bool, rounds: tuple[int, ...], stop: int) -> State | None:
        """Moves, first those that save the most bytes for the distortion that they add. None if the start isn't within ε."""
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
        """Changes of two tensors at a time that make the file smaller, in random order, until none is within ε."""
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
        """∣L(θ) − L(θ̃)∣ of tensors that are each coded alone; infinite if the loss is not finite."""
        weights = {name: self.codec.encode_one(name, qp, use_dq).weights[name] for name, qp in state.items()}
        distortion = abs(self._loss(weights) - self.original)
        return distortion if math.isfinite(distortion) else math.inf

    def _loss(self, weights: Mapping[str, Tensor]) -> float:
        self.evaluations += 1
        return self.codec.loss(weights)


def _neighbours(state: State) -> list[State]:
    """Pairs of changes: one tensor coarser, and another one finer or unchanged."""
    found = []
    for name, coarser in itertools.product(state, COARSER):
        moved = {**state, name: state[name] + coarser}
        if moved[name] <= COARSEST:
            found.append(moved)
            finer = [(other, step) for other in state if other != name for step in FINER if state[other] - step >= FINEST]
            found += [{**moved, other: state[other] - step} for other, step in finer]
    return found
