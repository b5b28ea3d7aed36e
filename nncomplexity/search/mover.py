"""What moves latents in a descent: Adam with Nesterov's momentum, and the place to go back to.

With g the gradient, Adam (Kingma and Ba 2015) steps along m/√v, m and v being running means of g and g². Its Nesterov form (Dozat 2016)
steps along (μ·m + (1 − μ)·g)/√v, which is where the momentum will be one gradient later: a step answers the newest gradient at once.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nncomplexity.network import stacked
from nncomplexity.search.latent import Alike
from nncomplexity.search.schedule import Schedule

_MOMENTUM, _SQUARES = 0.9, 0.95

Gradients = tuple[list[Tensor], list[float], list[Tensor]]
"""∂L/∂u of each part of T tensors (T, ...), ∂L/∂log s of each tensor, and ∂R/∂u of each part."""


class _Nadam:
    """Adam's state for a tensor of latents, or of the logarithms of their scales."""

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
        return self.mean.lerp(grad, 1 - _MOMENTUM) / (1 - _MOMENTUM**self.count) / root

    def last(self) -> Tensor:
        """The direction of the last step again, of moments that are held in fewer bits."""
        root = (self.square.float() / (1 - _SQUARES**self.count)).sqrt_().add_(1e-20)
        return (self.mean.float() / (1 - _MOMENTUM**self.count)).div_(root)


class Mover:
    """Latents of one form and shape, what moves them, and the place to go back to.

    A lean one, of a large network, holds its moments in bfloat16 and keeps no place: it goes back by half of its last step, which the
    moments tell, as they do without Nesterov's term.
    """

    def __init__(self, moved: Alike, schedule: Schedule, lean: bool) -> None:
        moved.bind()
        self.moved, self.latents, self.schedule, self.lean = moved, moved.latents, schedule, lean
        self.adam = [_Nadam(part, torch.bfloat16 if lean else part.dtype) for part in moved.parts]
        self.length = 0.0
        self.adam_scale = _Nadam(torch.zeros(len(moved.latents), dtype=torch.float32, device="cpu"))
        self.keep_place()

    def keep_place(self) -> None:
        if not self.lean:
            self.place = [part.clone() for part in self.moved.parts], [latent.log_scale for latent in self.latents]

    def go_halfway_back(self) -> None:
        """Undo half of the last step, but for the scale."""
        for part, state in zip(self.moved.parts, self.adam, strict=True):
            part.add_(state.last(), alpha=self.schedule.rate * self.length / 2)
        self.length /= 2

    def go_back(self, grads: Mapping[str, Tensor] | None) -> None:
        """Return to the place kept. Symbols that the step has changed, and which the gradients there want back, go into the middle of
        their bins: the next step would change them again, as its direction is nearly the same. All of them do where there were none,
        as the loss was no number.
        """
        moved = self.moved.rounded()
        pulls = [None] * len(moved) if grads is None else self.pull(grads)[0]
        parts, scales = self.place
        for latent, scale in zip(self.latents, scales, strict=True):
            latent.log_scale = scale
        for part, kept in zip(self.moved.parts, parts, strict=True):
            part.copy_(kept)
        for part, now, before, pull, state in zip(self.moved.parts, moved, self.moved.rounded(), pulls, self.adam, strict=True):
            wanted = now != before if pull is None else pull * (now - before) > 0
            part[wanted] = before[wanted]
            state.mean[wanted] = 0.0

    def pull(self, grads: Mapping[str, Tensor], limited: bool = False) -> tuple[list[Tensor], list[float]]:
        """∂L/∂u of each part and ∂L/∂log s of each tensor, as they are or no larger than a limit."""
        found = [grads.get(latent.spec.name) for latent in self.latents]
        like = next((grad for grad in found if grad is not None), self.moved.parts[0])
        shape = self.latents[0].spec.shape
        return self.moved.gradients(stacked([like.new_zeros(shape) if grad is None else grad for grad in found]), limited)

    def gradients(self, grads: Mapping[str, Tensor], limited: bool = False) -> Gradients:
        """∂L/∂u of each part, ∂L/∂log s, and ∂R/∂u of each part."""
        pull, pull_scale = self.pull(grads, limited)
        return pull, pull_scale, [_rate_gradient(u, self.schedule.curvature) for u in self.moved.parts]

    def step(self, gradients: Sequence[Tensor], scale_gradients: Sequence[float] | None, length: float) -> None:
        """One step against the gradients of J, `length` times the schedule's; None leaves the scales."""
        self.length = length
        for part, gradient, state in zip(self.moved.parts, gradients, self.adam, strict=True):
            part.sub_(state.direction(gradient), alpha=self.schedule.rate * length)
        if scale_gradients is not None:
            directions = self.adam_scale.direction(torch.tensor(scale_gradients, dtype=torch.float32, device="cpu")).tolist()
            for latent, direction in zip(self.latents, directions, strict=True):
                latent.log_scale -= self.schedule.scale_rate * length * direction


def _rate_gradient(u: Tensor, curvature: float) -> Tensor:
    """∂R/∂u = c·sign(u) / ((1 + c·|u|)·ln 2)."""
    return curvature * u.sign() / ((1 + curvature * u.abs()) * math.log(2))
