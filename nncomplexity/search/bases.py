"""The bases in which the factors of a matrix are sparse: rotations of its components, and waves along its sides."""

import math

import torch
from torch import Tensor

from nncomplexity.linalg import MOST_ROWS
from nncomplexity.search.latent import scaled_basis
from nncomplexity.words import python_numbers

_ROTATIONS = 30
"""Iterations of `quartimax`."""
_MARGIN = 8
"""The most rows that a basis of waves may leave to unit vectors, such as tokens that are not numbers."""
_GATHERED = 0.5
"""A basis of waves is considered if the entropy of a factor's energy over waves is lower than over rows by this much, in nats."""


def quartimax(A: Tensor) -> Tensor:
    """The orthogonal matrix R (k, k) that makes A·R (m, k) sparse: it maximises the sum of fourth powers of A·R.

    (A·R)·(Rᵀ·B) equals A·B, so both factors absorb R, and no file contains it. This is quartimax (Neuhaus and Wrigley 1954), computed by the
    fixed-point iteration R ← polar(Aᵀ(A·R)³).

    Args:
        A: one matrix (m, k), or several (T, m, k).

    Returns:
        R (k, k), or one for each matrix (T, k, k).
    """
    R = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand(*A.shape[:-2], -1, -1)
    # Fourth powers of large numbers overflow. Scaling by a power of two changes no digit.
    largest = A.abs().amax((-2, -1), keepdim=True)
    A = A * torch.tensor(
        [math.ldexp(1.0, -max(math.frexp(size)[1], -1000)) for size in python_numbers(largest.flatten())],
        dtype=A.dtype,
        device="cpu",
    ).to(A.device).reshape(largest.shape)
    for _ in range(_ROTATIONS):
        U, _, Vh = torch.linalg.svd(A.mT @ (A @ R) ** 3)
        R = U @ Vh
    return R


def in_basis(factors: Tensor, period: int) -> Tensor:
    """Factors (T, m, k) in the coordinates of a side's basis. Its columns are orthogonal, with nearly the same norm."""
    if not period:
        return factors
    F = scaled_basis(factors.shape[1], period, factors.device).double()
    found: Tensor = F.T @ factors / F.square().sum(0)[:, None]
    return found


def likely_periods(factors: Tensor) -> list[list[int]]:
    """The periods to try for each of T factors (T, m, k): 0, for no basis, and perhaps one period.

    This is the period, of at most m, under which the energy of the factor is in the fewest waves. It is tried only if these are clearly fewer
    than the rows. The mean over the rows is removed first: rows that share a part, as those of an LSTM's gates do, are no wave.
    """
    rows = factors.shape[1]
    if not 16 <= rows <= MOST_ROWS:
        return [[0]] * len(factors)
    factors = factors - factors.mean(1, keepdim=True)
    periods = range(rows, rows - 1 - min(_MARGIN, rows // 2), -1)
    # The last rows may be special tokens, which are on no circle. So periods a little shorter than the side are tried as well.
    spreads = torch.stack([_spread(factors, period) for period in periods])
    best = python_numbers(spreads.argmin(0))
    gathered = python_numbers(spreads.amin(0) < _entropy(factors.square().sum(2)) - _GATHERED)
    return [[0, periods[place]] if is_wave else [0] for place, is_wave in zip(best, gathered, strict=True)]


def _spread(factors: Tensor, period: int) -> Tensor:
    """The entropy (T,), in nats, of the energy of factors (T, m, k) over the waves of a period and the rows beyond it."""
    energy = torch.fft.rfft(factors[:, :period], dim=1).abs().square().sum(2) / period
    pairs = energy[:, 1 : (period + 1) // 2]  # each frequency is a cosine and a sine, except the constant and the alternating wave
    single = energy[:, (period + 1) // 2 :]
    return _entropy(torch.cat([energy[:, :1], pairs, pairs, single, factors[:, period:].square().sum(2)], 1))


def _entropy(energy: Tensor) -> Tensor:
    found: Tensor = torch.special.entr(energy / energy.sum(1, keepdim=True).clamp(min=1e-300)).sum(1)
    return found
