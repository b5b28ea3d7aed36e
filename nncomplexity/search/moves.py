"""A search by single moves, for losses without a gradient: one tensor at a time gets coarser, of lower rank, or goes.

ε is spent gradually: a move is kept while the distortion stays below a share of ε that grows with the budget spent, so that no
tensor takes it all. Tensors are visited in order of their bits, and a move that failed waits for a round with more to spend.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from nncomplexity.file import Constant, Piece, weigh
from nncomplexity.network import Skeleton, TensorSpec
from nncomplexity.search.latent import Latent
from nncomplexity.search.start import Factors, Shape, largest_rank, latents_at

_SQRT_2 = 2**0.5
_FIRST_SHARE = 0.25


@dataclass(frozen=True)
class Plan:
    """What is intended for one tensor: a shape, or nothing left of it."""

    spec: TensorSpec
    shape: Shape
    gone: bool = False

    def coarse(self, weights: Mapping[str, Tensor], factors: Factors, precision: int) -> Piece:
        if self.gone:
            return Constant(0)
        latent = self.latent(weights, factors)
        latent.precision = precision
        return latent.coarse()

    def latent(self, weights: Mapping[str, Tensor], factors: Factors) -> Latent:
        return latents_at(self.shape, [self.spec], weights, factors)[0]

    def coarser(self, factor: float) -> "Plan":
        return replace(self, shape=replace(self.shape, coarseness=self.shape.coarseness * factor))

    def moves(self) -> Iterator["Plan"]:
        """Simpler plans, the boldest first."""
        if self.gone:
            return
        yield replace(self, gone=True)
        rank, most = self.shape.rank, largest_rank(self.spec)
        lower = min(rank, most) if rank else most
        for cut in (0.5, 0.8):
            if 0 < int(lower * cut) < lower:
                yield replace(self, shape=replace(self.shape, rank=int(lower * cut)))
        for factor in (2.0, _SQRT_2):
            yield self.coarser(factor)


def improve(
    plans: Sequence[Plan],
    coarsen: Callable[[Plan], Piece],
    measure: Callable[[dict[str, Piece]], float],
    limit: float,
    spent: Callable[[], float],
) -> list[Plan]:
    """Try moves until the budget is spent or none is left; the plans at the end.

    Args:
        plans: the start, one for each tensor that may change.
        coarsen: the coarse tensor of a plan.
        measure: the distortion of coarse tensors by first name, one evaluation each; it keeps what is worth keeping.
        limit: the largest distortion accepted.
        spent: the share of the budget spent so far.
    """
    current = {plan.spec.name: plan for plan in plans}
    coarse = {name: coarsen(plan) for name, plan in current.items()}
    bits = {name: _bits(plan.spec, coarse[name]) for name, plan in current.items()}
    improving = True
    while improving and spent() < 1:
        improving, before = False, spent()
        for name in sorted(current, key=lambda name: -bits[name]):
            for plan in current[name].moves():
                if spent() >= 1:
                    return list(current.values())
                trial = coarsen(plan)
                cost = _bits(plan.spec, trial)
                if cost >= bits[name]:
                    continue
                share = _FIRST_SHARE + (1 - _FIRST_SHARE) * min(1.0, 1.25 * spent())
                if measure(coarse | {name: trial}) <= limit * share:
                    current[name], coarse[name], bits[name] = plan, trial, cost
                    improving = True
                    break
        improving = improving or before < spent() < 0.8  # a round that had nothing to measure would go on for ever
    return list(current.values())


def _bits(spec: TensorSpec, coarse: Piece) -> float:
    return weigh(Skeleton((spec,)), [coarse])[0]
