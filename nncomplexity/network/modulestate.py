"""A module as named tensors whose values can be replaced.

The tensors of a state dict are usually the module's own parameters and buffers, and values are copied into them. Hooks may put
other tensors into a state dict, for instance copies in another dtype. New values are then loaded by `load_state_dict` and its hooks.
`load_state_dict` is also used if a part has its own code for loading, for example to clear values that it computed from other weights
(`nncomplexity.network.loading`).
"""

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.network.attributes import inside, owners
from nncomplexity.network.loading import COPY_VALUES, LoadMethod, load_methods_of, training_mode
from nncomplexity.network.weights import Private, Skeleton, as_read, skeleton_of, storage_key, storage_place
from nncomplexity.words import error_line, listed, text_of


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of the module's state dict, not copied. Entries that are not tensors (extra state) belong to the architecture."""
    return {name: value for name, value in _state_of(module).items() if isinstance(value, Tensor)}


def _state_of(module: nn.Module) -> Mapping[str, Any]:
    try:
        state: Mapping[str, Any] = module.state_dict(keep_vars=True)
    except TypeError as error:
        raise InputError(
            f"model: its state_dict can't be asked for live tensors ({text_of(error)}); pass a mapping of tensors"
        ) from error
    if not any(isinstance(value, Tensor) for value in state.values()) and any(
        isinstance(value, Mapping) for value in state.values()
    ):
        raise InputError("model: its state_dict holds dictionaries, where tensors were expected; pass a mapping of tensors")
    return state


class LeftOut(str):
    """The name of something that a network has and its file lacks.

    Attributes:
        numbers: whether it contains numbers, which may have been learned.
    """

    numbers: bool

    def __new__(cls, name: str, numbers: bool = True) -> "LeftOut":
        """The name as a text, with the attribute `numbers`."""
        made = super().__new__(cls, name)
        made.numbers = numbers
        return made

    def __getnewargs__(self) -> tuple[str, bool]:  # type: ignore[override]
        """The arguments of `__new__` for copies and pickles. Without them, pickle would lose `numbers`."""
        return str(self), self.numbers


def left_out(module: nn.Module) -> tuple[LeftOut, ...]:
    """Other content of the module: entries of its state dict that are not tensors, and buffers and parameters outside it."""
    state = _state_of(module)
    others = [LeftOut(name, _has_numbers(value)) for name, value in state.items() if not isinstance(value, Tensor)]
    held = {id(value) for value in state.values()}
    own = [*module.named_buffers(), *module.named_parameters()]
    apart = [(name, tensor) for name, tensor in own if name not in state and id(tensor) not in held]
    return (*others, *(LeftOut(name, _has_numbers(tensor)) for name, tensor in apart))


def with_numbers(names: Iterable[str]) -> tuple[str, ...]:
    """The names of left-out content that has numbers, which may have been learned.

    `left_out` marks each name. A name without the mark, such as one from a results file, may stand for numbers.
    """
    return tuple(name for name in names if getattr(name, "numbers", True))


def numbers_left_out(network: object) -> tuple[str, ...]:
    """The names in `left_out` whose content has numbers; none for a mapping of tensors."""
    return with_numbers(left_out(network)) if isinstance(network, nn.Module) else ()


def _has_numbers(value: object) -> bool:
    """Whether an object contains numbers. The answer is yes for objects of unknown types, such as packed weights."""
    if value is None or isinstance(value, bool | str | torch.dtype | torch.device):
        return False
    if isinstance(value, Tensor):
        return value.numel() > 0
    if isinstance(value, Mapping):
        return any(map(_has_numbers, value.values()))
    return any(map(_has_numbers, value)) if isinstance(value, list | tuple | set) else True


def load_into(module: nn.Module, skeleton: Skeleton, weights: Mapping[str, Tensor], way: LoadMethod | None = None) -> None:
    """Give the module the values of `weights`, by first name: in place, or by `load_state_dict` if its state dict holds copies.

    If no way is given, `load_state_dict` is also used for parts with their own code for loading, provided that the module can load its
    own state dict.

    Raises:
        InputError: the module has lost tensors, or its state dict has copies and can't be loaded.
    """
    if way is None:
        way = next(way for way in load_methods_of(module) if not way.in_training)
        if way != COPY_VALUES:
            with contextlib.suppress(InputError):
                load_into(module, skeleton, weights, way)
                return
        way = COPY_VALUES
    with torch.no_grad(), training_mode(module, way.in_training):
        state = tensors_of(module)
        if gone := [spec.name for spec in skeleton.tensors if spec.name not in state or state[spec.name].shape != spec.shape]:
            raise InputError(f"model: it has lost tensors, such as {listed(gone)}; let the loss leave its parts as they are")
        owned = {storage_place(tensor) for tensor in own_tensors(module)}
        live = all(storage_place(state[spec.name]) in owned for spec in skeleton.tensors if spec.count)
        if live and not way.by_state_dict:
            for spec in skeleton.tensors:
                state[spec.name].copy_(weights[spec.name])
            return
        whole = module.state_dict()  # not a new dictionary: the metadata of this one has version numbers, which modules read
        whole.update(skeleton.expand(weights))
        try:
            module.load_state_dict(whole)
        except Exception as error:
            text = error_line(error)
            raise InputError(f"model: its own state dict does not load back ({text:.160}); pass a mapping of tensors") from error


@dataclass(frozen=True)
class _Shown:
    """A hook for a module's state dict. It keeps only some of the tensors, with other names."""

    names: Mapping[str, str]

    def __call__(self, _: nn.Module, state: Mapping[str, Any], prefix: str, __: object) -> dict[str, Any]:
        return {shown: state[prefix + name] for name, shown in self.names.items()}


