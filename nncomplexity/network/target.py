"""The argument of a loss, with candidate weights: a module or a dictionary of tensors.

A module is copied. If it can't be copied, the module itself is used.
"""

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nncomplexity.errors import InputError
from nncomplexity.network.attributes import Attributes, forget_cached_properties, retained_state
from nncomplexity.network.caches import Cache, caches, empty, is_filled
from nncomplexity.network.loading import COPY_VALUES, LoadMethod, load_methods_of
from nncomplexity.network.modulestate import (
    Backup,
    copied,
    copy_without_tensors,
    has_gradient,
    left_out,
    load_into,
    own_tensors,
    parameters_of,
    put_back,
    settle,
    tensors_of,
)
from nncomplexity.network.weights import Private, as_read, check_dense, check_whole, is_running_statistic, skeleton_of, stored_bytes

Leaves = list[tuple[str, Tensor]]
"""The tensors by which the loss is differentiated, each with the first name of its values. Two parameters with one storage share a name."""


class Target:
    """The argument of a loss. The methods of this class are those of a dictionary, which is new for each set of weights."""

    renewable = False
    """Whether the argument is a copy of a module, which can be replaced by a fresh copy."""
    opaque = False
    """Whether the state dict has entries that are not tensors, such as packed weights."""
    emptied: Collection[Cache] = ()
    """The attributes that are emptied whenever weights are loaded."""
    load_methods: tuple[LoadMethod, ...] = (COPY_VALUES,)
    """The ways to load weights. The first is used unless `renew` is given another."""

    def renew(self, way: LoadMethod | None = None) -> None:
        """Replace the module by a fresh copy of the original, if it can be copied."""

    def untouched(self) -> Any:
        """The module as the user gave it. This must be called before any weights are loaded."""
        raise NotImplementedError

    def tensors(self, given: Any) -> Mapping[str, Tensor]:
        """The tensors of an argument of a loss, by name. They are the tensors that the loss uses, not copies."""
        raise NotImplementedError

    def forget_between(self) -> None:
        """From now on, restore the present content of all parts whenever weights are loaded."""

    def caches(self) -> Collection[Cache]:
        """Attributes that may hold values computed from weights."""
        return ()

    def empty(self, found: Collection[Cache]) -> None:
        """From now on, empty these attributes whenever weights are loaded."""

    def is_filled(self, _: Cache) -> bool:
        """Whether the attribute has a value now."""
        return False

    def retained_state(self) -> Sequence[str]:
        """In words, how the attributes of parts differ from those of the user's module."""
        return ()

    def called_on(self) -> Sequence[nn.Module]:
        """The module that is the argument of losses, if there is one."""
        return ()

    @contextmanager
    def part_digests(self) -> Iterator[dict[str, list[int]]]:
        """Digests of the results of the module's parts within the block, by name."""
        yield {}

    def restore(self) -> None:
        """Restore a module that couldn't be copied, and the user's own tensors if a loss changed them."""


