"""Gradient descent on bits and loss at once, over latents whose rounding the file holds.

It minimises J = max(L(θ̃), L(θ)) + λ·R(u), with L the loss of the *rounded* weights, so that each step measures a candidate, and with

    R(u) = Σ log₂(1 + c·|u|)

a smooth stand-in for the bits of the symbols, whose gradient pulls small latents to zero and leaves large ones almost alone. λ keeps
both gradients about equally long, as they are in a minimum of J, and is led by the distortion, as a proportional and integral
controller leads a valve: L is to stay at its target inside ε, from which it strays at once when a tensor's last symbols go. Adam
(Kingma and Ba 2015) makes the steps, in units of the bin size, with a rate that falls to a tenth, so that the end is calm enough to
land within ε. A step that leaps out of reach is taken back: what it changed against the gradient at its end is put back into the
middle of its bin, and the next step is half as long.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor

from nncomplexity.coarse import CoarseTensor, Decoded
from nncomplexity.distortion import Distortion
from nncomplexity.errors import FormatError
from nncomplexity.search.latent import Latent
from nncomplexity.sizes import large_network


@dataclass(frozen=True)
class Schedule:
    """Settings of a descent."""

    rate: float = 0.3
    """Adam's learning rate for latents, in bin sizes."""
    scale_rate: float = 0.1
    """The same for the logarithm of each tensor's scale."""
    final_rate: float = 0.1
    """The rates' last value over their first."""
    warmup: float = 0.15
    """The share of the steps in which the rates rise to their full value."""
    target: float = 0.97
    """Where in ε the loss is led to, in a long descent; in one of n steps n/(n + `slack`) of it, as its end strays more."""
    slack: float = 6.0
    """Steps."""
    gain: float = 0.02
    """How fast λ follows the distortion: e = log(target / rise of the loss), within ±2, adds gain · e to log λ at every step."""
    response: tuple[float, float] = (1.0, 2.0)
    """How much of e acts on log λ at once, and is forgotten as it passes: at the start, and at the end, which must be within ε."""
    release: float = 2.0
    """How many times stronger that response is where the distortion is over its target: too little pressure costs bits, too much a
    landing."""
    pressure: float = 2.0
    """λ at the start, over the ratio of the two gradients' norms."""
    follow: float = 0.1
    """The share by which the logarithm of that ratio, in λ, follows what it is at each step."""
    curvature: float = 3.0
    """c in R(u)."""
    leap: float = 4.0
    """The distortion, in ε, from which a step is taken back, unless the descent began with half of that; half as much, or little more,
    in a descent of few steps."""
    stall: int = 12
    """Steps without progress, from a third of the descent on and above one and a half times the target, after which all steps get finer:
    the latents can't hold what is asked of them."""
    finer: float = 1.4
    """How many times."""
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
_PROGRESS = 0.9
"""A rise of the loss below so much of the lowest so far is progress."""
_ABOVE = 1.5
"""How far above its target the loss must be, in targets, for a want of progress to be a stall."""
_LONG = 60
"""Steps of a descent that can come back from anywhere."""
_RETREATS = 0.1
"""The share of steps that may be taken back before a descent goes on regardless."""
_RECOVERY = 2**0.125
"""By how much a step may be longer than the one before, where that was not taken back."""


_Gradients = tuple[list[Tensor], float, list[Tensor]]
"""∂L/∂u of each part, ∂L/∂log s, and ∂R/∂u of each part."""


