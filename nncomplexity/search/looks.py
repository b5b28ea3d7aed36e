"""Which tensors a search takes in pieces: those whose energy few numbers hold there, and many as they are.

The energy of a matrix is the sum of its squared singular values, and k components of (m, n) are k·(m + n) numbers. For each tensor the
numbers that hold nine tenths of its energy are counted in its matrix view, in blocks and in other foldings (`nncomplexity.layout`). No loss
takes part. Of trained networks hardly a tensor is taken in pieces; those that it is said of are made so: kernels that act along one axis
after the other, and fused projections of which a low-rank adapter changed some.
"""

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from nncomplexity.layout import Blocks, Folding, Layout, foldings
from nncomplexity.lowrank import matrix_view
from nncomplexity.search.contract import Problem
from nncomplexity.sizes import RANKED, large_matrix
from nncomplexity.sketch import gram

ESSENCE = 0.9
"""The share of the energy that is what matters of a matrix."""
_CLEARLY = 0.6
"""Pieces are taken where they need at most this share of the whole's numbers."""
_FUSED = (2, 3, 4)
"""How many projections or gates are stored as one: of gated units; keys, queries and values, or a GRU's gates; an LSTM's."""
_MOST_FOLDINGS = 15
"""Those of five axes."""
_LEAST_SIDE = 4
"""Blocks with a shorter side are too small to have a rank."""


def with_looks(problem: Problem) -> Problem:
    """The problem with the tensors in pieces that are better so."""
    return problem.laid_out(layouts_of(problem))


def layouts_of(problem: Problem) -> dict[str, Layout]:
    """The layouts of the tensors that are better in pieces, by first name."""
    layouts: dict[str, Layout] = {}
    taken = {name for spec in problem.skeleton.tensors for name in spec.names}
    for spec in problem.skeleton.tensors:
        view = matrix_view(spec.shape)
        if view is None or not problem.quantizable(spec) or f"{spec.name}[0]" in taken:
            continue
        weight = problem.weights[spec.name]
        choices = [(numbers(layout.apart(weight)), layout) for layout in candidates(spec.shape)]
        if choices:
            fewest, layout = min(choices, key=lambda choice: choice[0])
            most = prod(view)  # that the whole can take
            if fewest < _CLEARLY * most and fewest < _CLEARLY * numbers([weight.reshape(view)]):
                layouts[spec.name] = layout
    return layouts


def candidates(shape: Sequence[int]) -> Iterator[Layout]:
    """The layouts worth a look: blocks of a matrix, of a large one only where they are square, and foldings of what has more axes."""
    if len(shape) == 2:
        for blocks in (Blocks(axis, count) for axis in (0, 1) for count in _FUSED):
            square = shape[blocks.axis] == blocks.count * shape[1 - blocks.axis]
            if blocks.fits(shape) and min(blocks.shapes(shape)[0]) >= _LEAST_SIDE and (square or not large_matrix(shape)):
                yield from _affordable(blocks, shape)
    elif 1 < foldings(shape) <= _MOST_FOLDINGS:
        for mask in range(foldings(shape)):
            yield from _affordable(Folding(mask), shape)


def _affordable(layout: Layout, shape: Sequence[int]) -> Iterator[Layout]:
    """The layout, unless its pieces have short sides whose cube takes too long."""
    piece = layout.shapes(shape)[0]
    if not large_matrix(piece) or min(piece) <= RANKED:
        yield layout


def numbers(pieces: Sequence[Tensor]) -> int:
    """The fewest numbers, of factors or of whole pieces (m, n), that hold `ESSENCE` of the energy of all pieces together."""
    matrices = [piece if piece.dtype.itemsize > 1 else piece.float() for piece in pieces]  # few operations take 8-bit floats
    largest = max(float(matrix.abs().max()) for matrix in matrices)
    if not largest:
        return 0
    energies = torch.stack([_energies(matrix / largest) for matrix in matrices])
    ordered = energies.flatten().sort(descending=True).values
    kept = int((ordered.cumsum(0) < ESSENCE * ordered.sum()).sum())
    ranks = (energies >= ordered[min(kept, len(ordered) - 1)]).sum(1)
    m, n = pieces[0].shape
    return sum(min(int(rank) * (m + n), prod(pieces[0].shape)) for rank in ranks)


def _energies(matrix: Tensor) -> Tensor:
    """The squared singular values of a matrix, (min(m, n),)."""
    squares: Tensor = torch.linalg.eigvalsh(gram(matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T))
    return squares.clamp(min=0)
