"""A fixed basis for the rows of a factor: waves over the first rows, which have an order, and the unit vectors for the others.

Where rows stand for tokens, positions or pixels in an order, what a network has learned of them is often made of few waves: a network
that adds modulo p embeds its residues as cosines of a handful of frequencies (Nanda et al. 2023). Over the first P of m rows the basis
holds the real Fourier vectors of length P, over the rest the unit vectors.

The basis is a matrix of integers, so that what it multiplies stays exact: waves in units of 2⁻¹⁰, all columns of nearly the same norm.
It needs no more: the symbols under it are fitted to the basis as it is.
"""

import functools
import math

import torch
from torch import Tensor

UNIT_BITS = 10
"""Waves are rounded to multiples of 2⁻¹⁰."""
MOST_ROWS = 1024
"""The basis is a dense matrix (m, m), and takes the time and room of one."""


def largest_entry(period: int) -> int:
    """No entry of a basis of this period is larger in size."""
    return max(math.isqrt(period << 2 * UNIT_BITS), math.isqrt(2 << 2 * UNIT_BITS) + 1)


def shift(period: int) -> int:
    """A product with the basis is worth 2^−shift: columns then have norms between 0.7 and 1.42."""
    return UNIT_BITS + period.bit_length() // 2


@functools.lru_cache(maxsize=8)
def waves(rows: int, period: int) -> Tensor:
    """The basis (rows, rows) of a period in [2, rows]: integers, held as float64; a shared tensor, not to be written to.

    Column 0 is constant, columns 2f − 1 and 2f are √2·cos and √2·sin of 2π·f·i/P over the rows i < P, and the last of them, where P is
    even, alternates in sign. All are in units of 2⁻¹⁰ and rounded to the nearest integer. No value comes nearer than 10⁻⁶ to a tie for
    any P up to 1024, so that every machine's cosine rounds to the same integer. The unit vectors' entries are ⌊2¹⁰·√P⌋.

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
