"""The counted loss: the user's closure on candidate weights, with nothing of the user's left changed.

One evaluation is one loss on the original's data; a gradient counts three, a loss on m of n examples m / n.
"""

import copy
import math
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nncomplexity.divergence.function import RelativeToOriginal
from nncomplexity.errors import InputError
from nncomplexity.layout import Arrangement, Layout
from nncomplexity.losses import Divisible, number_of
from nncomplexity.modulestate import Borrowed, has_gradient
from nncomplexity.relative import Base, difference
from nncomplexity.weights import Skeleton, check_network, check_numbers, complex_view, real_view, skeleton_of

LossFn = Callable[[Any], Any]
"""loss_fn(module) or loss_fn(mapping of tensors) -> a float or a 0-d tensor; or a `Divergence`."""

GRADIENT_COST = 3.0
_NO_FLOAT64 = {"mps"}
_SCATTER, _SCATTER_OF_ZERO = 1e-3, 1e-6
"""How far apart two losses of the same weights may be, relatively and at zero: accelerators add in another order each time."""


class Distortion:
    """L(θ̃) of a model's loss, beside L(θ) of the original (Eq. 6 of DeMoss et al. 2025: d = |L(θ) − L(θ̃)|).

    Args:
        target: a module, or a mapping of names to tensors. A module is copied; where it can't be, the original is used in place.
        loss_fn: the closure; it gets the copy, or a dict of tensors in which tied names are one object.
        base: what the weights are coded relative to, or None.

    Every call begins from the random state in which the object was made, so a loss that draws random numbers is the same function each
    time. Use it as a context manager: leaving restores the random state and, where it was borrowed, the module. Threads take turns from
    entering to leaving.

    Raises InputError where the weights or the original's loss aren't usable.
    """

    def __init__(self, target: nn.Module | Mapping[str, Tensor], loss_fn: LossFn, base: Base | None = None) -> None:
        check_network(target)
        if not callable(loss_fn):
            raise InputError(f"loss_fn: expected a function of the model, got {type(loss_fn).__name__}")
        self._loss_fn = loss_fn
        self._target = Borrowed(target) if isinstance(target, nn.Module) else _Mapping(target)
        self.base = base
        self.stored: Skeleton = self._target.skeleton if base is None else base.under(self._target.skeleton)
        """The skeleton of the weights as they are stored."""
        self.skeleton: Skeleton = self.stored.real
        """The skeleton that a search sees: complex tensors as their real and imaginary parts."""
        self.weights: dict[str, Tensor] = {name: real_view(tensor) for name, tensor in self._target.weights.items()}
        """The original tensors of `skeleton` by first name, detached, on the CPU."""
        self.device = _with_float64(self._target.devices)
        """Where weights are coarse-grained: that of the target, or the CPU where it has no float64."""
        self.coded: dict[str, Tensor] = {
            spec.name: difference(self.weights[spec.name], spec.base).to(self.device) for spec in self.skeleton.tensors
        }
        """What a search coarse-grains of them: the tensors, in float64 their differences from the base where they have one; on `device`."""
        self.arrangement = Arrangement(self.skeleton, {})
        """Which tensors `skeleton`, `weights` and `coded` have in pieces."""
        self.left_out: tuple[str, ...] = self._target.left_out
        """What the network holds besides: entries of a state dict that are no tensors, and buffers that aren't in it."""
        check_numbers(self.weights)
        self.evaluations = 0.0
        self.original = math.nan

    def __enter__(self) -> "Distortion":
        self._borrowed = ExitStack()
        self._borrowed.enter_context(preserved_random_state())
        self._borrowed.callback(self._target.restore)
        self._random = random_state()
        try:
            given: object = self._loss_fn
            if isinstance(given, RelativeToOriginal):
                self._loss_fn = self.apply(given.against, self.weights)
            self.original = self._measure(self.weights)
            if not math.isfinite(self.original):
                raise InputError(
                    f"loss_fn: expected a finite loss of the original weights, got {self.original}; check data and model"
                )
            self.check_same(self._measure(self.weights))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._borrowed.close()

    def loss(self, weights: Mapping[str, Tensor]) -> float:
        """L of weights by first name, complex ones as such or as pairs of reals; NaN and infinity make a candidate infeasible."""
        self.evaluations += 1
        return self._measure(weights)

    def laid_out(self, layouts: Mapping[str, Layout]) -> "Distortion":
        """The same distortion, as a search sees it that has these tensors in pieces. From here on each counts its own evaluations."""
        other = copy.copy(self)
        other.arrangement = Arrangement(self.skeleton, layouts)
        other.skeleton, other.weights = other.arrangement.skeleton, other.arrangement.apart(self.weights)
        same = all(self.coded[name] is weight for name, weight in self.weights.items())
        other.coded = other.weights if same else other.arrangement.apart(self.coded)
        return other

    def check_same(self, loss: float) -> None:
        """Raises InputError where the original's loss, measured once more, differs by more than sums in another order do."""
        if not abs(loss - self.original) <= _SCATTER * abs(self.original) + _SCATTER_OF_ZERO:
            raise InputError(
                f"loss_fn: expected the same loss of the same weights each time, got {self.original:.6g} and then {loss:.6g}; let it "
                "see the same examples at every call"
            )

    @property
    def examples(self) -> int | None:
        """n, the number of examples of a loss that may be taken over a part of them; None for a plain closure."""
        return self._loss_fn.examples if isinstance(self._loss_fn, Divisible) else None

    def gradient(self, weights: Mapping[str, Tensor], rows: Tensor | None = None) -> tuple[float, dict[str, Tensor]] | None:
        """L and its gradients by first name, on `device`; None where the closure has no gradient. Tensors without one are left out.

        Gradients are those of `skeleton`: PyTorch's gradient of a complex number is that of its two parts. Where an element's isn't
        finite, such as that of a norm at zero, it counts as zero.

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
            except Exception:  # autograd's refusals, as numpy() of a leaf, its change in place, or what the closure makes of them
                # One of them is batch norm's, by its running statistics. Without those, the others may have a gradient.
                if not self._target.spare_buffers():
                    return None

    def _differentiate(self, loss_fn: LossFn, weights: Mapping[str, Tensor]) -> tuple[float, dict[str, Tensor]] | None:
        with torch.inference_mode(False), torch.enable_grad():
            set_random_state(self._random)
            argument, leaves = self._target.leaves(self._stored(weights))
            torch.clear_autocast_cache()
            value = loss_fn(argument)
            if not isinstance(value, Tensor) or not value.requires_grad or value.dim():
                return None
            grads = torch.autograd.grad(value, [leaf for _, leaf in leaves], allow_unused=True)
        summed: dict[str, Tensor] = {}
        for (name, _), grad in zip(leaves, grads, strict=True):
            if grad is not None:
                parts = real_view(grad.detach().to(self.device))
                parts = torch.nan_to_num(parts if parts.dtype.itemsize > 1 else parts.float(), nan=0.0, posinf=0.0, neginf=0.0)
                summed[name] = summed[name] + parts if name in summed else parts
        return value.detach().item(), self.arrangement.apart(summed)

    def tolerance(self, eps: float) -> float:
        """The largest distortion that is accepted at ε: less by a margin above the rounding of a float32 mean."""
        return eps - min(eps / 2, 1e-6 * (abs(self.original) + eps))

    def apply(self, function: Callable[[Any], Any], weights: Mapping[str, Tensor]) -> Any:
        """What a function of the network gives for weights by first name, which it gets as the loss does; it costs no evaluation."""
        set_random_state(self._random)
        with torch.no_grad():
            argument = self._target.load(self._stored(weights))
            torch.clear_autocast_cache()
            try:
                return function(argument)
            except InputError:
                raise
            except (Exception, SystemExit) as error:
                raise InputError(f"outputs: it raised {type(error).__name__}: {_first_line(error)}") from error

    def _stored(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return _Stored(weights, self.stored, self.arrangement)

    def _measure(self, weights: Mapping[str, Tensor]) -> float:
        set_random_state(self._random)
        with torch.no_grad():
            argument = self._target.load(self._stored(weights))
            # Within torch.autocast casts of parameters are kept by tensor, not by value: the loss would be that of other weights.
            torch.clear_autocast_cache()
            try:
                value = self._loss_fn(argument)
            except InputError:
                raise
            except (Exception, SystemExit) as error:
                raise InputError(f"loss_fn: it raised {type(error).__name__}: {_first_line(error)}") from error
        return _scalar(value)


Leaves = list[tuple[str, Tensor]]
"""Tensors to differentiate by, each under the first name of what it holds; two parameters of one storage have one name."""


class _Stored(Mapping[str, Tensor]):
    """Weights in the dtypes of a skeleton, looked up when they are asked for: a large network's may be decoded only then."""

    def __init__(self, weights: Mapping[str, Tensor], skeleton: Skeleton, arrangement: Arrangement) -> None:
        self._weights, self._arrangement = weights, arrangement
        self._specs = {spec.name: spec for spec in skeleton.tensors}

    def __getitem__(self, name: str) -> Tensor:
        return complex_view(self._arrangement.whole(self._weights, name), self._specs[name].dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


class _Mapping:
    """A mapping of tensors as what the closure gets."""

    differentiable = True
    left_out: tuple[str, ...] = ()

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.skeleton = skeleton_of(weights)
        self._device_of = {spec.name: weights[spec.name].device for spec in self.skeleton.tensors}
        self.weights = {spec.name: weights[spec.name].detach().cpu() for spec in self.skeleton.tensors}
        self._spared: set[str] = set()

    @property
    def devices(self) -> list[torch.device]:
        return list(self._device_of.values())

    def load(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # A copy, so that a closure which changes its argument changes nobody's weights.
        return self.skeleton.expand({name: weights[name].to(device, copy=True) for name, device in self._device_of.items()})

    def leaves(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Leaves]:
        loaded = {name: weights[name].detach().to(device, copy=True) for name, device in self._device_of.items()}
        leaves = [(name, tensor) for name, tensor in loaded.items() if has_gradient(tensor) and name not in self._spared]
        for _, tensor in leaves:
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


def _with_float64(devices: Sequence[torch.device]) -> torch.device:
    """The first accelerator among them; the CPU where there is none, or one whose numbers end at float32."""
    accelerator = next((device for device in devices if device.type != "cpu"), torch.device("cpu"))
    return torch.device("cpu") if accelerator.type in _NO_FLOAT64 else accelerator


def _scalar(value: object) -> float:
    return number_of(value, "loss_fn")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


_ONE_AT_A_TIME = threading.RLock()
"""Random states, the current folder and standard output are the process's: threads of one take turns wherever they borrow them."""

RandomState = tuple[Tensor, list[Tensor], dict[str, Any], tuple[Any, ...]]


def random_state() -> RandomState:
    """States of every generator that a loss may draw from: torch's, CUDA's where it is in use, NumPy's and Python's."""
    with _ONE_AT_A_TIME:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return torch.get_rng_state(), cuda, np.random.get_state(legacy=False), random.getstate()


def set_random_state(state: RandomState) -> None:
    """Put the generators back to where `random_state` found them."""
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
    np.random.set_state(state[2])
    random.setstate(state[3])


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """The generators leave as they came, and threads take turns. What torch.autocast keeps of weights is forgotten on both ends."""
    with _ONE_AT_A_TIME:
        state = random_state()
        torch.clear_autocast_cache()
        try:
            yield
        finally:
            torch.clear_autocast_cache()
            set_random_state(state)
