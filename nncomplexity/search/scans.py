"""Scans of a matrix: dense under many steps, and of low rank in a few bases, with estimated bits and with errors.

    dense      W ≈ Δ · round(W / Δ)
    low rank   W ≈ s · round(A / Δ_A) · round(B / Δ_B)

A dense step is fitted by least squares to the symbols that a first one gives, so that a tensor which lies on a grid is found on it: steps are
a hundredth apart, and its error dips there. The second factor is fitted to the symbols of the first one.
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
from nncomplexity.search.forms import Factors, Form, Pruned, Uniform, rows_entropy_bits
from nncomplexity.search.lattice import lattice_basis
from nncomplexity.search.start import quartimax

Floats = NDArray[np.float64]
Several = TypeVar("Several")

_OCTAVES = 14
"""The finest step is so many halvings below the root mean square."""
_GRID, _LATTICE, _FINE, _SMOOTH = 1.01, 1.02, 2**0.0625, 2**0.25
"""Ratios of steps where a grid may show, in a factor of low rank, where steps are too fine for one, and where each tensor is one of many."""
_GRID_OCTAVES = 3
"""How far below the root mean square a grid is looked for."""
_SAMPLE = 1 << 16
"""Elements of a large tensor that are looked at to estimate bits and error."""
_GAP = 4.0
"""How many times as much energy as the line before it in order of energy has one that isn't faint."""
_TOGETHER = 1 << 15
"""Symbols that are worked out at once."""
_RANKS, _HIGHEST = 5, 256
"""The most ranks that are tried for a matrix, and the highest."""
_COARSENESS = [2.0 ** (-index / 4) for index in range(-3, 26)]
"""Steps of factors, relative to their root mean square."""
_SMALL = 32.0
"""The largest root mean square of the other factor's symbols, if one factor is on a lattice."""


PARTS = 3
"""A squared error ‖W − Ŵ‖² has three parts, whose costs differ: across the tensor, as rounding to fine steps has it, which is noise; along the
tensor itself, ⟨W − Ŵ, W⟩² / ‖W‖², as where small elements become zero; and what a low rank leaves out."""


@dataclass(frozen=True)
class Scan:
    """Forms in the order of their steps.

    Attributes:
        forms: what they are.
        bits: (n,) estimates.
        errors: (n, 3) the parts of the squared error, see `PARTS`.
    """

    forms: Sequence[Form]
    bits: Floats
    errors: Floats


