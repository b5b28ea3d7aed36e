"""How the budget changes the measured dynamics of a training, and how files shared between its checkpoints would.

    python benchmarks/measuring/dynamics.py

Trains the quick grokking run (examples/grokking) and measures every checkpoint with `tight` at several ε and budgets. Each file is
then evaluated on all other checkpoints: `shared_bytes` is the smallest file within ε, from any checkpoint.
Writes benchmarks/results/dynamics.json; `python -m benchmarks.reporting.docs` puts it into docs/.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record
from examples.grokking.config import Config
from examples.grokking.task import Task, task_for
from nncomplexity import Report, estimate
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.search import Tight

OUTPUT = ROOT / "benchmarks" / "results" / "dynamics.json"
TRAIN = ROOT / "examples" / "grokking" / "train.py"


def measured(task: Task, checkpoints: Sequence[Path], eps: Sequence[float], method: Tight) -> list[dict[str, Any]]:
    """A row for each checkpoint and ε."""
    networks = [load_checkpoint(path) for path in checkpoints]
    reports: list[Sequence[Report]] = []
    for network in networks:
        reports.append(estimate(network.tensors, task.loss, eps, method=method))
        print(
            f"step {network.step:g}, {method.name} of {method.budget}: {[report.bits // 8 for report in reports[-1]]} bytes",
            flush=True,
        )
    rows = []
    for network, found in zip(networks, reports, strict=True):
        for which, report in enumerate(found):
            others = [other[which] for other in reports]
            holding = [other for other in others if abs(other.coarse_loss - report.subject.loss) <= report.eps]
            about = {"step": network.step, "budget": method.budget, "eps": report.eps, "loss": report.subject.loss}
            sizes = {"bytes": report.bits // 8, "shared_bytes": min(other.bits for other in holding) // 8}
            rows.append({**about, **sizes, "test_error": task.error(network.tensors, "test"), "evaluations": report.evaluations})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eps", type=float, nargs="+", default=(1.0, 0.1))
    parser.add_argument("--budgets", type=int, nargs="+", default=(62, 400))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    record = Record(arguments.output, {"preset": "quick", "eps": list(arguments.eps), "budgets": list(arguments.budgets)})
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "quick"
        subprocess.run([sys.executable, str(TRAIN), "--preset", "quick", "--out", str(run)], check=True, stdout=subprocess.DEVNULL)
        checkpoints = sorted((run / "checkpoints").glob("*.safetensors"))
        for method in map(Tight, arguments.budgets):
            record.rows += measured(task_for(Config.of_run(run)), checkpoints, arguments.eps, method)
            record.save()


if __name__ == "__main__":
    main()
