"""Gradient descent on bits and loss at once, over latents whose rounding the file holds.

It minimises J = max(L(θ̃), L(θ)) + λ·R(u), with L the loss of the *rounded* weights, so that each step measures a candidate, and with

    R(u) = Σ log₂(1 + c·|u|)

a smooth stand-in for the bits of the symbols, whose gradient pulls small latents to zero and leaves large ones almost alone. λ
begins where both gradients are equally long, which is what a minimum of J would have, and is then led by the distortion, as a
proportional and integral controller leads a valve: L is to stay at its target inside ε, from which it strays at once when a
tensor's last symbols go. Adam (Kingma and Ba 2015) makes the steps, in units of the bin size, with a rate that falls to a tenth, so
that the end is calm enough to land within ε. A step that leaps out of reach is taken back, and the later ones are half as long.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
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

    rate: float = 0.25
    """Adam's learning rate for latents, in bin sizes."""
    scale_rate: float = 0.1
    """The same for the logarithm of each tensor's scale."""
    final_rate: float = 0.1
    """The rates' last value over their first."""
    warmup: float = 0.15
    """The share of the steps in which the rates rise to their full value."""
    target: float = 0.97
    """Where in ε the loss is led to, in a long descent; in one of n steps n/(n + `slack`) of it, as its end strays more."""
    slack: float = 3.0
    """Steps."""
    gain: float = 0.05
    """How fast λ follows the distortion: e = log(target / distortion), within ±2, adds gain · e to log λ at every step."""
    response: tuple[float, float] = (1.0, 2.0)
    """How much of e acts on log λ at once, and is forgotten as it passes: at the start, and at the end, which must be within ε."""
    release: float = 2.0
    """How many times stronger that response is where the distortion is over its target: too little pressure costs bits, too much a
    landing."""
    pressure: float = 2.0
    """λ at the start, over the ratio of the two gradients' norms."""
    curvature: float = 3.0
    """c in R(u)."""
    leap: float = 4.0
    """The distortion, in ε, from which a step is taken back, unless the descent began with half of that; half as much, or little more,
    in a descent of few steps."""
    freeze: float = 0.8
    """The share of the steps after which scales are snapped to the file's grid and stay."""
    free_precision: int = 6
    """Mantissa bits of steps before that: enough for small changes, few enough to weigh little."""
    precision: int = 3
    """Mantissa bits of steps after it."""


@dataclass(frozen=True)
class Visit:
    """One point of the descent: the tensors as a file would hold them, and their loss."""

    tensors: list[CoarseTensor]
    loss: float


_MOMENTUM, _SQUARES = 0.9, 0.95
_LONG = 60
"""Steps of a descent that can come back from anywhere."""
_RETREATS = 6
"""Steps taken back before a descent goes on regardless: rates are then a sixty-fourth."""


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


class _Mover:
    """A latent, what moves it, and the place to go back to."""

    def __init__(self, latent: Latent, schedule: Schedule) -> None:
        self.latent, self.schedule = latent, schedule
        self.adam = [_Adam(part) for part in latent.parts]
        self.adam_scale = _Adam(torch.zeros(()))
        self.keep_place()

    def keep_place(self) -> None:
        self.place = [part.clone() for part in self.latent.parts], self.latent.log_scale

    def go_back(self) -> None:
        parts, self.latent.log_scale = self.place
        self.latent.parts = [part.clone() for part in parts]
        for state in (*self.adam, self.adam_scale):
            state.mean.zero_()

    def pull(self, grads: Mapping[str, Tensor]) -> tuple[list[Tensor], float]:
        """∂L/∂u of each part and ∂L/∂log s."""
        grad = grads.get(self.latent.spec.name)
        return self.latent.gradients(torch.zeros(self.latent.spec.shape) if grad is None else grad, self.latent.rounded())

    def rates(self) -> list[Tensor]:
        """∂R/∂u of each part."""
        return [_rate_gradient(u, self.schedule.curvature) for u in self.latent.parts]

    def step(self, gradients: Sequence[Tensor], scale_gradient: float | None, length: float) -> None:
        """One step against the gradients of J, `length` times the schedule's; None leaves the scale."""
        for part, gradient, state in zip(self.latent.parts, gradients, self.adam, strict=True):
            part.sub_(state.direction(gradient), alpha=self.schedule.rate * length)
        if scale_gradient is not None:
            direction = float(self.adam_scale.direction(torch.tensor(scale_gradient)))
            self.latent.log_scale -= self.schedule.scale_rate * length * direction


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
    movers = [_Mover(latent, schedule) for latent in latents]
    leap = schedule.leap * eps * (0.5 + 0.5 * min(1.0, steps / _LONG))
    target = schedule.target * eps * steps / (steps + schedule.slack)
    weight, length, retreats, reach, kept = 0.0, 1.0, 0, math.inf, None
    for step in range(steps):
        free = step < int(schedule.freeze * steps)
        for latent in latents:
            latent.precision = schedule.free_precision if free else schedule.precision
        coarse = {latent.spec.name: latent.coarse() for latent in latents}
        decoded = held | {latent.spec.name: coarse[latent.spec.name].decode(latent.spec) for latent in latents}
        measured = distortion.gradient(decoded, next(parts))
        if measured is None:
            return
        loss = measured[0]
        yield Visit([fixed.get(spec.name) or coarse[spec.name] for spec in specs], loss)
        rise = loss - distortion.original
        if kept is not None and not rise <= reach and retreats < _RETREATS:
            retreats, length = retreats + 1, length / 2
            for mover in movers:
                mover.go_back()
            loss, grads = kept
        elif math.isfinite(loss):
            kept = loss, grads = measured
            reach = min(reach, max(leap, 2 * rise))
            for mover in movers:
                mover.keep_place()
        else:
            return
        pulls = [mover.pull(grads) for mover in movers]
        rates = [mover.rates() for mover in movers]
        if step == 0:
            weight = schedule.pressure * _ratio(
                [part for pull, _ in pulls for part in pull], [part for rate in rates for part in rate]
            )
        error = _error(loss - distortion.original, target)
        first, last = schedule.response
        response = (first + (last - first) * step / steps) * (1.0 if error > 0 else schedule.release)
        pressure = weight * math.exp(response * error)
        hinge = float(loss >= distortion.original)  # nothing is gained by a loss below the original's
        decay = (1 - (1 - schedule.final_rate) * step / steps) * min(1.0, (step + 1) / (schedule.warmup * steps + 1))
        for mover, (pull, pull_scale), rate in zip(movers, pulls, rates, strict=True):
            gradients = [hinge * part + pressure * pressed for part, pressed in zip(pull, rate, strict=True)]
            mover.step(gradients, pull_scale if free else None, length * decay)
        weight *= math.exp(schedule.gain * error)


def _error(rise: float, target: float) -> float:
    """log(target / rise) within ±2: positive where the loss leaves room. A loss below the original's leaves all."""
    return min(2.0, max(-2.0, math.log(target / max(rise, 1e-3 * target))))


def _rate_gradient(u: Tensor, curvature: float) -> Tensor:
    """∂R/∂u = c·sign(u) / ((1 + c·|u|)·ln 2)."""
    return curvature * u.sign() / ((1 + curvature * u.abs()) * math.log(2))


def _ratio(pulls: Sequence[Tensor], rates: Sequence[Tensor]) -> float:
    loss = math.sqrt(sum(float((grad * grad).sum()) for grad in pulls))
    rate = math.sqrt(sum(float((grad * grad).sum()) for grad in rates))
    return loss / rate if rate else 0.0
