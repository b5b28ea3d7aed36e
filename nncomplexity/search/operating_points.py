"""The operating points of a tensor: what it may be coded as, each with its bits and its squared error.

    dense      W ≈ s · round(W / Δ)                   for steps Δ from coarse to fine
    low rank   W ≈ s · round(A / Δ_A) · round(B / Δ_B)    for a few ranks, in bases that make the symbols few or small

with s fitted by least squares. Steps are a hundredth apart where a tensor may lie on a grid: its error dips there. Bits are estimated for all
steps by the entropy of the symbols; what may be on the lower convex hull is weighed by the coder itself, since a step and its half give
symbols of one entropy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nncomplexity.codecs.coder import Meter
from nncomplexity.codecs.contract import SYMBOL_LIMIT
from nncomplexity.codecs.matrix import Matrix, MatrixState
from nncomplexity.coarse import CoarseTensor, Constant, LowRank, Pieces, dense, narrow, united
from nncomplexity.layout import Layout, pieces_of
from nncomplexity.lowrank import SVDCache, balanced, matrix_view
from nncomplexity.search.lattice import lattice_basis
from nncomplexity.search.latent import snapped
from nncomplexity.search.start import quartimax
from nncomplexity.weights import TensorSpec

Floats = NDArray[np.float64]

_HEADER, _RANK = 5.0, 8.0
"""About what a form and a step, and besides them a rank and its bases take in a file, in bits."""
_OCTAVES = 14
"""The finest step is so many halvings below the root mean square."""
_GRID, _LATTICE, _SMOOTH = 1.01, 1.02, 2**0.25
"""Ratios of steps where a grid may show, in a factor of low rank, and where none can."""
_GRID_OCTAVES = 3
"""How far below the root mean square a grid is looked for."""
_SAMPLE = 1 << 16
"""Elements of a large tensor that are looked at to estimate bits and error."""
_PRICES, _RIVALS = 40, 2
"""Prices of error at which points are compared before any is weighed, and how many at each of them are weighed."""
_FEW = 4
"""Weighings that are too few to correct an estimate by."""
_RANKS, _HIGHEST, _NARROW = 5, 256, 4
"""The most ranks that are tried for a matrix, the highest, and the least number of rows and columns."""
_COARSENESS = [2.0 ** (-index / 4) for index in range(-3, 26)]
"""Steps of factors, relative to their root mean square."""


class Form(Protocol):
    """What a tensor may be coded as."""

    def coded(self, matrix: Tensor) -> float:
        """Bits of the symbols of a matrix under the coder, alone in a file."""
        ...

    def piece(self, weight: Tensor, precision: int) -> CoarseTensor:
        """The coarse tensor of a weight, its steps rounded to so many mantissa bits."""
        ...


@dataclass(frozen=True)
class Zero:
    """Nothing is left of it."""

    def coded(self, _: Tensor) -> float:
        return 0.0

    def piece(self, _: Tensor, __: int) -> CoarseTensor:
        return Constant(0)


@dataclass(frozen=True)
class Uniform:
    """Multiples of a step, fitted by least squares to the symbols that it gives."""

    step: float

    def coded(self, matrix: Tensor) -> float:
        return coded_bits((matrix.double() / self.step).round_())

    def piece(self, weight: Tensor, precision: int) -> CoarseTensor:
        symbols = (weight.double() / self.step).round_()
        energy = float(symbols.square().sum())
        if not energy:
            return Constant(0)
        fitted = float((weight.double() * symbols).sum()) / energy
        return dense(narrow(symbols), snapped(fitted, precision))


@dataclass(frozen=True)
class Factors:
    """Two factors' symbols (m, k) and (k, n), and the scale of their product."""

    A: Tensor
    B: Tensor
    scale: float

    def transposed(self) -> "Factors":
        return Factors(self.B.T, self.A.T, self.scale)

    def fitted(self, W: Tensor) -> tuple["Factors", float]:
        """Without components that one factor has lost, strong ones first, under the scale that fits W (m, n) best; the squared error."""
        kept = torch.nonzero(self.A.any(0) & self.B.any(1))[:, 0]
        order = kept[torch.argsort(self.A[:, kept].abs().sum(0), descending=True, stable=True)]
        A, B = self.A[:, order], self.B[order]
        energy = float(((A.T @ A) * (B @ B.T)).sum())
        along = float(((A.T @ W) * B).sum())
        scale = along / energy if energy else 0.0
        return Factors(A, B, scale), max(float(W.square().sum()) - along * scale, 0.0)

    def coded(self, _: Tensor) -> float:
        return _RANK + coded_bits(self.A) + coded_bits(self.B)

    def piece(self, _: Tensor, precision: int) -> CoarseTensor:
        step = 2.0 ** (math.frexp(abs(self.scale))[1] // 2)  # a power of two is exact in any precision: the other step has the rest
        return LowRank(narrow(self.A * math.copysign(1.0, self.scale)), narrow(self.B), snapped(abs(self.scale) / step, precision), step)


@dataclass(frozen=True)
class InPieces:
    """Forms of the pieces of a layout."""

    layout: Layout
    forms: tuple[Form, ...]

    def coded(self, _: Tensor) -> float:
        raise NotImplementedError

    def piece(self, weight: Tensor, precision: int) -> CoarseTensor:
        pieces = [form.piece(part, precision) for form, part in zip(self.forms, self.layout.apart(weight), strict=True)]
        return united(self.layout, [piece for piece in pieces if not isinstance(piece, Pieces)], weight.shape)


@dataclass(frozen=True)
class Curve:
    """The operating points of one tensor.

    Attributes:
        spec: the tensor's.
        weight: what is coded, in the tensor's shape.
        forms: what the points are.
        bits, errors: (points,) their bits and squared errors.
    """

    spec: TensorSpec
    weight: Tensor
    forms: Sequence[Form]
    bits: Floats
    errors: Floats

    def best(self, prices: Floats) -> NDArray[np.int64]:
        """(prices,) the point of the least bits + price · error under each price."""
        found: NDArray[np.int64] = np.argmin(self.bits[None] + prices[:, None] * self.errors[None], axis=1)
        return found

    def piece(self, point: int, precision: int) -> CoarseTensor:
        return self.forms[point].piece(self.weight, precision)


def curve_of(spec: TensorSpec, weight: Tensor, weighings: float, layout: Layout | None = None) -> Curve:
    """The operating points of a tensor, about so many of which are weighed by the coder; the others are estimated.

    With a layout its pieces' points are among them.
    """
    matrix = weight.reshape(matrix_view(spec.shape) or (spec.count, 1))
    scan = _dense(matrix)
    points = _weighed(scan, matrix, weighings)
    if min(matrix.shape) >= _NARROW and weighings >= 1:
        points += _weighed(_low_rank(spec, matrix, scan), matrix, weighings)
    if layout is not None:
        pieces = zip(pieces_of(spec, layout), layout.apart(weight), strict=True)
        points += _in_pieces(layout, [curve_of(one, piece, weighings) for one, piece in pieces])
    points.append((Zero(), 1.0, float(weight.double().square().sum())))
    forms, bits, errors = zip(*_undominated(points), strict=True)
    return Curve(spec, weight, forms, np.array(bits), np.array(errors))


def _in_pieces(layout: Layout, curves: Sequence[Curve]) -> "Points":
    """The points of a tensor whose pieces have these; errors in all of them cost the same."""
    least = min(float(curve.errors[curve.errors > 0].min(initial=math.inf)) for curve in curves)
    highest = max(float(curve.errors.max()) for curve in curves)
    prices = np.geomspace(0.1 / max(highest, 1e-300), 1e6 / min(max(least, 1e-300), max(highest, 1e-300)), _PRICES)
    found = []
    for chosen in np.stack([curve.best(prices) for curve in curves], axis=1).tolist():
        points = list(zip(curves, chosen, strict=True))
        form = InPieces(layout, tuple(curve.forms[point] for curve, point in points))
        bits = sum(float(curve.bits[point]) for curve, point in points)
        found.append((form, _HEADER + bits, sum(float(curve.errors[point]) for curve, point in points)))
    return found


Points = list[tuple[Form, float, float]]
"""Forms with their bits and errors."""


@dataclass(frozen=True)
class Scan:
    """Forms in the order of their steps, with the bits (n,) that they are estimated to take and their squared errors (n,)."""

    forms: Sequence[Form]
    bits: Floats
    errors: Floats

    def likely(self) -> list[int]:
        """Those that may be on the lower convex hull once they are weighed: the least local minima of the Lagrangian, for many prices."""
        if not len(self.bits):
            return []
        chosen: set[int] = set()
        least = max(float(self.errors[self.errors > 0].min(initial=math.inf)), 1e-300)
        highest = max(float(self.errors.max()), 1e-300)
        for price in np.geomspace(0.1 / highest, 10 * (1 + float(self.bits.max())) / min(least, highest), _PRICES):
            cost = np.concatenate([[math.inf], self.bits + price * self.errors, [math.inf]])
            minima = np.flatnonzero((cost[1:-1] <= cost[:-2]) & (cost[1:-1] <= cost[2:]))
            chosen.update(minima[np.argsort(cost[1 + minima], kind="stable")[:_RIVALS]].tolist())
        return sorted(chosen)


def _weighed(scan: Scan, matrix: Tensor, most: float) -> Points:
    """The scan's likely points, by the coder; where only some can be weighed, the others by the estimate, corrected by what these show."""
    likely = scan.likely() if most >= _FEW else list(range(len(scan.bits)))
    if not likely:
        return []
    shown = likely[:: max(1, math.ceil(len(likely) / most))] if most >= _FEW else []
    exact = [scan.forms[index].coded(matrix) for index in shown]
    ratios = [bits / scan.bits[index] if scan.bits[index] else 1.0 for index, bits in zip(shown, exact, strict=True)]
    corrected = scan.bits * (np.interp(np.arange(len(scan.bits)), shown, ratios) if shown else 1.0)
    corrected[shown] = exact
    return [(scan.forms[index], float(corrected[index]) + _HEADER, float(scan.errors[index])) for index in likely]


def _undominated(points: Points) -> Points:
    """Those that no other beats in bits and error alike, from few bits to many."""
    kept: Points = []
    for point in sorted(points, key=lambda point: (point[1], point[2])):
        if not kept or point[2] < kept[-1][2]:
            kept.append(point)
    return kept


def _dense(matrix: Tensor) -> Scan:
    """The matrix under all steps; of a large one some elements are looked at."""
    values, inflation = matrix.reshape(-1), 1.0
    if values.numel() > _SAMPLE:
        picked = torch.randint(values.numel(), (_SAMPLE,), generator=torch.Generator().manual_seed(0))
        inflation, values = values.numel() / _SAMPLE, values[picked.to(values.device)]
    steps = _steps(values, _GRID if inflation == 1 else _SMOOTH)
    found = np.array([_estimate(values.double(), step) for step in steps]).reshape(-1, 2)
    return Scan([Uniform(step) for step in steps], inflation * found[:, 0], inflation * found[:, 1])


def _steps(values: Tensor, ratio: float) -> list[float]:
    """Steps from one that leaves next to nothing to one far below the root mean square; so close together where grids may show."""
    top = float(values.abs().max())
    if not top:
        return []
    typical = float((values.double() / top).square().mean().sqrt()) * top
    coarse = 2 * top * ratio ** -np.arange(math.log(2 * top / typical * 2**_GRID_OCTAVES) / math.log(ratio))
    fine = coarse[-1] * _SMOOTH ** -np.arange(1, 4 * (_OCTAVES - _GRID_OCTAVES))
    return [float(step) for step in (*coarse, *fine) if top / step < SYMBOL_LIMIT]


def _estimate(values: Tensor, step: float) -> tuple[float, float]:
    """Bits by the entropy of the symbols, and the squared error under the scale that fits them best."""
    symbols = (values / step).round_()
    energy, along = float(symbols.square().sum()), float((values * symbols).sum())
    error = float(values.square().sum()) - (along * along / energy if energy else 0.0)
    return entropy_bits(symbols), max(error, 0.0)


def entropy_bits(symbols: Tensor) -> float:
    """Bits of symbols under their own frequencies, ½·log₂ n for each of these, and one for each value between them that doesn't occur."""
    low, high, count = float(symbols.min()), float(symbols.max()), symbols.numel()
    if high - low <= 4 * count + 64:
        counts = np.bincount((symbols - low).reshape(-1).numpy(force=True).astype(np.int64))
        counts = counts[counts > 0]
    else:
        counts = np.unique(symbols.numpy(force=True), return_counts=True)[1]
    spread = count * math.log2(count) - float((counts * np.log2(counts)).sum())
    return spread + 0.5 * len(counts) * math.log2(count + 1) + (high - low + 1 - len(counts))


def coded_bits(symbols: Tensor) -> float:
    """Bits of a matrix of symbols under the coder, alone in a file."""
    rows, columns = symbols.shape
    if columns > rows:
        return coded_bits(symbols.T)
    meter = Meter()
    flat = np.ascontiguousarray(symbols.T.numpy(force=True)).reshape(-1).astype(np.int64)
    Matrix(rows, columns, MatrixState()).code(meter, flat)
    return meter.bits


def _low_rank(spec: TensorSpec, matrix: Tensor, scan: Scan) -> Scan:
    """Factors of the ranks that may take fewer bits than the matrix itself with as large an error, in several bases each."""
    W = matrix.double()
    svds = SVDCache({spec.name: matrix})
    found: list[Factors] = []
    for rank in ranks_worth_trying(svds.singular_values(spec.name), W.shape, scan):
        A, B = balanced(svds.leading(spec.name, rank), rank)
        for target in (A, B.T):
            R = quartimax(target)
            found += _rounded(W, A @ R)
        for side, target in ((A, W), (B.T, W.T)):
            D = lattice_basis(side)
            if D is not None:
                on_lattice = _on_lattice(target, (side @ D).round())
                found += on_lattice if side is A else [factors.transposed() for factors in on_lattice]
    fitted = [factors.fitted(W) for factors in found]
    kept = [(factors, error) for factors, error in fitted if factors.scale]
    bits = [_RANK + entropy_bits(factors.A) + entropy_bits(factors.B) for factors, _ in kept]
    return Scan([factors for factors, _ in kept], np.array(bits), np.array([error for _, error in kept]))


def ranks_worth_trying(S: Tensor, shape: Sequence[int], scan: Scan) -> list[int]:
    """Ranks whose factors take fewer bits than the dense matrix at one error, by the formula for Gaussian numbers at high resolution.

    At rank k half of the error is what the rank leaves out, T = Σ_{i>k} σ_i², and half the rounding of the factors, whose step is then
    Δ² = 12·T / ((m + n)·Σ_{i≤k} σ_i).
    """
    m, n = shape
    values = S.numpy(force=True).astype(np.float64)
    left = np.cumsum(np.square(values[::-1]))[::-1][1:]
    order = np.argsort(scan.errors)
    worth: list[tuple[float, int]] = []
    for rank, tail in enumerate(left.tolist(), start=1):
        kept = values[:rank]
        if rank > _HIGHEST or not tail > 0 or not kept[-1] > 0:
            break
        square = 12 * tail / ((m + n) * kept.sum())
        bits = sum(0.5 * side * float(np.log2(1 + 2 * math.pi * math.e * kept / (side * square)).sum()) for side in (m, n))
        whole = float(np.interp(math.log(2 * tail), np.log(scan.errors[order] + 1e-300), scan.bits[order]))
        if bits < whole:
            worth.append((bits / whole, rank))
    return sorted(rank for _, rank in sorted(worth)[:_RANKS])


def _rounded(W: Tensor, A: Tensor) -> list["Factors"]:
    """A factor (m, k) in some basis under steps from coarse to fine, and the other one, fitted to its symbols, under the same."""
    found = []
    for coarseness in _COARSENESS:
        symbols = (A / (coarseness * _size(A))).round()
        if bool(symbols.any(0).all()):
            other = torch.linalg.lstsq(symbols, W).solution
            found.append(Factors(symbols, (other / (coarseness * _size(other))).round(), 1.0))
    return found


def _on_lattice(W: Tensor, symbols: Tensor) -> list["Factors"]:
    """One factor's symbols (m, k), and the other factor, fitted to them, under a scan of its steps."""
    if int(torch.linalg.matrix_rank(symbols)) < symbols.shape[1]:
        return []
    other = torch.linalg.lstsq(symbols, W).solution
    return [Factors(symbols, (other / step).round(), 1.0) for step in _steps(other, _LATTICE) if _size(other) < 32 * step]


def _size(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
