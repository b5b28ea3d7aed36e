"""Where a search begins: latents of the lowest rank and coarsest steps from which the loss can still be won back."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nncomplexity.coarse import CoarseTensor, dense
from nncomplexity.lowrank import SVD, SVDCache, balanced, matrix_view
from nncomplexity.quantize import symbols
from nncomplexity.search.latent import Latent, snapped
from nncomplexity.weights import TensorSpec

COARSENESS = tuple(2.0 ** (-half / 2) for half in range(-2, 14))
"""Steps tried for a start, relative to the root mean square of what they divide: from 2 down in factors of √2."""
FINEST = 2.0**-7
"""A relative step that costs no loss to speak of."""
_ROTATIONS = 30


@dataclass(frozen=True)
class Shape:
    """One start: the rank that matrices are cut to where that pays (0 leaves all dense), and the relative step."""

    rank: int
    coarseness: float


def latents_at(shape: Shape, specs: Sequence[TensorSpec], weights: Mapping[str, Tensor], svds: SVDCache) -> list[Latent]:
    """The latents of a start, for the tensors that move."""
    return [_latent(shape, spec, weights[spec.name], svds) for spec in specs]


def ranks_that_pay(specs: Sequence[TensorSpec]) -> list[int]:
    """Ranks to try, from 1 up in steps of about a quarter, ending with the largest that pays for any matrix; then 0, all dense."""
    most = max((largest_rank(spec) for spec in specs), default=0)
    ranks: list[int] = []
    rank = 1.0
    while round(rank) <= most:
        ranks.append(round(rank))
        rank = max(rank * 1.25, round(rank) + 1)
    return [*ranks, 0]


def first_that(holds: Callable[[int], bool], count: int) -> int:
    """The least index in [0, count) where `holds`, by bisection; the last where none does. `holds` is taken to stay true."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def quartimax(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """The same product A·B in the basis where the longer factor is sparsest: (A·R, Rᵀ·B), R orthogonal.

    R maximises the sum of fourth powers of that factor's entries (quartimax, Neuhaus and Wrigley 1954) by the fixed-point iteration
    R ← polar(Mᵀ(M·R)³). R is absorbed and never coded.
    """
    long = A if A.shape[0] >= B.shape[1] else B.T
    R = torch.eye(long.shape[1], dtype=long.dtype)
    for _ in range(_ROTATIONS):
        U, _, Vh = torch.linalg.svd(long.T @ (long @ R) ** 3)
        R = U @ Vh
    return A @ R, R.T @ B


def uniformly_quantized(specs: Sequence[TensorSpec], weights: Mapping[str, Tensor], step: float) -> dict[str, CoarseTensor]:
    """Algorithm 2's coarse-graining: every tensor dense under one step."""
    return {spec.name: dense(symbols(weights[spec.name], step).numpy(), step) for spec in specs}


def _latent(shape: Shape, spec: TensorSpec, weight: Tensor, svds: SVDCache) -> Latent:
    view = matrix_view(spec.shape)
    if view is not None and 0 < shape.rank <= largest_rank(spec):
        parts = list(_factors(svds[spec.name], shape.rank))
    else:
        parts = [weight.double().reshape(view or (spec.count,))]
    steps = [shape.coarseness * _rms(part) for part in parts]
    return Latent(spec, [(part / step).float() for part, step in zip(parts, steps, strict=True)], math.log(math.prod(steps)))


def _factors(svd: SVD, rank: int) -> tuple[Tensor, Tensor]:
    return quartimax(*balanced(svd, rank))


def largest_rank(spec: TensorSpec) -> int:
    """The largest rank at which factors hold at most four fifths of the matrix's numbers; 0 where there is none."""
    view = matrix_view(spec.shape)
    return 0 if view is None else int(0.8 * view[0] * view[1] / (view[0] + view[1]))


def _rms(part: Tensor) -> float:
    """Root mean square, or 1 for a tensor of zeros, which any step divides."""
    return float(part.square().mean().sqrt()) or 1.0


def grid_step(step: float) -> float:
    """A step that takes few bits to write."""
    return snapped(step, 2)
