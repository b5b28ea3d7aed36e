"""The attributes of a module's parts: what they hold besides the state dict, and their values as they were before a call of the loss."""

import functools
import types
from collections.abc import Mapping
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PYTORCHS = frozenset(vars(nn.Module()))
_LEVELS = 2
"""An object in an attribute of a part is looked into, and an object in it too."""
_NESTED = 3
"""The number of levels of lists, tuples and dictionaries that are looked into."""


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


def retained_state(before: nn.Module, after: nn.Module) -> list[str]:
    """In words, the attributes that differ from an earlier copy of the module, except the tensors of the state dict."""
    found = []
    for (name, old), new in zip(before.named_modules(), after.modules(), strict=False):
        olds, news = all_besides(old), all_besides(new)
        keys = [key for key in {**olds, **news} if _differ(olds.get(key), news.get(key))]
        found += [f"{name or 'it'} ({type(new).__name__}) keeps {key!r}" for key in keys]
    return found


def inside(value: object, levels: int = _NESTED) -> list[Any]:
    """The value itself, or the entries of a list, a tuple or a dictionary, and of those in it."""
    if not levels or not isinstance(value, Mapping | list | tuple):
        return [value]
    entries = value.values() if isinstance(value, Mapping) else value
    return [one for entry in entries for one in inside(entry, levels - 1)]


def all_besides(part: nn.Module) -> dict[str, Any]:
    """The attributes of a part, and of objects of its package in them, that are neither PyTorch's own nor in the state dict."""
    if isinstance(part, torch.jit.ScriptModule):
        return {}
    others = {f"{prefix}{name}": value for prefix, owner in owners(part).items() if prefix for name, value in vars(owner).items()}
    return {**besides(part), **others}


def besides(part: nn.Module) -> dict[str, Any]:
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
