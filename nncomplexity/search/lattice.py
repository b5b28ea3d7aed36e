"""A basis in which a factor consists of small integers, if there is one.

The factors of a matrix A·B = (A·D)·(D⁻¹·B) are known only up to an invertible D. If they were integers in some basis, the singular value
decomposition does not show it. The directions d for which A·d consists of integers form a lattice. Its shortest independent vectors are the
columns of such a D.
"""

import torch
from torch import Tensor

_TRIES, _ITERATIONS = 400, 60
"""The number of random directions to begin with, and of projections onto integers for each."""
_NEAR, _EMPTY = 0.2, 0.1
"""A·d is near integers if its root mean square distance is below the first number, and not all zeros if its size is above the second."""
_SPAN = (0.4, 3.0)
"""The range of norms of the random directions, if the columns of A are scaled to root mean square 1."""
MOST_COLUMNS = 8
"""For more columns, a random direction is rarely near the lattice."""


def lattice_basis(A: Tensor) -> Tensor | None:
    """D (k, k) such that A·D is near small integers.

    Alternating projections: A·d is rounded to integers, and d is fitted to them by least squares, from many random directions d. Of the
    directions for which A·d ends near integers, the k shortest independent ones are the columns of D.

    Args:
        A: a factor (m, k).

    Returns:
        D, or None if no such basis was found.
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
        # From A·d to the nearest integers, and back to the d that fits them best.
        directions = (inverse @ (scaled @ directions.T).round()).T
    points = scaled @ directions.T
    distances = (points - points.round()).square().mean(0).sqrt()
    lengths = points.round().square().mean(0).sqrt()
    found = (distances < _NEAR) & (lengths > _EMPTY)
    basis: list[Tensor] = []
    # Short ones first: sums of basis vectors are near integers, too, but they are longer.
    for index in torch.argsort(lengths + 4 * distances).tolist():
        if found[index] and int(torch.linalg.matrix_rank(torch.stack([*basis, directions[index]]), rtol=1e-3)) > len(basis):
            basis.append(directions[index])
        if len(basis) == columns:
            return torch.stack(basis).T / sizes[:, None]
    return None
