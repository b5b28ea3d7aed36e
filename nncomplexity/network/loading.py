"""Ways to put weights into a module so that its parts use them.

Copying values into a module's tensors is quick and exact. But some parts keep values that they computed from their weights, such as
folded factors, merged adapters or the caches of a Gaussian process. Such a part doesn't notice the copy, and goes on with its old values.
Many of these parts clear the old values when a state dict is loaded, or in `train()`. The others are found by their attributes outside the
state dict.
"""

import copy
import functools
import types
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LoadMethod:
    """A way to put weights into a module.

    Attributes:
        by_state_dict: whether `load_state_dict` is used, for parts that have their own code for loading.
        in_training: whether `train()` is called first, in which parts may clear computed values. Modes are restored after loading.
    """

    by_state_dict: bool = False
    in_training: bool = False


COPY_VALUES = LoadMethod()


def load_methods_of(module: nn.Module) -> tuple[LoadMethod, ...]:
    """The ways to put weights into a module, the most thorough first.

    The last one only copies values. It is the only one if all parts are PyTorch's own.
    """
    parts = list(module.modules())
    listening = any(_is_own(part, "_load_from_state_dict") or _is_own(part, "load_state_dict") or _hooked(part) for part in parts)
    in_training = any(_is_own(part, "train") for part in parts)
    ways = [LoadMethod(one, other) for one in (True, False) for other in (True, False)]
    return tuple(way for way in ways if way.by_state_dict <= listening and way.in_training <= in_training)


def _is_own(part: nn.Module, method: str) -> bool:
    """Whether a part overrides a method of PyTorch."""
    owner = next(kind for kind in type(part).__mro__ if method in vars(kind))
    return method in vars(part) or not owner.__module__.startswith("torch.")


def _hooked(part: nn.Module) -> bool:
    hooks = [*part._load_state_dict_pre_hooks.values(), *part._load_state_dict_post_hooks.values()]
    # PyTorch puts some hooks into an object of its own, which has the user's function as `hook`.
    return any(not str(getattr(getattr(hook, "hook", hook), "__module__", None)).startswith("torch.") for hook in hooks)


