"""The time of a training epoch of the paper's networks, and of its parts.

python benchmarks/measuring/grokking_epoch.py --epochs 30

Writes benchmarks/results/grokking_epoch.json: for each task and number of threads, the median wall time of an epoch with the
library's spectral-entropy penalty, with plain autograd through torch.linalg.svd, and without a penalty; and what each part of
the first takes, measured separately.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.cases.source import made_by  # noqa: E402
from examples.grokking import training  # noqa: E402
from examples.grokking.config import preset  # noqa: E402
from nncomplexity.training import spectral_entropy_penalty, weight_noise  # noqa: E402


def plain_penalty(model: nn.Module, beta: float) -> Tensor:
    """β times the mean spectral entropy, differentiated by PyTorch through the singular value decomposition."""
    entropies = []
    for matrix in model.parameters():
        if matrix.ndim == 2:
            _, sigma, _ = torch.linalg.svd(matrix, full_matrices=False)
            share = sigma / sigma.sum()
            entropies.append(torch.special.entr(share).sum())
    return beta * torch.stack(entropies).mean()


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    for _ in range(3):
        action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def epoch_seconds(operation: str, repeats: int, *, penalty: Callable[[nn.Module, float], Tensor] | None) -> float:
    """Median seconds of an epoch of `full` training with this penalty, or with none."""
    trainer = training.Trainer(preset("paper", operation, **({} if penalty else {"beta": 0.0})))
    library = training.spectral_entropy_penalty
    training.spectral_entropy_penalty = penalty or library
    try:
        return median_seconds(trainer.train_epoch, repeats)
    finally:
        training.spectral_entropy_penalty = library


def part_seconds(operation: str, repeats: int) -> dict[str, float]:
    """Median seconds in an epoch of each part of an update, each part measured separately."""
    config = preset("paper", operation)
    trainer = training.Trainer(config)
    trainer.train_epoch()
    rows = torch.arange(len(trainer.train) // trainer.updates_per_epoch)
    noise = torch.Generator().manual_seed(0)

    def forward() -> Tensor:
        return nn.functional.cross_entropy(trainer.model(trainer.train.tokens[rows]), trainer.train.answers[rows])

    def add_and_remove_noise() -> None:
        with weight_noise(trainer.model, config.noise, noise):
            pass

    seconds = {
        "forward": median_seconds(forward, repeats),
        "forward and backward": median_seconds(lambda: forward().backward(), repeats),
        "penalty": median_seconds(lambda: spectral_entropy_penalty(trainer.model, config.beta).backward(), repeats),
        "noise": median_seconds(add_and_remove_noise, repeats),
        "optimizer": median_seconds(trainer.optimizer.step, repeats),
    }
    seconds["backward"] = seconds.pop("forward and backward") - seconds["forward"]
    return {part: value * trainer.updates_per_epoch for part, value in seconds.items()}


def measure(operation: str, threads: int, repeats: int) -> dict[str, object]:
    torch.set_num_threads(threads)
    library = epoch_seconds(operation, repeats, penalty=spectral_entropy_penalty)
    parts = part_seconds(operation, repeats)
    return {
        "operation": operation,
        "threads": threads,
        "config": asdict(preset("paper", operation)),
        "seconds_per_epoch": {
            "library penalty": library,
            "plain autograd through torch.linalg.svd": epoch_seconds(operation, repeats, penalty=plain_penalty),
            "no penalty": epoch_seconds(operation, repeats, penalty=None),
        },
        "part_seconds": parts,
        "part_shares": {part: value / library for part, value in parts.items()} | {"rest": 1 - sum(parts.values()) / library},
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--epochs", type=int, default=30, help="epochs to take the median of")
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options.add_argument("--operations", nargs="+", default=["addition", "subtraction"])
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "grokking_epoch.json")
    arguments = options.parse_args()
    results = [measure(operation, threads, arguments.epochs) for operation in arguments.operations for threads in arguments.threads]
    machine = {"processor": platform.processor() or platform.machine(), "cores": torch.multiprocessing.cpu_count()}
    machine |= {"torch": torch.__version__, "python": platform.python_version(), **made_by(spectral_entropy_penalty.__module__)}
    content = {"benchmark": "grokking_epoch", "machine": machine, "epochs": arguments.epochs, "results": results}
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(content, indent=1) + "\n")
    for result in results:
        seconds = ", ".join(f"{name} {value:.3f} s" for name, value in result["seconds_per_epoch"].items())
        shares = ", ".join(f"{name} {value:.0%}" for name, value in result["part_shares"].items())
        print(f"{result['operation']}, {result['threads']} threads: {seconds}; {shares}")


if __name__ == "__main__":
    main()
