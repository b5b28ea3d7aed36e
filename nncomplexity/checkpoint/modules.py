"""Reads whole modules, which `torch.save(model, FILE)` writes: their tensors, under the names that `state_dict()` gives them.

The code of the module is not needed, because every module has its parameters, its buffers and its submodules in three dictionaries.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from nncomplexity.checkpoint.placeholders import Inert, name_of, plain_mapping
from nncomplexity.errors import InputError

_PARTS = ("_parameters", "_buffers", "_modules")


def is_module(value: object) -> bool:
    """Whether an object was a module: it has the three dictionaries of every `nn.Module`."""
    state = plain_mapping(value)
    return state is not None and all(isinstance(state.get(part), Mapping) for part in _PARTS)


def modules_opened(content: object, where: str) -> tuple[object, dict[str, str]]:
    """The content of a file with a state dict instead of each module, and the classes of the modules by their dotted paths.

    Args:
        content: a module, or a dictionary with modules on any level.
        where: the file's name, for messages.

    Raises:
        InputError: a submodule does not keep its tensors in these dictionaries.
    """
    if is_module(content):
        return state_dict_of(content, where), {"": name_of(content)}
    classes: dict[str, str] = {}
    return _opened(content, (), where, classes, {}), classes


def state_dict_of(module: object, where: str) -> dict[str, Tensor]:
    """A module's parameters and buffers as `state_dict()` names them, without the buffers that aren't persistent.

    A class with its own `state_dict()`, or with hooks, may give other names. These can't be known here, because no code is run.

    Raises:
        InputError: a submodule does not keep its tensors in the usual dictionaries.
    """
    return dict(_tensors(module, "", where, ()))


def _tensors(module: object, prefix: str, where: str, above: tuple[int, ...]) -> Iterator[tuple[str, Tensor]]:
    state = plain_mapping(module)
    # A quantized module has packed weights, which only its code can read. `above` stops at a module that contains itself.
    if state is None or not is_module(module) or id(module) in above or ".quantized." in name_of(module):
        raise _unread(module, prefix.rstrip("."), "a module", where)
    transient = state.get("_non_persistent_buffers_set") or ()
    for part in ("_parameters", "_buffers"):
        for name, value in state[part].items():
            if value is None or (part == "_buffers" and name in transient):
                continue
            if not isinstance(value, Tensor):
                raise _unread(value, f"{prefix}{name}", "a tensor", where)
            yield f"{prefix}{name}", value
    for name, value in state["_modules"].items():
        if value is not None:
            yield from _tensors(value, f"{prefix}{name}.", where, (*above, id(module)))


def _unread(value: object, name: str, expected: str, where: str) -> InputError:
    kind = name_of(value) if isinstance(value, Inert) else type(value).__name__
    return InputError(
        f"{where}: expected {expected} under {name!r} of the module, got an object of type {kind}, which can't be read without its code; "
        "where it was made, save the weights alone: torch.save(model.state_dict(), FILE)"
    )


def _opened(value: object, path: tuple[str, ...], where: str, classes: dict[str, str], done: dict[int, Any]) -> object:
    """The object with state dicts instead of modules. A module that occurs twice gives one state dict."""
    if id(value) in done:
        return done[id(value)]
    if is_module(value):
        classes[".".join(path)] = name_of(value)
        done[id(value)] = state_dict_of(value, where)
    elif isinstance(value, Mapping):
        made: dict[Any, Any] = {}
        # Before its entries, because a dictionary may contain itself.
        done[id(value)] = made
        made |= {name: _opened(inner, (*path, str(name)), where, classes, done) for name, inner in value.items()}
    else:
        return value
    return done[id(value)]
