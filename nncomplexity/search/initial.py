"""Where descents begin: latents at the weights themselves, at factors of them, or at another search's answer."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nncomplexity.file import CoarseTensor, Dense, LowRank, Piece, matrix_shape
from nncomplexity.network import TensorSpec
from nncomplexity.search.fallback import PRECISION
from nncomplexity.search.latent import Latent, coarse_of
from nncomplexity.search.start import COARSENESS, FINEST, Shape, first_that, latents_at, ranks_that_pay
from nncomplexity.search.trials import Trials

_JITTER = 0.01
"""Standard deviation, in steps, by which seeds move a start: enough for descents to part, so that seeds show their spread."""
_CUT = 4.0
"""How far beyond ε, in ε, the rank of factors may leave a start."""


def jittered(latents: list[Latent], seed: int) -> list[Latent]:
    """The latents a hundredth of a step away for every seed but 0."""
    if seed:
        generator = torch.Generator().manual_seed(seed)
        for part in (part for latent in latents for part in latent.parts):
            noise = torch.randn(part.shape, generator=generator, dtype=torch.float32, device="cpu")
            part.add_(noise.to(part), alpha=_JITTER)
    return latents


def at_the_weights(trials: Trials, coarseness: float, rank: int = 0) -> list[Latent]:
    """Latents of all tensors that a gradient reaches, matrices as factors of a rank where that pays, in steps of so many typical weights."""
    tensors = trials.tensors
    return latents_at(Shape(rank, coarseness), tensors.with_gradient(), tensors.weights, tensors.factors)


def lowest_rank(trials: Trials, fixed: Mapping[str, Piece], eps: float) -> int:
    """The lowest rank of all matrices whose distortion is within a few ε, by bisection; 0 where there is none that pays."""
    ranks, limit = ranks_that_pay(trials.tensors.with_gradient()), _CUT * trials.limit(eps)

    def holds(index: int) -> bool:
        latents = at_the_weights(trials, FINEST, ranks[index])
        for latent in latents:
            latent.precision = PRECISION
        return trials.measure(dict(fixed) | coarse_of(latents)) <= limit

    return ranks[first_that(holds, len(ranks))]


def near(trials: Trials, fixed: Mapping[str, Piece], eps: float) -> float:
    """The coarsest step sizes, in typical weights, whose rounding costs a few ε, by bisection."""
    limit = _CUT * trials.limit(eps)

    def holds(index: int) -> bool:
        latents = at_the_weights(trials, COARSENESS[index])
        for latent in latents:
            latent.precision = PRECISION
        return trials.measure(dict(fixed) | coarse_of(latents)) <= limit

    return float(COARSENESS[first_that(holds, len(COARSENESS))])


def at_an_answer(trials: Trials, given: Mapping[str, CoarseTensor], coarseness: float) -> list[Latent]:
    """Latents at the step sizes and the forms of coarse tensors by first name: dense ones at the weights themselves, factors at their symbols.

    What they have no form of begins as it does at the weights.
    """
    return [
        _at(latent, given[latent.spec.name], trials.tensors.weights[latent.spec.name])
        for latent in at_the_weights(trials, coarseness)
    ]


def _at(start: Latent, coarse: CoarseTensor, weight: Tensor) -> Latent:
    spec: TensorSpec = start.spec
    if isinstance(coarse, LowRank) and coarse.step_a > 0 and coarse.step_b > 0:
        parts = [torch.from_numpy(symbols).to(weight.device, torch.float32) for symbols in (coarse.A, coarse.B)]
        return Latent(spec, parts, math.log(coarse.step_a) + math.log(coarse.step_b), coarse.periods)
    if isinstance(coarse, Dense) and coarse.step > 0:
        latents = (weight.double() / coarse.step).float().reshape(matrix_shape(spec) or (spec.count,))
        return Latent(spec, [latents], math.log(coarse.step))
    return start
