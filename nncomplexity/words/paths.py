"""Names of files as arguments."""

import errno
import os
import re
from pathlib import Path

from nncomplexity.errors import InputError

_URL = re.compile(r"[a-z][a-z0-9+]+://", re.IGNORECASE)
"""How the address of a file in the network begins. It has two letters or more, because Windows has drives of one."""


def path_of(given: object, argument: str = "path") -> Path:
    """The path that was given.

    Raises:
        InputError: it can't be a file's name, is an address in the network, or is too long; the message names the argument.

    >>> path_of("net.coarse").suffix
    '.coarse'
    """
    name = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise InputError(f"{argument}: expected the name of a file, a text or a Path, got {given!r}; name one")
    if _URL.match(name):
        raise InputError(f"{argument}: expected the name of a file, got an address, {name!r}; download it, and name the file")
    try:
        os.lstat(name)
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise InputError(f"{argument}: expected the name of a file, got one that this system can't write, {name!r}") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(
                f"{argument}: expected the name of a file, got one too long for this system, {name[:60]!r}…"
            ) from error
    return Path(name)


def is_file(path: Path) -> bool:
    """Whether there is such a file. It is False for a name that no system accepts, for which `Path.is_file` raises an exception.

    >>> is_file(Path("x" * 5000)), is_file(Path(__file__))
    (False, True)
    """
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
