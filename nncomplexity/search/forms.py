"""The forms in which a tensor may be coded, and the bits of their symbols."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nncomplexity.codecs import Integers, weigh_each
from nncomplexity.file import CoarseTensor, Constant, LowRank, dense, narrow, united
from nncomplexity.network import Layout
from nncomplexity.search.latent import snapped

_RANK = 8.0
"""About the bits that a rank and the bases of its sides take in a file."""
AT_ONCE = 1 << 20
"""About the number of elements of a large tensor that are in float64 at one time, to limit the memory."""


class Form(Protocol):
    """A form in which a tensor may be coded."""

    @property
    def overhead(self) -> float:
        """About the bits that the form takes apart from its symbols."""
        ...

    def symbols(self, matrix: Tensor) -> list[Tensor]:
        """The matrices of symbols that the coder gets for a matrix of weights."""
        ...

    def piece(self, weight: Tensor, precision: int) -> CoarseTensor:
        """The coarse tensor of a weight, with step sizes rounded to this number of mantissa bits."""
        ...


@dataclass(frozen=True)
class Zero:
    """All elements are zero."""

    overhead = 0.0

    def symbols(self, _: Tensor) -> list[Tensor]:
        return []

    def piece(self, _: Tensor, __: int) -> CoarseTensor:
        return Constant(0)


@dataclass(frozen=True)
class Uniform:
    """Multiples of a step size."""

    step: float

    overhead = 0.0

    def symbols(self, matrix: Tensor) -> list[Tensor]:
        return [(matrix.double() / self.step).round_()]

    def piece(self, weight: Tensor, precision: int) -> CoarseTensor:
        return _nearest_piece(weight, self.step, precision)


@dataclass(frozen=True)
class Pruned:
    """Multiples of a step size, except in rows and columns of the matrix view that are left out.

    `alive` (m, n) tells for each element whether it stays.
    """

    step: float
    alive: Tensor

    overhead = 0.0

    def symbols(self, matrix: Tensor) -> list[Tensor]:
        return Uniform(self.step).symbols(matrix.double() * self.alive)

    def piece(self, weight: Tensor, precision: int) -> CoarseTensor:
        return _nearest_piece(weight, self.step, precision, self.alive)


@dataclass(frozen=True)
class Factors:
    """The symbols of two factors (m, k) and (k, n), and the scale of their product.

    Components that are zero in one factor are left out of a file. The strongest components come first.
    """

    A: Tensor
    B: Tensor
    scale: float = 1.0

    overhead = _RANK

    def symbols(self, _: Tensor) -> list[Tensor]:
        kept = torch.nonzero(self.A.any(0) & self.B.any(1))[:, 0]
        order = kept[torch.argsort(self.A[:, kept].abs().sum(0), descending=True, stable=True)]
        return [self.A[:, order], self.B[order]]

    def piece(self, weight: Tensor, precision: int) -> CoarseTensor:
        # A power of two is exact in any precision; the other step size takes the rest.
        step = 2.0 ** (math.frexp(abs(self.scale))[1] // 2)
        A, B = self.symbols(weight)
        A = A * math.copysign(1.0, self.scale)
        return LowRank(narrow(A), narrow(B), snapped(abs(self.scale) / step, precision), step)

    def transposed(self) -> "Factors":
        """The factors of the transposed matrix."""
        return Factors(self.B.T, self.A.T, self.scale)


@dataclass(frozen=True)
class InPieces:
    """A layout, and the forms of its pieces."""

    layout: Layout
    forms: tuple[Form, ...]

    @property
    def overhead(self) -> float:
        return sum(form.overhead for form in self.forms)

    def symbols(self, matrix: Tensor) -> list[Tensor]:
        parts = zip(self.forms, self.layout.apart(matrix), strict=True)
        return [symbols for form, part in parts for symbols in form.symbols(part)]

    def piece(self, weight: Tensor, precision: int) -> CoarseTensor:
        pieces = [form.piece(part, precision) for form, part in zip(self.forms, self.layout.apart(weight), strict=True)]
        return united(self.layout, pieces, weight.shape)


def nearest(weight: Tensor, step: float, alive: Tensor | None = None) -> Integers:
    """The nearest multiples of a step size, in the smallest integer type; 0 for elements that are not alive.

    >>> nearest(torch.tensor([[0.6, -1.4]]), 0.5)
    array([[ 1, -3]], dtype=int8)
    """
    found = []
    # Only a part of a large weight is in float64 at one time, to limit the memory.
    for first in range(0, weight.numel(), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        symbols = (weight.reshape(-1)[part].double() / step).round_()
        found.append(narrow(symbols if alive is None else symbols * alive.reshape(-1)[part]))
    return np.concatenate(found).reshape(weight.shape)


def _nearest_piece(weight: Tensor, step: float, precision: int, alive: Tensor | None = None) -> CoarseTensor:
    """The nearest multiples of a step size with this number of mantissa bits."""
    step = snapped(step, precision)
    symbols = nearest(weight, step, alive)
    largest = max(float(symbols.max()), -float(symbols.min()))
    # The numbers of a mask may be at the end of the range.
    while step * largest > torch.finfo(weight.dtype).max:
        step = snapped(step * (1 - 2.0 ** -(precision + 1)), precision)
    return dense(symbols, step)


def coded(forms: Sequence[Form], matrix: Tensor) -> list[float]:
    """Bits of a matrix in each of these forms by the coder, each alone in a file."""
    symbols = [form.symbols(matrix) for form in forms]
    weighed = iter(coded_bits([one for each in symbols for one in each]))
    return [form.overhead + sum(next(weighed) for _ in each) for form, each in zip(forms, symbols, strict=True)]


def coded_bits(symbols: Sequence[Tensor]) -> list[float]:
    """Bits of matrices of symbols by the coder, each alone in a file."""
    upright = [one if one.shape[0] >= one.shape[1] else one.T for one in symbols]
    bits: list[float] = weigh_each([one.numpy(force=True).astype(np.int64) for one in upright]).tolist()
    return bits


def entropy_bits(symbols: Tensor) -> float:
    """Bits of symbols by their own frequencies, plus ½·log₂ n for each frequency and a bit for each value in their range that doesn't occur."""
    flat, count = symbols.reshape(-1), symbols.numel()
    low, high = int(flat.min()), int(flat.max())
    span = high - low + 1
    if span > _sparse(count):
        return float(rows_entropy_bits(flat.double().numpy(force=True)[None])[0])
    counts = torch.zeros(span, dtype=torch.int64, device=flat.device)
    for part in torch.split(flat, AT_ONCE):
        counts += torch.bincount(part.long() - low, minlength=span)
    return float(_of_counts(count, counts.numpy(force=True), np.zeros(1, dtype=np.int64), span)[0])


