"""Attributes that may hold values computed from weights, and how to empty them, so that their parts compute the values again."""

import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from torch import Tensor, nn

from nncomplexity.network.attributes import all_besides, besides, inside, owners


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
        number: whether its value is a Python number.
    """

    kind: type
    name: str
    way: Emptying = Emptying.NONE
    number: bool = False

    def values(self, module: nn.Module) -> Iterator[tuple[Any, str, Any]]:
        """For each part that has the attribute: the object that it belongs to, its name there, and its value."""
        prefix, _, name = self.name.rpartition(".")
        for part in module.modules():
            if type(part) is self.kind:
                owner = owners(part).get(f"{prefix}.") if prefix else part
                held = {} if owner is None else besides(part) if owner is part else vars(owner)
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
        for name, value in all_besides(part).items():
            number = own and name in vars(part) and type(value) is float and not value.is_integer()
            if number or _has_floats(value):
                found.append(Cache(type(part), name, number=number))
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
