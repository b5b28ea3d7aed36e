"""Ways to put weights into a module so that its parts use them.

Copying values into a module's tensors is quick and exact. But some parts keep values that they computed from their weights, such as
folded factors, merged adapters or the caches of a Gaussian process. Such a part doesn't notice the copy, and goes on with its old values.
Many of these parts clear the old values when a state dict is loaded, or in `train()`. The others are found by their attributes outside the
state dict.
"""

import functools
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import is_
from typing import Any

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
    additions to them are removed too. Changes inside other objects aren't noticed.
    """

    def __init__(self, module: nn.Module) -> None:
        parts = [part for part in module.modules() if not isinstance(part, torch.jit.ScriptModule)]
        self._held: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._contents: list[tuple[dict[str, Any], str, Any]] = []
        for part in parts:
            # Cached properties are computed from weights, so they must not survive a change of the weights.
            cached = _cached_properties(part)
            kept = {name: value for name, value in vars(part).items() if name not in cached}
            registered: tuple[dict[str, Any], ...] = (part._parameters, part._buffers, part._modules)
            self._held += [(vars(part), kept), *((held, dict(held)) for held in registered)]
            containers = [name for name, value in kept.items() if type(value) in (dict, list) and name not in _PYTORCHS]
            self._contents += [(vars(part), name, kept[name].copy()) for name in containers]

    def restore(self) -> None:
        """Restore the content of the parts."""
        self._put_back()
        for held, name, content in self._contents:
            held[name] = content.copy()

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


def retained_state(before: nn.Module, after: nn.Module) -> list[str]:
    """In words, the attributes that differ from an earlier copy of the module, except the tensors of the state dict."""
    found = []
    for (name, old), new in zip(before.named_modules(), after.modules(), strict=False):
        olds, news = _besides(old), _besides(new)
        keys = [key for key in {**olds, **news} if _differ(olds.get(key), news.get(key))]
        found += [f"{name or 'it'} ({type(new).__name__}) keeps {key!r}" for key in keys]
    return found


@dataclass(frozen=True)
class Cache:
    """An attribute of a class of parts that may hold values computed from weights.

    To empty it means to set it to None, to set it to an empty container, or to delete it (`gone`).
    """

    kind: type
    name: str
    gone: bool = False


def caches(module: nn.Module) -> list[Cache]:
    """Attributes that may be caches.

    They hold floating-point tensors outside the state dict, in parts with weights that aren't PyTorch's own.
    """
    found = [
        Cache(type(part), name)
        for part in module.modules()
        if not type(part).__module__.startswith("torch.") and next(part.parameters(), None) is not None
        for name, value in _besides(part).items()
        if any(isinstance(one, Tensor) and one.is_floating_point() for one in inside(value))
    ]
    return list(dict.fromkeys(found))


def empty(module: nn.Module, found: Collection[Cache]) -> None:
    """Empty these attributes."""
    for part in module.modules() if found else ():
        for cache in found:
            if type(part) is cache.kind and (value := _besides(part).get(cache.name)) is not None:
                if cache.gone:
                    delattr(part, cache.name)
                else:
                    setattr(part, cache.name, type(value)() if isinstance(value, dict | list) else None)


def inside(value: object) -> list[Any]:
    """The tensor, or the entries of a list or a dictionary."""
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else [value]


def _besides(part: nn.Module) -> dict[str, Any]:
    """The attributes of a part that are neither PyTorch's own nor in the state dict."""
    if isinstance(part, torch.jit.ScriptModule):
        return {}
    held = {key: value for key, value in vars(part).items() if key not in _PYTORCHS}
    return held | {name: part._buffers.get(name) for name in part._non_persistent_buffers_set}


def _differ(old: object, new: object) -> bool:
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return old.shape != new.shape or old.dtype != new.dtype or not torch.equal(old.detach(), new.detach().to(old.device))
    if isinstance(old, Tensor) or isinstance(new, Tensor) or type(old) is not type(new):
        return True
    if isinstance(new, bool | int | float | str):
        return bool(old != new)
    return isinstance(old, dict | list | set | tuple) and isinstance(new, dict | list | set | tuple) and len(old) != len(new)