def rows_entropy_bits(symbols: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k,) the same for each row of symbols (k, n), whole numbers.

    >>> rows_entropy_bits(np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]])).round(2).tolist()
    [1.0, 7.75]
    """
    count = symbols.shape[1]
    low, high = symbols.min(axis=1), symbols.max(axis=1)
    spans = high - low + 1
    bits = np.empty(len(symbols))
    # Counters for all values of a range would take too much memory if a few symbols are far apart.
    narrow_rows = spans <= _sparse(count)
    narrow, starts = symbols[narrow_rows], np.cumsum(np.append(0, spans[narrow_rows])).astype(np.int64)
    if len(narrow):
        places = (narrow - low[narrow_rows, None]).astype(np.int64) + starts[:-1, None]
        counts = np.bincount(places.reshape(-1), minlength=int(starts[-1]))
        bits[narrow_rows] = _of_counts(count, counts, starts[:-1], spans[narrow_rows])
    for row in np.flatnonzero(~narrow_rows).tolist():
        counts = np.unique(symbols[row], return_counts=True)[1]
        bits[row] = _priced(count, (counts * np.log2(counts)).sum(), len(counts), spans[row])
    return bits


def _sparse(count: int) -> int:
    """The largest range of this number of symbols for which each value has a counter."""
    return 4 * count + 64


def _of_counts(count: int, counts: NDArray[np.int64], starts: NDArray[np.int64], spans: Any) -> Any:
    """(k,) the bits of rows of symbols from the counts of the values in their ranges. The counts of a row begin at its start (k,)."""
    distinct = np.add.reduceat((counts > 0).astype(np.int64), starts)
    spread = np.add.reduceat(counts * np.log2(np.maximum(counts, 1)), starts)
    return _priced(count, spread, distinct, spans)


def _priced(count: int, spread: Any, distinct: Any, span: Any) -> Any:
    """n·log₂ n − Σ c·log₂ c of counts c, plus the bits of the values and of their frequencies. Arguments are numbers or arrays."""
    return count * math.log2(count) - spread + 0.5 * distinct * math.log2(count + 1) + span - distinct
