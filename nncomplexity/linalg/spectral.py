"""Spectral entropy and effective rank: the number of directions in which a matrix acts (DeMoss et al. 2025, Eqs. 12 and 15).

These functions only measure. For a differentiable penalty, see `nncomplexity.training.regularizers`.
"""

import math

import torch
from torch import Tensor

from nncomplexity.errors import InputError
from nncomplexity.words import python_numbers

_EXTREME = 500
"""Numbers with larger exponents of 2, positive or negative, have squares near the limits of float64."""


def spectral_entropy(x: Tensor) -> Tensor:
    """H_svd = −Σ σ̄_i ln σ̄_i in nats, with σ̄_i = σ_i / Σ_j σ_j (Eqs. 12 and 15).

    It is from 0 (rank one, or a zero matrix) to ln min(m, n) (all singular values equal). It does not depend on the matrix's scale.

    Args:
        x: a matrix (m, n) of any floating-point dtype; its singular values are computed in float64.

    Returns:
        A 0-d float64 tensor on x's device, without gradient.

    Raises:
        InputError: `x` isn't a floating-point matrix with entries, or contains a NaN or an infinity.

    >>> round(spectral_entropy(torch.eye(4)).item(), 6) == round(math.log(4), 6)
    True
    """
    return _entropy(_singular_values(x))


def effective_rank(x: Tensor) -> float:
    """exp(H_svd): the number of equal singular values that would have the same entropy (Roy and Vetterli 2007).

    A zero matrix has H_svd = 0, but its effective rank is 0, like its rank.

    Args:
        x: a matrix (m, n) of any floating-point dtype.

    Returns:
        The effective rank, from 1 to min(m, n); 0 for a zero matrix.

    Raises:
        InputError: `x` isn't a floating-point matrix with entries, or holds a NaN or an infinity.

    >>> round(effective_rank(torch.diag(torch.tensor([5.0, 5.0, 0.0]))), 6)
    2.0
    """
    return effective_rank_of(_singular_values(x))


def effective_ranks(matrices: Tensor) -> list[float]:
    """The effective rank of each of T finite matrices (T, m, n), in float64.

    >>> effective_ranks(torch.stack([torch.eye(2), torch.zeros(2, 2)]).double())
    [2.0, 0.0]
    """
    values = torch.linalg.svdvals(_moderate(matrices))
    largest = values[:, :1]
    entropies = _entropies(values / torch.where(largest > 0, largest, 1.0))
    return [
        math.exp(entropy) if most else 0.0 for entropy, most in zip(*map(python_numbers, (entropies, largest[:, 0])), strict=True)
    ]


def effective_rank_of(S: Tensor) -> float:
    """exp(H_svd) from the singular values of a matrix; 0 if all of them are zero.

    Args:
        S: singular values, (r,), in any order.

    Returns:
        The effective rank.

    Raises:
        InputError: `S` isn't one row of finite numbers >= 0.

    >>> effective_rank_of(torch.tensor([7.0, 0.0]))
    1.0
    """
    if S.ndim != 1 or not (torch.isfinite(S).all() and (S >= 0).all()):
        raise InputError(f"S: expected one row of finite singular values >= 0, got shape {tuple(S.shape)}, {S.dtype}")
    return math.exp(_entropy(S.double()).item()) if S.any() else 0.0


def _entropy(S: Tensor) -> Tensor:
    largest = S.max() if S.numel() else S.sum()
    if largest <= 0:
        return torch.zeros_like(largest)
    return _entropies((S / largest)[None])[0]  # the sum of values near the largest float would overflow


def _entropies(S: Tensor) -> Tensor:
    """The entropies (T,) of the shares that T rows (T, r) of numbers have of their sums."""
    entropies: Tensor = torch.special.entr(S / S.sum(1, keepdim=True)).sum(1)
    return entropies


def _singular_values(x: Tensor) -> Tensor:
    """The singular values (r,) of a matrix, largest first."""
    if not isinstance(x, Tensor):
        raise InputError(f"x: expected a floating-point matrix (m, n) with entries, got {type(x).__name__}; use torch.tensor")
    if x.ndim != 2 or not x.is_floating_point() or not x.numel():
        raise InputError(
            f"x: expected a floating-point matrix (m, n) with entries, got {x.dtype} of shape {tuple(x.shape)}: "
            "fold other tensors by lowrank.matrix_view"
        )
    if not torch.isfinite(x).all():
        raise InputError("x: expected finite values, got a NaN or an infinity; such a matrix has no singular values")
    values: Tensor = torch.linalg.svdvals(_moderate(x.detach().double()[None])[0])
    return values


def _moderate(matrices: Tensor) -> Tensor:
    """The matrices (T, m, n). One with very large or very small numbers is rescaled, because its squares would be out of range."""
    largest = python_numbers(matrices.abs().amax((1, 2)))
    exponents = [math.frexp(size)[1] for size in largest]
    if all(abs(exponent) <= _EXTREME for exponent in exponents):
        return matrices
    # 2^1024 would overflow. The smallest numbers then stay small, but no longer near the limit.
    scales = [2.0 ** min(1000, -exponent) if abs(exponent) > _EXTREME else 1.0 for exponent in exponents]
    return matrices * torch.tensor(scales, dtype=matrices.dtype, device="cpu").to(matrices.device)[:, None, None]
