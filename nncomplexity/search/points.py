"""What the paper's two algorithms have in common: points (τ, Δ), their coarse weights, and a record of the measured ones.

The loss and the size of a point do not depend on ε. So several ε share one record.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from nncomplexity.errors import FormatError, InputError
from nncomplexity.file import Constant, LowRank, Piece, decoded_together, narrow, overflows, paper_bytes
from nncomplexity.linalg import LARGEST_SYMBOL, SMALL, SVDCache, left_out, matrix_view, pays, ranks_leaving, symbols
from nncomplexity.network import TensorSpec
from nncomplexity.search.contract import Found
from nncomplexity.search.problem import Candidate, Problem
from nncomplexity.words import python_numbers

_RECIPE = "bzip2"
"""The codec of the authors' recipe. With another one, sizes by the recipe only choose among coarse bins, because each takes long to compute."""
_FILES = 3
"""The most files to write for one ε. A second one is needed only if the first has another loss than its point."""


@dataclass(frozen=True)
class Point:
    """A coarse-graining that was measured.

    Attributes:
        step: the bin size Δ of all tensors, factors included.
        tau: the share τ of the singular values' sum that a decomposed matrix keeps; None leaves every tensor whole.
        distortion: |L(θ) − L(θ̂)| in the loss's own unit; infinite where the loss isn't finite or the weights have no exact form.
        size: computes `paper_bytes`. This takes more than half of a measurement's time, so it runs only for points that may be the answer.
    """

    step: float
    tau: float | None
    distortion: float
    size: Callable[[], int] = field(repr=False, compare=False)

    @functools.cached_property
    def paper_bytes(self) -> int:
        """The size by the authors' recipe, in bytes. For a point without an exact form, it is the size of the raw weights."""
        return self.size()


class CoarseGraining:
    """The map from (τ, Δ) to coarse tensors: R of Eq. 14, then Q of Eq. 11 (DeMoss et al. 2025).

    A matrix whose rank k(τ) saves numbers (Eq. 14) becomes round(U·S/Δ) and round(Vᵀ/Δ), and every other tensor round(θ/Δ). One Δ for both
    factors is the paper's choice: the rows of Vᵀ have norm 1, so they are rounded to zero at a much smaller Δ than U·S. Tensors that the
    problem keeps do not change, and neither do tensors with numbers beyond 2³¹ bins. A matrix is not decomposed if the product of its
    factors would leave the range of its dtype.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem, self._specs = problem, problem.skeleton.tensors
        self._svds = SVDCache(problem.weights)
        self._kept: dict[str, Piece] = {spec.name: problem.exact(spec) for spec in self._specs if not problem.quantizable(spec)}

    def __call__(self, step: float, tau: float | None = None) -> list[Piece]:
        """The coarse tensors at a point, in the skeleton's order."""
        found = dict(self._kept)
        if tau is not None:
            for matrices in self._matrices:
                found |= matrices.decomposed(step, tau)
        found |= self._problem.all_quantized([spec for spec in self._specs if spec.name not in found], step)
        return [found[spec.name] for spec in self._specs]

    @functools.cached_property
    def _matrices(self) -> list["_Matrices"]:
        """The matrices that may be decomposed. Small ones of one shape are together, so that one operation serves all of them."""
        groups: dict[object, list[TensorSpec]] = {}
        for spec in self._specs:
            shape = matrix_view(spec.shape)
            if shape is not None and spec.name not in self._kept:
                groups.setdefault(shape if spec.count <= SMALL else spec.name, []).append(spec)
        return [_Matrices(specs, self._svds) for specs in groups.values()]


class _Matrices:
    """Matrices of one shape (m, n)."""

    def __init__(self, specs: Sequence[TensorSpec], svds: SVDCache) -> None:
        self._specs, self._svds = specs, svds
        svds.prepare(spec.name for spec in specs)
        values = torch.stack([svds.singular_values(spec.name) for spec in specs])
        self._largest, self._left = python_numbers(values[:, 0]), left_out(values)

    def decomposed(self, step: float, tau: float) -> dict[str, Piece]:
        """The matrices for which factors take fewer numbers than the matrix, as factors. The others are stored whole."""
        shape = matrix_view(self._specs[0].shape)
        assert shape is not None
        ranks: dict[int, list[TensorSpec]] = {}
        for spec, largest, rank in zip(self._specs, self._largest, ranks_leaving(self._left, tau), strict=True):
            if pays(rank, *shape) and max(largest, 1.0) / step <= LARGEST_SYMBOL:  # singular vectors reach up to 1
                ranks.setdefault(rank, []).append(spec)
        return {name: piece for rank, specs in ranks.items() for name, piece in self._factored(specs, rank, step)}

    def _factored(self, specs: Sequence[TensorSpec], rank: int, step: float) -> Iterator[tuple[str, Piece]]:
        U, S, Vh = self._svds.leading_together([spec.name for spec in specs], rank)
        A, B = narrow(symbols(U[:, :, :rank] * S[:, None, :rank], step)), narrow(symbols(Vh[:, :rank], step))
        left = np.logical_and(A.any(axis=(1, 2)), B.any(axis=(1, 2)))
        for spec, one, other, any_left in zip(specs, A, B, left.tolist(), strict=True):
            factors = LowRank(one, other, step, step)
            # Factors of zeros would cost bits for their shape. A constant does not.
            if not any_left:
                yield spec.name, Constant(0)
            elif not overflows(factors, spec):
                yield spec.name, factors