class _Adam:
    """Adam's state for one tensor of latents or, as a 0-d tensor, one scale."""

    def __init__(self, like: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self.mean, self.square, self.count = torch.zeros_like(like, dtype=dtype), torch.zeros_like(like, dtype=dtype), 0

    def direction(self, grad: Tensor) -> Tensor:
        self.count += 1
        if self.mean.dtype != grad.dtype:
            self.mean.copy_(self.mean.to(grad.dtype).lerp_(grad, 1 - _MOMENTUM))
            self.square.copy_(self.square.to(grad.dtype).mul_(_SQUARES).addcmul_(grad, grad, value=1 - _SQUARES))
            return self.last()
        self.mean.lerp_(grad, 1 - _MOMENTUM)
        self.square.mul_(_SQUARES).addcmul_(grad, grad, value=1 - _SQUARES)
        root = (self.square / (1 - _SQUARES**self.count)).sqrt_().add_(1e-20)
        return self.mean / (1 - _MOMENTUM**self.count) / root

    def last(self) -> Tensor:
        """The direction of the last step again, of moments that are held in fewer bits."""
        root = (self.square.float() / (1 - _SQUARES**self.count)).sqrt_().add_(1e-20)
        return (self.mean.float() / (1 - _MOMENTUM**self.count)).div_(root)


class _Mover:
    """A latent, what moves it, and the place to go back to.

    A lean one, of a large network, holds its moments in bfloat16 and keeps no place: it goes back by half of its last step, which the
    moments tell.
    """

    def __init__(self, latent: Latent, schedule: Schedule, lean: bool) -> None:
        self.latent, self.schedule, self.lean = latent, schedule, lean
        self.adam = [_Adam(part, torch.bfloat16 if lean else part.dtype) for part in latent.parts]
        self.length = 0.0
        self.adam_scale = _Adam(torch.zeros((), device="cpu"))
        self.keep_place()

    def keep_place(self) -> None:
        if not self.lean:
            self.place = [part.clone() for part in self.latent.parts], self.latent.log_scale

    def go_halfway_back(self) -> None:
        """Undo half of the last step, but for the scale."""
        for part, state in zip(self.latent.parts, self.adam, strict=True):
            part.add_(state.last(), alpha=self.schedule.rate * self.length / 2)
        self.length /= 2

    def go_back(self, grads: Mapping[str, Tensor]) -> None:
        """Return to the place kept. Symbols that the step has changed, and which the gradients there want back, go into the middle of
        their bins: the next step would change them again, as its direction is nearly the same.
        """
        moved, (pulls, _) = self.latent.rounded(), self.pull(grads)
        parts, self.latent.log_scale = self.place
        self.latent.parts = [part.clone() for part in parts]
        for part, now, before, pull, state in zip(self.latent.parts, moved, self.latent.rounded(), pulls, self.adam, strict=True):
            wanted = pull * (now - before) > 0
            part[wanted] = before[wanted]
            state.mean[wanted] = 0.0

    def pull(self, grads: Mapping[str, Tensor]) -> tuple[list[Tensor], float]:
        """∂L/∂u of each part and ∂L/∂log s."""
        latent, grad = self.latent, grads.get(self.latent.spec.name)
        return latent.gradients(latent.parts[0].new_zeros(latent.spec.shape) if grad is None else grad, latent.rounded())

    def gradients(self, grads: Mapping[str, Tensor]) -> _Gradients:
        """∂L/∂u of each part, ∂L/∂log s, and ∂R/∂u of each part."""
        pull, pull_scale = self.pull(grads)
        return pull, pull_scale, [_rate_gradient(u, self.schedule.curvature) for u in self.latent.parts]

    def step(self, gradients: Sequence[Tensor], scale_gradient: float | None, length: float) -> None:
        """One step against the gradients of J, `length` times the schedule's; None leaves the scale."""
        self.length = length
        for part, gradient, state in zip(self.latent.parts, gradients, self.adam, strict=True):
            part.sub_(state.direction(gradient), alpha=self.schedule.rate * length)
        if scale_gradient is not None:
            direction = float(self.adam_scale.direction(torch.tensor(scale_gradient, device="cpu")))
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
    lean = large_network(sum(latent.spec.count for latent in latents))
    held = {} if lean else {spec.name: fixed[spec.name].decode(spec, distortion.device) for spec in specs if spec.name in fixed}
    movers = [_Mover(latent, schedule, lean) for latent in latents]
    leap = schedule.leap * eps * (0.5 + 0.5 * min(1.0, steps / _LONG))
    pressure = _Pressure(schedule, schedule.target * eps * steps / (steps + schedule.slack), steps)
    length, retreats, reach, begun = 1.0, 0, math.inf, False
    kept: tuple[float, dict[str, Tensor]] | None = None
    lowest, since = math.inf, 0
    for step in range(steps):
        free = step < int(schedule.freeze * steps)
        for latent in latents:
            latent.precision = schedule.free_precision if free else schedule.precision
        coarse = {latent.spec.name: latent.coarse() for latent in latents}
        tensors = [fixed.get(spec.name) or coarse[spec.name] for spec in specs]
        try:
            decoded: Mapping[str, Tensor] = Decoded(specs, tensors, distortion.device)
            if not lean:
                decoded = held | {latent.spec.name: decoded[latent.spec.name] for latent in latents}
        except FormatError:  # symbols so large that the product of factors is no longer exact
            return
        measured = distortion.gradient(decoded, next(parts))
        if measured is None:
            return
        loss, grads = measured
        yield Visit(tensors, loss)
        rise = loss - distortion.original
        if begun and not rise <= reach and retreats < _RETREATS * steps:
            retreats, length = retreats + 1, length / 2
            if kept is None:
                for mover in movers:
                    mover.go_halfway_back()
                continue
            for mover in movers:
                mover.go_back(grads)
            loss, grads = kept
        elif math.isfinite(loss):
            begun, kept = True, None if lean else measured
            if rise < _PROGRESS * lowest:
                lowest, since = rise, step
            if free and step > steps / 3 and step - since >= schedule.stall and lowest > _ABOVE * pressure.target:
                lowest, since = rise, step
                for latent in latents:
                    latent.refine(schedule.finer)
            length = min(1.0, length * _RECOVERY)
            reach = min(reach, max(leap, 2 * rise))
            for mover in movers:
                mover.keep_place()
        else:
            return
        # A large network's are taken one tensor at a time, and so twice.
        taken = (mover.gradients(grads) for mover in movers) if lean else [mover.gradients(grads) for mover in movers]
        ratio = _ratio(taken)
        weight = pressure.at(step, loss - distortion.original, ratio)
        hinge = float(loss >= distortion.original)  # nothing is gained by a loss below the original's
        decay = (1 - (1 - schedule.final_rate) * step / steps) * min(1.0, (step + 1) / (schedule.warmup * steps + 1))
        again = (mover.gradients(grads) for mover in movers) if lean else taken
        for mover, (pull, pull_scale, rate) in zip(movers, again, strict=True):
            gradients = [hinge * part + weight * pressed for part, pressed in zip(pull, rate, strict=True)]
            mover.step(gradients, pull_scale if free else None, length * decay)
        del measured, grads, again, taken  # or they would be held beside the next ones


class _Pressure:
    """λ = r · b · exp(c·e): r follows the ratio of the gradients' norms ‖∂L‖/‖∂R‖, b sums up the errors e so far, c·e answers the last.

    e = log(target / rise) within ±2 is positive where the loss leaves room; a loss below the original's leaves all. The ratio changes
    a hundredfold along a descent. Left to b, which is slow, such a change would be made up for too late, and then for too long.
    """

    def __init__(self, schedule: Schedule, target: float, steps: int) -> None:
        self.schedule, self.target, self.steps = schedule, target, steps
        self.log_ratio: float | None = None
        self.log_sum = math.log(schedule.pressure) if schedule.pressure else -math.inf

    def at(self, step: int, rise: float, ratio: float) -> float:
        """λ for a step from where the loss has risen so much."""
        if ratio > 0:
            last = math.log(ratio) if self.log_ratio is None else self.log_ratio
            self.log_ratio = last + (math.log(ratio) - last) * self.schedule.follow
        error = min(2.0, max(-2.0, math.log(self.target / max(rise, 1e-3 * self.target))))
        first, last = self.schedule.response
        response = (first + (last - first) * step / self.steps) * (1.0 if error > 0 else self.schedule.release)
        pressure = math.exp((self.log_ratio or 0.0) + self.log_sum + response * error)
        self.log_sum += self.schedule.gain * error
        return pressure


def _rate_gradient(u: Tensor, curvature: float) -> Tensor:
    """∂R/∂u = c·sign(u) / ((1 + c·|u|)·ln 2)."""
    return curvature * u.sign() / ((1 + curvature * u.abs()) * math.log(2))


def _ratio(gradients: Iterable[_Gradients]) -> float:
    """‖∂L‖/‖∂R‖ over all tensors."""
    losses, rates = list[float](), list[float]()
    for pull, _, pressed in gradients:
        losses += [float((grad * grad).sum()) for grad in pull]
        rates += [float((grad * grad).sum()) for grad in pressed]
    rate = math.sqrt(sum(rates))
    return math.sqrt(sum(losses)) / rate if rate else 0.0
