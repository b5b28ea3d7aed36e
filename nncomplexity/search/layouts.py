"""The layout of each tensor: in blocks or in another folding, if far fewer numbers then hold most of its energy.

The energy of a matrix is the sum of its squared singular values, and k components of an (m, n) matrix are k·(m + n) numbers. For each
tensor, the numbers that hold nine tenths of the energy are counted in its matrix view, in blocks and in other foldings
(`nncomplexity.network.Layout`). No loss is measured. Hardly any tensor of a trained network gets another layout. Those that do have such
a structure by construction: kernels that act along one axis after the other, and fused projections of which a low-rank adapter changed
only some.
"""

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from nncomplexity.linalg import RANKED, SMALL, gram, large_matrix, matrix_view
from nncomplexity.network import Blocks, Folding, Layout, TensorSpec, foldings, stacked
from nncomplexity.search.problem import Problem
from nncomplexity.words import python_numbers

_ESSENCE = 0.9
"""The share of a matrix's energy that its components must hold."""
_CLEARLY = 0.6
"""Pieces are chosen if they need less than this share of the numbers of the whole tensor."""
_FUSED = (2, 3, 4)
"""The numbers of projections or gates in one matrix: 2 for gated units; 3 for queries, keys and values, or a GRU; 4 for an LSTM."""
_MOST_FOLDINGS = 15
"""The number of foldings of a tensor with five axes. Tensors with more axes are not folded."""
_LEAST_SIDE = 4
"""Blocks with a shorter side are too small to have a rank."""


def with_layouts(problem: Problem) -> Problem:
    """The problem with each tensor in its best layout."""
    return problem.laid_out(layouts_of(problem))


def layouts_of(problem: Problem) -> dict[str, Layout]:
    """The layouts of the tensors that need far fewer numbers in pieces, by first name. Pieces of a tensor are not divided again."""
    pieces = problem.distortion.arrangement.pieces
    # The pieces of w are named w[0], w[1], …, which may be names of other tensors.
    taken = {name for spec in problem.skeleton.tensors for name in spec.names}
    groups: dict[object, list[TensorSpec]] = {}
    for spec in problem.skeleton.tensors:
        if matrix_view(spec.shape) and problem.quantizable(spec) and spec.name not in pieces and f"{spec.name}[0]" not in taken:
            key = (spec.shape, problem.weights[spec.name].dtype) if spec.count <= SMALL else spec.name
            groups.setdefault(key, []).append(spec)
    found = {spec.name: layout for specs in groups.values() for spec, layout in _chosen(problem, specs)}
    return {spec.name: found[spec.name] for spec in problem.skeleton.tensors if spec.name in found}


def _chosen(problem: Problem, specs: Sequence[TensorSpec]) -> Iterator[tuple[TensorSpec, Layout]]:
    """The tensors of one shape that need far fewer numbers in pieces, each with its layout."""
    layouts, view = list(candidates(specs[0].shape)), matrix_view(specs[0].shape)
    if not layouts or view is None:
        return
    weights = [problem.weights[spec.name] for spec in specs]
    choices = [numbers([layout.apart(weight) for weight in weights]) for layout in layouts]
    fewest = [min(zip(each, layouts, strict=True), key=lambda choice: choice[0]) for each in zip(*choices, strict=True)]
    # The whole tensor is decomposed only if its pieces are promising, because that takes the most time.
    most = prod(view)
    likely = [place for place, (count, _) in enumerate(fewest) if count < _CLEARLY * most]
    if likely:
        whole = numbers([[weights[place].reshape(view)] for place in likely])
        for place, count in zip(likely, whole, strict=True):
            if fewest[place][0] < _CLEARLY * count:
                yield specs[place], fewest[place][1]


def candidates(shape: Sequence[int]) -> Iterator[Layout]:
    """The layouts to try: blocks of a matrix, and foldings of a tensor with more axes. A large matrix is tried only in square blocks."""
    if len(shape) == 2:
        for blocks in (Blocks(axis, count) for axis in (0, 1) for count in _FUSED):
            square = shape[blocks.axis] == blocks.count * shape[1 - blocks.axis]
            if blocks.fits(shape) and min(blocks.shapes(shape)[0]) >= _LEAST_SIDE and (square or not large_matrix(shape)):
                yield from _affordable(blocks, shape)
    elif 1 < foldings(shape) <= _MOST_FOLDINGS:
        for mask in range(foldings(shape)):
            yield from _affordable(Folding(mask), shape)


def _affordable(layout: Layout, shape: Sequence[int]) -> Iterator[Layout]:
    """The layout, unless its pieces are too large for a decomposition."""
    piece = layout.shapes(shape)[0]
    if not large_matrix(piece) or min(piece) <= RANKED:
        yield layout


def numbers(tensors: Sequence[Sequence[Tensor]]) -> list[int]:
    """The least number of numbers, in factors or whole pieces (m, n), that hold `_ESSENCE` of the energy of all pieces of a tensor together.

    The tensors have one shape, and each is in the same number of pieces.
    """
    pieces = torch.stack([stacked(one) for one in tensors]) if len(tensors) > 1 else stacked(tensors[0])[None]
    pieces = pieces if pieces.dtype.itemsize > 1 else pieces.float()  # few operations take 8-bit floats
    largest = pieces.abs().amax((1, 2, 3), keepdim=True)
    scaled = pieces / torch.where(largest > 0, largest, 1)
    energies = _energies(scaled)
    ordered = energies.flatten(1).sort(descending=True).values
    # Components of all pieces compete for the share of the energy. Those above one threshold are kept.
    kept = (ordered.cumsum(1) < _ESSENCE * ordered.sum(1, keepdim=True)).sum(1, keepdim=True)
    least = ordered.gather(1, kept.clamp(max=ordered.shape[1] - 1))
    ranks = (energies >= least[:, :, None]).sum(2)
    m, n = pieces.shape[2:]
    whole = (ranks * (m + n)).clamp(max=m * n).sum(1)
    return [0 if not size else count for size, count in zip(python_numbers(largest.flatten()), python_numbers(whole), strict=True)]


def _energies(matrices: Tensor) -> Tensor:
    """The squared singular values of matrices (T, pieces, m, n): (T, pieces, min(m, n))."""
    # The smaller of the two Gram matrices has the same eigenvalues, apart from zeros.
    tall = matrices if matrices.shape[2] >= matrices.shape[3] else matrices.mT
    if tall[0, 0].numel() > SMALL:
        grams = torch.stack([torch.stack([gram(piece) for piece in pieces]) for pieces in tall])
    else:
        tall = tall.double()
        grams = tall.mT @ tall
    squares: Tensor = torch.linalg.eigvalsh(grams)
    return squares.clamp(min=0)
