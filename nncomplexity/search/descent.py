"""Gradient descent on bits and loss at once, over latents whose rounding the file holds.

It minimises J = max(L(θ̃), L(θ)) + λ·R(u), with L the loss of the *rounded* weights, so that each step measures a candidate, and with

    R(u) = Σ log₂(1 + c·|u|)

a smooth stand-in for the bits of the symbols, whose gradient pulls small latents to zero and leaves large ones almost alone. λ
begins where both gradients are equally long, which is what a minimum of J would have, and follows the distortion: up while L is
below its target inside ε, down while it is above. Adam (Kingma and Ba 2015) makes the steps, in units of the bin size, with a rate
that falls to a tenth, so that the end is calm enough to land within ε.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor

from nncomplexity.coarse import CoarseTensor
from nncomplexity.distortion import Distortion
from nncomplexity.search.latent import Latent


@dataclass(frozen=True)
class Schedule:
    """Settings of a descent."""

    rate: float = 0.12
    """Adam's learning rate for latents, in bin sizes."""
    scale_rate: float = 0.1
    """The same for the logarithm of each tensor's scale."""
    final_rate: float = 0.1
    """The rates' last value over their first."""
    warmup: float = 0.1
    """The share of the steps in which the rates rise to their full value."""
    target: float = 0.9
    """Where in ε the loss is led to."""
    gain: float = 0.1
    """How strongly λ follows the distortion: d log λ = gain · log(target · ε / distortion), the logarithm within ±2."""
    pressure: float = 2.0
    """λ at the start, over the ratio of the two gradients' norms."""
    curvature: float = 3.0
    """c in R(u)."""
    freeze: float = 0.8
    """The share of the steps after which scales are snapped to the file's grid and stay."""
    precision: int = 3
    """Mantissa bits of that grid."""


@dataclass(frozen=True)
class Visit:
    """One point of the descent: the tensors as a file would hold them, and their loss."""

    tensors: list[CoarseTensor]
    loss: float


_MOMENTUM, _SQUARES = 0.9, 0.95


class _Adam:
    """Adam's state for one tensor of latents or, as a 0-d tensor, one scale."""

    def __init__(self, like: Tensor) -> None:
        self.mean, self.square, self.count = torch.zeros_like(like), torch.zeros_like(like), 0

    def direction(self, grad: Tensor) -> Tensor:
        self.count += 1
        self.mean.lerp_(grad, 1 - _MOMENTUM)
        self.square.mul_(_SQUARES).addcmul_(grad, grad, value=1 - _SQUARES)
        root = (self.square / (1 - _SQUARES**self.count)).sqrt_().add_(1e-20)
        return self.mean / (1 - _MOMENTUM**self.count) / root


def descend(
    distortion: Distortion,
    latents: Sequence[Latent],
    fixed: dict[str, CoarseTensor],
    eps: float,
    steps: int,
    schedule: Schedule,
    parts: Iterator[Tensor | None] = repeat(None),
) -> Iterator[Visit]:
    """Move the latents for `steps` gradients, yielding every point that was measured; 3 evaluations each.

    `fixed` holds the coarse tensors that do not move, by first name. `parts` gives the rows of the examples over which each gradient is
    taken, or None for all; the loss of a visit is over the same rows.
    """
    specs = distortion.skeleton.tensors
    held = {spec.name: fixed[spec.name].decode(spec) for spec in specs if spec.name in fixed}
    adam = {latent.spec.name: [_Adam(part) for part in latent.parts] for latent in latents}
    adam_scale = {latent.spec.name: _Adam(torch.zeros(())) for latent in latents}
    weight = 0.0
    for step in range(steps):
        if step == int(schedule.freeze * steps):
            for latent in latents:
                latent.precision = schedule.precision
        coarse = {latent.spec.name: latent.coarse() for latent in latents}
        decoded = held | {latent.spec.name: coarse[latent.spec.name].decode(latent.spec) for latent in latents}
        measured = distortion.gradient(decoded, next(parts))
        if measured is None:
            return
        loss, grads = measured
        yield Visit([fixed.get(spec.name) or coarse[spec.name] for spec in specs], loss)
        if not math.isfinite(loss):
            return
        pulls: dict[str, tuple[list[Tensor], float]] = {}
        for latent in latents:
            grad = grads.get(latent.spec.name)
            pulls[latent.spec.name] = latent.gradients(
                grad if grad is not None else torch.zeros(latent.spec.shape), latent.rounded()
            )
        rates = {latent.spec.name: [_rate_gradient(u, schedule.curvature) for u in latent.parts] for latent in latents}
        if step == 0:
            weight = schedule.pressure * _ratio([grad for pull, _ in pulls.values() for grad in pull], rates)
        decay = (1 - (1 - schedule.final_rate) * step / steps) * min(1.0, (step + 1) / (schedule.warmup * steps + 1))
        hinge = float(loss >= distortion.original)  # nothing is gained by a loss below the original's
        for latent in latents:
            name = latent.spec.name
            pull, pull_scale = pulls[name]
            for part, grad, rate, state in zip(latent.parts, pull, rates[name], adam[name], strict=True):
                part.sub_(state.direction(hinge * grad + weight * rate), alpha=schedule.rate * decay)
            if latent.precision is None:
                latent.log_scale -= schedule.scale_rate * decay * float(adam_scale[name].direction(torch.tensor(pull_scale)))
        excess = max(loss - distortion.original, 1e-3 * eps)
        off = min(2.0, max(-2.0, math.log(schedule.target * eps / excess)))
        weight *= math.exp(schedule.gain * off)


def _rate_gradient(u: Tensor, curvature: float) -> Tensor:
    """∂R/∂u = c·sign(u) / ((1 + c·|u|)·ln 2)."""
    return curvature * u.sign() / ((1 + curvature * u.abs()) * math.log(2))


def _ratio(pulls: Sequence[Tensor], rates: dict[str, list[Tensor]]) -> float:
    loss = math.sqrt(sum(float((grad * grad).sum()) for grad in pulls))
    rate = math.sqrt(sum(float((grad * grad).sum()) for grads in rates.values() for grad in grads))
    return loss / rate if rate else 0.0