class Points:
    """The measured points of a search, for all its ε. `origin` is that of its files (`Candidate.origin`)."""

    def __init__(self, problem: Problem, origin: str = "") -> None:
        self.measured: list[Point] = []
        self._problem, self._origin = problem, origin
        self._coarse_grain = CoarseGraining(problem)

    def measure(self, step: float, tau: float | None = None) -> Point:
        """Measure the loss of a point's decoded weights: one evaluation."""
        skeleton = self._problem.skeleton
        try:
            tensors = self._coarse_grain(step, tau)
            decoded = decoded_together(skeleton.tensors, tensors, self._problem.distortion.device)
        except FormatError:  # a product of factors too large to be exact
            self.measured.append(Point(step, tau, math.inf, lambda: skeleton.raw_bits // 8))
        else:
            distortion = abs(self._problem.distortion.loss(decoded) - self._problem.distortion.original)
            self.measured.append(Point(step, tau, distortion if math.isfinite(distortion) else math.inf, self._size(step, tau)))
        return self.measured[-1]

    def _size(self, step: float, tau: float | None) -> Callable[[], int]:
        """A function that computes the size of a point. It coarse-grains the weights again, so that no point has to keep them."""
        return lambda: paper_bytes(self._problem.skeleton, self._coarse_grain(step, tau))

    def best(self, eps: float) -> Candidate | None:
        """The smallest point within ε, as a file whose decoded weights were measured once more; None if no point is within ε.

        With a codec other than bzip2, bin sizes below a quarter of the largest one within ε are left out: the recipe's bzip2 takes most of the
        time there. Among points of one size, the largest bin size wins, because its symbols are the smallest. If the loss is not quite
        deterministic, the file may be beyond ε. Then the next smallest point is tried.
        """
        within = [point for point in self.measured if self._problem.distortion.is_within(point.distortion, eps)]
        if self._problem.codec.name != _RECIPE:
            within = _coarse(within)
        for point in sorted(within, key=lambda point: (point.paper_bytes, -point.step))[:_FILES]:
            candidate = self._problem.candidate(self._coarse_grain(point.step, point.tau), point.paper_bytes, self._origin)
            if self._problem.feasible(candidate, eps):
                return candidate
        return None


def _coarse(points: Sequence[Point]) -> list[Point]:
    """The points without those of whole tensors whose bin size is below a quarter of the largest: they take about two bits a weight more."""
    coarsest = max((point.step for point in points if point.tau is None), default=0.0)
    return [point for point in points if point.tau is not None or 4 * point.step >= coarsest]


@dataclass(frozen=True)
class Effort:
    """The effort of a part of a search: loss evaluations, wall time and processor time in seconds."""

    evaluations: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: "Effort") -> "Effort":
        return Effort(self.evaluations + other.evaluations, self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)

    def share(self, count: int) -> "Effort":
        """The part of each of `count` equal shares."""
        return Effort(self.evaluations / count, self.seconds / count, self.cpu_seconds / count)

    def found(self, best: Candidate | None, stopped: bool) -> Found:
        """An answer with this effort."""
        return Found(best, self.evaluations, self.seconds, self.cpu_seconds, stopped)


class Gauge:
    """Measures the effort between two calls of `read`."""

    def __init__(self, problem: Problem) -> None:
        self._distortion = problem.distortion
        self._last = self._now()

    def read(self) -> Effort:
        """The effort since the last call, or since the start."""
        last, self._last = self._last, self._now()
        now = self._last
        return Effort(now[0] - last[0], now[1] - last[1], now[2] - last[2])

    def _now(self) -> tuple[float, float, float]:
        return self._distortion.evaluations, time.perf_counter(), time.process_time()


def checked_range(name: str, values: tuple[float, float]) -> None:
    """Raises InputError if `values` is not a pair 0 < low < high."""
    if len(values) != 2 or not 0 < values[0] < values[1] < math.inf:
        raise InputError(f"{name}: expected a pair of numbers 0 < low < high, got {values!r}")
