"""What each departure of the authors' code from their paper does to the size of Algorithm 1.

    python benchmarks/measuring/paper_departures.py                                    the digits networks that ship with the project
    python benchmarks/measuring/paper_departures.py --folder DIR --cases DIR/CHECKPOINT --output benchmarks/results/paper_departures_dir.json

All variants are measured on one grid of (τ, Δ), so that an optimiser's luck doesn't change the comparison. A row has the size of the
grid's smallest point within ε for one variant of the algorithm. `over` is this size divided by the size for the paper's text, and
`distortion` is the point's on all the training data.

DIR holds task.py and .safetensors files. The task has loss(weights), logits(weights, inputs) and split("train") -> inputs, labels.
"""

import argparse
import bz2
import math
import pickle
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.cases.networks import ROOT, Case, Weights, find_cases, load_task
from benchmarks.cases.record import Record, Row
from nncomplexity.linalg import SVDCache, matrix_view, pays, rank_for, svd

OUTPUT = ROOT / "benchmarks" / "results" / "paper_departures.json"
DIGITS = ROOT / "examples" / "digits"
BATCH = 512

Array = NDArray[np.float64]
Leaf = tuple[Array, ...]
"""The stored arrays of one tensor, the tensor or its factors. Values are rounded, and zeros may be negative."""


@dataclass(frozen=True)
class Grid:
    """The points at which every variant is measured."""

    taus: int = 17
    steps: int = 49
    low: float = 1e-3
    high: float = 1.0

    def __iter__(self) -> Iterable[tuple[float, float]]:  # type: ignore[override]
        for step in np.geomspace(self.low, self.high, self.steps).tolist():
            for tau in np.linspace(0, 1, self.taus).tolist():
                yield tau, step


@dataclass(frozen=True)
class Measured:
    """One point of the grid. Sizes are in bytes, and are computed only if some ε may accept the point."""

    tau: float
    step: float
    change: float
    """L(θ̂) − L(θ) on all the training data; infinite if it isn't finite."""
    batch_change: float
    """The same on the last minibatch."""
    size: float = math.inf
    negative_zeros: float = math.inf
    """The size if zeros keep the sign that rounding gave them."""
    arrays: float = math.inf
    """The size of the arrays' bytes alone, without pickle's own bytes."""
    integers: float = math.inf
    """The size of the symbols as small integers."""
    alive: float = math.inf
    """The size if tensors that the loss doesn't read are zero."""


@dataclass(frozen=True)
class Reading:
    """A variant of the algorithm: which points it accepts, and how it computes their size."""

    name: str
    size: Callable[[Measured], float] = lambda point: point.size
    change: Callable[[Measured], float] = lambda point: abs(point.change)
    graining: str = "factors"


