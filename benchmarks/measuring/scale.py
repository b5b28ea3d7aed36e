"""The cost of a measurement as networks grow: seconds by purpose, and memory.

    python benchmarks/measuring/scale.py [--sizes 1M 4M ...] [--methods tight allocate quantize] [--budget 30] [--eps 0.25]

Networks have the shapes of GPT-2 (one those of BERT) and random numbers: the rank of each matrix is an eighth of its short side, plus noise
with a tenth of its energy. The loss is the mean over the tensors of ‖W − W₀‖² / ‖W₀‖². It reads every element once and is so cheap that the
figures are the search's own. Each run is a separate process. `peak_bytes` is its largest resident set, minus that of a process that makes
the same network and computes the loss and its gradient once. Times are wall time of wrapped functions on one thread: loss (with gradients),
decompositions, coding (counting bits, writing, reading a file back), and decoding to weights, which happens when the loss reads a tensor and
isn't part of the loss's time.
A row that is in the file isn't measured again, except with `--again`.
"""

import argparse
import importlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, Row
from benchmarks.cases.sizes import SIZES
from nncomplexity.file import bitstream, coarse
from nncomplexity.measure import layers
from nncomplexity.network import Distortion
from nncomplexity.search import factorizations, layouts, method_named, operating_points, problem

FRONT = importlib.import_module("nncomplexity.measure.estimate")  # the package's attribute of this name is the function
RESULTS = ROOT / "benchmarks" / "results" / "scale.json"
METHODS = ("tight", "allocate", "quantize")


def network(size: str) -> dict[str, Tensor]:
    """Tensors by name; the output layer is the embedding."""
    shape, width, blocks, vocabulary, positions = SIZES[size]
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> Tensor:
        rank = min(rows, columns) // 8
        A = torch.randn(rows, rank, generator=generator)
        W = A @ torch.randn(rank, columns, generator=generator).mul_(rank**-0.5)
        return W.mul_(0.95).add_(torch.randn(rows, columns, generator=generator), alpha=0.3).mul_(0.02)

    weights = {"wte.weight": matrix(vocabulary, width), "wpe.weight": matrix(positions, width)}
    weights["lm_head.weight"] = weights["wte.weight"]
    if shape == "bert":
        weights["token_type.weight"] = matrix(2, width) if width < 8 else 0.02 * torch.randn(2, width, generator=generator)
    for block in range(blocks):
        for name, rows, columns in (("qkv", 3, 1), ("proj", 1, 1), ("mlp.up", 4, 1), ("mlp.down", 1, 4)):
            weights[f"h.{block}.{name}.weight"] = matrix(rows * width, columns * width)
            weights[f"h.{block}.{name}.bias"] = 0.02 * torch.randn(rows * width, generator=generator)
        for norm in ("norm_1", "norm_2"):
            weights[f"h.{block}.{norm}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
    return weights


def loss_of(weights: dict[str, Tensor]) -> Callable[[dict[str, Tensor]], Tensor]:
    """The mean over the tensors of ‖W − W₀‖² / ‖W₀‖²."""
    energies = {name: float(weight.square().sum()) for name, weight in weights.items()}

    def loss(candidate: dict[str, Tensor]) -> Tensor:
        parts = [
            torch.nn.functional.mse_loss(candidate[name], weight, reduction="sum") / energies[name]
            for name, weight in weights.items()
        ]
        return torch.stack(parts).mean()

    return loss


class Stopwatch:
    """Wall time inside wrapped functions, by purpose. The time of a nested call counts for the inner function only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._nested = [0.0]

    def wrap(self, owner: Any, name: str, what: str) -> None:
        inner = getattr(owner, name)
        self.seconds.setdefault(what, 0.0)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._nested.append(0.0)
            began = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                spent = time.perf_counter() - began
                self.seconds[what] += spent - self._nested.pop()
                self._nested[-1] += spent

        setattr(owner, name, timed)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def alone(size: str) -> dict[str, Any]:
    """Run the network, its loss and its gradient once, without a search."""
    weights = network(size)
    leaves = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items() if name != "lm_head.weight"}
    leaves["lm_head.weight"] = leaves["wte.weight"]
    loss_of(weights)(leaves).backward()
    return {"peak_bytes": peak(), "checkpoint_bytes": sum(leaf.nbytes for name, leaf in leaves.items() if name != "lm_head.weight")}


def measured(size: str, method: str, budget: int, eps: float) -> dict[str, Any]:
    """One measurement, with its time by purpose."""
    watch = Stopwatch()
    watch.wrap(Distortion, "_measure", "loss")
    watch.wrap(Distortion, "_differentiate", "loss")
    watch.wrap(factorizations.Factorizations, "latents", "decomposition")
    watch.wrap(operating_points, "low_rank_scan", "decomposition")
    watch.wrap(layouts, "numbers", "decomposition")
    watch.wrap(layers, "_effective_rank", "decomposition")
    for owner, name in (
        (FRONT, "LosslessFile"),
        (FRONT, "layers_of"),
        (problem, "count_bits"),
        *((bitstream, name) for name in ("encode", "decode")),
    ):
        watch.wrap(owner, name, "coding")
    for form in (coarse.Dense, coarse.LowRank, coarse.Lossless):
        watch.wrap(form, "decode", "decoding")
    weights = network(size)
    loss = loss_of(weights)
    began = time.perf_counter()
    report = FRONT.estimate(weights, loss, eps, method=method_named(method, budget))
    seconds = time.perf_counter() - began
    return {
        "parameters": report.subject.parameters,
        "tensors": len(report.layers),
        "seconds": round(seconds, 3),
        **{f"{what}_seconds": round(spent, 3) for what, spent in watch.seconds.items()},
        "evaluations": report.evaluations,
        "peak_bytes": peak(),
        "bytes": report.bits // 8,
        "distortion": report.distortion,
        "within": report.within,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--budget", type=int, default=30, help="of tight and allocate; quantize has a fifth of it")
    parser.add_argument("--eps", type=float, default=0.25)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        size, method, budget, eps = arguments.one
        print(json.dumps(alone(size) if method == "alone" else measured(size, method, int(budget), float(eps))))
        return
    record = Record.open(arguments.output, {"budget": arguments.budget, "eps": arguments.eps, "threads": torch.get_num_threads()})
    for size in arguments.sizes:
        base: dict[str, Any] = {}
        for method in arguments.methods:
            budget = max(2, arguments.budget // 5) if method == "quantize" else arguments.budget
            key = {"case": size, "method": method, "budget": budget, "eps": arguments.eps}
            if arguments.again:
                record.rows = [row for row in record.rows if any(row.get(name) != value for name, value in key.items())]
            base = base or _process(size, "alone", budget, arguments.eps)

            def row(base: dict[str, Any] = base, key: dict[str, Any] = key) -> Row:
                found = _process(key["case"], key["method"], key["budget"], key["eps"])
                found["peak_bytes"] -= base["peak_bytes"]
                return {**found, "checkpoint_bytes": base["checkpoint_bytes"]}

            found = record.row(key, row)
            print(f"{size:>5} {method:>8}: {found['seconds']:8.1f} s, {found['peak_bytes'] / 2**20:7.0f} MiB", flush=True)


def _process(size: str, method: str, budget: int, eps: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.measuring.scale", "--one", size, method, str(budget), str(eps)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
