"""A module as named tensors that can be exchanged: what its state dict says, and where its values really live.

A state dict's tensors are most often the module's own parameters and buffers, into which values are copied. Hooks may put others there,
copies in another dtype for instance; values then go back by `load_state_dict`, whose hooks know the way.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.weights import Skeleton, check_dense, check_whole, skeleton_of, storage_key, storage_place


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of the module's state dict, live; entries which are no tensors (extra state) stay the architecture's."""
    return {name: value for name, value in _state_of(module).items() if isinstance(value, Tensor)}


def _state_of(module: nn.Module) -> Mapping[str, Any]:
    try:
        state: Mapping[str, Any] = module.state_dict(keep_vars=True)
    except TypeError as error:
        raise InputError(f"model: its state_dict can't be asked for live tensors ({error}); pass a mapping of tensors") from error
    if not any(isinstance(value, Tensor) for value in state.values()) and any(
        isinstance(value, Mapping) for value in state.values()
    ):
        raise InputError("model: its state_dict holds dictionaries, where tensors were expected; pass a mapping of tensors")
    return state


def left_out(module: nn.Module) -> tuple[str, ...]:
    """What the module holds besides, and keeps: entries of its state dict that are no tensors, and buffers that aren't in it."""
    state = _state_of(module)
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    held = {id(value) for value in state.values()}
    return (*others, *(name for name, buffer in module.named_buffers() if name not in state and id(buffer) not in held))


def load_into(module: nn.Module, skeleton: Skeleton, weights: Mapping[str, Tensor]) -> None:
    """Give the module the values of `weights`, by first name: in place, or by `load_state_dict` where its state dict holds copies."""
    state = tensors_of(module)
    owned = {storage_place(tensor) for tensor in _own(module)}
    live = all(storage_place(state[spec.name]) in owned for spec in skeleton.tensors if spec.count)
    with torch.no_grad():
        if live:
            for spec in skeleton.tensors:
                state[spec.name].copy_(weights[spec.name])
            return
        whole = module.state_dict()  # with the versions in its metadata, by which modules read it
        whole.update(skeleton.expand(weights))
        try:
            module.load_state_dict(whole)
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"model: its own state dict does not load back ({text:.160}); pass a mapping of tensors") from error


