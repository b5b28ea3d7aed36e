"""A module as named tensors that can be exchanged: what its state dict says, and where its values really live.

A state dict's tensors are most often the module's own parameters and buffers, into which values are copied. Hooks may put others there,
copies in another dtype for instance; values then go back by `load_state_dict`, whose hooks know the way.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.weights import Skeleton, check_whole, skeleton_of, storage_key


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of the module's state dict, live; entries which are no tensors (extra state) stay the architecture's."""
    return {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def left_out(module: nn.Module) -> tuple[str, ...]:
    """What the module holds besides, and keeps: entries of its state dict that are no tensors, and buffers that aren't in it."""
    state = module.state_dict(keep_vars=True)
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    held = {id(value) for value in state.values()}
    return (*others, *(name for name, buffer in module.named_buffers() if name not in state and id(buffer) not in held))


def load_into(module: nn.Module, skeleton: Skeleton, weights: Mapping[str, Tensor]) -> None:
    """Give the module the values of `weights`, by first name: in place, or by `load_state_dict` where its state dict holds copies."""
    state = tensors_of(module)
    owned = {tensor.untyped_storage().data_ptr() for tensor in _own(module)}
    live = all(state[spec.name].untyped_storage().data_ptr() in owned for spec in skeleton.tensors if spec.count)
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
        state = tensors_of(module)
        self.skeleton = skeleton_of(state)
        self.weights = {spec.name: state[spec.name].detach().cpu().clone() for spec in self.skeleton.tensors}
        self.devices = [state[spec.name].device for spec in self.skeleton.tensors]
        self.left_out = left_out(module)
        self._before: list[tuple[Tensor, Tensor]] = []
        try:
            self._module = copy.deepcopy(module, _results(module))
        except Exception:
            self._module = module
            self._before = [(tensor, tensor.detach().clone()) for tensor in _own(module)]
        self.differentiable = self._module is not module
        if self.differentiable:
            _settle(tensors_of(self._module), self.skeleton)
            for parameter in self._module.parameters():
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
        """Give a module that couldn't be copied its own values back."""
        with torch.no_grad():
            for tensor, value in self._before:
                tensor.copy_(value)


def has_gradient(tensor: Tensor) -> bool:
    """Whether autograd takes the dtype."""
    return tensor.is_floating_point() or tensor.is_complex()


def _own(module: nn.Module) -> Sequence[Tensor]:
    return [*module.parameters(), *module.buffers()]


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
