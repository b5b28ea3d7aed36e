"""The record of a benchmark: a JSON file of settings, machine and rows. The whole file is written after each row.

A row is identified by its key (case, checkpoint, ε, method, budget, seed and the like). A benchmark that was interrupted finds its
rows in the file, and continues with the others.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cases.source import made_by
from nncomplexity.file import save_bytes

SCHEMA = 1
Row = dict[str, Any]
Content = Mapping[str, Any]
"""The content of a record file."""


def record_options(description: str | None, output: Path) -> argparse.ArgumentParser:
    """A parser with the options of a benchmark that has a record: the file, and whether only its table is printed.

    Args:
        description: the benchmark's docstring.
        output: the file where none is given.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=output)
    parser.add_argument("--table", action="store_true", help="print the table of the record, and measure nothing")
    return parser


@dataclass
class Record:
    """A benchmark's file and its content."""

    path: Path
    settings: dict[str, Any] = field(default_factory=dict)
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Methods that could not run here, each with the reason."""

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> "Record":
        """The record at `path` with its rows, or an empty one. The settings are replaced by these."""
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if content.get("schema", SCHEMA) != SCHEMA:
            raise ValueError(f"{path.name}: expected schema {SCHEMA}, got {content['schema']}; move the file away")
        return cls(path, dict(settings), content.get("cases", {}), content.get("rows", []), content.get("skipped", {}))

    def row(self, key: Mapping[str, Any], measure: Callable[[], Row]) -> Row:
        """The row with this key. If the file has none, the row is measured and saved with the processor and the source that measured it."""
        for row in self.rows:
            if all(row.get(name) == value for name, value in key.items()):
                return row
        row = {**key, **measure(), "cpu": _cpu_model(), **made_by()}
        self.rows.append(row)
        self.save()
        return row

    def forget(self, methods: Collection[str], cases: Collection[str]) -> None:
        """Delete these methods' rows on these cases, so that they are measured again."""
        self.rows = [row for row in self.rows if row["method"] not in methods or row["case"] not in cases]

    def save(self) -> None:
        """Write the file, completely or not at all."""
        content = {
            "schema": SCHEMA,
            "settings": self.settings,
            "machine": machine(),
            "cases": self.cases,
            "skipped": self.skipped,
            "rows": self.rows,
        }
        save_bytes(self.path, (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def machine() -> dict[str, Any]:
    """The versions and the machine, on which the figures depend."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        **made_by(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
