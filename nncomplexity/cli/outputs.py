"""The files and streams for results. They are checked before the search begins. The output of users' code goes to standard error."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import nncomplexity
from nncomplexity.cli.table import WIDTH
from nncomplexity.errors import InputError
from nncomplexity.words import TimeLeft, printable

if TYPE_CHECKING:
    from nncomplexity.bounds import Bound, DescriptionLength, LossUnit
    from nncomplexity.measure import Report
    from nncomplexity.search import Progress as SearchProgress

STDOUT = "-"
"""The name that stands for standard output."""


def names_by_eps(save: str | None, eps: Sequence[str]) -> list[str | None]:
    """The file for each ε: `{eps}` in `save` is replaced by the ε, as the user typed it.

    Raises:
        InputError: several ε would share one file.

    >>> names_by_eps("net_{eps}.coarse", ["1e-1", "0.01"])
    ['net_1e-1.coarse', 'net_0.01.coarse']
    """
    if save is not None and len(eps) > 1 and "{eps}" not in save:
        raise InputError(f"--save: with several --eps, expected {{eps}} in the name, such as model_{{eps}}.coarse, got {save!r}")
    return [None if save is None else save.replace("{eps}", text) for text in eps]


def check_writable(outputs: Sequence[str | None], *, inputs: Sequence[str | None]) -> None:
    """Check that each output can be written, and that none overwrites an input or another output. None stands for no file.

    Raises:
        InputError: an output can't be written, or would overwrite an input or another output.
    """
    # A symbolic link could lead from an output to an input. realpath, unlike Path.resolve, accepts links that form a circle.
    taken = {os.path.realpath(name) for name in inputs if name is not None}
    for name in outputs:
        if name is None:
            continue
        if not name:
            raise InputError("expected the name of a file to write, got ''; name one")
        target = Path(name)
        try:
            if target.is_dir():
                raise InputError(f"{name}: it is a folder; name a file in it")
            if target.exists() and not target.is_file():
                raise InputError(
                    f"{name}: it is not a regular file, so it can't be replaced by a finished file; choose another name"
                )
            if os.path.realpath(name) in taken:
                raise InputError(f"{name}: it would overwrite another file of this call; choose another name")
            taken.add(os.path.realpath(name))
            # The only reliable test is to write a file. Permissions don't say whether the file system is read-only.
            tempfile.TemporaryFile(dir=target.parent).close()
        except OSError as error:
            raise InputError(f"{name}: cannot write there ({error.strerror}); name a file in a folder that exists") from error


@dataclass(frozen=True)
class Written:
    """The outputs of a command, except its table.

    Attributes:
        files: the file for each ε; None if it isn't saved. An ε that is given twice has one file.
        json: the value of `--json`: a file, or `STDOUT` to print the JSON instead of the table.
        best: the file for the best ε.
    """

    files: tuple[str | None, ...]
    json: str | None
    best: str | None = None

    @property
    def names(self) -> list[str | None]:
        """All files that will be written, without repeats."""
        return [*dict.fromkeys(self.files), self.best, self._json_file]

    @property
    def _json_file(self) -> str | None:
        return None if self.json == STDOUT else self.json

    def deliver(self, save: Callable[[], None], document: Callable[[], dict[str, Any]], page: Callable[[], str]) -> None:
        """Save the files, write the JSON, print the table or the JSON, and print the names of the written files.

        The table is printed even if a file can't be written, because the search may have taken hours.
        """
        try:
            save()
            text = nncomplexity.measure.json_text(document())
            write_json(self._json_file, text)
        finally:
            if self.json != STDOUT:
                print(page(), flush=True)
        if self.json == STDOUT:
            print(text, flush=True)
        elif written := [name for name in self.names if name is not None]:
            print(f"\nWritten: {printable(', '.join(dict.fromkeys(written)))}", flush=True)


def write_json(path: str | None, document: str) -> None:
    """Write the document to a file, completely or not at all. If the path is None, nothing is written."""
    if path is not None:
        # A typed path may have bytes that are not Unicode. Backslash escapes make it valid JSON.
        nncomplexity.file.save_bytes(path, f"{document}\n".encode(errors="backslashreplace"))


def page_width() -> int:
    """The terminal's width, but at least the width that tables need."""
    return max(WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH


@contextlib.contextmanager
def stdout_for_results() -> Iterator[None]:
    """Send the output of the user's code to standard error, because standard output is for the table or the JSON.

    The output of programs that the code starts goes to standard error too, unless the streams belong to a notebook or a test. The current
    folder is restored at the end, because the names of outputs are relative to it.
    """
    descriptor = _descriptor_redirected() if _has_descriptors() else contextlib.nullcontext()
    with contextlib.chdir("."), contextlib.redirect_stdout(sys.stderr), descriptor:
        yield


def _has_descriptors() -> bool:
    try:
        return (sys.stdout.fileno(), sys.stderr.fileno()) == (1, 2)
    except (AttributeError, OSError, ValueError):  # closed streams are None; replaced ones may have no descriptor
        return False


@contextlib.contextmanager
def _descriptor_redirected() -> Iterator[None]:
    # Programs that the user's code starts inherit descriptor 1, and don't know `sys.stdout`.
    stdout = sys.stdout
    stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        stdout.flush()  # writes text that the code printed to sys.__stdout__, while the descriptor still leads to standard error
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def progress_bar(time_limit: float | None = None, unit: str = "evaluations") -> Iterator[SearchProgress | None]:
    """A progress bar with an estimate of the time left, on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    # Without markup, because a description may have brackets, which rich would take for styles.
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn(f"{{task.completed:.0f}} of {{task.total:.0f}} {unit}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        # The total is known only at the first report of progress.
        task = bar.add_task("starting", total=1, left="")
        left = TimeLeft(time_limit)
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, description=what, left=left.in_words(done, total)
        )


def no_length(
    reports: Sequence[Report], lengths: Sequence[DescriptionLength | None], n: int | None, unit: LossUnit | None
) -> str | None:
    """The reason why there is no description length although `n` was given. None if there is one, or if `n` was not given."""
    if n is None or any(lengths):
        return None
    subject = reports[0].subject
    if subject.divergence is not None:
        return "the distortion is a divergence between outputs, so it is not a code length of labels"
    return nncomplexity.bounds.why_no_code_length(unit, loss=subject.loss, zero_loss=subject.zero_loss)


def report_document(
    reports: Sequence[Report],
    files: Sequence[str | None],
    bounds: Sequence[Bound | None],
    lengths: Sequence[DescriptionLength | None],
    about: dict[str, Any],
) -> dict[str, Any]:
    """The content of report.json: the reports, each with the name of its file, its bound and its description length.

    Args:
        reports: one for each ε.
        files: the name of each report's file; None if it was not saved.
        bounds: None if no risk was measured.
        lengths: None if the number of examples was not given.
        about: entries for the top level of the document.
    """
    document = nncomplexity.measure.reports_dict(reports, **about)
    for entry, report, file, promise, length in zip(document["results"], reports, files, bounds, lengths, strict=True):
        entry |= {"file": file, "codec": report.file.codec.name, "status": report.status, "bound": promise and promise.to_dict()}
        entry["description_length"] = length and {**asdict(length), "total_bits": length.total_bits}
    return document
