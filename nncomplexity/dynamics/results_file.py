"""A results.jsonl that grows by whole lines, is written by one process at a time, and mends itself after a kill."""

import contextlib
import json
import os
from collections.abc import Mapping
from types import ModuleType, TracebackType
from typing import Any

from nncomplexity.dynamics.settings import Row, Settings
from nncomplexity.errors import InputError
from nncomplexity.paths import path_of

_fcntl: ModuleType | None
try:
    import fcntl as _fcntl
except ImportError:  # Windows has none: there nothing keeps two processes apart
    _fcntl = None

_BEGINNING = b'{"schema": 1, '
"""How every line that we write begins, so that a cut one is known from text of the user's."""
_SAME = ("kind", "checkpoint", "seed", "trainer")
_EXPECTED = "expected a results.jsonl that track wrote, or no file yet"


class ResultsFile:
    """The file at `path`, made where there is none, locked and mended. Use it as a context manager.

    A cut last line, as a kill or a full disk leaves it, is dropped when the file is opened; one that lacks nothing but its end gets it.
    So a line never begins within another.

    Attributes:
        rows: the whole lines, oldest first.
        mended: what became of a cut last line, a sentence; None where there was none.

    Raises InputError where the file can't be opened, is something else, or another process is writing it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path_of(path, "out")
        self.path = os.fspath(path)
        self.mended: str | None = None
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"{self.path}: cannot write there ({error.strerror}); name a file in a folder that exists") from error
        try:
            self._lock()
            self.rows = self._read()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "ResultsFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if os.fstat(self._file).st_size == 0:  # nothing came to be written
            with contextlib.suppress(OSError):
                os.unlink(self.path)  # noqa: PTH108
        os.close(self._file)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row: one line in one write, on the disk before this returns. Raises InputError where it doesn't fit there."""
        line = _line(row)
        before = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) < len(line):
                os.ftruncate(self._file, before)
                raise OSError(0, "the disk is full")
            os.fsync(self._file)
        except OSError as error:
            raise InputError(f"{self.path}: cannot write the next row ({error.strerror}); make room and start again") from error
        self.rows.append(dict(row))

    def repeats(self, row: Mapping[str, Any]) -> bool:
        """Whether a failed row says what the last one of its kind, checkpoint and seed says: started again and again, a run would else add
        a line for each damaged checkpoint each time."""
        if row.get("status") != "failed":
            return False
        last = next((one for one in reversed(self.rows) if all(one.get(key) == row.get(key) for key in _SAME)), None)
        return last is not None and json.loads(_line(last)) == json.loads(_line(row))

    def check_settings(self, settings: Settings) -> list[str]:
        """Notes on rows that other versions measured. Raises InputError where rows were measured under other settings."""
        notes: dict[str, None] = {}
        for row in self.rows:
            if row.get("status") != "measured":
                continue
            if different := settings.difference(row):
                name, there, here = different
                raise InputError(
                    f"{self.path}: its rows were measured with {name} = {_shown(there)}, this call has {_shown(here)}; "
                    "choose another --out, or the same settings"
                )
            if versions := settings.other_versions(row):
                notes[f"some rows were measured with {versions}"] = None
        return list(notes)

    def _lock(self) -> None:
        if _fcntl is None:
            return
        try:
            _fcntl.flock(self._file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{self.path}: another process is writing it; wait for its end, or choose another --out") from None
        except OSError:
            return  # a file system without locks

    def _read(self) -> list[Row]:
        content = b""
        while part := os.pread(self._file, 2**24, len(content)):
            content += part
        *whole, tail = content.split(b"\n")
        rows = [row for number, line in enumerate(whole, start=1) if (row := self._row(line, number)) is not None]
        if tail:
            row = self._row(tail, len(whole) + 1)
            if row is None:
                os.ftruncate(self._file, len(content) - len(tail))
                self.mended = "dropped the last line, which was cut"
            else:
                rows.append(row)
                os.write(self._file, b"\n")
                self.mended = "ended the last line, which lacked its end"
            os.fsync(self._file)
        return rows

    def _row(self, line: bytes, number: int) -> Row | None:
        """The row in a line; None for an empty or a cut one. Raises InputError for what no run of ours leaves."""
        text = line.strip(b"\0\r ")
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            row = None
            if text[: len(_BEGINNING)] == _BEGINNING[: len(text)]:
                return None
        if not isinstance(row, dict) or "status" not in row or row.get("schema") != 1:
            shown = text[:40].decode(errors="replace")
            raise InputError(f"{self.path}: {_EXPECTED}, got {shown!r} in line {number}; choose another --out")
        return row


def _line(row: Mapping[str, Any]) -> bytes:
    # A path typed in bytes that are no Unicode text gets backslashes, which make it JSON.
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode(errors="backslashreplace")


def _shown(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
