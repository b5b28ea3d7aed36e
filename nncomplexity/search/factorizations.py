"""The latents that descents begin with: a tensor, or its factors of a rank in a good basis, divided by a step size."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from nncomplexity.linalg import SMALL, SVDCache, large_matrix, matrix_view
from nncomplexity.network import TensorSpec, stacked
from nncomplexity.search.bases import in_basis, likely_periods, quartimax
from nncomplexity.search.latent import Latent, for_each, sums
from nncomplexity.words import python_numbers

COARSENESS: tuple[float, ...] = tuple(2.0 ** (-half / 2) for half in range(-2, 14))
"""Step sizes to try, relative to the root mean square of the numbers: from 2 down in factors of √2."""
FIRST_COARSENESS = 1.0
"""The relative step size by which the rotations of large factors are compared."""
FINEST = 2.0**-7
"""A relative step size at which rounding hardly changes the loss."""
_ROTATED, _SAMPLED = 64, 2048
"""The most components of a large matrix that are rotated, and about how many rows the rotation is computed from."""


@dataclass(frozen=True)
class Shape:
    """The shape of a start: a rank, for each matrix where factors save numbers (0 is no factors), and a relative step size."""

    rank: int
    coarseness: float


def latents_at(shape: Shape, specs: Sequence[TensorSpec], weights: Mapping[str, Tensor], factors: "Factorizations") -> list[Latent]:
    """The latents of a start.

    Args:
        shape: rank and step size.
        specs: the tensors.
        weights: all tensors by first name.
        factors: their decompositions.

    Returns:
        The latents of each tensor, in the order of `specs`.
    """
    groups: dict[object, list[TensorSpec]] = {}
    for spec in specs:
        small = spec.count <= SMALL  # a large one fills a processor by itself, and a stack would double its memory
        groups.setdefault((spec.shape, weights[spec.name].dtype) if small else spec.name, []).append(spec)
    found = {latent.spec.name: latent for group in groups.values() for latent in _latents(shape, group, weights, factors)}
    return [found[spec.name] for spec in specs]


def ranks_that_pay(specs: Sequence[TensorSpec]) -> list[int]:
    """Ranks to try: from 1 up in steps of about a quarter, to the largest one that saves numbers for some matrix; then 0, no factors."""
    most = max((largest_rank(spec) for spec in specs), default=0)
    ranks: list[int] = []
    rank = 1.0
    while round(rank) <= most:
        ranks.append(round(rank))
        # Steps in proportion: between ranks 100 and 101 the file hardly differs, between 1 and 2 it does.
        rank = max(rank * 1.25, round(rank) + 1)
    return [*ranks, 0]


def _latents(shape: Shape, specs: Sequence[TensorSpec], weights: Mapping[str, Tensor], factors: "Factorizations") -> list[Latent]:
    """The latents of tensors that have one shape and dtype."""
    if 0 < shape.rank <= largest_rank(specs[0]):
        return factors.latents(specs, shape.rank, shape.coarseness)
    view = matrix_view(specs[0].shape) or (specs[0].count,)
    whole = stacked([weights[spec.name] for spec in specs]).double().reshape(len(specs), *view)
    steps = [shape.coarseness * size for size in _typical(whole)]
    return [
        Latent(spec, [part], math.log(step)) for spec, part, step in zip(specs, _divided(whole, steps).unbind(), steps, strict=True)
    ]


class Factorizations:
    """Decompositions of all matrices: factors of a rank in several bases. The last factors of each matrix are kept."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._svds = SVDCache(weights)
        self._last: dict[tuple[str, ...], tuple[int, list[_Factored]]] = {}

    def latents(self, specs: Sequence[TensorSpec], rank: int, coarseness: float) -> list[Latent]:
        """Latents of the factors of matrices of one shape.

        Each matrix gets the basis in which the symbols of its factors take the fewest bits, by an estimate.

        Args:
            specs: the matrices.
            rank: of the factors.
            coarseness: the step size, relative to the typical size of the numbers.

        Returns:
            The latents of all matrices, grouped by basis.
        """
        names = tuple(spec.name for spec in specs)
        # Bisections over step sizes ask for the same rank many times.
        kept, found = self._last.get(names, (0, []))
        if kept != rank:
            found = self._factored(names, rank)
            self._last[names] = rank, found
        prices = [one.prices(coarseness) for one in found]
        cheapest = [min(range(len(found)), key=lambda which: prices[which].get(row, math.inf)) for row in range(len(names))]
        latents: list[Latent] = []
        for which, one in enumerate(found):
            rows = {row: specs[row] for row, place in enumerate(cheapest) if place == which}
            latents += one.latents(rows, coarseness) if rows else []
        return latents

    def _factored(self, names: Sequence[str], rank: int) -> "list[_Factored]":
        """The factors of matrices of one shape, in all candidate bases."""
        U, S, Vh = self._svds.leading_together(names, rank)
        # Singular values are divided evenly between the factors, so that errors of both cost about the same.
        root = S[:, :rank].sqrt()
        A, B = U[:, :, :rank] * root[:, None], root[:, :, None] * Vh[:, :rank]
        return [_of_large(A, B)] if large_matrix((A.shape[1], B.shape[2])) else _in_bases(A, B)


