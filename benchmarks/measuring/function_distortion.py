"""What is measured: the memorised and the grokked network under the difference of losses, and under the divergence of their outputs.

    python benchmarks/measuring/function_distortion.py

Writes benchmarks/results/function_distortion.json, row by row, and prints the table of docs/concepts.md. Agreement is the share of
equations on which the decoded network's answer is the original's: of all 12,769, and of those that the search has not seen.
"""

import argparse
from functools import partial
from pathlib import Path

import torch

from benchmarks.cases.networks import ROOT, Case, find_cases
from benchmarks.cases.record import Record, Row
from benchmarks.reporting.markdown import table
from examples.grokking.data import equations
from examples.grokking.task import SHIPPED, task_for
from nncomplexity import Divergence, estimate

OUTPUT = ROOT / "benchmarks" / "results" / "function_distortion.json"
SOME = 2553
"""The number of inputs, equal to the number of training equations."""
RUNS = (("loss", 0.1, 400), ("some", 0.1, 400), ("all", 0.1, 400))
KINDS = {
    "loss": "difference of training losses",
    "some": f"KL from the original's predictions, on {SOME:,} inputs drawn from all, no labels",
    "all": "the same on all inputs",
}


def measured(case: Case, kind: str, eps: float, budget: int, seed: int) -> Row:
    """One row: bytes, distortion, and agreement with the original on all inputs and on those that the search has not seen."""
    everything = equations(SHIPPED.operation, SHIPPED.prime)
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))
    searched = everything.tokens[order[:SOME] if kind == "some" else order]
    task = task_for(SHIPPED)
    divergence = Divergence(task.logits, searched, probe=0)
    report = estimate(case.weights, case.loss_fn if kind == "loss" else divergence, eps, budget=budget, seed=seed)
    with torch.no_grad():
        before, after = (task.logits(one, everything.tokens).argmax(1) for one in (case.weights, report.coarse_weights()))
    same = (before == after).double()
    unseen = same[order[SOME:]] if kind == "some" else None
    return {
        "bytes": report.bits // 8,
        "distortion": report.distortion,
        "agreement": float(same.mean()),
        "agreement_unseen": None if unseen is None else float(unseen.mean()),
        "evaluations": report.evaluations,
        "cpu_seconds": round(report.cpu_seconds, 1),
        "warnings": len(report.warnings),
    }


def page(record: Record) -> str:
    """The table of docs/concepts.md."""
    lines = []
    for kind, eps, budget in dict.fromkeys((row["kind"], row["eps"], row["budget"]) for row in record.rows):
        rows = {row["case"]: row for row in record.rows if (row["kind"], row["eps"], row["budget"]) == (kind, eps, budget)}
        cells = [f"{KINDS[kind]}, ε = {eps:g}", f"{budget:,}"]
        for name in ("memorised", "grokked"):
            row = next((row for case, row in rows.items() if name in case), None)
            unseen = "" if row is None or row["agreement_unseen"] is None else f" ({row['agreement_unseen']:.2f})"
            cells += ["-", "-"] if row is None else [f"{row['bytes']:,}", f"{row['agreement']:.2f}{unseen}"]
        sizes = [next((row["bytes"] for case, row in rows.items() if name in case), None) for name in ("memorised", "grokked")]
        lines.append([*cells, "-" if None in sizes else f"{sizes[0] / sizes[1]:.1f}"])
    header = [
        "distortion",
        "budget",
        "memorised, bytes",
        "agree (unseen)",
        "grokked, bytes",
        "agree (unseen)",
        "memorised / grokked",
    ]
    return table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs=3, action="append", metavar=("KIND", "EPS", "BUDGET"), help="loss, some or all; repeat it")
    parser.add_argument("--network", default="", help="memorised or grokked, both by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    runs = [(kind, float(eps), int(budget)) for kind, eps, budget in arguments.run] if arguments.run else RUNS
    record = Record.open(arguments.output, {"inputs": SOME})
    for kind, eps, budget in runs:
        for case in find_cases([ROOT / "examples" / "grokking"]):
            if arguments.network not in case.name:
                continue
            record.cases[case.name] = case.about()
            key = {"case": case.name, "sha256": case.sha256, "kind": kind, "eps": eps, "budget": budget, "seed": arguments.seed}
            row = record.row(key, partial(measured, case, kind, eps, budget, arguments.seed))
            print(f"{case.name}, {kind}, ε = {eps:g}, budget {budget}: {row}", flush=True)
    print(page(record))


if __name__ == "__main__":
    main()
