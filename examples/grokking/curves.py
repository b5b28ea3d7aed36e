"""Curves of runs: read from their folders, and averaged over seeds."""

import bz2
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from examples.grokking.config import Config
from examples.grokking.folder import Line, RunFolder, read_lines
from examples.grokking.task import task_for
from nncomplexity.errors import InputError

Series = Mapping[float, float]
"""A quantity by epoch, or by ε."""


@dataclass(frozen=True)
class Curve:
    """Means over seeds at x, and their standard errors (0 for one seed)."""

    label: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    error: tuple[float, ...]


def mean_curve(label: str, series: Sequence[Series]) -> Curve:
    """The curve over the x that all series have."""
    x = sorted(set.intersection(*(set(one) for one in series)))
    values = np.array([[one[at] for at in x] for one in series])
    spread = values.std(axis=0, ddof=1) / math.sqrt(len(series)) if len(series) > 1 else np.zeros(len(x))
    return Curve(label, tuple(x), tuple(values.mean(axis=0).tolist()), tuple(spread.tolist()))


@dataclass(frozen=True)
class Run:
    """One run's record."""

    path: Path
    config: Config
    metrics: list[Line]
    measurements: dict[str, list[Line]]
    """By kind (`Settings.kind`)."""

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        folder = RunFolder.open(path)
        metrics = read_lines(folder.metrics)
        if not metrics:
            raise InputError(f"{path}: nothing is recorded there yet; train it first")
        files = sorted((folder.path / "measurements").glob("*.jsonl"))
        return cls(folder.path, folder.config, metrics, {file.stem: read_lines(file) for file in files})

    @property
    def last(self) -> int:
        """The last recorded epoch."""
        return int(self.metrics[-1]["epoch"])

    @cached_property
    def training_examples(self) -> int:
        return task_for(self.config).size("train")

    def metric(self, name: str) -> Series:
        """One column of metrics.jsonl by epoch."""
        return {line["epoch"]: line[name] for line in self.metrics}

    def measured(self, kind: str, eps: str, value: Callable[[Line], Any]) -> Series:
        """A quantity of the measurements at ε by epoch. Of repeated measurements the latest counts. Empty if there is none."""
        lines = self.measurements.get(kind, [])
        return {line["epoch"]: value(line) for line in lines if float(line["eps"]) == float(eps)}

    def final(self, kind: str, value: Callable[[Line], Any]) -> Series:
        """A quantity of the last checkpoint by ε."""
        return {float(line["eps"]): value(line) for line in self.measurements.get(kind, []) if line["epoch"] == self.last}

    def raw_bytes(self) -> Series:
        """The length of the bzip2 of all unchanged weights, by epoch."""
        folder = RunFolder.open(self.path)
        sizes: dict[float, float] = {}
        for epoch in folder.checkpoints():
            weights = folder.load_checkpoint(epoch)
            sizes[epoch] = len(bz2.compress(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))))
        return sizes


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seeds."""

    config: Config
    runs: tuple[Run, ...]

    def curve(self, label: str, series: Callable[[Run], Series]) -> Curve | None:
        """The mean over the runs; None if a run has no such values."""
        found = [series(run) for run in self.runs]
        return mean_curve(label, found) if all(found) else None


def measured_by(groups: Sequence[Group]) -> str:
    """The versions that made the runs' measurements, as far as these record them."""
    lines = [line for group in groups for run in group.runs for several in run.measurements.values() for line in several]
    versions = sorted({str(line.get("version", "of an unknown version")) for line in lines})
    return f"nncomplexity {', '.join(versions)}" if versions else ""


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Groups of runs with the same configuration apart from the seed, in the order of the runs."""
    groups: dict[Config, list[Run]] = {}
    for run in runs:
        members = groups.setdefault(replace(run.config, seed=0), [])
        for other in members:
            if other.config.seed == run.config.seed:
                raise InputError(f"{run.path}: the same run as {other.path}; leave one of them out")
        members.append(run)
    return [Group(config, tuple(members)) for config, members in groups.items()]