class _Factored:
    """Factors (R, m, k) and (R, k, n) of R matrices, in the bases with these periods.

    `rows` has the place of each of the R matrices among all matrices of the shape.
    """

    def __init__(self, periods: tuple[int, int], parts: Sequence[Tensor], rows: Sequence[int]) -> None:
        self.periods, self._parts, self._places = periods, parts, {row: place for place, row in enumerate(rows)}
        self._sizes = [_typical(part) for part in parts]

    def prices(self, coarseness: float) -> dict[int, float]:
        """Σ ln(1 + |u|) of each row: roughly proportional to the bits of its factors' symbols."""
        of_parts = []
        for part, sizes in zip(self._parts, self._sizes, strict=True):
            scaled = part / for_each([coarseness * size for size in sizes], part)
            of_parts.append(sums(scaled.abs().log1p()))
        return {row: sum(part[place] for part in of_parts) for row, place in self._places.items()}

    def latents(self, specs: Mapping[int, TensorSpec], coarseness: float) -> list[Latent]:
        """The latents of some of the rows."""
        places = [self._places[row] for row in specs]
        steps = [[coarseness * sizes[place] for place in places] for sizes in self._sizes]
        chosen = self._parts if len(places) == len(self._places) else [part[places] for part in self._parts]
        parts = [_divided(part, each).unbind() for part, each in zip(chosen, steps, strict=True)]
        return [
            Latent(spec, list(own), math.log(math.prod(sizes)), self.periods)
            for spec, own, sizes in zip(specs.values(), zip(*parts, strict=True), zip(*steps, strict=True), strict=True)
        ]


def _divided(part: Tensor, steps: Sequence[float]) -> Tensor:
    return (part / for_each(steps, part)).float()


def _of_large(A: Tensor, B: Tensor) -> _Factored:
    """The factors (1, m, k) and (1, k, n) of a large matrix. If there are few components, they are rotated by `quartimax` of some of the rows.

    Bases of waves are not tried: they are for sides of at most `nncomplexity.linalg.MOST_ROWS` rows. Many components are not rotated, because
    a rotation takes time in proportion to the cube of their number.
    """
    found = [(A, B)]
    for side in (A, B.mT) if 1 < A.shape[2] <= _ROTATED else ():
        R = quartimax(side[:, :: max(1, side.shape[1] // _SAMPLED)])
        found.append((A @ R, R.mT @ B))
    # In float32, which takes half of the memory.
    return min(
        (_Factored((0, 0), [part.float() for part in pair], [0]) for pair in found), key=lambda one: one.prices(FIRST_COARSENESS)[0]
    )


def _in_bases(A: Tensor, B: Tensor) -> list[_Factored]:
    """The products (T, m, k) · (T, k, n) in several bases: of the two sides (waves), and of the components.

    Each basis of the components makes one of the two factors sparse.
    """
    likely = [list(itertools.product(*sides)) for sides in zip(likely_periods(A), likely_periods(B.mT), strict=True)]
    found: list[_Factored] = []
    for periods in sorted({pair for pairs in likely for pair in pairs}, key=lambda pair: (pair[0] > 0, pair[1] > 0, pair)):
        rows = [row for row, pairs in enumerate(likely) if periods in pairs]
        own = slice(None) if len(rows) == len(A) else rows
        left, right = in_basis(A[own], periods[0]), in_basis(B.mT[own], periods[1])
        for target in (left, right):
            R = quartimax(target)
            found.append(_Factored(periods, [left @ R, (right @ R).mT], rows))
    return found


def largest_rank(spec: TensorSpec) -> int:
    """The largest rank at which the factors have at most half as many numbers as the matrix; 0 if there is none."""
    view = matrix_view(spec.shape)
    return 0 if view is None else view[0] * view[1] // (2 * (view[0] + view[1]))


def _typical(parts: Tensor) -> list[float]:
    """√(Σx⁴ / 3Σx²) of each of T tensors (T, ...): the typical size of the numbers that matter; 1 if all are zero.

    For normally distributed numbers this is the root mean square. For sparse numbers it is larger, because zeros do not count.
    """
    within = tuple(range(1, parts.dim()))
    largest = parts.abs().amax(within, keepdim=True)
    squares = (parts / largest).square()  # divided first, because fourth powers leave the range of floats soon
    fourths = squares.square().sum(within) / (3 * squares.sum(within))
    sizes = largest.flatten() * fourths.sqrt()
    return [size if size > 0 else 1.0 for size in python_numbers(sizes)]  # NaN for a tensor of zeros
