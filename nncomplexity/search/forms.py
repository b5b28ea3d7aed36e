"""The forms in which a tensor may be coded, and the bits of their symbols."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nncomplexity.codecs import weigh_each
from nncomplexity.file import CoarseTensor, Constant, LowRank, dense, narrow, united
from nncomplexity.network import Layout
from nncomplexity.search.latent import snapped

_RANK = 8.0
"""About the bits that a rank and the bases of its sides take in a file."""


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
        step = snapped(self.step, precision)
        symbols = (weight.double() / step).round_()
        # The numbers of a mask may be at the end of the range.
        while step * float(symbols.abs().max()) > torch.finfo(weight.dtype).max:
            step = snapped(step * (1 - 2.0 ** -(precision + 1)), precision)
        return dense(narrow(symbols), step)


@dataclass(frozen=True)
class Pruned:
    """Multiples of a step size, except in rows and columns of the matrix view that are left out.

    `alive` (m, n) is 1 where an element stays, and 0 elsewhere.
    """

    step: float
    alive: Tensor

    overhead = 0.0

    def symbols(self, matrix: Tensor) -> list[Tensor]:
        return Uniform(self.step).symbols(matrix.double() * self.alive)

    def piece(self, weight: Tensor, precision: int) -> CoarseTensor:
        # In float64, because PyTorch has no arithmetic of one-byte floats.
        kept = weight.double() * self.alive.reshape(weight.shape)
        return Uniform(self.step).piece(kept.to(weight.dtype), precision)


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
    return float(rows_entropy_bits(symbols.double().numpy(force=True).reshape(1, -1))[0])


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
    narrow_rows = spans <= 4 * count + 64
    narrow, starts = symbols[narrow_rows], np.cumsum(np.append(0, spans[narrow_rows])).astype(np.int64)
    if len(narrow):
        places = (narrow - low[narrow_rows, None]).astype(np.int64) + starts[:-1, None]
        counts = np.bincount(places.reshape(-1), minlength=int(starts[-1]))
        distinct = np.add.reduceat((counts > 0).astype(np.int64), starts[:-1])
        spread = np.add.reduceat(counts * np.log2(np.maximum(counts, 1)), starts[:-1])
        bits[narrow_rows] = _priced(count, spread, distinct, spans[narrow_rows])
    for row in np.flatnonzero(~narrow_rows).tolist():
        counts = np.unique(symbols[row], return_counts=True)[1]
        bits[row] = _priced(count, (counts * np.log2(counts)).sum(), len(counts), spans[row])
    return bits


def _priced(count: int, spread: Any, distinct: Any, span: Any) -> Any:
    """n·log₂ n − Σ c·log₂ c of counts c, plus the bits of the values and of their frequencies. Arguments are numbers or arrays."""
    return count * math.log2(count) - spread + 0.5 * distinct * math.log2(count + 1) + span - distinct
