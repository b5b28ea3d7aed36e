"""What a loss is called on: a module, copied or where that can't be used in place, or a dictionary of tensors, with candidate weights."""

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nncomplexity.errors import InputError
from nncomplexity.network.loading import (
    COPY_VALUES,
    Attributes,
    Cache,
    LoadMethod,
    caches,
    empty,
    forget_cached_properties,
    load_methods_of,
    retained_state,
)
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
from nncomplexity.network.weights import Private, as_read, check_dense, check_whole, skeleton_of, stored_bytes

Leaves = list[tuple[str, Tensor]]
"""Tensors to differentiate by, each under the first name of what it holds; two parameters of one storage have one name."""


class Target:
    """What a loss is called on. Where it is made anew for each set of weights, as a dictionary is, nothing can be left from others."""

    renewable = False
    """Whether it is a copy of a module, so that there can be a fresh one."""
    opaque = False
    """Whether its state dict has entries that are no tensors, as packed weights are."""
    load_methods: tuple[LoadMethod, ...] = (COPY_VALUES,)
    """By which weights may be put in; the first unless `renew` names another."""

    def renew(self, way: LoadMethod | None = None) -> None:
        """A copy of the module as it was handed over, in place of the one that losses have seen, if it can be copied."""

    def untouched(self) -> Any:
        """The module as it was handed over; to be asked for before weights are put into it."""
        raise NotImplementedError

    def forget_between(self) -> None:
        """From now on what parts hold is put back to what they held at first whenever weights are put in."""

    def caches(self) -> Collection[Cache]:
        """Attributes that may hold what was computed from weights."""
        return ()

    def empty(self, found: Collection[Cache]) -> None:
        """From now on there is nothing in these whenever weights are put in."""

    def retained_state(self) -> Sequence[str]:
        """What parts hold otherwise than when the module was handed over, in words."""
        return ()

    def called_on(self) -> Sequence[nn.Module]:
        """The module that losses are called on, if there is one."""
        return ()

    @contextmanager
    def part_digests(self) -> Iterator[dict[str, list[int]]]:
        """Digests of what the module's parts give within the block, by name, as they come."""
        yield {}

    def restore(self) -> None:
        """Give a module that couldn't be copied back what it held, and the user's own tensors their values, if a loss changed them."""


class ModuleTarget(Target):
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
            self.opaque = any(name not in state for name in module.state_dict(keep_vars=True))
            copy = copied(module)
            if copy is None and not inference and any(tensor.is_inference() for tensor in own_tensors(module)):
                raise InputError(
                    "model: it can't be copied, and its tensors, made in torch.inference_mode, can be changed only there; pass a mapping"
                )
            self._given = module
            self._emptied: Collection[Cache] = ()
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
        """Make a fresh copy of the module as it was handed over, where it can be copied."""
        self._load_method = way or self._load_method
        if self._pristine is None:
            return
        vars(self).pop("_module", None)  # before there is another: at no time are there two
        with torch.inference_mode(False):
            copy = copied(self._pristine)
            if copy is None:
                raise InputError("model: it can't be copied again; pass a mapping of tensors")
            self._module = self._prepared(copy)
            if self._attributes is not None:
                self.forget_between()

    def untouched(self) -> nn.Module:
        """The module as it was handed over, or as its copy was made."""
        if self._attributes is not None:
            self._attributes.restore()
        return self._module

    def forget_between(self) -> None:
        """Put back, whenever weights are put in, what the parts hold now."""
        self._attributes = Attributes(self._module)

    def load(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The module, holding these weights by first name."""
        if self._attributes is not None:
            self._attributes.restore()
        empty(self._module, self._emptied)
        # A forward pass may have put other tensors in the place of buffers, which is why the state is looked up anew.
        load_into(self._module, self.skeleton, weights, self._load_method)
        return self._module

    def leaves(self, weights: Mapping[str, Tensor]) -> tuple[nn.Module, Leaves]:
        """The module, holding these weights, and its parameters under the first names of what they hold."""
        return self.load(weights), [*parameters_of(self._module, self.skeleton)]

    def spare_buffers(self) -> bool:
        """A module's buffers are no leaves to begin with."""
        return False

    def retained_state(self) -> list[str]:
        """What parts of the copy hold otherwise than those of the module that was handed over."""
        return [] if self._pristine is None else retained_state(self._pristine, self._module)

    def caches(self) -> list[Cache]:
        """Attributes of the module that may hold what was computed from weights."""
        return self._caches

    def empty(self, found: Collection[Cache]) -> None:
        """Empty these attributes whenever weights are put in."""
        self._emptied = found

    def called_on(self) -> list[nn.Module]:
        """The copy, or the module itself."""
        return [self._module]

    @contextmanager
    def part_digests(self) -> Iterator[dict[str, list[int]]]:
        """Digests of what each part gives within the block, by its name."""
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
        """Give a module that was borrowed back what it held, and the tensors of one that was copied their values."""
        if self._backup and self._attributes:
            try:
                if self._load_method != COPY_VALUES:  # what parts have computed is of other weights
                    self.load(self.weights)
            finally:
                self._attributes.give_back()
                self._backup.restore()
        else:
            put_back(tensors_of(self._given), self.weights)

    def _prepared(self, copy: nn.Module) -> nn.Module:
        settle(tensors_of(copy), self.skeleton)
        for parameter in copy.parameters():
            parameter.requires_grad_(has_gradient(parameter))
            parameter.grad = None
        forget_cached_properties(copy)
        return copy


class MappingTarget(Target):
    """A mapping of tensors as what the closure gets; copied, since the caller's may be those of a module that the closure loads into."""

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
        # A copy, so that a closure which changes its argument changes nobody's weights.
        return self.skeleton.expand({name: weights[name].to(device, copy=True) for name, device in self._device_of.items()})

    def untouched(self) -> dict[str, Tensor]:
        """A new dictionary with copies of the original weights."""
        return self.load(self.weights)

    def leaves(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Leaves]:
        """A new dictionary with copies of these weights, and those of them that a gradient is taken by."""
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
        """Give the user's own tensors their values again, if a loss changed them."""
        put_back(self._given, {name: self.weights[name] for name in self._given})
