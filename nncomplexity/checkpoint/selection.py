"""Selects the state dict in a training loop's dictionary that is the network: the named one, or the only likely one."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nncomplexity.errors import InputError
from nncomplexity.words import listed

TOP = "."
"""The key that stands for the whole dictionary, instead of a dictionary in it."""

_NETWORK = frozenset(
    f"{name}{ending}"
    for name in ("model", "net", "network", "module")
    for ending in ("", "_state_dict", "_state", "_dict", "_weights", "_params")
) | {"state_dict", "state", "weights", "params"}
"""The usual names of the network in training loops. An average of the weights (`ema`) is chosen only if there is no other."""
_OPTIMIZER = re.compile(r"optim|(^|_)opt(_|\d|$)")
_NO_NETWORK = re.compile(
    rf"{_OPTIMIZER.pattern}|sched|scaler|rng|random_state|^(callbacks|loops|hparams|hyper_parameters)$|_extra_state$"
)
_LISTED = 8
"""The largest number of names in a message."""

_Path = tuple[str, ...]


class OptimizerError(InputError):
    """The file has the state of an optimizer and no network."""


@dataclass(frozen=True)
class Selection:
    """The state dict that was chosen."""

    key: str | None
    """Its dotted path; None for the whole dictionary."""
    state: Mapping[Any, Any]
    guessed: bool
    """Whether a rule chose it, and not the caller."""
    others: tuple[str, ...] = ()
    """The keys of the other state dicts."""


def select(content: object, key: str | None, where: str) -> Selection:
    """The state dict that `key` names; without a key, the only likely one.

    A dictionary of tensors that has no other dictionary of tensors in it is the state dict. Otherwise it is the one nested dictionary with a
    usual name (`state_dict`, `model_state_dict`, `model`, `net`, ...), or the only one with tensors. A dictionary of an optimizer, a
    scheduler or a random state is never chosen.

    Args:
        content: the content of the file.
        key: a dotted path; "." is the whole dictionary.
        where: the file's name, for messages.

    Raises:
        InputError: there is no state dict, there are several likely ones, or there is none under `key`.
        OptimizerError: there is only the state of an optimizer.

    >>> import torch
    >>> weights = {"weight": torch.eye(2)}
    >>> chosen = select({"epoch": 3, "model": weights, "ema": weights.copy(), "optimizer": {"step": torch.ones(2)}}, None, "net.pt")
    >>> chosen.key, chosen.guessed, chosen.others
    ('model', True, ('ema',))
    """
    if not isinstance(content, Mapping):
        raise InputError(
            f"{where}: expected a state dict or a dictionary with one in it, got {_kind(content)}; save model.state_dict()"
        )
    found = dict(_state_dicts(content))
    if key is not None:
        return _named(content, key, where, found)
    likely = [path for path in found if path and all(name in _NETWORK for name in path)]
    choice = likely if len(likely) == 1 else list(found)
    if not choice:
        came = listed(map(str, content), most=_LISTED) or "no entry"
        if _is_of_optimizer(content):
            raise OptimizerError(
                f"{where}: expected a state dict in it, tensors by name, got {came}, which is an optimizer's state; name the network's file"
            )
        raise InputError(f"{where}: expected a state dict in it, tensors by name, got {came}; save model.state_dict()")
    if len(choice) > 1:
        keys = [_dotted(path) for path in likely or found]
        raise InputError(
            f"{where}: several state dicts may be the network: {listed(keys, most=_LISTED)}; name one, such as --key {keys[0]}"
        )
    path = choice[0]
    others = tuple(_dotted(other) for other in found if other != path)
    return Selection(".".join(path) or None, found[path], bool(path), others)


def _is_of_optimizer(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(one, Mapping) and "param_groups" in one for one in (content, *content.values()))


def tensors_of(state: Mapping[Any, Any]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a state dict by name, and the names of its other entries."""
    tensors = {name: value.detach() for name, value in state.items() if isinstance(name, str) and isinstance(value, Tensor)}
    return tensors, tuple(str(name) for name in state if name not in tensors)


def _named(content: Mapping[Any, Any], key: str, where: str, found: Mapping[_Path, Any]) -> Selection:
    ways = [*_ways(content, key), *([()] if key == TOP else [])]
    path = next((way for way in ways if way in found), ways[0] if ways else None)
    state: Any = content
    optimizer = "param_groups" in content or any(_OPTIMIZER.search(name.lower()) for name in path or ())
    for name in path or ():
        state = state[name]
        optimizer |= isinstance(state, Mapping) and "param_groups" in state
    if path is None or not isinstance(state, Mapping):
        keys = [_dotted(other) for other in found]
        came = "nothing" if path is None else _kind(state)
        advice = f"name one of {listed(keys, most=_LISTED)}" if keys else "it has no state dict"
        raise InputError(f"key: expected a state dict under {key!r} in {where}, got {came}; {advice}")
    if optimizer:
        raise InputError(f"key: expected a network's state dict, got {key!r} in {where}, which is an optimizer's state")
    if not tensors_of(state)[0]:
        inner = [_dotted(other) for other in found if other[: len(path)] == path]
        advice = f"; name one of {listed(inner, most=_LISTED)}" if inner else ""
        raise InputError(f"key: expected tensors by name under {key!r} in {where}, got none{advice}")
    return Selection(".".join(path) or None, state, guessed=False)


def _ways(content: Mapping[Any, Any], key: str) -> Iterator[_Path]:
    """The paths that a dotted path can stand for. There may be several, because a name may contain dots."""
    if key in content:
        yield (key,)
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Mapping) and key.startswith(f"{name}."):
            yield from ((name, *rest) for rest in _ways(value, key[len(name) + 1 :]))


def _state_dicts(content: Mapping[Any, Any]) -> Iterator[tuple[_Path, Mapping[Any, Any]]]:
    """Each dictionary of tensors that may be a network, once, even if it has several names. The outermost one comes last."""
    if "param_groups" in content:
        return
    nested = list(_nested(content, (), {id(content)}))
    yield from nested
    tensors = tensors_of(content)[0]
    # If there is a nested state dict, scalars and random states at the top do not make the outer dictionary a state dict.
    if any(not nested or (tensor.dim() and not _NO_NETWORK.search(name.lower())) for name, tensor in tensors.items()):
        yield (), content


def _nested(content: Mapping[Any, Any], path: _Path, seen: set[int]) -> Iterator[tuple[_Path, Mapping[Any, Any]]]:
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Mapping) or id(value) in seen:
            continue
        seen.add(id(value))
        if _NO_NETWORK.search(name.lower()) or "param_groups" in value:
            continue
        if tensors_of(value)[0]:
            yield (*path, name), value
        yield from _nested(value, (*path, name), seen)


def _dotted(path: _Path) -> str:
    return ".".join(path) or TOP


def _kind(value: object) -> str:
    return "a single tensor" if isinstance(value, Tensor) else f"a value of type {type(value).__name__}"
