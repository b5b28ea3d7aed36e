"""A greedy local search, for losses without a gradient: one tensor at a time becomes zero, of lower rank, or coarser.

A move is kept if it saves bits and the distortion stays below a share of ε. This share grows with the budget spent, so that the first tensors
do not use up all of ε. A round tries the tensors in the order of their bits, the largest first. A move that failed is tried again in the next
round, when more of ε may be spent.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from nncomplexity.file import Constant, Piece, weigh
from nncomplexity.network import Skeleton, TensorSpec
from nncomplexity.search.latent import candidate_of
from nncomplexity.search.start import Factorizations, Shape, largest_rank, latents_at

_SQRT_2 = 2**0.5
_FIRST_SHARE = 0.25
"""The share of ε that the first moves may spend."""


@dataclass(frozen=True)
class Plan:
    """The form that a move gives to one tensor: a rank and a step size, or zero (`gone`)."""

    spec: TensorSpec
    shape: Shape
    gone: bool = False

    def coarse(self, weights: Mapping[str, Tensor], factors: Factorizations) -> Piece:
        """The coarse tensor of this form."""
        return Constant(0) if self.gone else candidate_of(latents_at(self.shape, [self.spec], weights, factors))[self.spec.name]

    def coarser(self, factor: float) -> "Plan":
        """The same rank with a step size `factor` times as large."""
        return replace(self, shape=replace(self.shape, coarseness=self.shape.coarseness * factor))

    def moves(self) -> Iterator["Plan"]:
        """Simpler forms for the tensor, those that save the most first."""
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
    """Try moves until the budget is spent, or until no move helps.

    Args:
        plans: the forms to begin with, one for each tensor that may change.
        coarsen: gives the coarse tensor of a form.
        measure: gives the distortion of coarse tensors by first name, at one evaluation. It also records the candidate.
        limit: the largest distortion that is allowed.
        spent: gives the share of the budget spent so far, in [0, 1].

    Returns:
        The forms at the end, one for each tensor.
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
                # Bits are known without a loss, so a move that saves none costs no evaluation.
                if cost >= bits[name]:
                    continue
                # All of ε is free after 80 % of the budget, so that the last fifth can use it.
                share = _FIRST_SHARE + (1 - _FIRST_SHARE) * min(1.0, 1.25 * spent())
                if measure(coarse | {name: trial}) <= limit * share:
                    current[name], coarse[name], bits[name] = plan, trial, cost
                    improving = True
                    break
        # A round that measured nothing would be repeated for ever. Late in the search no more of ε becomes free.
        improving = improving or before < spent() < 0.8
    return list(current.values())


def _bits(spec: TensorSpec, coarse: Piece) -> float:
    return weigh(Skeleton((spec,)), [coarse])[0]
