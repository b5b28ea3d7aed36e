"""A basis in which a factor is made of small integers, if there is one.

A matrix of low rank whose factors were whole numbers, as A·B = (A·D)·(D⁻¹·B) for any invertible D, shows them in no basis that the singular
values know. Directions d with A·d near whole numbers form a lattice; its shortest independent vectors are such a D.
"""

import torch
from torch import Tensor

_TRIES, _ITERATIONS = 400, 60
"""Random directions to begin from, and projections onto whole numbers for each."""
_NEAR, _EMPTY = 0.2, 0.1
"""The root mean square distance from whole numbers that counts as near, and the size below which these are all zeros."""
_SPAN = (0.4, 3.0)
"""The range of norms of the first directions, in units in which the columns of A have standard deviation 1."""
MOST_COLUMNS = 8
"""Above so many columns random directions rarely fall near the lattice."""


def lattice_basis(A: Tensor) -> Tensor | None:
    """D (k, k) such that A·D, A being (m, k), is near whole numbers and these are small; None where no such basis is found.

    From random directions d, A·d is rounded and d fitted to it by least squares, again and again, until nothing moves. Of those that end near
    whole numbers the shortest k that are independent are taken.
    """
    rows, columns = A.shape
    sizes = A.square().mean(0).sqrt()
    if columns > MOST_COLUMNS or rows <= columns or not bool((sizes > 0).all()):
        return None
    scaled = A / sizes
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(_TRIES, columns, generator=generator, dtype=torch.float64)
    norms = _SPAN[0] + (_SPAN[1] - _SPAN[0]) * torch.rand(_TRIES, 1, generator=generator, dtype=torch.float64)
    directions = (directions * (norms / directions.norm(dim=1, keepdim=True))).to(A)
    inverse = torch.linalg.pinv(scaled)
    for _ in range(_ITERATIONS):
        directions = (inverse @ (scaled @ directions.T).round()).T
    points = scaled @ directions.T
    distances = (points - points.round()).square().mean(0).sqrt()
    lengths = points.round().square().mean(0).sqrt()
    found = (distances < _NEAR) & (lengths > _EMPTY)
    basis: list[Tensor] = []
    for index in torch.argsort(lengths + 4 * distances).tolist():
        if found[index] and int(torch.linalg.matrix_rank(torch.stack([*basis, directions[index]]), rtol=1e-3)) > len(basis):
            basis.append(directions[index])
        if len(basis) == columns:
            return torch.stack(basis).T / sizes[:, None]
    return None
