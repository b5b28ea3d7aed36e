"""A small training run for `track`: checkpoints of a linear classifier, and a task module whose loss reports each call."""

from pathlib import Path

import torch
from safetensors.torch import save_file

QUICK = ["--method", "quantize", "--budget", "12"]
TIMES = ("seconds", "cpu_seconds")

TASK = """
import multiprocessing, os, sys, time, warnings
from functools import cache
from pathlib import Path
import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

@cache
def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 6, generator=generator)
    return inputs, (inputs[:, :3]).argmax(1)

def inputs(): return data()

def logits(network, inputs=None):
    inputs = data()[0] if inputs is None else inputs
    if isinstance(network, nn.Module):
        return network(inputs)
    return inputs @ network["weight"].T + network["bias"]

def loss(network):
    print("a loss was asked for")
    return cross_entropy(logits(network), data()[1])

def slow(network):
    time.sleep(0.02)
    return loss(network)

def noisy(network):
    return loss(network) + 1e-3 * torch.randn(())

def error(network):
    return (logits(network).argmax(1) != data()[1]).double().mean()

def small(network): return (network["weight"].double() ** 2).mean()

def by_a_loader(network):
    assert list(range(2)) == [number for number in DataLoader(range(2), num_workers=1, collate_fn=lambda rows: rows[0])]
    return 1.0

def start_method(network): return multiprocessing.get_all_start_methods().index(multiprocessing.get_start_method())
def threads(network): return torch.get_num_threads()
def dtype(network): return torch.get_default_dtype().itemsize
def underflow(network):
    try: return float(np.exp(np.float64(-800)))
    except FloatingPointError: return 1.0
def warning(network):
    try: warnings.warn("a warning of the task's")
    except UserWarning: return 1.0
    return 0.0
def place(network): return len(os.getcwd())
def arguments(network): return len(sys.argv)
def environment(network): return len(os.environ["OF_THE_TESTS"])

def nothing(network): return float("nan")
def build(): return nn.Linear(6, 3)
def shuffled(seed): return {"weight": torch.randn(3, 6), "bias": torch.zeros(3)}, lambda network: 2 + error(network)
def raising(network): raise RuntimeError("no such layer")
def nan_at_ten(network): return loss(network) if float(network["weight"].sum()) < 20 else float("nan")

def dying(network):
    if float(network["weight"].sum()) > 20:
        os._exit(9)
    return loss(network)
"""


def weights(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {"weight": step * torch.eye(3, 6) + 0.1 * torch.randn(3, 6, generator=generator), "bias": torch.tensor([0.1, 0.0, 0.02])}


def make_training(folder: Path, steps: tuple[int, ...] = (1, 2, 10)) -> None:
    """Write mytask.py, and run/step_N.safetensors for each step."""
    (folder / "mytask.py").write_text(TASK, encoding="utf-8")
    (folder / "run").mkdir(exist_ok=True)
    for step in steps:
        save_file(weights(step), folder / "run" / f"step_{step}.safetensors")


def untimed(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The rows without their times, sorted."""
    kept = [{key: value for key, value in row.items() if key not in TIMES} for row in rows]
    return sorted(kept, key=lambda row: (str(row["kind"]), str(row["checkpoint"]), str(row["seed"])))
