"""PyTorch is loaded when a command runs that needs it, not when it is described: --help, --version and completion answer at once."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from nncomplexity.errors import InputError
from nncomplexity_launch import ctrl_c_ends, missing


def needing(module: str, command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, which loads a module of the package before it runs, with all that the module imports.

    A wing would also be loaded at its first use (`nncomplexity.measure.estimate`). It is loaded earlier, within `ctrl_c_ends`, because a
    library that is being imported could swallow Ctrl-C.

    Args:
        module: such as "measure", without the package's name.
        command: a function with the options of the command line as parameters.

    Returns:
        A function with the same parameters. It raises InputError if a package is missing that the module needs.
    """

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        try:
            with ctrl_c_ends():
                importlib.import_module(f"nncomplexity.{module}")
        except ModuleNotFoundError as error:
            raise InputError(missing(error)) from error
        return command(**given)

    return run
