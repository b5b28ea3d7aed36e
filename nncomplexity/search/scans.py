"""Scans of a matrix: dense with many step sizes, and of low rank in a few bases, with estimated bits and with errors.

    dense      W ≈ Δ · round(W / Δ)
    low rank   W ≈ s · round(A / Δ_A) · round(B / Δ_B)

A dense step size is fitted by least squares to the symbols that a first step size gives. So a scan also finds the grid on which a tensor lies:
step sizes are a hundredth apart, and the error dips there. The second factor is fitted to the symbols of the first one.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nncomplexity.codecs import SYMBOL_LIMIT
from nncomplexity.linalg import SVDCache, balanced
from nncomplexity.search.bases import quartimax
from nncomplexity.search.forms import Factors, Form, Pruned, Uniform, rows_entropy_bits
from nncomplexity.search.lattice import lattice_basis

Floats = NDArray[np.float64]
Several = TypeVar("Several")

_OCTAVES = 14
"""The finest step size is this number of halvings below the root mean square."""
_GRID, _LATTICE, _FINE, _SMOOTH = 1.01, 1.02, 2**0.0625, 2**0.25
"""Ratios of successive step sizes: to find a grid; in a factor of low rank; below the sizes at which a grid shows; and for a network of many
tensors.
"""
_GRID_OCTAVES = 3
"""A grid is searched for down to this number of halvings below the root mean square."""
_SAMPLE = 1 << 16
"""The number of elements of a large tensor from which bits and error are estimated."""
_GAP = 4.0
"""Lines are faint if they are below a gap: in order of energy, the next line has more than this number of times their energy."""
_TOGETHER = 1 << 15
"""The number of symbols to compute at once."""
_RANKS, _HIGHEST = 5, 256
"""The most ranks that are tried for a matrix, and the highest rank."""
_COARSENESS = [2.0 ** (-index / 4) for index in range(-3, 26)]
"""The step sizes of factors, relative to their root mean square."""
_SMALL = 32.0
"""The largest root mean square of the other factor's symbols, if one factor is on a lattice."""


PARTS = 3
"""The three parts of a squared error ‖W − Ŵ‖², whose costs differ: across the tensor, which is noise, as from rounding with fine step sizes;
along the tensor itself, ⟨W − Ŵ, W⟩² / ‖W‖², as when small elements become zero; and the part that a low rank leaves out.
"""


@dataclass(frozen=True)
class Scan:
    """Forms in the order of their step sizes.

    Attributes:
        forms: the forms.
        bits: (n,) estimates.
        errors: (n, 3) the parts of the squared error, see `PARTS`.
    """

    forms: Sequence[Form]
    bits: Floats
    errors: Floats


