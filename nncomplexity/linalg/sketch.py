"""Singular values and leading components of a large matrix, without a full decomposition.

A matrix W (m, n) with m ≥ n has the Gram matrix WᵀW = V·diag(S²)·Vᵀ, which is only (n, n). Its eigenvectors are the right singular
vectors of W, and U_k = W·V_k / S_k. In float64 this loses singular values below 10⁻⁸ of the largest, which no useful rank would keep. W
is read in blocks of rows, so there is no float64 copy of all of it. If both sides are long, the leading components are computed without the
Gram matrix, by a randomized range finder (Halko, Martinsson and Tropp 2011, Algorithm 4.4). Its seed is always the same.

Shapes: W is (m, n), rank k gives U (m, k), S (k,) and Vh (k, n), in float64 on W's device.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

_ROWS = 4096
"""The number of rows in a block."""
_OVERSAMPLING, _POWERS = 16, 2
"""The extra columns and the power iterations of the range finder, p and q of Halko et al. More of them make it more exact."""
_LONG_SIDE = 1024
"""If the short side is below this length, the Gram matrix is cheap."""
_LOW = 8
"""If the short side is at least this factor times the rank, the range finder is cheaper."""


class Sketch:
    """The decomposition of one large matrix. Each part is computed when it is first needed.

    Args:
        weight: the matrix (m, n), finite, of any floating-point dtype. It must not change.
    """

    def __init__(self, weight: Tensor) -> None:
        self._wide = weight.shape[0] < weight.shape[1]
        self._tall = weight.T if self._wide else weight
        self._eigen: tuple[Tensor, Tensor] | None = None
        self._found: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """The bytes of the results that are kept."""
        return sum(tensor.nbytes for tensor in (*(self._eigen or ()), *(self._found or ())))

    def leading(self, rank: int) -> tuple[Tensor, Tensor, Tensor]:
        """(U, S, Vh) of the `rank` largest components. A column of U with a singular value of zero is zero."""
        if self._found is not None and rank <= len(self._found[1]):
            U, S, V = self._found
        elif self._eigen is None and self._tall.shape[1] >= _LONG_SIDE and _LOW * rank <= self._tall.shape[1]:
            U, S, V = self._found = self._range(rank)
        else:
            S, V = self._decomposed()
            V = V[:, :rank].double()
            # W·v is zero for a singular value of zero, so any divisor but zero gives a column of zeros.
            U = product(self._tall, V) / S[:rank].clamp(min=1e-300)
        U, S, V = U[:, :rank], S[:rank], V[:, :rank]
        return (V, S, U.T) if self._wide else (U, S, V.T)

    def values(self) -> Tensor:
        """All singular values, largest first."""
        return self._decomposed()[0]

    def _decomposed(self) -> tuple[Tensor, Tensor]:
        """S (n,), and V (n, n). V is kept in float32 to save memory: the symbols of a file are less precise."""
        if self._eigen is None:
            squares, V = torch.linalg.eigh(gram(self._tall))
            self._found = None
            self._eigen = squares.flip(0).clamp(min=0).sqrt(), V.flip(1).float()
        return self._eigen

    def _range(self, rank: int) -> tuple[Tensor, Tensor, Tensor]:
        """(U, S, V) of the leading components, from the range of W·(WᵀW)^q·Ω."""
        n = self._tall.shape[1]
        generator = torch.Generator().manual_seed(0)
        columns = min(n, rank + _OVERSAMPLING)
        probe = torch.randn(n, columns, generator=generator, dtype=torch.float64, device="cpu").to(self._tall.device)
        # Without the QR decompositions, all columns would become nearly parallel to the largest component.
        for _ in range(_POWERS):
            probe = torch.linalg.qr(transposed_product(self._tall, product(self._tall, torch.linalg.qr(probe).Q))).Q
        Q = torch.linalg.qr(product(self._tall, probe)).Q
        right, S, left = torch.linalg.svd(transposed_product(self._tall, Q), full_matrices=False)
        return Q @ left.T[:, :rank], S[:rank], right[:, :rank]


def gram(tall: Tensor) -> Tensor:
    """WᵀW (n, n) of W (m, n), in float64, block by block.

    >>> gram(torch.tensor([[3.0, 0.0], [4.0, 1.0]])).tolist()
    [[25.0, 4.0], [4.0, 1.0]]
    """
    total = torch.zeros(tall.shape[1], tall.shape[1], dtype=torch.float64, device=tall.device)
    for block in _blocks(tall):
        total.addmm_(block.T, block)
    return total


def product(tall: Tensor, right: Tensor) -> Tensor:
    """W·X in float64, block by block."""
    return torch.cat([block @ right for block in _blocks(tall)])


def transposed_product(tall: Tensor, left: Tensor) -> Tensor:
    """Wᵀ·Y in float64, block by block."""
    total = torch.zeros(tall.shape[1], left.shape[1], dtype=torch.float64, device=tall.device)
    for block, part in zip(_blocks(tall), _blocks(left), strict=True):
        total.addmm_(block.T, part)
    return total


def _blocks(tall: Tensor) -> Iterator[Tensor]:
    return (tall[first : first + _ROWS].double() for first in range(0, len(tall), _ROWS))
