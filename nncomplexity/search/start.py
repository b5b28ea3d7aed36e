"""Where a search begins: latents of the lowest rank and coarsest steps from which the loss can still be won back."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nncomplexity.basis import MOST_ROWS
from nncomplexity.lowrank import SVDCache, balanced, matrix_view
from nncomplexity.search.latent import Latent, scaled_basis
from nncomplexity.search.looks import ESSENCE
from nncomplexity.sizes import large_matrix, large_network
from nncomplexity.weights import TensorSpec

COARSENESS = tuple(2.0 ** (-half / 2) for half in range(-2, 14))
"""Steps tried for a start, relative to the root mean square of what they divide: from 2 down in factors of √2."""
FIRST_COARSENESS = 1.0
"""A step for numbers of which nothing is known but their size."""
FINEST = 2.0**-7
"""A relative step that costs no loss to speak of."""
_ROTATIONS = 30
_ROTATED, _SAMPLED = 64, 2048
"""The most components of a large matrix that are rotated, and about how many rows show how."""
_MARGIN = 8
"""The most rows that a basis of waves may leave to unit vectors: tokens that are no numbers."""
_GATHERED = 0.5
"""By how much, in nats, the energy of a factor must be less spread over waves than over rows for waves to be considered."""
_NUMBERS = 0.22
"""Matrices are of low rank whose factors have `ESSENCE` of their energy in this share of their numbers."""


Factored = tuple[tuple[int, int], list[Tensor]]
"""The periods of the two sides' bases, and the factors (m, k) and (k, n) in them."""


@dataclass(frozen=True)
class Shape:
    """One start: the rank that matrices are cut to where that pays (0 leaves all dense), and the relative step."""

    rank: int
    coarseness: float


def latents_at(shape: Shape, specs: Sequence[TensorSpec], weights: Mapping[str, Tensor], factors: "Factors") -> list[Latent]:
    """The latents of a start, for the tensors that move."""
    return [_latent(shape, spec, weights[spec.name], factors) for spec in specs]


def ranks_that_pay(specs: Sequence[TensorSpec]) -> list[int]:
    """Ranks to try, from 1 up in steps of about a quarter, ending with the largest that pays for any matrix; then 0, all dense."""
    most = max((largest_rank(spec) for spec in specs), default=0)
    ranks: list[int] = []
    rank = 1.0
    while round(rank) <= most:
        ranks.append(round(rank))
        rank = max(rank * 1.25, round(rank) + 1)
    return [*ranks, 0]


def of_low_rank(specs: Sequence[TensorSpec], factors: "Factors") -> bool:
    """Whether all matrices, cut to one rank where that pays, keep nearly all of their energy Σσ² in a fraction of their numbers.

    Elsewhere a rank that the loss can still be won back from is no trait of the network: what it cuts off matters as much as what it keeps,
    and a descent has to put it into components that were made for something else.
    """
    views = {spec: view for spec in specs if (view := matrix_view(spec.shape))}
    values = {spec: factors.singular_values(spec.name) for spec in views}
    largest = max((float(S[0]) for S in values.values()), default=0.0) or 1.0  # squares of large numbers overflow
    energies = {spec: (S / largest).square() for spec, S in values.items()}
    whole, numbers = sum(float(energy.sum()) for energy in energies.values()), sum(spec.count for spec in views)
    for rank in ranks_that_pay(specs)[:-1]:
        cut = {spec for spec in views if rank <= largest_rank(spec)}
        held = sum(rank * sum(view) if spec in cut else spec.count for spec, view in views.items())
        if held > _NUMBERS * numbers:
            break
        if sum(float(energy[: rank if spec in cut else None].sum()) for spec, energy in energies.items()) >= ESSENCE * whole:
            return True
    return False


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


def quartimax(A: Tensor) -> Tensor:
    """The rotation R (k, k) in which A·R, (m, k), is sparsest: orthogonal, maximising the sum of fourth powers of A·R.

    (A·R)·(Rᵀ·B) is the same matrix as A·B, so that R is absorbed and never coded. It is quartimax (Neuhaus and Wrigley 1954), by the
    fixed-point iteration R ← polar(Aᵀ(A·R)³).
    """
    R = torch.eye(A.shape[1], dtype=A.dtype, device=A.device)
    exponent = math.frexp(float(A.abs().max()))[1]
    A = A * math.ldexp(1.0, -max(exponent, -1000))  # fourth powers of large numbers overflow; a power of two rounds nothing
    for _ in range(_ROTATIONS):
        U, _, Vh = torch.linalg.svd(A.T @ (A @ R) ** 3)
        R = U @ Vh
    return R


def _latent(shape: Shape, spec: TensorSpec, weight: Tensor, factors: "Factors") -> Latent:
    view = matrix_view(spec.shape)
    periods, parts = (0, 0), [weight.double().reshape(view or (spec.count,))]
    if 0 < shape.rank <= largest_rank(spec):
        periods, parts = factors.cheapest(spec.name, shape.rank, shape.coarseness)
    steps = [shape.coarseness * _typical(part) for part in parts]
    latents = [(part / step).float() for part, step in zip(parts, steps, strict=True)]
    return Latent(spec, latents, math.log(math.prod(steps)), periods)