@contextmanager
def training_mode(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Call `train()` on the module, if wanted, and then restore the modes of its parts.

    Modes are restored one by one, because `train(False)` would merge again what `train()` took apart.
    """
    modes = [(part, part.training) for part in module.modules()] if wanted else []
    if wanted:
        # Some modules, such as LoRA layers, merge weights in eval mode, and take new weights only in training mode.
        module.train()
    yield
    for part, training in modes:
        part.training = training


class Attributes:
    """A record of the attributes of a module's parts. Restoring it removes whatever a call of the loss left there.

    Modes aren't restored. Cached properties are computed again. Lists and dictionaries are replaced by copies until `give_back`, so
    additions to them are removed too. The same holds for the attributes of objects of the module's own package. Changes inside other
    objects aren't noticed.
    """

    def __init__(self, module: nn.Module) -> None:
        self._held: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._contents: list[tuple[dict[str, Any], str, Any]] = []
        self._not_saved: list[tuple[set[str], set[str]]] = []
        seen: set[int] = set()
        for part in module.modules():
            if isinstance(part, torch.jit.ScriptModule):
                continue
            # PyTorch forgets that a buffer isn't saved when the buffer is deleted.
            self._not_saved.append((part._non_persistent_buffers_set, set(part._non_persistent_buffers_set)))
            # Cached properties are computed from weights, so they must not survive a change of the weights.
            cached = _cached_properties(part)
            for owner in owners(part).values():
                attributes = vars(owner)
                if id(attributes) not in seen:  # parts often share an object, such as a configuration
                    seen.add(id(attributes))
                    self._record(attributes, {name: value for name, value in attributes.items() if name not in cached})
            registered: tuple[dict[str, Any], ...] = (part._parameters, part._buffers, part._modules)
            self._held += [(held, dict(held)) for held in registered]

    def _record(self, attributes: dict[str, Any], kept: dict[str, Any]) -> None:
        self._held.append((attributes, kept))
        containers = [name for name, value in kept.items() if type(value) in (dict, list) and name not in _PYTORCHS]
        self._contents += [(attributes, name, _container_copy(kept[name])) for name in containers]

    def restore(self) -> None:
        """Restore the content of the parts."""
        self._put_back()
        for held, name, content in self._contents:
            held[name] = _container_copy(content)

    def give_back(self) -> None:
        """Give the parts the same objects as before, with their content."""
        self._put_back()
        for held, name, content in self._contents:
            held[name].clear()
            (held[name].update if isinstance(content, dict) else held[name].extend)(content)

    def _put_back(self) -> None:
        for held, kept in self._held:
            if "training" in kept and "training" in held:
                kept["training"] = held["training"]
            # Most dictionaries are unchanged. Comparing is cheaper than filling them again before each evaluation.
            if len(held) != len(kept) or not all(map(is_, held.values(), kept.values())):
                held.clear()
                held.update(kept)
        for names, before in self._not_saved:
            names.clear()
            names.update(before)


def _container_copy(value: Any) -> Any:
    """A copy of a list or a dictionary, and of those in it. Everything else in it is the same object."""
    if type(value) is dict:
        return {key: _container_copy(one) for key, one in value.items()}
    return [_container_copy(one) for one in value] if type(value) is list else value


def owners(part: nn.Module) -> dict[str, Any]:
    """The objects whose attributes belong to a part: the part itself, and objects of its own package in its attributes.

    Each has the beginning of its attributes' names as key: "" for the part, "memo." for the object in the attribute `memo`.
    """
    found: dict[str, Any] = {"": part}
    package = _package(part)
    waiting = [("", vars(part), _LEVELS)]
    while waiting:
        prefix, attributes, levels = waiting.pop()
        for name, value in attributes.items() if levels else ():
            plain = hasattr(value, "__dict__") and not isinstance(value, nn.Module | Tensor | type) and not callable(value)
            if plain and (_package(value) == package or type(value) is types.SimpleNamespace) and _is_new(value, found):
                found[f"{prefix}{name}."] = value
                waiting.append((f"{prefix}{name}.", vars(value), levels - 1))
    return found


def _package(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def _is_new(value: object, found: Mapping[str, object]) -> bool:
    return not any(value is other for other in found.values())


def forget_cached_properties(module: nn.Module) -> None:
    """Remove cached properties. They are computed again when they are needed."""
    for part in module.modules():
        for name in _cached_properties(part):
            del vars(part)[name]


def _cached_properties(part: nn.Module) -> list[str]:
    return [name for name in vars(part) if name not in _PYTORCHS and isinstance(_of_class(part, name), functools.cached_property)]


def _of_class(part: nn.Module, name: str) -> object:
    return next((vars(kind)[name] for kind in type(part).__mro__ if name in vars(kind)), None)


_PYTORCHS = frozenset(vars(nn.Module()))
_LEVELS = 2
"""An object in an attribute of a part is looked into, and an object in it too."""
_NESTED = 3
"""The number of levels of lists, tuples and dictionaries that are looked into."""


def retained_state(before: nn.Module, after: nn.Module) -> list[str]:
    """In words, the attributes that differ from an earlier copy of the module, except the tensors of the state dict."""
    found = []
    for (name, old), new in zip(before.named_modules(), after.modules(), strict=False):
        olds, news = _all_besides(old), _all_besides(new)
        keys = [key for key in {**olds, **news} if _differ(olds.get(key), news.get(key))]
        found += [f"{name or 'it'} ({type(new).__name__}) keeps {key!r}" for key in keys]
    return found


class Emptying(Enum):
    """A way to empty an attribute, so that a part computes its value again."""

    NONE = "none"
    """It is set to None; a list or a dictionary is emptied."""
    GONE = "gone"
    """It is deleted."""
    SHAPELESS = "shapeless"
    """A tensor or an array gets no elements; a list or a dictionary is set to None."""


@dataclass(frozen=True)
class Cache:
    """An attribute of a class of parts that may hold values computed from weights.

    Attributes:
        kind: the class of the parts.
        name: the name of the attribute, with dots if it belongs to an object in an attribute.
        way: how it is emptied.
    """

    kind: type
    name: str
    way: Emptying = Emptying.NONE

    def values(self, module: nn.Module) -> Iterator[tuple[Any, str, Any]]:
        """For each part that has the attribute: the object that it belongs to, its name there, and its value."""
        prefix, _, name = self.name.rpartition(".")
        for part in module.modules():
            if type(part) is self.kind:
                owner = owners(part).get(f"{prefix}.") if prefix else part
                held = {} if owner is None else _besides(part) if owner is part else vars(owner)
                if held.get(name) is not None:
                    yield owner, name, held[name]


def caches(module: nn.Module) -> list[Cache]:
    """Attributes that may be caches.

    They hold floating-point numbers outside the state dict, in parts with weights that aren't PyTorch's own: tensors, arrays, containers of
    these, and in parts with parameters of their own also a Python number.
    """
    found = []
    for part in module.modules():
        if type(part).__module__.startswith("torch.") or next(part.parameters(), None) is None:
            continue
        own = any(parameter is not None for parameter in part._parameters.values())
        for name, value in _all_besides(part).items():
            if _has_floats(value) or (own and type(value) is float and not value.is_integer()):
                found.append(Cache(type(part), name))
    return list(dict.fromkeys(found))


def empty(module: nn.Module, found: Collection[Cache]) -> None:
    """Empty these attributes, each in its own way."""
    for cache in found:
        for owner, name, value in [*cache.values(module)]:
            if cache.way == Emptying.GONE:
                delattr(owner, name)
            else:
                setattr(owner, name, _emptied(value, cache.way))


def _emptied(value: Any, way: Emptying) -> Any:
    if isinstance(value, dict | list):
        if way == Emptying.SHAPELESS:
            return None
        value = copy.copy(value)
        value.clear()
        return value
    if way == Emptying.SHAPELESS and isinstance(value, Tensor):
        return value.detach().new_empty(0)
    return np.empty(0, value.dtype) if way == Emptying.SHAPELESS and isinstance(value, np.ndarray) else None


def is_filled(module: nn.Module, cache: Cache) -> bool:
    """Whether a part has a value in the attribute."""
    return any(
        bool(value.size if isinstance(value, np.ndarray) else value.numel())
        if isinstance(value, np.ndarray | Tensor)
        else bool(value) or not isinstance(value, dict | list)
        for _, _, value in cache.values(module)
    )


def _has_floats(value: object) -> bool:
    return any(
        one.is_floating_point() or one.is_complex() if isinstance(one, Tensor) else one.dtype.kind in "fc"
        for one in inside(value)
        if isinstance(one, Tensor | np.ndarray)
    )


def inside(value: object, levels: int = _NESTED) -> list[Any]:
    """The value itself, or the entries of a list, a tuple or a dictionary, and of those in it."""
    if not levels or not isinstance(value, Mapping | list | tuple):
        return [value]
    entries = value.values() if isinstance(value, Mapping) else value
    return [one for entry in entries for one in inside(entry, levels - 1)]


def _all_besides(part: nn.Module) -> dict[str, Any]:
    """The attributes of a part, and of objects of its package in them, that are neither PyTorch's own nor in the state dict."""
    if isinstance(part, torch.jit.ScriptModule):
        return {}
    others = {f"{prefix}{name}": value for prefix, owner in owners(part).items() if prefix for name, value in vars(owner).items()}
    return {**_besides(part), **others}


def _besides(part: nn.Module) -> dict[str, Any]:
    """The attributes of a part itself that are neither PyTorch's own nor in the state dict."""
    if isinstance(part, torch.jit.ScriptModule):
        return {}
    held = {key: value for key, value in vars(part).items() if key not in _PYTORCHS}
    return held | {name: part._buffers.get(name) for name in part._non_persistent_buffers_set}


def _differ(old: object, new: object) -> bool:
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return old.shape != new.shape or old.dtype != new.dtype or not torch.equal(old.detach(), new.detach().to(old.device))
    if isinstance(old, Tensor) or isinstance(new, Tensor) or type(old) is not type(new):
        return True
    if isinstance(new, np.ndarray):
        return not np.array_equal(old, new)  # type: ignore[arg-type]
    if isinstance(new, bool | int | float | str):
        return bool(old != new)
    return isinstance(old, dict | list | set | tuple) and isinstance(new, dict | list | set | tuple) and len(old) != len(new)
