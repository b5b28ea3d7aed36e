"""Writes the rows of a `Tracker` to a results file. Problems with the file never end the training, and no row is lost.

A row may fail to be written: another process uses the file, the disk is full, or the folder is gone. The row is then kept and
written with the next one, or at the latest when the program ends.

Each training has its own run in the file. The run is chosen when a row is written, by the rows in the file:

- If the step of the first row is later than all steps of the last run with the Tracker's name, it continues this run: the training
  was resumed.
- If the training says that it was resumed, it continues this run at any step.
- Otherwise, or if another process writes the same run, a new run `name (2)` starts: the training started again, or it is another
  rank.

Rows with other seeds don't count: several searches on one training share its run.
"""

import atexit
import contextlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePath
from types import FrameType

from nncomplexity.dynamics.results_file import ResultsFile, check_settings, rows_of
from nncomplexity.dynamics.settings import Row, TrackSettings
from nncomplexity.errors import InputError
from nncomplexity.words import path_of

PATIENCE = 10.0
"""The seconds that a training waits for the file. While the file can't be written, later rows don't wait."""

_NOT_OF_USERS = ("nncomplexity.", "concurrent.", "threading")
"""The beginnings of the names of modules that call each other to take a row."""


class Delivery:
    """Writes rows to the file at `path`, in their order.

    Args:
        path: the results.jsonl, which may exist.
        settings: the settings of all its rows.
        run: the name of the run, or None.
        seed: the seed of the rows.

    Raises:
        InputError: the file can't be written, is no results file, or has rows of other settings. `deliver` raises nothing.
    """

    def __init__(self, path: str | os.PathLike[str], settings: TrackSettings, run: str | None, seed: int) -> None:
        # The path is made absolute, because a training loop may change the current folder.
        self._path = os.path.abspath(path_of(path, "out"))  # noqa: PTH100 -- links stay
        self._settings, self._name, self._seed = settings, run, seed
        rows = rows_of(self._path)
        check_settings(os.fspath(path), rows, settings)
        _check_writable(self._path, os.fspath(path))
        self._run = next((row["run"] for row in reversed(self._alike(rows)) if self._is_named(row["run"])), run)
        self._seen = len(rows)
        self._waiting: list[Row] = []
        self._begun, self._failed = False, False
        self._resumed = False

    def resume(self) -> set[float]:
        """Continue the last run with the name, whatever its steps are. Returns the steps that have measured rows."""
        self._resumed = True
        rows = self._alike(rows_of(self._path))
        return {row["step"] for row in rows if row["run"] == self._run and row.get("status") == "measured"}

    def deliver(self, row: Row) -> None:
        """Write the rows that couldn't be written before, and this row with the name of its run."""
        mine = {**row, "run": self._run}  # a copy, because the caller may change the row
        self._waiting.append(mine)
        try:
            self._write(0.0 if self._failed else PATIENCE)
        except Exception as error:
            if not self._failed:
                warn(f"{error}; training goes on, and rows are kept until they can be written")
                atexit.register(self._finish, os.getpid())
            self._failed = True
        else:
            atexit.unregister(self._finish)
            self._failed = False
        # The run is chosen only when the row is written.
        row["run"] = mine["run"]

    def _write(self, patience: float) -> None:
        with ResultsFile(self._path, patience) as file:
            # Earlier rows are checked already. Another process may have added some since.
            check_settings(self._path, file.rows[self._seen :], self._settings)
            while self._waiting:
                row = self._waiting[0]
                row["run"] = self._run = self._run_of(row, file.rows)
                file.append(row)
                # Only now, so that no row is lost if it can't be written.
                del self._waiting[0]
                self._begun, self._seen = True, len(file.rows)

    def _run_of(self, row: Row, rows: Sequence[Row]) -> str | None:
        """The run of the next row."""
        alike = self._alike(rows)
        others = any(one["run"] == self._run for one in self._alike(rows[self._seen :]))
        steps = [one["step"] for one in alike if one["run"] == self._run and one.get("step") is not None]
        if not others and (self._begun or self._resumed or not steps or max(steps) < row["step"]):
            return self._run
        taken, number = {one["run"] for one in alike}, 2
        while (name := self._numbered(number)) in taken:
            number += 1
        why = "another process writes" if others else f"there are steps up to {max(steps):g} of"
        warn(
            f"{self._path}: {why} {_in_words(self._run)}; this training's rows go to {name!r}; give each training its own run= to "
            "distinguish them"
        )
        return name

    def _alike(self, rows: Sequence[Row]) -> list[Row]:
        """The rows of checkpoints with this seed."""
        return [
            row for row in rows if row.get("kind", "checkpoint") == "checkpoint" and row.get("seed") == self._seed and "run" in row
        ]

    def _numbered(self, number: int) -> str:
        return f"{self._name or PurePath(self._path).stem} ({number})"

    def _is_named(self, run: str | None) -> bool:
        """Whether the run has the name, or the name with a number."""
        begins = re.escape(self._name or PurePath(self._path).stem)
        return run == self._name or re.fullmatch(rf"{begins} \(\d+\)", run or "") is not None

    def _finish(self, process: int) -> None:
        """Write the remaining rows at the end of the program, but not in a fork of it."""
        if not self._waiting or process != os.getpid():
            return
        try:
            self._write(PATIENCE)
        except Exception as error:
            warn(f"{error}; {len(self._waiting)} rows were not written")


def warn(text: str) -> None:
    """Warn at the line of the user's program. This never ends the training, even if the program turns warnings into errors.

    A thread that takes rows from another process has no such line. The warning is then at a line of this package, not of Python's own modules.
    """
    frame: FrameType | None = sys._getframe()
    level = ours = 1
    while frame is not None and (name := frame.f_globals.get("__name__", "")).startswith(_NOT_OF_USERS):
        ours = level if name.startswith("nncomplexity.") else ours
        frame, level = frame.f_back, level + 1
    level = ours if frame is None else level
    try:
        warnings.warn(text, stacklevel=level)
    except UserWarning:
        with contextlib.suppress(Exception):
            print(f"nncomplexity: {text}", file=sys.stderr)


def _in_words(run: str | None) -> str:
    return "the run without a name" if run is None else f"the run {run!r}"


def _check_writable(path: str, typed: str) -> None:
    """Raises InputError if no row can be written there. It doesn't create the file, because another process may be about to."""
    try:
        if Path(path).exists():
            Path(path).open("ab").close()
        else:
            tempfile.TemporaryFile(dir=Path(path).parent).close()
    except OSError as error:
        raise InputError(f"{typed}: cannot write there ({error.strerror}); name a file in a folder that exists") from error
