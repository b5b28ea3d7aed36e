"""How much faster the spectral-entropy penalty is than plain autograd through torch.linalg.svd, forward and backward together.

    python benchmarks/measuring/spectral_penalty.py [--repeats 15] [--output benchmarks/results/spectral_penalty.json]

Every method computes the mean spectral entropy of the same float32 Gaussian matrices and its gradient. The methods take turns, so
that other work of the machine slows all of them alike; a figure is the median over the turns. `seconds` is wall time,
`cpu_seconds` is processor time over all threads, and a ratio is the median, over the turns, of the other method's wall time divided by
the penalty's. `gradient_error` is the largest relative Frobenius error of a matrix's gradient against an SVD in float64.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.cases.source import made_by
from nncomplexity.training import spectral_entropy_penalty

WORKLOADS: dict[str, list[tuple[int, int]]] = {
    # The matrices of the paper's network for addition: embedding, q, k, v, o, the two of the MLP, output layer.
    "one-layer transformer": [(115, 128), *[(128, 128)] * 4, (128, 512), (512, 128), (128, 115)],
    "256 x 256": [(256, 256)],
    "512 x 512": [(512, 512)],
    "1024 x 256": [(1024, 256)],
}


def penalty(matrices: Sequence[Tensor]) -> Tensor:
    return spectral_entropy_penalty(matrices, beta=1.0)


def thin_svd(matrices: Sequence[Tensor]) -> Tensor:
    return torch.stack([_entropy(torch.linalg.svd(x, full_matrices=False).S) for x in matrices]).mean()


def full_svd(matrices: Sequence[Tensor]) -> Tensor:
    """`torch.linalg.svd` with its default `full_matrices`."""
    return torch.stack([_entropy(torch.linalg.svd(x).S) for x in matrices]).mean()


METHODS: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {"penalty": penalty, "thin_svd": thin_svd, "full_svd": full_svd}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "results" / "spectral_penalty.json")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    results = [
        measure(workload, shapes, threads, arguments.repeats)
        for threads in sorted({1, cores})
        for workload, shapes in WORKLOADS.items()
    ]
    report = {
        "settings": {"repeats": arguments.repeats, "dtype": "float32", "seed": 0, "torch": torch.__version__},
        "machine": {
            "cpu": _cpu_model(),
            "cores": cores,
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "platform": platform.platform(),
            "python": platform.python_version(),
            **made_by(spectral_entropy_penalty.__module__),
        },
        "results": results,
    }
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


def measure(workload: str, shapes: Sequence[tuple[int, int]], threads: int, repeats: int) -> dict[str, object]:
    """One row of the table: the medians of each method, in turns, on `threads` threads."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    exact = _gradients(thin_svd, [x.detach().double().requires_grad_() for x in matrices])
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    errors: dict[str, float] = {}
    for name, method in METHODS.items():
        gradients = _gradients(method, matrices)  # the first call also warms up
        errors[name] = max(((g - e).norm() / e.norm()).item() for g, e in zip(gradients, exact, strict=True))
    for _ in range(repeats):
        for name, method in METHODS.items():
            wall, cpu = time.perf_counter(), time.process_time()
            _gradients(method, matrices)
            seconds[name].append(time.perf_counter() - wall)
            cpu_seconds[name].append(time.process_time() - cpu)
    row: dict[str, object] = {"workload": workload, "threads": threads}
    for name in METHODS:
        row[name] = {
            "seconds": statistics.median(seconds[name]),
            "cpu_seconds": statistics.median(cpu_seconds[name]),
            "gradient_error": errors[name],
        }
    for name in ("thin_svd", "full_svd"):
        turns = zip(seconds[name], seconds["penalty"], strict=True)
        row[f"ratio_to_{name}"] = round(statistics.median(other / ours for other, ours in turns), 2)
    ours = statistics.median(seconds["penalty"])
    print(f"{workload:>22}, {threads} threads: {1e3 * ours:7.2f} ms", end="")
    print(f", thin SVD {row['ratio_to_thin_svd']} times that, full SVD {row['ratio_to_full_svd']} times")
    return row


def _gradients(method: Callable[[Sequence[Tensor]], Tensor], matrices: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(method(matrices), matrices)


def _entropy(S: Tensor) -> Tensor:
    shares = S / S.sum()
    return -(shares * shares.log()).sum()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