class Factors:
    """The factors of each matrix at a rank, in all bases that are worth a look; those last asked for are kept, for each matrix."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._svds = SVDCache(weights)
        self._parameters = sum(weight.numel() for weight in weights.values())
        self._last: dict[str, tuple[int, list[Factored]]] = {}

    def cheapest(self, name: str, rank: int, coarseness: float) -> Factored:
        """The factors whose symbols seem to take the fewest bits under steps of this coarseness."""
        kept, found = self._last.get(name, (0, []))
        if kept != rank:
            A, B = balanced(self._svds.leading(name, rank), rank)
            found = [_factored_large(A, B)] if large_matrix((len(A), B.shape[1])) else _factored(A, B)
            self._last[name] = rank, found
        return min(found, key=lambda one: sum(_price(factor, coarseness) for factor in one[1]))

    def singular_values(self, name: str) -> Tensor:
        """All of a matrix's, largest first."""
        return self._svds.singular_values(name)

    def release(self) -> None:
        """Let go of a large network's factors: those that a descent moves are its own, and these would be held beside them."""
        if large_network(self._parameters):
            self._last.clear()


def _factored_large(A: Tensor, B: Tensor) -> Factored:
    """The factors of a large matrix, in float32, with the components rotated where they are few: the rotation is found on some rows.

    The bases of waves are for sides of at most some hundred rows, and a rotation of many components takes the cube of their number.
    """
    rank = A.shape[1]
    if 1 < rank <= _ROTATED:
        sides = (A, B.T)
        found = []
        for side in sides:
            R = quartimax(side[:: max(1, len(side) // _SAMPLED)])
            found.append([(A @ R), (B.T @ R).T])
        A, B = min([[A, B], *found], key=lambda pair: sum(_price(factor, FIRST_COARSENESS) for factor in pair))
    return (0, 0), [A.float(), B.float()]


def _factored(A: Tensor, B: Tensor) -> list[Factored]:
    """The same product in several bases, of its sides and of its components; the latter make one factor or the other sparse."""
    found: list[Factored] = []
    for period_a, period_b in itertools.product(_likely_periods(A), _likely_periods(B.T)):
        left, right = _in_basis(A, period_a), _in_basis(B.T, period_b)
        for target in (left, right):
            R = quartimax(target)
            found.append(((period_a, period_b), [left @ R, (right @ R).T]))
    return found


def _likely_periods(factor: Tensor) -> list[int]:
    """0, for no basis, and the period up to the rows of factor (m, k) that gathers its energy in the fewest waves, where few they are.

    What all rows have in common, as those of an LSTM's gates have, is no wave.
    """
    rows = len(factor)
    if not 16 <= rows <= MOST_ROWS:
        return [0]
    factor = factor - factor.mean(0)
    spreads = {period: _spread(factor, period) for period in range(rows, rows - 1 - min(_MARGIN, rows // 2), -1)}
    best = min(spreads, key=lambda period: spreads[period])
    return [0, best] if spreads[best] < _entropy(factor.square().sum(1)) - _GATHERED else [0]


def _spread(factor: Tensor, period: int) -> float:
    """The entropy, in nats, of how the factor's energy (m, k) is shared among the waves of a period and the rows beyond it."""
    energy = torch.fft.rfft(factor[:period], dim=0).abs().square().sum(1) / period
    pairs = energy[1 : (period + 1) // 2]  # all but the constant and the alternating wave are a cosine and a sine
    single = energy[(period + 1) // 2 :]
    return _entropy(torch.cat([energy[:1], pairs, pairs, single, factor[period:].square().sum(1)]))


def _entropy(energy: Tensor) -> float:
    return float(torch.special.entr(energy / energy.sum().clamp(min=1e-300)).sum())


def _in_basis(factor: Tensor, period: int) -> Tensor:
    """The factor (m, k) in coordinates of a side's basis, all of whose columns have nearly the same norm."""
    if not period:
        return factor
    F = scaled_basis(len(factor), period, factor.device).double()
    return F.T @ factor / F.square().sum(0)[:, None]


def _price(factor: Tensor, coarseness: float) -> float:
    """Σ ln(1 + |u|), which is about in proportion to the bits that a factor's symbols take."""
    return float((factor / (coarseness * _typical(factor))).abs().log1p().sum())


def largest_rank(spec: TensorSpec) -> int:
    """The largest rank at which factors hold at most half of the matrix's numbers; 0 where there is none."""
    view = matrix_view(spec.shape)
    return 0 if view is None else view[0] * view[1] // (2 * (view[0] + view[1]))


def _typical(part: Tensor) -> float:
    """The size √(Σx⁴ / 3Σx²) of the numbers that matter, 1 for zeros: the root mean square of a normal distribution's, more of sparse ones."""
    largest = part.abs().max()
    if not largest > 0:
        return 1.0
    squares = (part / largest).square()
    return float(largest * (squares.square().sum() / (3 * squares.sum())).sqrt())
