"""A results.jsonl. Rows are written here: the file grows by whole lines, one process at a time writes it, and it is repaired after a kill."""

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from nncomplexity.dynamics.rowcheck import fault_of
from nncomplexity.dynamics.settings import Row, TrackSettings
from nncomplexity.errors import InputError
from nncomplexity.file import sync_folder
from nncomplexity.words import path_of

_fcntl: ModuleType | None
try:
    import fcntl as _fcntl
except ImportError:  # Windows has no fcntl: a second file, FILE.lock, is locked there
    _fcntl = None
if TYPE_CHECKING or _fcntl is None:
    from filelock import FileLock

PATIENCE = 5.0
"""Seconds to wait for another process. A `Tracker` locks the file only while it writes a line, so this is enough."""
_RETRY_AFTER = 0.02
"""Seconds between two attempts to lock the file."""
_BEGINNING = b'{"schema": 1, '
"""The start of every line. It distinguishes a cut line from other text."""
_SAME = ("kind", "checkpoint", "seed", "trainer")
_EXPECTED = "expected a results.jsonl that track wrote, or no file yet"


class ResultsFile:
    """The file at `path`: created if necessary, locked and repaired. Use it as a context manager.

    A kill or a full disk may leave a cut last line. When the file is opened, such a line is dropped. If only the line break is missing, it
    is added. So a line never begins within another one.

    Attributes:
        rows: the rows of the whole lines, oldest first.
        mended: a sentence on how a cut last line was repaired; None if there was none.
        restored: a sentence that says that the file was removed and written again; None if it wasn't removed.

    Raises:
        InputError: the file can't be opened, is no results file, or another process is still writing it after `patience` seconds.
    """

    def __init__(self, path: str | os.PathLike[str], patience: float = PATIENCE) -> None:
        path_of(path, "out")
        self.path = os.fspath(path)
        self.mended: str | None = None
        self.restored: str | None = None
        self._file = _opened(self.path, time.monotonic() + patience)
        try:
            self.rows = self._read()
        except BaseException as error:
            self._file.close()
            if isinstance(error, OSError):
                raise InputError(
                    f"{self.path}: cannot read and mend it ({error.strerror}); choose another file for `out`"
                ) from error
            raise

    def __enter__(self) -> "ResultsFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with contextlib.suppress(OSError):  # Windows can't remove an open file
            state = os.fstat(self._file.fileno())
            if state.st_size == 0 and state.st_nlink:  # nothing was written
                os.unlink(self.path)  # noqa: PTH108
        self._file.close()

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row as one line, in one write. It is on the disk when this returns. Raises InputError if it can't be written."""
        line = line_of(row)
        self.check_there()
        before = self._file.seek(0, os.SEEK_END)
        try:
            # The file has no buffer, so a write may take only a part of the line.
            if (self._file.write(line) or 0) < len(line):
                raise OSError(0, "the disk is full")
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # if this fails too, the next process that opens the file drops the incomplete line
                self._file.truncate(before)
            raise InputError(f"{self.path}: cannot write the next row ({error.strerror}); make room and start again") from error
        self.rows.append(dict(row))
        if not before:  # the file is new: its name in the folder must be on the disk too
            sync_folder(Path(self.path).parent)

    def check_there(self) -> None:
        """Write all rows again if the file was removed, or was replaced by an empty one. Raises InputError if they can't be written."""
        if self._is_there():
            return
        if self._file.lock_file:  # a new file at this path has the same lock file, so the lock must be released first
            self._file.close()
        rows, file = self.rows, _opened(self.path, time.monotonic() + PATIENCE)
        self._file.close()
        self._file = file
        self.rows = self._read()
        if not self.rows:
            for row in rows:
                self.append(row)
        self.restored = f"it was removed while it was written; it has {len(self.rows)} rows again" if rows else None

    def _is_there(self) -> bool:
        """Whether the name leads to the file that is open."""
        try:
            return os.path.samestat(Path(self.path).stat(), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def repeats(self, row: Mapping[str, Any]) -> bool:
        """Whether a failed row is the same as the last row of its kind, checkpoint and seed.

        Such a row isn't written: otherwise each new start of a run would add a line for each damaged checkpoint.
        """
        if row.get("status") != "failed":
            return False
        last = next((one for one in reversed(self.rows) if all(one.get(key) == row.get(key) for key in _SAME)), None)
        return last is not None and json.loads(line_of(last)) == json.loads(line_of(row))

    def check_settings(self, settings: TrackSettings) -> list[str]:
        """See `check_settings`."""
        return check_settings(self.path, self.rows, settings)

    def _read(self) -> list[Row]:
        self._file.seek(0)
        content = self._file.readall()
        rows, tail = _parsed(content, self.path)
        if not tail:
            return rows
        if (row := _row(tail, self.path, content.count(b"\n") + 1)) is None:
            self._file.truncate(len(content) - len(tail))
            self.mended = "dropped the last line, because it was cut"
        else:
            rows.append(row)
            self._file.write(b"\n")
            self.mended = "added the missing end of the last line"
        os.fsync(self._file.fileno())
        return rows


def rows_of(path: str) -> list[Row]:
    """The rows of the file; none if there is no file. It is read without a lock, so another process may be writing it.

    Raises:
        InputError: the file can't be read, or is no results file.
    """
    _check_regular(path)
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path}: cannot read it ({error.strerror}); {_EXPECTED}") from error
    rows, tail = _parsed(content, path)
    last = _row(tail, path, content.count(b"\n") + 1) if tail else None
    return rows if last is None else [*rows, last]


