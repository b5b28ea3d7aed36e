"""The measured networks: checkpoints, each with the loss of its folder's task module.

A folder holds `task.py`, with a function `loss(weights)` that takes a dict of tensors, and `.safetensors` files, in the folder or
in its subfolder `checkpoints`.
"""

import importlib.util
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.network import Skeleton, skeleton_of

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (ROOT / "examples" / "digits", ROOT / "examples" / "grokking")
"""The folders that are measured by default."""

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Case:
    """One network: its tensors, and its loss as a function of such tensors."""

    name: str
    """The folder's last component and the file's stem: "digits/mlp"."""
    sha256: str
    weights: dict[str, Tensor]
    loss_fn: Callable[[Weights], Any]

    @property
    def skeleton(self) -> Skeleton:
        return skeleton_of(self.weights)

    def loss(self, weights: Weights) -> float:
        """The loss of some weights: one evaluation."""
        with torch.no_grad():
            return float(self.loss_fn(dict(weights)))

    def about(self) -> dict[str, Any]:
        """The record's entries on the network."""
        skeleton = self.skeleton
        return {
            "sha256": self.sha256,
            "parameters": skeleton.parameters,
            "raw_bytes": skeleton.raw_bits // 8,
            "loss": self.loss(self.weights),
        }

    def evaluation_seconds(self, repeats: int = 5) -> tuple[float, float]:
        """Wall and processor seconds of one loss evaluation outside a search: medians of a few, after one to warm up."""
        self.loss(self.weights)
        wall, cpu = [], []
        for _ in range(repeats):
            begin, begin_cpu = time.perf_counter(), time.process_time()
            self.loss(self.weights)
            wall.append(time.perf_counter() - begin)
            cpu.append(time.process_time() - begin_cpu)
        return median(wall), median(cpu)


def find_cases(folders: Sequence[Path], wanted: Sequence[str] = ()) -> list[Case]:
    """The cases in these folders, in the order of the folders and of the files' names; only the `wanted` ones, if names are given.

    Raises FileNotFoundError for a folder without a task or a checkpoint, and ValueError for a wanted name that doesn't exist.
    """
    found = [(folder, file) for folder in folders for file in checkpoints_in(folder)]
    names = [case_name(folder, file) for folder, file in found]
    if unknown := set(wanted) - set(names):
        raise ValueError(f"--cases: expected some of {', '.join(names)}, got {', '.join(sorted(unknown))}")
    tasks = {folder: load_task(folder) for folder in folders}
    cases = []
    for (folder, file), name in zip(found, names, strict=True):
        if not wanted or name in wanted:
            checkpoint = load_checkpoint(file)
            cases.append(Case(name, checkpoint.sha256, checkpoint.tensors, tasks[folder].loss))
    return cases


def checkpoints_in(folder: Path) -> list[Path]:
    """The folder's .safetensors files, by name."""
    files = sorted((folder / "checkpoints").glob("*.safetensors")) or sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "task.py").is_file():
        raise FileNotFoundError(f"{folder}: expected task.py and .safetensors files, here or in checkpoints/")
    return files


def case_name(folder: Path, file: Path) -> str:
    return f"{folder.resolve().name}/{file.stem}"


def load_task(folder: Path) -> ModuleType:
    """Import the folder's task.py as a module with a name of its own, so that several folders can each have one."""
    path = folder / "task.py"
    name = f"task_of_{folder.resolve().name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path[:0] = [str(folder.resolve()), str(ROOT)]
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.path[:2]
    return module
