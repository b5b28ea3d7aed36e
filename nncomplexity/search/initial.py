"""Where descents begin: latents at the weights themselves, at factors of them, or at another search's answer."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nncomplexity.file import CoarseTensor, Dense, LowRank, Piece, matrix_shape
from nncomplexity.network import TensorSpec
from nncomplexity.search.batches import Batches
from nncomplexity.search.bisection import first_that
from nncomplexity.search.factorizations import COARSENESS, FINEST, ranks_that_pay
from nncomplexity.search.latent import DEAD_ZONE, Latent, candidate_of, on_grid
from nncomplexity.search.sensitivity import groups_of
from nncomplexity.search.trials import Trials

_TYPICAL = 1.5
"""The step size of tensors for which another search has no form, in typical weights."""
_JITTER = 0.01
"""Standard deviation, in steps, by which seeds move a start: enough for descents to part, so that seeds show their spread."""
_INSIDE = 0.45
"""The largest distance of a number from the symbol to which it is to round."""
FARTHEST_CHOICE = 2.0
"""The largest distortion, in ε, of a start at bit allocation's choice. Its factors are so coarse that cycles from farther end beyond ε."""
_FARTHEST, _KEPT = 4.0, 0.5
"""The largest distortion of a start in step sizes or factors of the weights themselves: in ε, and as a share of that of all weights zero. A
start beyond half of the latter has lost the network."""
_ROLES = 8
"""The most groups of matrices with a rank of their own. To find one takes about four losses of a minibatch."""

Ranks = Mapping[str, int]
"""The ranks of matrices by first name. All other tensors are dense."""
DENSE: Ranks = {}


def jittered(latents: list[Latent], seed: int) -> list[Latent]:
    """The latents a hundredth of a step away for every seed but 0."""
    if seed:  # seed 0 begins at the weights themselves, so that the usual answer is that of the undisturbed start
        generator = torch.Generator().manual_seed(seed)
        for part in (part for latent in latents for part in latent.parts):
            noise = torch.randn(part.shape, generator=generator, dtype=torch.float32, device="cpu")
            part.add_(noise.to(part), alpha=_JITTER)
    return latents


def at_the_weights(trials: Trials, coarseness: float, ranks: Ranks = DENSE) -> list[Latent]:
    """Latents of all tensors with a gradient in step sizes of `coarseness` typical weights, some of them in factors of these ranks."""
    specs, of_rank = trials.tensors.with_gradient(), dict[int, list[TensorSpec]]()
    for spec in specs:
        of_rank.setdefault(ranks.get(spec.name, 0), []).append(spec)
    found = {one.spec.name: one for rank, some in of_rank.items() for one in trials.tensors.latents(some, coarseness, rank)}
    return [found[spec.name] for spec in specs]


def farthest(limit: float, zero: float) -> float:
    """The largest distortion of a start, given the largest one within ε and that of all weights zero."""
    return min(_FARTHEST * limit, _KEPT * zero)


def farthest_ranks(limit: float, zero: float) -> float:
    """The largest distortion of the ranks of a start, whose step sizes may cost as much again (`near`)."""
    return min(_FARTHEST * limit, _KEPT * zero / 2)


def lowest_ranks(trials: Trials, batches: Batches, most: float) -> dict[str, int]:
    """The lowest ranks of matrices that cost at most `most` together on a minibatch. A matrix without such a rank that pays is left out.

    Matrices that play one role have one rank, if there are many. In a large network all have one, because its evaluations take long.
    """
    specs = [spec for spec in trials.tensors.with_gradient() if len(ranks_that_pay([spec])) > 1]
    groups = groups_of(specs, 1 if trials.tensors.large else _ROLES) if specs else []
    found: dict[str, int] = {}
    for group in ([specs[index] for index in places] for places in groups):
        # Small distortions of different tensors add up, so each group has an equal share.
        rank = _lowest_rank(trials, batches, group, most / len(groups))
        found |= {spec.name: rank for spec in group if rank}
    return found


def _lowest_rank(trials: Trials, batches: Batches, group: Sequence[TensorSpec], limit: float) -> int:
    """The lowest rank of some matrices whose distortion is within a limit while all other tensors are the original's, by bisection."""
    ranks = ranks_that_pay(group)

    def holds(index: int) -> bool:
        factored = on_grid(trials.tensors.latents(group, FINEST, ranks[index]))
        return trials.on_batch(candidate_of(factored), batches.sample()) <= limit

    return ranks[first_that(holds, len(ranks))]


def near(trials: Trials, fixed: Mapping[str, Piece], batches: Batches, most: float, ranks: Ranks = DENSE) -> float:
    """The coarsest step sizes, in typical weights, whose rounding costs at most `most` on a minibatch, by bisection.

    Those of factors may cost twice as much as their ranks do.
    """
    limit = 2 * most if ranks else most

    def holds(index: int) -> bool:
        return (
            trials.on_batch({**fixed, **candidate_of(at_the_weights(trials, COARSENESS[index], ranks))}, batches.sample()) <= limit
        )

    return COARSENESS[first_that(holds, len(COARSENESS))]


def at_an_answer(trials: Trials, given: Mapping[str, CoarseTensor], finer: float) -> list[Latent]:
    """Latents in the forms of coarse tensors by first name: dense ones at the weights themselves, factors at their symbols.

    Tensors that are zero or constant there begin at the weights.

    Args:
        trials: of the search.
        given: the coarse tensors.
        finer: by which factor the step sizes are finer than theirs.
    """
    return [
        _at(latent, given[latent.spec.name], trials.tensors.weights[latent.spec.name], finer)
        for latent in at_the_weights(trials, finer * _TYPICAL)
    ]


def _at(start: Latent, coarse: CoarseTensor, weight: Tensor, finer: float) -> Latent:
    spec = start.spec
    if isinstance(coarse, LowRank) and coarse.step_a > 0 and coarse.step_b > 0:
        # At the symbols, because the numbers that they were rounded from are not known here.
        parts = [torch.from_numpy(symbols).to(weight.device, torch.float32) for symbols in (coarse.A, coarse.B)]
        scale = math.log(coarse.step_a) + math.log(coarse.step_b)
        # Half of the finer step in each factor, so that the product stays the same.
        return Latent(spec, [part / math.sqrt(finer) for part in parts], scale + math.log(finer), coarse.periods)
    if isinstance(coarse, Dense) and coarse.step > 0:
        step = finer * coarse.step
        exact = (weight.double() / step).float()  # steps of float64 tensors may be beyond float32
        if finer == 1.0:
            symbols = torch.from_numpy(coarse.symbols).to(weight.device, torch.float32).reshape(weight.shape)
            exact = _rounded_to(symbols, exact)
        return Latent(spec, [exact.reshape(matrix_shape(spec) or (spec.count,))], math.log(step))
    return start


def _rounded_to(symbols: Tensor, exact: Tensor) -> Tensor:
    """The numbers nearest to the exact ones that a descent rounds to these symbols, which were rounded without a dead zone."""
    low, high = symbols - _INSIDE, symbols + _INSIDE
    # A magnitude of 1 begins at the edge of the dead zone.
    low = torch.where(symbols == 1, torch.full_like(low, DEAD_ZONE + 0.05), low)
    high = torch.where(symbols == -1, torch.full_like(high, -DEAD_ZONE - 0.05), high)
    return exact.clamp(low, high)
