"""Writing files completely or not at all. When the call returns, the file is on the disk.

The bytes go to a temporary file in the folder of the target, then to the disk (fsync), and then the file is renamed. A process that is
killed in between leaves its temporary file, which the next process that writes into the folder removes. A temporary file is locked while
it is written, and a lock ends with its process. So no process removes the file of another one that is still running.
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
except ImportError:  # Windows does not have it, and does not remove open files
    _fcntl = None

_PREFIX = ".nncomplexity."
_OLD = 3600.0
"""On a system without locks, a temporary file of this age in seconds is taken to belong to a process that was killed."""


def save_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file completely or not at all. Raises InputError if it can't be written."""
    target = path_of(path)
    if target.is_symlink():
        target = Path(os.path.realpath(target))  # the target of a symbolic link is written, and the link stays
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
            # mkstemp makes files that only their owner can read. An ordinary file has the mode of the umask, which can only be read by
            # setting it.
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
    """A new file in the folder, open and locked: its descriptor and its name."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
        if _fcntl is None:
            return handle, name
        with contextlib.suppress(OSError):  # the file system has no locks
            _fcntl.flock(handle, _fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # another process removed it before it was locked


def _remove_left_behind(folder: Path) -> None:
    """Remove the temporary files of processes that have ended."""
    for file in _temporary(folder):
        with contextlib.suppress(OSError):  # its process still writes it, it belongs to another user, or it is gone
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
    """Write the folder to the disk, so that the new name is there too. Not all systems can do this."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
