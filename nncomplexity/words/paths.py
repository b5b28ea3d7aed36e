"""Names of files, as they are handed to a function."""

import os
from pathlib import Path

from nncomplexity.errors import InputError


def path_of(given: object, argument: str = "path") -> Path:
    """The path that was given.

    Raises:
        InputError: it can't be a file's name; the message names the argument.

    >>> path_of("net.coarse").suffix
    '.coarse'
    """
    name = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise InputError(f"{argument}: expected the name of a file, a text or a Path, got {given!r}; name one")
    return Path(name)
