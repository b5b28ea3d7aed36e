"""What does a Tracker in the background cost the training, on the quick grokking run?

    python benchmarks/measuring/background_tracker.py [--epochs 300] [--repeats 3] [--output benchmarks/results/background_tracker.json]

The run is trained without and with a Tracker in turns, each time in a process of its own, on one thread. `cpu_seconds` is the processor time
of the training process from its first epoch to its last, `seconds` the time of the clock, `in_calls` the time of the clock in
`tracker(step, model)`. The measurements themselves are another process's, which is busy with them all the
time; those that it hasn't done at the end are given up. The time of the clock shows a slowdown only where
a core is free for that process; processor time doesn't depend on it. `weights` is a digest of the trained weights: the same for all.
"""

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.cases.source import made_by
from examples.grokking.config import preset
from examples.grokking.task import Network, task_for
from examples.grokking.training import Trainer
from nncomplexity import LogSchedule, Tracker

CONFIG = preset("quick")
EPS = [1.0, 0.1]


def loss(network: Network) -> torch.Tensor:
    """Of the quick run, nats per example."""
    return task_for(CONFIG).loss(network)


def trained(epochs: int, *, tracked: bool) -> dict[str, Any]:
    """Train once in this process."""
    torch.set_num_threads(1)
    trainer, inside = Trainer(CONFIG), 0.0
    with tempfile.TemporaryDirectory() as folder:
        tracker = Tracker(
            loss, EPS, out=Path(folder, "rows.jsonl"), background=True, queue=64, every=LogSchedule(), method="tight", budget=240
        )
        trainer.train_epoch()  # what is loaded when it is first used
        cpu, clock = time.process_time(), time.perf_counter()
        while trainer.epoch < epochs:
            trainer.train_epoch()
            if tracked:
                before = time.perf_counter()
                tracker(trainer.epoch, trainer.model)
                inside += time.perf_counter() - before
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        tracker.close(wait=False)
        rows = [row for row in tracker.ready() if row["status"] == "measured"]
    digest = hashlib.sha256()
    for tensor in trainer.model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return {
        "tracked": tracked,
        "cpu_seconds": cpu,
        "seconds": clock,
        "in_calls": inside,
        "rows": len(rows),
        "skipped": tracker.skipped,
        "weights": digest.hexdigest(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=CONFIG.epochs)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "results" / "background_tracker.json")
    parser.add_argument("--one", choices=["tracked", "alone"], help="train once, and print what it took")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(trained(given.epochs, tracked=given.one == "tracked")))
        return
    runs = []
    for _ in range(given.repeats):
        for one in ("alone", "tracked"):
            command = [sys.executable, __file__, "--epochs", str(given.epochs), "--one", one]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            runs.append({**json.loads(done.stdout.splitlines()[-1]), "load": os.getloadavg()[0]})
            print({name: value for name, value in runs[-1].items() if name != "weights"}, flush=True)
    slowdown = {}
    for name in ("cpu_seconds", "seconds"):
        alone, tracked = (statistics.median(run[name] for run in runs if run["tracked"] is one) for one in (False, True))
        slowdown[name] = round(tracked / alone - 1, 4)
    report = {
        "settings": {"epochs": given.epochs, "eps": EPS, "method": "tight", "budget": 240, "torch": torch.__version__},
        "machine": {
            "cores": os.cpu_count(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            **made_by("nncomplexity.dynamics"),
        },
        "slowdown": slowdown,
        "same_weights": len({run["weights"] for run in runs}) == 1,
        "runs": runs,
    }
    print(slowdown, report["same_weights"])
    given.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
