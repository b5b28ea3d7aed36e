"""The counted loss: the user's closure on candidate weights, with nothing of the user's left changed.

One evaluation is one loss on the original's data; a gradient counts three, a loss on m of n examples m / n.
"""

import copy
import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.losses import Divisible
from nncomplexity.weights import Skeleton, check_finite, skeleton_of

LossFn = Callable[[Any], Any]
"""loss_fn(module) or loss_fn(mapping of tensors) -> a float or a 0-d tensor."""

GRADIENT_COST = 3.0


class Distortion:
    """L(θ̃) of a model's loss, beside L(θ) of the original (Eq. 6 of DeMoss et al. 2025: d = |L(θ) − L(θ̃)|).

    Args:
        target: a module, or a mapping of names to tensors. A module is copied; where it can't be, the original is used in place.
        loss_fn: the closure; it gets the copy, or a dict of tensors in which tied names are one object.

    Every call begins from the random state in which the object was made, so a loss that draws random numbers is the same function each
    time. Use it as a context manager: leaving restores the random state and, where it was borrowed, the module.

    Raises InputError where the weights or the original's loss aren't usable.
    """

    def __init__(self, target: nn.Module | Mapping[str, Tensor], loss_fn: LossFn) -> None:
        if not callable(loss_fn):
            raise InputError(f"loss_fn: expected a function of the model, got {type(loss_fn).__name__}")
        self._loss_fn = loss_fn
        self._target = _Borrowed(target) if isinstance(target, nn.Module) else _Mapping(target)
        self.skeleton: Skeleton = self._target.skeleton
        self.weights: dict[str, Tensor] = self._target.weights
        """The original tensors by first name, detached, on the CPU."""
        check_finite(self.weights)
        self.evaluations = 0.0
        self.original = math.nan

    def __enter__(self) -> "Distortion":
        self._random = _random_state()
        try:
            self.original = self._measure(self.weights)
            if not math.isfinite(self.original):
                raise InputError(
                    f"loss_fn: expected a finite loss of the original weights, got {self.original}; check data and model"
                )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._target.restore()
        _set_random_state(self._random)

    def loss(self, weights: Mapping[str, Tensor]) -> float:
        """L of weights by first name; NaN and infinity come back as they are and make a candidate infeasible."""
        self.evaluations += 1
        return self._measure(weights)

    @property
    def examples(self) -> int | None:
        """n, the number of examples of a loss that may be taken over a part of them; None for a plain closure."""
        return self._loss_fn.examples if isinstance(self._loss_fn, Divisible) else None

    def gradient(self, weights: Mapping[str, Tensor], rows: Tensor | None = None) -> tuple[float, dict[str, Tensor]] | None:
        """L and its gradients by first name, on the CPU; None where the closure has no gradient. Tensors without one are left out.

        With `rows` (m,) both are over these examples alone, which a `Divisible` loss allows, and cost m / n as much.
        """
        if not self._target.differentiable:
            return None
        share = 1.0 if rows is None or self.examples is None else len(rows) / self.examples
        loss_fn = self._loss_fn
        if rows is not None and isinstance(loss_fn, Divisible):
            loss_fn = loss_fn.part(rows)
        while True:
            self.evaluations += GRADIENT_COST * share
            try:
                return self._differentiate(loss_fn, weights)
            except RuntimeError:  # autograd's refusals: numpy() of a leaf, its change in place, an operation without a derivative
                # One of them is batch norm's, by its running statistics. Without those, the others may have a gradient.
                if not self._target.spare_buffers():
                    return None

    def _differentiate(self, loss_fn: LossFn, weights: Mapping[str, Tensor]) -> tuple[float, dict[str, Tensor]] | None:
        with torch.inference_mode(False), torch.enable_grad():
            _set_random_state(self._random)
            argument, leaves = self._target.leaves(weights)
            value = loss_fn(argument)
            if not isinstance(value, Tensor) or not value.requires_grad or value.dim():
                return None
            grads = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        return value.item(), {name: grad.detach().cpu() for name, grad in zip(leaves, grads, strict=True) if grad is not None}

    def tolerance(self, eps: float) -> float:
        """The largest distortion that is accepted at ε: less by a margin above the rounding of a float32 mean."""
        return eps - min(eps / 2, 1e-6 * (abs(self.original) + eps))

    def _measure(self, weights: Mapping[str, Tensor]) -> float:
        _set_random_state(self._random)
        with torch.no_grad():
            argument = self._target.load(weights)
            try:
                value = self._loss_fn(argument)
            except InputError:
                raise
            except Exception as error:
                raise InputError(f"loss_fn: it raised {type(error).__name__}: {_first_line(error)}") from error
        return _scalar(value)


