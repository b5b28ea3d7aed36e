"""The dynamics of a grokking run of the paper's preset under the function distortion, at three efforts and with several search seeds.

    python -m benchmarks.measuring.paper_dynamics [--seeds 3] [--run FOLDER]     # about forty minutes of one core
    python -m benchmarks.measuring.paper_dynamics --table                          # the tables of what was measured

Trains `examples/grokking/train.py --preset paper --seed 3`, a seed of training that is in no other record. The peak is looked for with a
quarter of the evaluations that the default takes at the end of training. Then the checkpoint at the peak and the last one are measured by
the default, and with a quarter and twice the evaluations that the default takes for the same checkpoint and seed. The distortion is the KL
divergence of the outputs over all equations. Writes benchmarks/results/paper_dynamics.json, row by row.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from itertools import product
from pathlib import Path

import torch

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, Row, record_options
from benchmarks.reporting.paper_dynamics import efforts as efforts_table
from benchmarks.reporting.paper_dynamics import peak_of, scan
from examples.grokking.config import Config
from examples.grokking.data import equations
from examples.grokking.task import Task, task_for
from nncomplexity import Divergence, estimate
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.search import Tight

OUTPUT = ROOT / "benchmarks" / "results" / "paper_dynamics.json"
TRAIN = ROOT / "examples" / "grokking" / "train.py"
SEED = 3
"""Of the training."""
EPS = 0.1
FACTORS = {"quarter": 0.25, "twice": 2}
"""Of the default's evaluations."""
EPOCHS = range(60, 160)
"""Where the peak is looked for."""


def train(folder: Path) -> None:
    """Train the run, or go on with what is there. Its own measurements are of the cheapest kind, because they are not used."""
    command = [sys.executable, str(TRAIN), "--preset", "paper", "--seed", str(SEED), "--method", "quantize", "--budget", "2"]
    subprocess.run([*command, "--out", str(folder)], check=True, stdout=subprocess.DEVNULL)


def measured(task: Task, checkpoint: Path, method: Tight, seed: int) -> Row:
    """Bits of one search."""
    inputs = equations(task.config.operation, task.config.prime).tokens
    weights = load_checkpoint(checkpoint).tensors
    report = estimate(weights, Divergence(task.logits, inputs, probe=0), EPS, method=method, seed=seed)
    return {
        "bits": report.bits,
        "reached": report.distortion,
        "evaluations": report.evaluations,
        "cpu_seconds": round(report.cpu_seconds, 1),
        "origin": report.origin,
        "converged": report.converged,
    }


def run(folder: Path, seeds: int, output: Path, efforts: Sequence[str] = tuple(FACTORS)) -> Record:
    """Measure the rows that the file at `output` doesn't have yet, for a run that is trained."""
    task = task_for(Config.of_run(folder))
    checkpoints = {int(path.stem.rpartition("_")[2]): path for path in sorted((folder / "checkpoints").glob("*.safetensors"))}
    end = max(checkpoints)
    record = Record.open(output, {"preset": "paper", "training_seed": SEED, "eps": EPS, "seeds": seeds})
    record.cases = {str(epoch): metrics for epoch, metrics in _metrics(folder).items() if epoch in EPOCHS or epoch == end}

    def row(epoch: int, effort: str, seed: int, evaluations: float | None) -> Row:
        key = {"epoch": epoch, "effort": effort, "seed": seed}
        found = record.row(key, partial(measured, task, checkpoints[epoch], Tight(budget=evaluations), seed))
        print(*key.values(), found["bits"], flush=True)
        return found

    quarter = row(end, "default", 0, None)["evaluations"] / 4
    for epoch in (epoch for epoch in checkpoints if epoch in EPOCHS):
        row(epoch, "scan", 0, quarter)
    peak = peak_of(record.rows)
    searches = list(product(range(seeds), (peak, end)))
    spent = {(seed, epoch): row(epoch, "default", seed, None)["evaluations"] for seed, epoch in searches}
    for effort, (seed, epoch) in product(efforts, searches):
        row(epoch, effort, seed, FACTORS[effort] * spent[seed, epoch])
    return record


def _metrics(folder: Path) -> dict[int, Row]:
    """The losses and accuracies of the recorded epochs."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    names = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
    return {line["epoch"]: {name: line[name] for name in names} for line in lines}


def main() -> None:
    parser = record_options(__doc__, OUTPUT)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--efforts", nargs="*", choices=list(FACTORS), default=list(FACTORS), help="besides the default")
    parser.add_argument(
        "--run", type=Path, help="a folder for the training, which is kept; without it one that is deleted afterwards"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        with tempfile.TemporaryDirectory() if arguments.run is None else nullcontext(arguments.run) as folder:
            train(Path(folder))
            run(Path(folder), arguments.seeds, arguments.output, arguments.efforts)
    record = Record.open(arguments.output, {})
    content = {"rows": record.rows, "cases": record.cases}
    print(scan(content), efforts_table(content), sep="\n\n")


if __name__ == "__main__":
    main()
