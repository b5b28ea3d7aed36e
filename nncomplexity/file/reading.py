"""Reading files once, completely, and in one consistent state.

A training loop may write a checkpoint again during a measurement. If the file were mapped into memory, one half of the network could be old and
the other half new, and a shortened file would end the process with SIGBUS. So each file is read into memory, and everything is computed from
these bytes. A file that changed while it was read is read again.
"""

import os
import select
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from nncomplexity.errors import FormatError, InputError

PAUSES: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between attempts to read a file that changes. After the last pause there is one more attempt."""
_RECENT = 2.0
"""Two changes of a file within this number of seconds may have the same time stamp: FAT counts in steps of two seconds."""
_PART = 1 << 22
_PATIENCE, _RETRY = 2.0, 0.01
"""Seconds to wait for the first byte of a pipe, and between two attempts to read it."""
Found = TypeVar("Found")
_State = tuple[int, int, int]


class ChangedError(InputError):
    """A file was written while it was read."""


class Reading:
    """One attempt to read a file, or several that belong together.

    Args:
        expected: the kind of file that was expected, for the message about a file that can't be read.
    """

    def __init__(self, expected: str) -> None:
        self._expected = expected
        self._states: dict[Path, _State] = {}
        self._newest = 0.0

    def content(self, file: Path) -> bytes:
        """The file's bytes.

        A pipe can be read only once, and is read until its writer closes it. Other special files are refused, because a device may have no
        end.

        Raises:
            InputError: the file can't be read.
            ChangedError: another process wrote it at the same time.
        """
        try:
            kind = file.stat().st_mode
            if stat.S_ISFIFO(kind):
                return self._piped(file)
            if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                raise InputError(f"{file}: it is not a regular file; name {self._expected}")
            with file.open("rb") as opened:
                before = os.fstat(opened.fileno())
                content = opened.read()
                written = max(before.st_mtime, before.st_ctime)
                self._states[file], self._newest = _state(before), max(self._newest, written)
                settled = _state(os.fstat(opened.fileno())) == _state(before) and len(content) == before.st_size
                if settled and _is_recent(written):  # a change within one tick of the clock does not change the time stamp
                    settled = _holds(opened, content)
        except OSError as error:
            raise InputError(f"{file}: cannot read it ({error.strerror or error}); name {self._expected}") from error
        except MemoryError as error:
            size = file.stat().st_size
            raise InputError(
                f"{file}: its {size:,} bytes don't fit into memory; measure it on a machine with twice as much"
            ) from error
        if not settled:
            raise ChangedError(f"{file}: it was written while it was read")
        return content

    def _piped(self, file: Path) -> bytes:
        """The content of a pipe. Raises InputError if nobody writes to it, because waiting could take for ever."""
        content, last = bytearray(), time.monotonic() + _PATIENCE
        # A blocking open would wait for a writer without a limit.
        pipe = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        try:
            while True:
                try:
                    part = os.read(pipe, _PART)
                except BlockingIOError:  # the writer has not closed the pipe
                    select.select([pipe], [], [])
                    continue
                content += part
                if not part and content:
                    return bytes(content)
                if not part and time.monotonic() > last:
                    raise InputError(f"{file}: it is a pipe to which nobody writes; name {self._expected}")
                if not part:
                    time.sleep(_RETRY)
        finally:
            os.close(pipe)

    def changed(self) -> bool:
        """Whether one of the files was replaced, or has other bytes now."""
        return any(_state_now(file) != state for file, state in self._states.items())

    def may_be_unfinished(self) -> bool:
        """Whether one of the files was written so recently that it may be incomplete."""
        return _is_recent(self._newest)


def read_settled(read: Callable[[Reading], Found], name: str, expected: str) -> Found:
    """The result of `read` for files that do not change at the same time. If they change, `read` is called again, a few times.

    Args:
        read: a function that reads files only by the `Reading` that it gets.
        name: the name of the file, for messages.
        expected: as for `Reading`.

    Returns:
        The result of `read`.

    Raises:
        InputError: `read` raises it.
        FormatError: `read` raises it.
        ChangedError: the files changed each time.

    >>> read_settled(lambda reading: len(reading.content(Path(__file__))) > 0, "this file", "a module")
    True
    """
    for pause in PAUSES:
        reading, unfinished = Reading(expected), None
        try:
            found = read(reading)
        except ChangedError:
            pass
        except FormatError as error:
            # A file that is being written usually can't be parsed. An old file that doesn't change is damaged.
            unfinished = error
            if not reading.may_be_unfinished() and not reading.changed():
                raise
        except InputError:
            # For example a part of a checkpoint that is missing while the checkpoint is replaced.
            if not reading.changed():
                raise
        else:
            if not reading.changed():
                return found
        time.sleep(pause)
    raise unfinished or ChangedError(
        f"{name}: it was written each of {len(PAUSES)} times that it was read; wait until it is whole, or name a copy"
    )


def _holds(opened: BinaryIO, content: bytes) -> bool:
    """Whether the file still has these bytes."""
    opened.seek(0)
    view, place = memoryview(content), 0
    while part := opened.read(_PART):
        if view[place : place + len(part)] != part:
            return False
        place += len(part)
    return place == len(content)


def _state(status: os.stat_result) -> _State:
    # With the inode, because a file that replaces another one may have the same size and time stamp.
    return status.st_ino, status.st_size, status.st_mtime_ns


def _state_now(file: Path) -> _State | None:
    try:
        return _state(file.stat())
    except OSError:
        return None


def _is_recent(changed: float) -> bool:
    return time.time() - changed < _RECENT