class _Mapping:
    """A mapping of tensors as what the closure gets."""

    differentiable = True

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.skeleton = skeleton_of(weights)
        self._devices = {spec.name: weights[spec.name].device for spec in self.skeleton.tensors}
        self.weights = {spec.name: weights[spec.name].detach().cpu() for spec in self.skeleton.tensors}
        self._spared: set[str] = set()

    def load(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # A copy, so that a closure which changes its argument changes nobody's weights.
        return self.skeleton.expand({name: weights[name].to(device, copy=True) for name, device in self._devices.items()})

    def leaves(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        loaded = {name: weights[name].detach().to(device, copy=True) for name, device in self._devices.items()}
        leaves = {name: tensor for name, tensor in loaded.items() if tensor.is_floating_point() and name not in self._spared}
        for tensor in leaves.values():
            tensor.requires_grad_()
        return self.skeleton.expand(loaded), leaves

    def spare_buffers(self) -> bool:
        """Ask for no gradient of running statistics from now on, known by their names alone; False where that changes nothing."""
        named = {spec.name for spec in self.skeleton.tensors if spec.name.rpartition(".")[2].startswith("running_")}
        news = bool(named - self._spared)
        self._spared |= named
        return news

    def restore(self) -> None:
        """Nothing of the user's was touched."""


class _Borrowed:
    """A copy of a module, or where it can't be copied the module itself, with weights loaded in place."""

    def __init__(self, module: nn.Module) -> None:
        state = _state(module)
        self.skeleton = skeleton_of(state)
        self.weights = {spec.name: state[spec.name].detach().cpu().clone() for spec in self.skeleton.tensors}
        try:
            self._module = copy.deepcopy(module)
        except Exception:
            self._module = module
        self.differentiable = self._module is not module
        if self.differentiable:
            for parameter in self._module.parameters():
                parameter.requires_grad_(parameter.is_floating_point())
                parameter.grad = None
        self._live = _state(self._module)

    def load(self, weights: Mapping[str, Tensor]) -> nn.Module:
        with torch.no_grad():
            for name in self.weights:
                self._live[name].copy_(weights[name])
        return self._module

    def leaves(self, weights: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
        parameters = {name: parameter for name, parameter in self._module.named_parameters() if parameter.requires_grad}
        return self.load(weights), {name: parameters[name] for name in self.weights if name in parameters}

    def spare_buffers(self) -> bool:
        """A module's buffers are no leaves to begin with."""
        return False

    def restore(self) -> None:
        if not self.differentiable:
            self.load(self.weights)


def _state(module: nn.Module) -> dict[str, Tensor]:
    """The module's tensors, live; entries of a state dict which are no tensors (extra state) stay the architecture's."""
    return {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def _scalar(value: object) -> float:
    if isinstance(value, Tensor):
        if value.dim() or value.is_complex():
            raise InputError(
                f"loss_fn: expected a float or a 0-d tensor, got a tensor of shape {tuple(value.shape)}; take its mean"
            )
        return float(value)
    if isinstance(value, (bool, int, float, np.number)):
        return float(value)
    raise InputError(f"loss_fn: expected a float or a 0-d tensor, got {type(value).__name__}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


RandomState = tuple[Tensor, list[Tensor], dict[str, Any], tuple[Any, ...]]


def _random_state() -> RandomState:
    """States of every generator that a loss may draw from: torch's, CUDA's where it is in use, NumPy's and Python's."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda, np.random.get_state(legacy=False), random.getstate()


def _set_random_state(state: RandomState) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
    np.random.set_state(state[2])
    random.setstate(state[3])


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """The generators leave as they came."""
    state = _random_state()
    try:
        yield
    finally:
        _set_random_state(state)