READINGS = (
    Reading("text"),
    Reading("one singular value fewer", graining="fewer"),
    Reading("U, S and V rounded apart", graining="three"),
    Reading("one-sided test", change=lambda point: point.change),
    Reading("last minibatch", change=lambda point: point.batch_change),
    Reading("negative zeros kept", size=lambda point: point.negative_zeros),
    Reading("no pickle", size=lambda point: point.arrays),
    Reading("small integers", size=lambda point: point.integers),
    Reading("without unread tensors", size=lambda point: point.alive),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=DIGITS)
    parser.add_argument("--cases", nargs="*", default=[], help="FOLDER/CHECKPOINT; all of them where none is named")
    parser.add_argument("--eps", type=float, nargs="+", default=[1.0, 0.1])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    task = load_task(arguments.folder)
    grid = Grid()
    record = Record.open(arguments.output, {"eps": arguments.eps, "grid": vars(grid), "batch": BATCH})
    for case in find_cases([arguments.folder], arguments.cases):
        run(case, Network(case, task.logits, *task.split("train")), grid, arguments.eps, record)
    for row in record.rows:
        print("  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()))


def run(case: Case, network: "Network", grid: Grid, eps: list[float], record: Record) -> None:
    """Add the rows of a case that the record doesn't have."""
    missing = [e for e in eps if not any(row["case"] == case.name and row["eps"] == e for row in record.rows)]
    if not missing:
        return
    record.cases[case.name] = case.about() | decomposition_cost(case)
    points = {
        name: [network.measure(tau, step, name, max(missing)) for tau, step in grid] for name in ("factors", "fewer", "three")
    }  # type: ignore[attr-defined]
    for e in missing:
        whole = smallest(points["factors"], READINGS[0], e)
        for reading in READINGS:
            best = smallest(points[reading.graining], reading, e)
            record.row({"case": case.name, "eps": e, "departure": reading.name}, lambda b=best, r=reading: row(b, r, whole))  # type: ignore[misc]  # noqa: B023 - called at once


def smallest(points: list[Measured], reading: Reading, eps: float) -> Measured | None:
    within = [point for point in points if reading.change(point) <= eps and math.isfinite(reading.size(point))]
    return min(within, key=reading.size, default=None)


def row(best: Measured | None, reading: Reading, whole: Measured | None) -> Row:
    if best is None or whole is None:
        return {"bytes": None, "over": None, "tau": None, "step": None, "distortion": None}
    size = int(reading.size(best))
    return {"bytes": size, "over": size / whole.size, "tau": best.tau, "step": best.step, "distortion": abs(best.change)}


def decomposition_cost(case: Case, repeats: int = 3) -> Row:
    """Processor seconds of all decompositions, which the authors' code repeats at every evaluation, and of one evaluation without them."""
    seconds = []
    matrices = [tensor.reshape(shape) for tensor in case.weights.values() if (shape := matrix_view(tuple(tensor.shape)))]
    for _ in range(repeats):
        begin = time.process_time()
        for matrix in matrices:
            svd(matrix.float())
        seconds.append(time.process_time() - begin)
    return {"svd_cpu_seconds": median(seconds), "evaluation_cpu_seconds": case.evaluation_seconds()[1]}


class Network:
    """A case at points of the grid, with this script's own arithmetic."""

    def __init__(self, case: Case, logits: Callable[[Weights, Tensor], Tensor], inputs: Tensor, labels: Tensor) -> None:
        self._case, self._logits = case, logits
        batch = min(BATCH, len(labels) // 2)
        self._last = inputs[-batch:], labels[-batch:]
        self._floats = {name: tensor for name, tensor in case.weights.items() if tensor.is_floating_point()}
        self._unread = unread(case, self._floats)
        self._svds = SVDCache(self._floats)
        self._losses = self._measure(case.weights)

    def measure(self, tau: float, step: float, graining: str, widest: float) -> Measured:
        """The point's changes of the loss, and its sizes if a change is within the largest ε."""
        leaves = {name: self._leaf(name, tau, step, graining) for name in self._floats}
        decoded = {
            name: decode(leaf).reshape(self._floats[name].shape).to(self._floats[name].dtype) for name, leaf in leaves.items()
        }
        losses = self._measure({**self._case.weights, **decoded})
        changes = [
            loss - original if math.isfinite(loss) else math.inf for loss, original in zip(losses, self._losses, strict=True)
        ]
        if min(changes) > widest:
            return Measured(tau, step, *changes)
        kept = {name: tensor.numpy() for name, tensor in self._case.weights.items() if name not in self._floats}
        positive = {name: tuple(values(part) for part in leaf) for name, leaf in leaves.items()}
        alive = {name: tuple(part * 0 for part in leaf) if name in self._unread else leaf for name, leaf in positive.items()}
        signed = {name: tuple(part.astype(np.float32) for part in leaf) for name, leaf in leaves.items()}
        flat = [part for leaf in positive.values() for part in leaf]
        return Measured(
            tau,
            step,
            *changes,
            size=pickled({**positive, **kept}),
            negative_zeros=pickled({**signed, **kept}),
            arrays=len(bz2.compress(b"".join(part.tobytes() for part in flat))),
            integers=len(bz2.compress(b"".join(symbols(part, step) for part in flat))),
            alive=pickled({**alive, **kept}),
        )

    def _measure(self, weights: Weights) -> list[float]:
        inputs, labels = self._last
        with torch.no_grad():
            return [self._case.loss(weights), float(cross_entropy(self._logits(dict(weights), inputs), labels))]

    def _leaf(self, name: str, tau: float, step: float, graining: str) -> Leaf:
        tensor = self._floats[name].double()
        shape = matrix_view(tuple(tensor.shape))
        if shape is not None:
            found = self._svds[name]
            rank = max(0, rank_for(found.S, tau) - (graining == "fewer"))
            if pays(rank, *shape):
                U, S, Vh = found.U[:, :rank], found.S[:rank], found.Vh[:rank]
                parts = (U, S, Vh) if graining == "three" else (U * S, Vh)
                return tuple(rounded(part, step) for part in parts)
        return (rounded(tensor, step),)


def unread(case: Case, names: Iterable[str]) -> set[str]:
    """Names of tensors that don't change the loss even if they are NaN."""
    original = case.loss(case.weights)
    return {name for name in names if case.loss({**case.weights, name: torch.full_like(case.weights[name], math.nan)}) == original}


def rounded(tensor: Tensor, step: float) -> Array:
    found: Array = (tensor / step).round().mul(step).numpy()
    return found


def decode(leaf: Leaf) -> Tensor:
    match leaf:
        case (U, S, Vh):
            return torch.from_numpy((U * S) @ Vh)
        case (A, B):
            return torch.from_numpy(A @ B)
    return torch.from_numpy(leaf[0])


def values(part: Array) -> NDArray[np.float32]:
    """float32 with every zero positive."""
    return part.astype(np.float32) + np.float32(0)


def symbols(part: NDArray[np.float32], step: float) -> bytes:
    found = np.rint(part / step)
    return found.astype(
        np.int8 if np.abs(found).max(initial=0) < 128 else np.int16 if np.abs(found).max() < 2**15 else np.int32
    ).tobytes()


def pickled(tree: dict[str, Any]) -> int:
    single = {name: leaf[0] if isinstance(leaf, tuple) and len(leaf) == 1 else leaf for name, leaf in tree.items()}
    return len(bz2.compress(pickle.dumps(single, protocol=4)))


if __name__ == "__main__":
    main()