def check_settings(path: str, rows: Sequence[Row], settings: TrackSettings) -> list[str]:
    """Notes on rows that other versions measured. Raises InputError if a row was measured with other settings."""
    notes: dict[str, None] = {}
    for row in rows:
        if row.get("status") != "measured":
            continue
        if different := settings.difference(row):
            name, there, here = different
            raise InputError(
                f"{path}: its rows were measured with {name} = {_shown(there)}, this call has {_shown(here)}; "
                "choose another file for `out`, or the same settings"
            )
        if versions := settings.other_versions(row):
            notes[f"some rows were measured with {versions}"] = None
    return list(notes)


def line_of(row: Mapping[str, Any]) -> bytes:
    """The row as a line of the file. Raises ValueError if it has a number that JSON can't express."""
    # A typed path may have bytes that are not Unicode. Backslash escapes make it valid JSON.
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode(errors="backslashreplace")


class _LockedFile(FileIO):
    """A file that is unlocked when it is closed.

    Attributes:
        lock_file: the lock of the second file, FILE.lock, if the file itself can't be locked.
    """

    lock_file: "FileLock | None" = None

    def close(self) -> None:
        """Unlock and close. Closing is not enough: a fork, such as a DataLoader's worker, may have the file open too."""
        with contextlib.suppress(OSError, ValueError):  # a closed file has no descriptor
            if self.lock_file is not None:
                self.lock_file.release()
            elif _fcntl is not None:
                _fcntl.flock(self.fileno(), _fcntl.LOCK_UN)
        super().close()


def _opened(path: str, until: float) -> _LockedFile:
    """The file, open and locked. It waits until the time `until` for another process."""
    while True:
        try:
            file = _LockedFile(path, "a+")
        except OSError as error:
            raise InputError(f"{path}: cannot write there ({error.strerror}); name a file in a folder that exists") from error
        try:
            _check_regular(path)
            locked = _lock(file)
            # With no links, another process has removed the file after it was opened here. Its lock protects nothing, so open again.
            if locked and os.fstat(file.fileno()).st_nlink:
                return file
            if not locked and time.monotonic() >= until:
                raise InputError(f"{path}: another process is writing it; wait for its end, or choose another file for `out`")
        except BaseException:
            file.close()
            raise
        file.close()
        if not locked:  # otherwise the other process has removed the empty file
            time.sleep(_RETRY_AFTER)


def _check_regular(path: str) -> None:
    """Raises InputError for a device, which may have no end, a pipe or a socket."""
    target = Path(path)
    if target.exists() and not target.is_file() and not target.is_dir():
        raise InputError(f"{path}: it is not a regular file; choose another file for `out`")


def _lock(file: _LockedFile) -> bool:
    """Lock the file until it is closed; False if another process has it."""
    try:
        if _fcntl is None:
            lock = FileLock(f"{os.fsdecode(file.name)}.lock", timeout=0)
            lock.acquire()
            file.lock_file = lock
        else:
            _fcntl.flock(file.fileno(), _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except (BlockingIOError, TimeoutError):
        return False
    except OSError:
        pass  # the file system has no locks
    return True


def _parsed(content: bytes, path: str) -> tuple[list[Row], bytes]:
    """The rows in whole lines, and the rest after the last whole line."""
    *whole, tail = content.split(b"\n")
    return [row for number, line in enumerate(whole, start=1) if (row := _row(line, path, number)) is not None], tail


def _row(line: bytes, path: str, number: int) -> Row | None:
    """The row in a line; None for an empty or a cut line. Raises InputError for any other text, which this program never leaves."""
    text = line.strip(b"\0\r ")  # some file systems fill the end of a file with zero bytes after a power failure
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
        # A line may be cut at any place, so it may also be shorter than the usual start.
        if text[: len(_BEGINNING)] == _BEGINNING[: len(text)]:
            return None
    if not isinstance(row, dict) or "status" not in row or row.get("schema") != 1:
        shown = text[:40].decode(errors="replace")
        raise InputError(f"{path}: {_EXPECTED}, got {shown!r} in line {number}; choose another file for `out`")
    if fault := fault_of(row):
        raise InputError(f"{path}: {fault} in line {number}; mend or remove that line, or choose another file for `out`")
    return row


def _shown(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
