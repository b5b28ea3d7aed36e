"""PyTorch is loaded when a command runs, not when it is described: --help, --version and completion answer at once."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from nncomplexity_launch import ctrl_c_ends


def needing(wing: str, command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, which loads a wing of the package before it runs, with all that the wing imports.

    A wing would also be loaded at its first use (`nncomplexity.measure.estimate`). It is loaded earlier, within `ctrl_c_ends`, because a
    library that is being imported could swallow Ctrl-C.

    Args:
        wing: such as "measure".
        command: a function with the options of the command line as parameters.

    Returns:
        A function with the same parameters.
    """

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        with ctrl_c_ends():
            importlib.import_module(f"nncomplexity.{wing}")
        return command(**given)

    return run