def dense_scan(matrix: Tensor, *, grids: bool = True) -> Scan:
    """The matrix with all step sizes. They are close together if it may lie on a grid. A large one is estimated from some of its elements."""
    values, inflation = matrix.reshape(-1), 1.0
    values = values if values.dtype.itemsize > 1 else values.float()  # few operations take 8-bit floats
    if values.numel() > _SAMPLE:
        # The same elements at each call, so that a search repeats.
        picked = torch.randint(values.numel(), (_SAMPLE,), generator=torch.Generator().manual_seed(0))
        inflation, values = values.numel() / _SAMPLE, values[picked.to(values.device)]
    steps = _steps(values, _GRID if grids and inflation == 1 else _SMOOTH)
    numbers = values.double().numpy(force=True)
    parts = [_under(numbers, np.array(part)) for part in batched(steps, max(1, _TOGETHER // numbers.size))]
    fitted, bits, errors = (np.concatenate(each) for each in zip(*parts, strict=True)) if parts else (np.zeros(0),) * 3
    return Scan([Uniform(step) for step in fitted.tolist()], inflation * bits, inflation * errors.reshape(-1, PARTS))


def batched(values: Sequence[Several], count: int) -> Iterator[Sequence[Several]]:
    """Parts of at most this number."""
    return (values[first : first + count] for first in range(0, len(values), count))


def _steps(values: Tensor, ratio: float) -> list[float]:
    """Step sizes, from one that leaves almost nothing to one far below the root mean square; close together where grids may be."""
    top = float(values.abs().max())
    if not top:
        return []
    typical = float((values.double() / top).square().mean().sqrt()) * top
    # At twice the largest number all numbers are rounded to zero.
    coarse = 2 * top * ratio ** -np.arange(math.log(2 * top / typical * 2**_GRID_OCTAVES) / math.log(ratio))
    beyond = max(ratio, _FINE)
    fine = coarse[-1] * beyond ** -np.arange(1, (_OCTAVES - _GRID_OCTAVES) / math.log2(beyond))
    return [float(step) for step in (*coarse, *fine) if top / step < SYMBOL_LIMIT]


def _under(values: Floats, steps: Floats) -> tuple[Floats, Floats, Floats]:
    """Step sizes (k,) fitted to the symbols that the given ones make, the bits of the symbols, and the parts of the squared errors (k, 3).

    Bits are those of the symbols by their own frequencies, see `entropy_bits`.
    """
    # By einsum, because NumPy's BLAS would start threads of its own, which use a processor while they wait.
    symbols = np.rint(values / steps[:, None])
    energies = np.einsum("ij,ij->i", symbols, symbols)
    fitted = np.where(energies > 0, np.einsum("ij,j->i", symbols, values) / np.maximum(energies, 1), steps)
    symbols = np.rint(values / fitted[:, None])
    missing = values - fitted[:, None] * symbols
    error, energy = np.einsum("ij,ij->i", missing, missing), float(np.einsum("i,i->", values, values))
    along = np.minimum(np.square(np.einsum("ij,j->i", missing, values)) / max(energy, sys.float_info.min), error)
    return fitted, rows_entropy_bits(symbols), np.stack([error - along, along, np.zeros(len(steps))], axis=1)


def pruned_scans(matrix: Tensor) -> list[Scan]:
    """The matrix without its faint rows, without its faint columns, and without both, each with all step sizes."""
    rows, columns = (_faint(matrix.double().square().sum(axis)) for axis in (1, 0))
    if rows is None or columns is None:
        return [] if rows is columns else [_pruned(matrix, rows, columns)]
    return [_pruned(matrix, *sides) for sides in ((rows, None), (None, columns), (rows, columns))]


def _faint(energies: Tensor) -> Tensor | None:
    """Which lines with these energies (n,) are below the widest gap between the energies; None if no gap is wide enough."""
    ordered = energies.sort().values
    gaps = ordered[1:] / ordered[:-1].clamp(min=float(ordered[-1]) * 1e-12 + 1e-300)
    widest = int(gaps.argmax()) if len(gaps) else 0
    return energies <= ordered[widest] if len(gaps) and float(gaps[widest]) > _GAP else None


def _pruned(matrix: Tensor, rows: Tensor | None, columns: Tensor | None) -> Scan:
    matrix = matrix.float() if matrix.dtype.itemsize == 1 else matrix  # PyTorch has no arithmetic of these
    alive = torch.ones_like(matrix, dtype=torch.bool)
    if rows is not None:
        alive[rows] = False
    if columns is not None:
        alive[:, columns] = False
    scan = dense_scan(matrix * alive)
    left_out = float((matrix * ~alive).double().square().sum())
    forms = [Pruned(form.step, alive) for form in scan.forms if isinstance(form, Uniform)]
    return Scan(forms, scan.bits, scan.errors + np.array([left_out, 0.0, 0.0]))


def low_rank_scan(matrix: Tensor, whole: Scan) -> Scan:
    """Factors of the ranks that may take fewer bits than the matrix itself, `whole`, at the same error. Each is tried in several bases."""
    W = matrix.double()
    svds = SVDCache({"W": matrix})
    pairs: list[tuple[Tensor, Tensor]] = []
    for rank in ranks_worth_trying(svds.singular_values("W"), W.shape, whole):
        A, B = balanced(svds.leading("W", rank), rank)
        # Which of the two factors a rotation makes sparse is not known before.
        for target in (A, B.T):
            pairs += _rounded(W, A @ quartimax(target))
        for side, target in ((A, W), (B.T, W.T)):
            D = lattice_basis(side)
            if D is not None:
                on_lattice = _on_lattice(target, (side @ D).round())
                pairs += on_lattice if side is A else [(other.mT, one.mT) for one, other in on_lattice]
    scans = [fitted(W, *pair) for pair in pairs]
    if not scans:
        return Scan([], np.zeros(0), np.zeros((0, PARTS)))
    bits, errors = (np.concatenate(each) for each in zip(*((scan.bits, scan.errors) for scan in scans), strict=True))
    return Scan([form for scan in scans for form in scan.forms], bits, errors)


def fitted(W: Tensor, A: Tensor, B: Tensor) -> Scan:
    """Factors with the scales that fit W (m, n) best. Factors whose symbols are all zero are left out.

    Args:
        W: the matrix, float64.
        A: symbols of first factors (s, m, k), or of one factor (1, m, k) for all second factors.
        B: symbols of second factors (s, k, n).
    """
    along = ((A.mT @ W) * B).sum((1, 2))
    energies = ((A.mT @ A) * (B @ B.mT)).sum((1, 2))
    # The scale that fits best, by least squares.
    scales = torch.where(energies > 0, along / energies, 0.0)
    kept = torch.nonzero(scales)[:, 0]
    A, B = (sides if len(sides) < len(scales) else sides[kept] for sides in (A, B))
    errors = np.zeros((len(kept), PARTS))
    errors[:, -1] = (W.square().sum() - scales * along)[kept].clamp(min=0.0).numpy(force=True)
    alive = A.any(1) & B.any(2)
    bits = _component_bits(A.mT, alive) + _component_bits(B, alive)
    sides = (one.expand(len(kept), *one.shape[1:]) for one in (A, B))
    return Scan([Factors(*one) for one in zip(*sides, scales[kept].tolist(), strict=True)], bits, errors)


def _component_bits(factors: Tensor, alive: Tensor) -> Floats:
    """(s,) bits of those components of factors (s, k, n), or (1, k, n), that are alive (s, k), see `entropy_bits`."""
    bits, counts = np.zeros(len(alive)), alive.sum(1).numpy(force=True)
    for count in np.unique(counts).tolist():
        those = np.flatnonzero(counts == count)
        if count == factors.shape[1] and len(factors) == 1:
            symbols = factors
        else:
            symbols = factors.expand(len(alive), *factors.shape[1:])[those][alive[those]].reshape(len(those), -1)
        bits[those] = rows_entropy_bits(symbols.reshape(len(symbols), -1).numpy(force=True))
    return bits


def ranks_worth_trying(S: Tensor, shape: Sequence[int], whole: Scan) -> list[int]:
    """Ranks whose factors take fewer bits than the dense matrix at one error, by the formula for Gaussian numbers at high resolution.

    At rank k half of the error is what the rank leaves out, T = Σ_{i>k} σ_i², and half is the rounding of the factors, whose step size is then
    Δ² = 12·T / ((m + n)·Σ_{i≤k} σ_i).
    """
    m, n = shape
    values = S.numpy(force=True).astype(np.float64)
    tails = np.cumsum(np.square(values[::-1]))[::-1][1:]
    errors = whole.errors.sum(1)
    order = np.argsort(errors)
    worth: list[tuple[float, int]] = []
    for rank, tail in enumerate(tails.tolist(), start=1):
        kept = values[:rank]
        if rank > _HIGHEST or not tail > 0 or not kept[-1] > 0:
            break
        square = 12 * tail / ((m + n) * kept.sum())
        bits = sum(0.5 * side * float(np.log2(1 + 2 * math.pi * math.e * kept / (side * square)).sum()) for side in (m, n))
        dense = float(np.interp(math.log(2 * tail), np.log(errors[order] + 1e-300), whole.bits[order]))
        if bits < dense:
            worth.append((bits / dense, rank))
    return sorted(rank for _, rank in sorted(worth)[:_RANKS])


def _rounded(W: Tensor, A: Tensor) -> list[tuple[Tensor, Tensor]]:
    """A factor (m, k) in some basis, rounded with step sizes from coarse to fine; the other factor is fitted to its symbols and rounded, too.

    Returns symbols (s, m, k) and (s, k, n), for a few step sizes at a time.
    """
    found = []
    for coarseness in _COARSENESS:
        symbols = (A / (coarseness * _size(A))).round()
        # A component without a symbol would leave its part of the other factor undetermined.
        if bool(symbols.any(0).all()):
            other = torch.linalg.lstsq(symbols, W).solution
            found.append((symbols, (other / (coarseness * _size(other))).round()))
    together = _at_once(A.shape[1], W)
    return [(torch.stack(one), torch.stack(other)) for one, other in (zip(*some, strict=True) for some in batched(found, together))]


def _on_lattice(W: Tensor, symbols: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The symbols (m, k) of one factor, as (1, m, k), and the other factor, fitted to them, with several step sizes: a few at a time."""
    if int(torch.linalg.matrix_rank(symbols)) < symbols.shape[1]:
        return []
    other = torch.linalg.lstsq(symbols, W).solution
    size = _size(other)
    steps = [step for step in _steps(other, _LATTICE) if size < _SMALL * step]
    together = _at_once(len(other), W)
    return [(symbols[None], (other / torch.tensor(some).to(other)[:, None, None]).round()) for some in batched(steps, together)]


def _at_once(rank: int, W: Tensor) -> int:
    """The number of pairs of factors of W (m, n) to compute at once."""
    return max(1, _TOGETHER // (rank * max(W.shape)))


def _size(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
