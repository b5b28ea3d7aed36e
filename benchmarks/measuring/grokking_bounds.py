"""How bounds improve with the budget: `tight` on the grokking example's networks at several ε and budgets.

    python benchmarks/measuring/grokking_bounds.py

Writes benchmarks/results/grokking_bounds.json, row by row; `python benchmarks/measuring/tight_vs_peers.py --docs` puts it into
docs/benchmarks/bounds.md.
The bound is that on the share of wrong answers among all equations, with probability 0.95, from the bits and the training error of the
decoded weights. It is vacuous if it is at least 112/113, the error of a guess.
"""

import argparse
from functools import partial
from pathlib import Path

import torch

from benchmarks.cases.networks import ROOT, Case, find_cases
from benchmarks.cases.record import Record, Row
from examples.grokking import task
from nncomplexity import estimate

OUTPUT = ROOT / "benchmarks" / "results" / "grokking_bounds.json"
DELTA = 0.05
CHANCE = 1 - 1 / task.SHIPPED.prime


def bounded(case: Case, eps: float, budget: int) -> Row:
    """One row: bytes, errors of the decoded weights, the bound, and the most bits with which the bound wouldn't be vacuous."""
    report = estimate(case.weights, case.loss_fn, eps, budget=budget)
    decoded = report.coarse_weights()
    train_error = task.error(decoded)
    bound = report.bound(risk=train_error, n=task.task_for(task.SHIPPED).size(), delta=DELTA, chance=CHANCE)
    return {
        "bytes": report.bits // 8,
        "distortion": report.distortion,
        "evaluations": report.evaluations,
        "cpu_seconds": round(report.cpu_seconds, 1),
        "train_error": train_error,
        "test_error": task.error(decoded, "test"),
        "bound": bound.value,
        "vacuous": bound.vacuous,
        "bytes_needed": int(bound.bits_needed or 0) // 8,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eps", type=float, nargs="+", default=(1.0, 0.2, 0.05, 0.01))
    parser.add_argument("--budgets", type=int, nargs="+", default=(400, 1000, 4000))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    record = Record.open(arguments.output, {"eps": list(arguments.eps), "budgets": list(arguments.budgets), "delta": DELTA})
    for case in find_cases([ROOT / "examples" / "grokking"]):
        record.cases[case.name] = case.about()
        for budget in arguments.budgets:
            for eps in arguments.eps:
                key = {"case": case.name, "sha256": case.sha256, "eps": eps, "budget": budget}
                row = record.row(key, partial(bounded, case, eps, budget))
                print(f"{case.name} ε = {eps:g}, budget {budget}: {row['bytes']} bytes, bound {row['bound']:.3f}", flush=True)
    record.save()


if __name__ == "__main__":
    main()