def parameters_of(module: nn.Module, skeleton: Skeleton) -> list[tuple[str, nn.Parameter]]:
    """The module's parameters that want a gradient, each under the first name of the tensor of the skeleton that it holds."""
    parameters: dict[object, dict[int, nn.Parameter]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            parameters.setdefault(storage_key(name, parameter), {})[id(parameter)] = parameter
    state = tensors_of(module)
    return [
        (spec.name, parameter)
        for spec in skeleton.tensors
        for parameter in parameters.get(storage_key(spec.name, state[spec.name]), {}).values()
    ]


class Borrowed:
    """A copy of a module, or where it can't be copied the module itself, to be given one set of weights after another.

    Attributes:
        skeleton: of the module's state dict.
        weights: its tensors by first name, detached, on the CPU.
        devices: where they lie.
        left_out: what else it holds.
        differentiable: whether it is a copy; the user's own module isn't to be disturbed by autograd.
    """

    def __init__(self, module: nn.Module) -> None:
        for name, part in module.named_modules():
            check_whole(name or type(part).__name__, part, "model")
        inference = torch.is_inference_mode_enabled()
        # What is made in inference mode has no gradient for good.
        with torch.inference_mode(False):
            state = tensors_of(module)
            self.skeleton = skeleton_of(state)
            for name, parameter in module.named_parameters():  # quantized ones may show their parts in the state dict
                check_dense(name, parameter, "model")
            self.weights = {spec.name: state[spec.name].detach().cpu().clone() for spec in self.skeleton.tensors}
            self.devices = [state[spec.name].device for spec in self.skeleton.tensors]
            self.left_out = left_out(module)
            copied = _copy(module)
            if copied is None and not inference and any(tensor.is_inference() for tensor in _own(module)):
                raise InputError(
                    "model: it can't be copied, and its tensors, made in torch.inference_mode, can be changed only there; pass a mapping"
                )
            self._module = module if copied is None else copied
            self._backup = _Backup(module) if copied is None else None
            self.differentiable = copied is not None
            if copied is not None:
                _settle(tensors_of(copied), self.skeleton)
                for parameter in copied.parameters():
                    parameter.requires_grad_(has_gradient(parameter))
                    parameter.grad = None

    def load(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The module, holding these weights by first name."""
        # A forward pass may have put other tensors in the place of buffers, which is why the state is looked up anew.
        load_into(self._module, self.skeleton, weights)
        return self._module

    def leaves(self, weights: Mapping[str, Tensor]) -> tuple[nn.Module, list[tuple[str, Tensor]]]:
        """The module, holding these weights, and its parameters under the first names of what they hold."""
        return self.load(weights), [*parameters_of(self._module, self.skeleton)]

    def spare_buffers(self) -> bool:
        """A module's buffers are no leaves to begin with."""
        return False

    def restore(self) -> None:
        """Give a module that couldn't be copied back what it held."""
        if self._backup:
            self._backup.restore()


class _Backup:
    """What a module holds: its tensors with their values, dtypes and gradients, and the mode of each of its parts."""

    def __init__(self, module: nn.Module) -> None:
        self._modes = [(part, part.training) for part in module.modules()]
        places: list[dict[str, Any]] = [held for part in module.modules() for held in (part._parameters, part._buffers)]
        self._places = [(held, dict(held)) for held in places]
        # State dicts may show tensors besides those that are registered, where the values of such a module are.
        tensors = {id(tensor): tensor for tensor in [*_own(module), *tensors_of(module).values()]}.values()
        self._tensors = [_Tensor(tensor) for tensor in tensors if storage_place(tensor)]

    def restore(self) -> None:
        for part, training in self._modes:
            part.training = training
        for held, before in self._places:
            if held.keys() != before.keys() or any(held[name] is not value for name, value in before.items()):
                held.clear()
                held.update(before)
        with torch.no_grad():
            for tensor in self._tensors:
                tensor.restore()


class _Tensor:
    """A tensor of a module, the memory that it is in, and what it held there; so of its gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._data, self._value = tensor, tensor.data, tensor.detach().clone()
        self._leaf, self._wants_gradient = tensor.is_leaf, tensor.requires_grad
        self._gradient = None if not tensor.is_leaf or tensor.grad is None else _Tensor(tensor.grad)

    def restore(self) -> Tensor:
        self._data.copy_(self._value)
        if self._leaf:
            self._tensor.grad = None  # it can't have another dtype than the values
        if storage_key("", self._tensor) != storage_key("", self._data):
            self._tensor.data = self._data
        if self._leaf:
            self._tensor.requires_grad_(self._wants_gradient)
            self._tensor.grad = None if self._gradient is None else self._gradient.restore()
        return self._tensor


def has_gradient(tensor: Tensor) -> bool:
    """Whether autograd takes the dtype."""
    return tensor.is_floating_point() or tensor.is_complex()


def _own(module: nn.Module) -> Sequence[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _copy(module: nn.Module) -> nn.Module | None:
    """A copy that shares nothing with the module; None where it can't be made, or where a `__deepcopy__` gives back what it was given."""
    try:
        copied = copy.deepcopy(module, _results(module))
    except Exception:
        return None
    mine, others = ([*one.modules()] for one in (module, copied))  # held, so that no two of them have one id
    shared = {id(part) for part in mine} & {id(part) for part in others}
    tensors, copies = ([*_own(one), *tensors_of(one).values()] for one in (module, copied))
    return None if shared or _storages(tensors) & _storages(copies) else copied


def _storages(tensors: Sequence[Tensor]) -> set[tuple[torch.device, int]]:
    return {place for place in map(storage_place, tensors) if place is not None}


def _results(module: nn.Module) -> dict[int, Tensor]:
    """What `deepcopy` is to take for tensors that were computed, which it refuses: the old weight_norm keeps its weight so."""
    values = [value for part in module.modules() for value in vars(part).values()]
    return {id(value): value.detach().clone() for value in values if isinstance(value, Tensor) and not value.is_leaf}


def _settle(state: Mapping[str, Tensor], skeleton: Skeleton) -> None:
    """Make a copy's tensors ready to be written to.

    Elements that share memory, as in an expanded buffer, get memory of their own. Two parameters of one storage, which `deepcopy` takes
    apart, get one again.
    """
    for spec in skeleton.tensors:
        first = state[spec.name]
        if any(stride == 0 and extent > 1 for stride, extent in zip(first.stride(), first.shape, strict=True)):
            first.data = first.data.contiguous()
        for name in spec.names[1:]:
            if state[name].data_ptr() != first.data_ptr():
                state[name].data = first.data
