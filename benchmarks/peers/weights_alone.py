"""Measures of the weights alone, which need no data: parameters, bytes of a compressor, effective rank, stable rank, L2 norm."""

import bz2
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nncomplexity.linalg import effective_rank

Weights = Mapping[str, Tensor]


def parameters(weights: Weights) -> float:
    """The number of parameters."""
    return sum(tensor.numel() for tensor in weights.values())


def bzip2_bits(weights: Weights, dtype: torch.dtype = torch.float32) -> float:
    """The bits of all tensors' bytes in this precision, compressed by bzip2 as one stream."""
    return 8 * len(bz2.compress(b"".join(tensor.to(dtype).contiguous().numpy().tobytes() for tensor in weights.values())))


def effective_ranks(weights: Weights) -> float:
    """The sum over the matrices of exp(H), with H the entropy of the singular values (Roy and Vetterli 2007)."""
    return sum(effective_rank(matrix) for matrix in _matrices(weights))


def stable_ranks(weights: Weights) -> float:
    """The sum over the matrices of ‖W‖_F² / ‖W‖₂², the squared Frobenius norm over the largest squared singular value."""
    return sum(float(matrix.square().sum() / torch.linalg.matrix_norm(matrix, ord=2) ** 2) for matrix in _matrices(weights))


def l2_norm(weights: Weights) -> float:
    """The norm of all weights together."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in weights.values()))


def _matrices(weights: Weights) -> list[Tensor]:
    """All tensors of two or more dimensions, as matrices with a row for each index of the first."""
    return [tensor.flatten(1) for tensor in weights.values() if tensor.dim() > 1 and bool(tensor.any())]