def dense_scan(matrix: Tensor, *, grids: bool = True) -> Scan:
    """The matrix under all steps, so close together that grids show, or not; of a large one some elements are looked at."""
    values, inflation = matrix.reshape(-1), 1.0
    values = values if values.dtype.itemsize > 1 else values.float()  # few operations take 8-bit floats
    if values.numel() > _SAMPLE:
        picked = torch.randint(values.numel(), (_SAMPLE,), generator=torch.Generator().manual_seed(0))
        inflation, values = values.numel() / _SAMPLE, values[picked.to(values.device)]
    steps = _steps(values, _GRID if grids and inflation == 1 else _SMOOTH)
    numbers = values.double().numpy(force=True)
    parts = [_under(numbers, np.array(part)) for part in batched(steps, max(1, _TOGETHER // numbers.size))]
    fitted, bits, errors = (np.concatenate(each) for each in zip(*parts, strict=True)) if parts else (np.zeros(0),) * 3
    return Scan([Uniform(step) for step in fitted.tolist()], inflation * bits, inflation * errors.reshape(-1, PARTS))


def batched(values: Sequence[Several], count: int) -> Iterator[Sequence[Several]]:
    """So many at a time."""
    return (values[first : first + count] for first in range(0, len(values), count))


def _steps(values: Tensor, ratio: float) -> list[float]:
    """Steps from one that leaves next to nothing to one far below the root mean square; so close together where grids may show."""
    top = float(values.abs().max())
    if not top:
        return []
    typical = float((values.double() / top).square().mean().sqrt()) * top
    coarse = 2 * top * ratio ** -np.arange(math.log(2 * top / typical * 2**_GRID_OCTAVES) / math.log(ratio))
    beyond = max(ratio, _FINE)
    fine = coarse[-1] * beyond ** -np.arange(1, (_OCTAVES - _GRID_OCTAVES) / math.log2(beyond))
    return [float(step) for step in (*coarse, *fine) if top / step < SYMBOL_LIMIT]


def _under(values: Floats, steps: Floats) -> tuple[Floats, Floats, Floats]:
    """Steps (k,) that fit the symbols under the given ones best, the bits under them, and the parts of the squared errors (k, 3).

    Bits are those of the symbols under their own frequencies, see `entropy_bits`.
    """
    # By einsum: NumPy's BLAS would start threads of its own, which wait at full speed.
    symbols = np.rint(values / steps[:, None])
    energies = np.einsum("ij,ij->i", symbols, symbols)
    fitted = np.where(energies > 0, np.einsum("ij,j->i", symbols, values) / np.maximum(energies, 1), steps)
    symbols = np.rint(values / fitted[:, None])
    missing = values - fitted[:, None] * symbols
    error, energy = np.einsum("ij,ij->i", missing, missing), float(np.einsum("i,i->", values, values))
    along = np.minimum(np.square(np.einsum("ij,j->i", missing, values)) / max(energy, sys.float_info.min), error)
    return fitted, rows_entropy_bits(symbols), np.stack([error - along, along, np.zeros(len(steps))], axis=1)


def pruned_scans(matrix: Tensor) -> list[Scan]:
    """The matrix without its faint rows, without its faint columns, and without both, each under all steps."""
    rows, columns = (_faint(matrix.double().square().sum(axis)) for axis in (1, 0))
    if rows is None or columns is None:
        return [] if rows is columns else [_pruned(matrix, rows, columns)]
    return [_pruned(matrix, *sides) for sides in ((rows, None), (None, columns), (rows, columns))]


def _faint(energies: Tensor) -> Tensor | None:
    """Which of the lines with these energies (n,) are below the widest gap between them; None where there is none to speak of."""
    ordered = energies.sort().values
    gaps = ordered[1:] / ordered[:-1].clamp(min=float(ordered[-1]) * 1e-12 + 1e-300)
    widest = int(gaps.argmax()) if len(gaps) else 0
    return energies <= ordered[widest] if len(gaps) and float(gaps[widest]) > _GAP else None


def _pruned(matrix: Tensor, rows: Tensor | None, columns: Tensor | None) -> Scan:
    matrix = matrix.float() if matrix.dtype.itemsize == 1 else matrix  # PyTorch has no arithmetic of these
    alive = torch.ones_like(matrix)
    if rows is not None:
        alive[rows] = 0
    if columns is not None:
        alive[:, columns] = 0
    scan = dense_scan(matrix * alive)
    left_out = float((matrix * (1 - alive)).double().square().sum())
    forms = [Pruned(form.step, alive) for form in scan.forms if isinstance(form, Uniform)]
    return Scan(forms, scan.bits, scan.errors + np.array([left_out, 0.0, 0.0]))


def low_rank_scan(matrix: Tensor, whole: Scan) -> Scan:
    """Factors of the ranks that may take fewer bits than the matrix itself, `whole`, with as large an error, in several bases each."""
    W = matrix.double()
    svds = SVDCache({"W": matrix})
    pairs: list[tuple[Tensor, Tensor]] = []
    for rank in ranks_worth_trying(svds.singular_values("W"), W.shape, whole):
        A, B = balanced(svds.leading("W", rank), rank)
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
    """Factors under the scales that fit W (m, n) best, without those of which nothing is left.

    Args:
        W: the matrix, float64.
        A: symbols of first factors (s, m, k), or (1, m, k) of the one that all have.
        B: the same of second factors (s, k, n).
    """
    along = ((A.mT @ W) * B).sum((1, 2))
    energies = ((A.mT @ A) * (B @ B.mT)).sum((1, 2))
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
    """(s,) bits of the components of factors (s, k, n), or (1, k, n), that are alive (s, k), see `entropy_bits`."""
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

    At rank k half of the error is what the rank leaves out, T = Σ_{i>k} σ_i², and half the rounding of the factors, whose step is then
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
    """A factor (m, k) in some basis under steps from coarse to fine, and the other one, fitted to its symbols, under the same.

    Returns symbols (s, m, k) and (s, k, n), some steps at once.
    """
    found = []
    for coarseness in _COARSENESS:
        symbols = (A / (coarseness * _size(A))).round()
        if bool(symbols.any(0).all()):
            other = torch.linalg.lstsq(symbols, W).solution
            found.append((symbols, (other / (coarseness * _size(other))).round()))
    together = _at_once(A.shape[1], W)
    return [(torch.stack(one), torch.stack(other)) for one, other in (zip(*some, strict=True) for some in batched(found, together))]


def _on_lattice(W: Tensor, symbols: Tensor) -> list[tuple[Tensor, Tensor]]:
    """One factor's symbols (m, k), as (1, m, k), and the other factor, fitted to them, under a scan of its steps: some of these at once."""
    if int(torch.linalg.matrix_rank(symbols)) < symbols.shape[1]:
        return []
    other = torch.linalg.lstsq(symbols, W).solution
    size = _size(other)
    steps = [step for step in _steps(other, _LATTICE) if size < _SMALL * step]
    together = _at_once(len(other), W)
    return [(symbols[None], (other / torch.tensor(some).to(other)[:, None, None]).round()) for some in batched(steps, together)]


def _at_once(rank: int, W: Tensor) -> int:
    """How many pairs of factors of W (m, n) are worked out at once."""
    return max(1, _TOGETHER // (rank * max(W.shape)))


def _size(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
