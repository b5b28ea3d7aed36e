"""Exceptions of the user's functions in one line: what was raised, in which file and line, and what may help."""

import contextlib
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from nncomplexity.errors import InputError
from nncomplexity.words import listed, text_of

_PACKAGE = str(Path(__file__).parents[1])
_NO_FILES = ("<frozen", "<string>")
"""How the names of code begin that no file of the user has, such as the methods that dataclasses write."""
_STANDARD = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_INSTALLED = {"site-packages", "dist-packages"}


def raised(error: BaseException) -> str:
    """The type of the exception, the first line of its message, and the innermost place in the user's files.

    >>> try:
    ...     {}["absent"]
    ... except KeyError as error:
    ...     print(raised(error).partition(" (")[0])
    KeyError: 'absent'
    """
    text = next(iter(text_of(error).strip().splitlines()), "")
    return f"{type(error).__name__}{': ' if text else ''}{text}{_place(error)}"


def called(argument: str, function: Callable[..., Any], *given: Any, name: str = "it") -> Any:
    """Call a user's function. All calls of users' functions are made here.

    Args:
        argument: the argument or option by which the user gave the function, for messages.
        function: the function.
        *given: the arguments of the call. The hint in a message depends on the first one.
        name: the name of the function in messages.

    Returns:
        The result of the function.

    Raises:
        InputError: the function raises any exception except KeyboardInterrupt, which becomes the cause of this one. An InputError of the
            function itself is raised again without a change.
        KeyboardInterrupt: the user pressed Ctrl-C.

    >>> called("loss_fn", len, 3)
    Traceback (most recent call last):
        ...
    nncomplexity.errors.InputError: loss_fn: it raised TypeError: object of type 'int' has no len()
    """
    try:
        return function(*given)
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a sys.exit() in the user's function must not end this program, and a GeneratorExit neither
        raise InputError(f"{argument}: {name} raised {raised(error)}{hint(error, given[0] if given else None)}") from error


def _place(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith((_PACKAGE, *_NO_FILES))]
    installed = [frame for frame in frames if not _INSTALLED.isdisjoint(Path(frame.filename).parts)]
    theirs = [frame for frame in frames if frame not in installed and not frame.filename.startswith(_STANDARD)]
    frames = theirs or installed[:1]  # the function may belong to an installed package
    if not frames:
        return ""
    file = Path(frames[-1].filename)
    folders = [folder for folder in map(Path, sys.path[:1]) if folder.is_absolute()]  # the folder of the call
    with contextlib.suppress(OSError):  # the folder may be deleted
        folders.append(Path.cwd())
    here = next((folder for folder in folders if file.is_relative_to(folder)), None)
    return f" ({file.relative_to(here) if here else file}, line {frames[-1].lineno})"


def hint(error: BaseException, given: object) -> str:
    """Advice on an exception of a function that was called with `given`, with a semicolon before it. Empty if there is none."""
    text = text_of(error)
    if isinstance(given, Mapping) and isinstance(error, TypeError | AttributeError) and "'dict' object" in text:
        return (
            "; it got a dict of tensors: if it takes a module, name the function that builds one by --model, or pass the module itself, "
            "not its state dict"
        )
    if isinstance(given, nn.Module) and _takes_it_for_a_dict(error, given):
        return "; it got a module: if it takes a dict of tensors, leave --model out, or pass the module's state dict"
    if isinstance(given, Mapping) and isinstance(error, KeyError) and error.args and error.args[0] not in given:
        return f"; the tensors are {listed(map(str, given))}" if isinstance(error.args[0], str) else ""
    if needs_derivatives(error):
        return "; it is called under torch.no_grad(): if it computes derivatives, wrap its body in torch.enable_grad()"
    if isinstance(error, ImportError) and "relative import" in text:
        return "; name it as part of its package, such as package.module:function, from the folder that holds the package"
    return ""


def _takes_it_for_a_dict(error: BaseException, module: nn.Module) -> bool:
    """Whether a function looked for a tensor in the module as in a dict."""
    text = text_of(error)
    if isinstance(error, KeyError):  # a ModuleDict
        return bool(error.args) and error.args[0] in module.state_dict()
    # A Sequential or a ModuleList has parts by number.
    asked = "not subscriptable" in text or "cannot be interpreted as an integer" in text
    methods = any(
        f"{type(module).__name__!r} object has no attribute {name!r}" in text for name in ("items", "keys", "values", "get")
    )
    return (isinstance(error, TypeError) and asked) or (isinstance(error, AttributeError) and methods)


def needs_derivatives(error: BaseException | None) -> bool:
    """Whether this is an error of autograd because a derivative was computed while gradients were off."""
    # PyTorch has no class for this error, so its text decides. "nference" matches "Inference" and "inference".
    text = text_of(error)
    return isinstance(error, RuntimeError) and ("require grad" in text or "grad_fn" in text or "nference tensor" in text)
