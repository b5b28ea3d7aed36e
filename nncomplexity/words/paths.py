"""Names of files as arguments."""

import os
from pathlib import Path

from nncomplexity.errors import InputError


def path_of(given: object, argument: str = "path") -> Path:
    """The given path. Raises InputError, which names the argument, if it can't be the name of a file.

    >>> path_of("net.coarse").suffix
    '.coarse'
    """
    name = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise InputError(f"{argument}: expected the name of a file, a text or a Path, got {given!r}; name one")
    return Path(name)
