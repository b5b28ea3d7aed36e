"""The display of a run: a line for each recorded epoch, and on a terminal a progress bar with the time left."""

import math
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from examples.grokking.recording import Watcher, recorded_epochs

_COLUMNS = ("epoch", "train_loss", "test_loss", "train_accuracy", "test_accuracy", "l2_norm", "effective_rank")


class Display(Watcher):
    """Lines on standard output, the progress bar on standard error; a context manager."""

    def __init__(self, epochs: int, eps: Sequence[str]) -> None:
        self._epochs = epochs
        self._columns = (*_COLUMNS, *(f"bits@{text}" for text in eps))
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            redirect_stdout=sys.stdout.isatty(),
        )
        self._bar = self._progress.add_task("training", total=epochs, left="")
        self._left = TimeLeft(epochs)

    def __enter__(self) -> Self:
        if not self._progress.disable:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # Older releases of rich write an empty line at the end of a display that is switched off.
        if not self._progress.disable:
            self._progress.stop()

    def resumed(self, epoch: int) -> None:
        if epoch:
            print("the run is complete" if epoch == self._epochs else f"going on after epoch {epoch}", flush=True)
        print("  ".join(f"{_title(name):>{_width(name)}}" for name in self._columns), flush=True)
        self._left.trained(epoch)
        self._progress.update(self._bar, completed=epoch)

    def trained(self, epoch: int) -> None:
        self._left.trained(epoch)
        self._progress.update(self._bar, completed=epoch, description="training", left=self._left.text())

    def measuring(self, done: float, total: float, what: str) -> None:
        share = f" {min(done / total, 1):.0%}" if total else ""
        self._progress.update(self._bar, description=f"{what}{share}")

    def recorded(self, line: dict[str, Any]) -> None:
        self._left.recorded()
        print("  ".join(f"{_cell(name, line[name]):>{_width(name)}}" for name in self._columns), flush=True)


class TimeLeft:
    """Estimates the seconds left: the coming epochs and measurements are assumed to take as long as the last ones."""

    def __init__(self, epochs: int) -> None:
        self._stops = recorded_epochs(epochs)
        self._epochs = epochs
        self._epoch = 0
        self._since = time.monotonic()
        self._per_epoch: float | None = None
        self._per_record: float | None = None

    def trained(self, epoch: int) -> None:
        taken = self._lap()
        if epoch == self._epoch + 1:
            self._per_epoch = taken if self._per_epoch is None else 0.9 * self._per_epoch + 0.1 * taken
        self._epoch = epoch

    def recorded(self) -> None:
        self._per_record = self._lap()

    def seconds(self) -> float | None:
        """The estimate; None before the first epoch."""
        if self._per_epoch is None:
            return None
        records = sum(stop > self._epoch for stop in self._stops)
        return (self._epochs - self._epoch) * self._per_epoch + records * (self._per_record or 0.0)

    def text(self) -> str:
        seconds = self.seconds()
        if seconds is None:
            return ""
        minutes, rest = divmod(math.ceil(seconds), 60)
        return f"about {minutes}:{rest:02d} left"

    def _lap(self) -> float:
        now = time.monotonic()
        taken, self._since = now - self._since, now
        return taken


def _title(name: str) -> str:
    return name.replace("accuracy", "acc").replace("effective_rank", "eff_rank")


def _width(name: str) -> int:
    return max(len(_title(name)), 9 if name.startswith("bits@") else 6)


def _cell(name: str, value: float) -> str:
    if name == "epoch" or name.startswith("bits@"):
        return f"{value:d}"
    return f"{value:.1f}" if name in ("l2_norm", "effective_rank") else f"{value:.4f}"