def show_only(module: nn.Module, names: Mapping[str, str]) -> None:
    """Make the module's state dict show only the tensors with these names, each with its new name.

    All other tensors then belong to the architecture, such as the network of an adapter.
    """
    module._register_state_dict_hook(_Shown(names))  # type: ignore[no-untyped-call]


def parameters_of(module: nn.Module, skeleton: Skeleton) -> list[tuple[str, nn.Parameter]]:
    """The module's parameters that require a gradient, by the first name of their tensor in the skeleton."""
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


def put_back(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Restore the values of the tensors that have changed, by name."""
    for name, value in values.items():
        tensor = tensors[name].detach()
        if not torch.equal(tensor, value.to(tensor.device)):
            # A tensor that was made in inference mode can be changed only in this mode.
            with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                tensor.copy_(value)


@contextlib.contextmanager
def left_as_it_was(network: nn.Module | Mapping[str, Tensor], argument: str = "weights") -> Iterator[Private]:
    """Copies of the network's tensors, under all names.

    At the end of the block, the network's own tensors have their old values.

    Yields:
        The copies.
    """
    live = as_read(tensors_of(network) if isinstance(network, nn.Module) else network)
    skeleton = skeleton_of(live, argument)
    values = {spec.name: live[spec.name].detach().clone() for spec in skeleton.tensors}
    try:
        yield Private(skeleton.expand(values))
    finally:
        put_back(live, values)


class Backup:
    """The content of a module: its tensors with values, dtypes and gradients, and the mode of each part."""

    def __init__(self, module: nn.Module) -> None:
        self._modes = [(part, part.training) for part in module.modules()]
        places: list[dict[str, Any]] = [held for part in module.modules() for held in (part._parameters, part._buffers)]
        self._places = [(held, dict(held)) for held in places]
        # A state dict may have tensors that are not registered, and the values may be there.
        tensors = {id(tensor): tensor for tensor in [*own_tensors(module), *tensors_of(module).values()]}.values()
        self._tensors = [_Tensor(tensor) for tensor in tensors if storage_place(tensor)]

    def restore(self) -> None:
        """Give the module back its modes, its parameters and buffers, and their values and gradients."""
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
    """A tensor of a module, with its memory and its values, and the same for its gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._data, self._value = tensor, tensor.data, tensor.detach().clone()
        self._leaf, self._wants_gradient = tensor.is_leaf, tensor.requires_grad
        self._gradient = None if not tensor.is_leaf or tensor.grad is None else _Tensor(tensor.grad)

    def restore(self) -> Tensor:
        self._data.copy_(self._value)
        if self._leaf:
            self._tensor.grad = None  # a gradient must have the dtype of the values
        if storage_key("", self._tensor) != storage_key("", self._data):
            self._tensor.data = self._data
        if self._leaf:
            self._tensor.requires_grad_(self._wants_gradient)
            self._tensor.grad = None if self._gradient is None else self._gradient.restore()
        return self._tensor


def has_gradient(tensor: Tensor) -> bool:
    """Whether autograd supports the dtype."""
    return tensor.is_floating_point() or tensor.is_complex()


def own_tensors(module: nn.Module) -> Sequence[Tensor]:
    """The parameters and buffers that a module registers, those of its parts too."""
    return [*module.parameters(), *module.buffers()]


def copied(module: nn.Module) -> nn.Module | None:
    """A copy that shares nothing with the module.

    The result is None if the module can't be copied, if its `__deepcopy__` returns the same object, or if the copy has other tensors. Keras
    has such a `__deepcopy__`: it builds the network again and gives the weights other names.
    """
    try:
        other = copy.deepcopy(module, _results(module))
    except Exception:
        return None
    mine, others = ([*one.modules()] for one in (module, other))  # kept alive, so that no two of them have the same id
    shared = {id(part) for part in mine} & {id(part) for part in others}
    state, of_copy = tensors_of(module), tensors_of(other)
    if {name: tensor.shape for name, tensor in state.items()} != {name: tensor.shape for name, tensor in of_copy.items()}:
        return None
    tensors, copies = [*own_tensors(module), *state.values()], [*own_tensors(other), *of_copy.values()]
    return None if shared or _storages(tensors) & _storages(copies) else other


def _storages(tensors: Sequence[Tensor]) -> set[tuple[torch.device, int]]:
    return {place for place in map(storage_place, tensors) if place is not None}


def copy_without_tensors(module: nn.Module) -> nn.Module:
    """A copy of everything except the tensors of the state dict, which stay the module's own. Copies of it are fresh modules."""
    return copy.deepcopy(module, _results(module) | {id(tensor): tensor for tensor in tensors_of(module).values()})


def _results(module: nn.Module) -> dict[int, Tensor]:
    """A memo for `deepcopy`, with copies of computed tensors, which `deepcopy` refuses. The old weight_norm has such a weight."""
    held = [value for part in module.modules() for owner in owners(part).values() for value in vars(owner).values()]
    values = [one for value in held for one in inside(value) if isinstance(one, Tensor)]
    return {id(value): value.detach().clone() for value in values if not value.is_leaf}


def settle(state: Mapping[str, Tensor], skeleton: Skeleton) -> None:
    """Prepare the tensors of a copied module for new values.

    Elements that share memory, as in an expanded buffer, get their own memory. `deepcopy` separates two parameters with one storage;
    they get one storage again.
    """
    for spec in skeleton.tensors:
        first = state[spec.name]
        if any(stride == 0 and extent > 1 for stride, extent in zip(first.stride(), first.shape, strict=True)):
            first.data = first.data.contiguous()
        for name in spec.names[1:]:
            if state[name].data_ptr() != first.data_ptr():
                state[name].data = first.data
