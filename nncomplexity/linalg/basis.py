"""A fixed basis for the rows of a factor: a Fourier basis for the first rows, which have an order, and unit vectors for the others.

Rows may stand for tokens, positions or pixels, which have an order. The columns of a factor are then often sums of few frequencies.
For example, a network that adds modulo p embeds its residues as cosines of a few frequencies (Nanda et al. 2023). For the first P
of m rows, the basis has the real Fourier vectors of length P. For the other rows, it has the unit vectors.

The basis is a matrix of integers, so products with it are exact. The Fourier vectors are in units of 2⁻¹⁰, and all columns have nearly
the same norm. More precision is not needed, because the symbols are fitted to this rounded basis.
"""

import functools
import math

import torch
from torch import Tensor

UNIT_BITS = 10
"""Fourier vectors are rounded to multiples of 2⁻¹⁰."""
MOST_ROWS = 1024
"""The largest number of rows. The basis is a dense matrix (m, m), which takes time and memory."""


def largest_entry(period: int) -> int:
    """The largest magnitude of an entry of a basis with this period."""
    return max(math.isqrt(period << 2 * UNIT_BITS), math.isqrt(2 << 2 * UNIT_BITS) + 1)


def shift(period: int) -> int:
    """The shift of a basis: a product with it is multiplied by 2^−shift. Its columns then have norms between 0.7 and 1.42."""
    return UNIT_BITS + period.bit_length() // 2


@functools.lru_cache(maxsize=8)
def waves(rows: int, period: int) -> Tensor:
    """The basis (rows, rows) of a period in [2, rows]. Its entries are integers in float64. The tensor is shared and must not be changed.

    Column 0 is constant. Columns 2f − 1 and 2f are √2·cos and √2·sin of 2π·f·i/P over the rows i < P. If P is even, the last of these columns
    alternates in sign. All entries are in units of 2⁻¹⁰ and rounded to the nearest integer. For P up to 1024, no value is nearer than
    10⁻⁶ to a tie, so every machine's cosine rounds to the same integer. The nonzero entries of the unit vectors are ⌊2¹⁰·√P⌋.

    >>> waves(4, 3).int().tolist()
    [[1024, 1448, 0, 0], [1024, -724, 1254, 0], [1024, -724, -1254, 0], [0, 0, 0, 1773]]
    """
    i = torch.arange(period, device="cpu")
    angles = (torch.outer(i, torch.arange(1, period // 2 + 1, device="cpu")) % period).double() * (2 * math.pi / period)
    basis = torch.zeros(rows, rows, dtype=torch.float64, device="cpu")
    basis[:period, 0] = 1.0
    basis[:period, 1:period:2] = math.sqrt(2) * angles.cos()
    basis[:period, 2:period:2] = math.sqrt(2) * angles[:, : (period - 1) // 2].sin()
    if period % 2 == 0:
        basis[:period, period - 1] = 1.0 - 2.0 * (i % 2)
    basis.mul_(2**UNIT_BITS).round_().add_(0.0)  # the sum makes negative zeros positive
    basis.diagonal()[period:] = math.isqrt(period << 2 * UNIT_BITS)
    return basis