class ModuleTarget(Target):
    """A copy of a module, or the module itself if it can't be copied. One set of weights after another is loaded into it.

    Attributes:
        skeleton: the skeleton of the module's state dict.
        weights: the tensors of the state dict by first name, detached, on the CPU.
        devices: the devices of the tensors.
        left_out: other content of the module.
        differentiable: whether it is a copy. The user's own module is never used with autograd.
    """

    def __init__(self, module: nn.Module) -> None:
        for name, part in module.named_modules():
            check_whole(name or type(part).__name__, part, "model")
        inference = torch.is_inference_mode_enabled()
        # Tensors that are made in inference mode can never have a gradient.
        with torch.inference_mode(False):
            state = tensors_of(module)
            self.skeleton = skeleton_of(state)
            for name, parameter in module.named_parameters():  # the state dict may have the parts of a quantized tensor instead
                check_dense(name, parameter, "model")
            self.weights = {spec.name: state[spec.name].detach().cpu().clone() for spec in self.skeleton.tensors}
            self.devices = [state[spec.name].device for spec in self.skeleton.tensors]
            self.left_out = left_out(module)
            self.opaque = any(name not in state for name in module.state_dict(keep_vars=True))
            copy = copied(module)
            if copy is None and not inference and any(tensor.is_inference() for tensor in own_tensors(module)):
                raise InputError(
                    "model: it can't be copied, and its tensors can be changed only in torch.inference_mode; pass a mapping"
                )
            self._given = module
            self._caches = caches(module)
            self._pristine = None if copy is None else copy_without_tensors(module)
            self._module = module if copy is None else self._prepared(copy)
            self._backup = Backup(module) if copy is None else None
            self._attributes = Attributes(module) if copy is None else None
            self.differentiable = copy is not None
            self.renewable = self.differentiable
            self.load_methods = load_methods_of(module)
            self._load_method = self.load_methods[0]

    def renew(self, way: LoadMethod | None = None) -> None:
        """Replace the copy by a fresh copy of the user's module, if it can be copied."""
        self._load_method = way or self._load_method
        if self._pristine is None:
            return
        vars(self).pop("_module", None)  # before the next copy is made, so that there are never two
        with torch.inference_mode(False):
            copy = copied(self._pristine)
            if copy is None:
                raise InputError("model: it can't be copied again; pass a mapping of tensors")
            self._module = self._prepared(copy)
            if self._attributes is not None:
                self.forget_between()

    def untouched(self) -> nn.Module:
        """The user's module, or a copy of it, before any weights are loaded."""
        if self._attributes is not None:
            self._attributes.restore()
        return self._module

    def tensors(self, given: nn.Module) -> dict[str, Tensor]:
        """The tensors of the module's state dict."""
        return tensors_of(given)

    def forget_between(self) -> None:
        """From now on, restore the present content of all parts whenever weights are loaded."""
        self._attributes = Attributes(self._module)

    def load(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The module with these weights, by first name."""
        if self._attributes is not None:
            self._attributes.restore()
        empty(self._module, self.emptied)
        # A forward pass may have replaced buffers, so the state is looked up again.
        load_into(self._module, self.skeleton, weights, self._load_method)
        return self._module

    def leaves(self, weights: Mapping[str, Tensor]) -> tuple[nn.Module, Leaves]:
        """The module with these weights, and its parameters, each with the first name of its tensor."""
        return self.load(weights), [*parameters_of(self._module, self.skeleton)]

    def spare_buffers(self) -> bool:
        """False: the buffers of a module never require a gradient, so there is nothing to change."""
        return False

    def retained_state(self) -> list[str]:
        """In words, how the attributes of the copy's parts differ from those of the user's module."""
        return [] if self._pristine is None else retained_state(self._pristine, self._module)

    def caches(self) -> list[Cache]:
        """Attributes of the module that may hold values computed from weights."""
        return self._caches

    def empty(self, found: Collection[Cache]) -> None:
        """From now on, empty these attributes whenever weights are loaded."""
        self.emptied = found

    def is_filled(self, cache: Cache) -> bool:
        """Whether a part of the module has a value in the attribute now."""
        return is_filled(self._module, cache)

    def called_on(self) -> list[nn.Module]:
        """A list of the copy, or of the module itself."""
        return [self._module]

    @contextmanager
    def part_digests(self) -> Iterator[dict[str, list[int]]]:
        """Digests of each part's results within the block, by the part's name."""
        given: dict[str, list[int]] = {}

        def listening(name: str) -> Callable[[nn.Module, object, object], None]:
            def listen(_: nn.Module, __: object, outputs: object) -> None:
                digests = [zlib.crc32(stored_bytes(one).data) for one in tree_leaves(outputs) if isinstance(one, Tensor)]
                given.setdefault(name, []).extend(digests)

            return listen

        handles = [part.register_forward_hook(listening(name)) for name, part in self._module.named_modules()]
        try:
            yield given
        finally:
            for handle in handles:
                handle.remove()

    def restore(self) -> None:
        """Restore the user's module: all of its content if the module itself was used, and the values of its tensors if it was copied."""
        if self._backup and self._attributes:
            try:
                if self._load_method != COPY_VALUES:  # the parts computed their values from other weights
                    self.load(self.weights)
            finally:
                self._attributes.give_back()
                self._backup.restore()
        else:
            put_back(tensors_of(self._given), self.weights)

    def _prepared(self, copy: nn.Module) -> nn.Module:
        settle(tensors_of(copy), self.skeleton)
        # The search needs the gradients of frozen parameters too. The copy has its own flags, so the user's module stays frozen.
        for parameter in copy.parameters():
            parameter.requires_grad_(has_gradient(parameter))
            parameter.grad = None
        forget_cached_properties(copy)
        return copy


class MappingTarget(Target):
    """A mapping of tensors as the argument of a loss.

    The tensors are copied, because the loss may change the caller's own tensors.
    """

    differentiable = True
    left_out: tuple[str, ...] = ()

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        private, weights = isinstance(weights, Private), as_read(weights)
        self.skeleton = skeleton_of(weights)
        self._device_of = {spec.name: weights[spec.name].device for spec in self.skeleton.tensors}
        self._given = {} if private else {spec.name: weights[spec.name] for spec in self.skeleton.tensors}
        self.weights = {spec.name: weights[spec.name].detach().to("cpu", copy=not private) for spec in self.skeleton.tensors}
        self._spared: set[str] = set()

    @property
    def devices(self) -> list[torch.device]:
        """The device of each tensor."""
        return list(self._device_of.values())

    def load(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A new dictionary with copies of these weights, on the devices of the original ones."""
        # A copy, so that a loss that changes its argument does not change these weights.
        return self.skeleton.expand({name: _copied(weights[name], device) for name, device in self._device_of.items()})

    def untouched(self) -> dict[str, Tensor]:
        """A new dictionary with copies of the original weights."""
        return self.load(self.weights)

    def tensors(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """The dictionary itself."""
        return given

    def leaves(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Leaves]:
        """A new dictionary with copies of these weights, and the tensors in it that require a gradient."""
        loaded = {name: _copied(weights[name], device).detach_() for name, device in self._device_of.items()}
        leaves = [(name, tensor) for name, tensor in loaded.items() if has_gradient(tensor) and name not in self._spared]
        for _, tensor in leaves:
            tensor.requires_grad_()
        return self.skeleton.expand(loaded), leaves

    def spare_buffers(self) -> bool:
        """From now on, require no gradient for running statistics, which are recognised by their names. False if this changes nothing."""
        named = {spec.name for spec in self.skeleton.tensors if is_running_statistic(spec.name)}
        news = bool(named - self._spared)
        self._spared |= named
        return news

    def restore(self) -> None:
        """Give the user's own tensors their values again, if a loss changed them."""
        put_back(self._given, {name: self.weights[name] for name in self._given})


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy of a tensor on a device. `clone` is the quickest way, and there may be thousands of tensors for each evaluation."""
    return tensor.clone() if tensor.device == device else tensor.to(device)
