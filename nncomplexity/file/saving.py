"""Files written whole or not at all, and on the disk when the call returns.

Bytes go to a temporary file beside the target, to the disk, and only then to the target's name. A process that is killed in between leaves
its temporary file; the next one to write into that folder removes it. A temporary file is locked for as long as it is written, and the
lock ends with its process, so that nobody's is removed who is still at work.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from nncomplexity.errors import InputError
from nncomplexity.words import path_of

_fcntl: ModuleType | None
try:
    import fcntl as _fcntl
except ImportError:  # Windows has none; there a file that is open can't be removed
    _fcntl = None

_PREFIX = ".nncomplexity."
_OLD = 3600.0
"""Seconds after which a temporary file is taken for left behind where there are no locks."""


def save_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `path` whole or not at all, with what is on the disk in place of what it held. Raises InputError where it can't be written."""
    target = path_of(path)
    if target.is_symlink():
        target = Path(os.path.realpath(target))  # what a link leads to is written, and the link stays
    _remove_left_behind(target.parent)
    try:
        handle, name = _temporary_file(target.parent)
    except OSError as error:
        raise InputError(f"{target}: cannot write there ({error.strerror}); name a folder that exists") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
            if _fcntl is not None:  # the lock is kept until the file has its name
                Path(name).replace(target)
        if _fcntl is None:
            Path(name).replace(target)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"{target}: cannot write it ({error.strerror})") from error
        raise
    sync_folder(target.parent)


def _temporary_file(folder: Path) -> tuple[int, str]:
    """A new file in the folder, open and locked, and its name."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
        if _fcntl is None:
            return handle, name
        with contextlib.suppress(OSError):  # the file system has no locks
            _fcntl.flock(handle, _fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # another process took it for one left behind, as it wasn't locked yet


def _remove_left_behind(folder: Path) -> None:
    """Remove temporary files of processes that are no more."""
    for file in _temporary(folder):
        with contextlib.suppress(OSError):  # it is locked, as its process writes it, or another user's, or gone by now
            if _fcntl is None:
                if time.time() - file.stat().st_mtime > _OLD:
                    file.unlink()
                continue
            with file.open("r+b") as opened:
                _fcntl.flock(opened.fileno(), _fcntl.LOCK_EX | _fcntl.LOCK_NB)
                file.unlink()


def _temporary(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def sync_folder(folder: Path) -> None:
    """The new name on the disk, too, where the system can do that for a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
