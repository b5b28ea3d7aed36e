"""The cost of a curve, and a comparison of its points with searches for one ε each.

    .venv/bin/python benchmarks/measuring/curve.py [--cases digits/mlp] [--budgets 400 60] [--low 0.01 --high 1 --points 12]

Every ε is measured alone and as a point of one curve, on the same weights in one run. The ε are evenly spaced in their logarithm for each
budget; for the first budget, the default ε of `nncomplexity curve` are measured, too. Each row is saved as soon as it is measured.
"""

import argparse
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.cases.networks import ROOT, SHIPPED, Case, find_cases
from benchmarks.cases.record import Record, Row
from nncomplexity import Report, estimate
from nncomplexity.measure import DEFAULT_EPS, rate_distortion

OUTPUT = ROOT / "benchmarks" / "results" / "curve.json"
BUDGETS = [400, 60, 120, 200]
"""The default first, then smaller ones, which leave a curve few evaluations for each ε."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, nargs="+", help="folders with task.py and checkpoints; those of examples/ if none")
    parser.add_argument("--cases", nargs="+", default=(), metavar="FOLDER/NAME")
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS)
    parser.add_argument("--low", type=float, default=0.01)
    parser.add_argument("--high", type=float, default=1.0)
    parser.add_argument("--points", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    eps = [float(f"{value:.4g}") for value in np.geomspace(arguments.high, arguments.low, arguments.points)]
    record = Record.open(arguments.output, {"budgets": arguments.budgets, "eps": eps})
    measured = [(budget, eps) for budget in arguments.budgets] + [(arguments.budgets[0], list(DEFAULT_EPS))]
    for (budget, eps), case in product(measured, find_cases(arguments.folder or SHIPPED, arguments.cases)):
        record.cases[case.name] = case.about()
        row = record.row(
            {"case": case.name, "sha256": case.sha256, "budget": budget, "eps": eps},
            lambda case=case, budget=budget, eps=eps: compare(case, eps, budget),
        )
        ratios = [together / alone for together, alone in zip(row["curve_bytes"], row["single_bytes"], strict=True) if alone]
        evaluations = sum(row["curve_evaluations"])
        print(f"{case.name}, budget {budget:g}: largest ratio {max(ratios):.2f}, {evaluations:,.0f} evaluations", flush=True)
    record.save()


def compare(case: Case, eps: Sequence[float], budget: float) -> Row:
    """Measure in both ways: bytes and cost. Raises ValueError if a file isn't within its ε."""
    single, single_cpu = [], []
    for value in eps:
        begin = time.process_time()
        single.append(estimate(case.weights, case.loss_fn, value, budget=budget))
        single_cpu.append(time.process_time() - begin)
    begin = time.process_time()
    curve = rate_distortion(case.weights, case.loss_fn, eps, budget=budget)
    cpu = time.process_time() - begin
    for report in (*single, *curve.reports):
        if abs(case.loss(report.coarse_weights()) - report.loss) > report.eps:
            raise ValueError(f"{case.name}: a file for ε = {report.eps:g} isn't within it")
    return {
        "single_bytes": _bytes(single),
        "curve_bytes": _bytes(curve.reports),
        "single_evaluations": [report.evaluations for report in single],
        "curve_evaluations": [report.evaluations for report in curve.reports],
        "single_cpu_seconds": [round(seconds, 3) for seconds in single_cpu],
        "curve_cpu_seconds": round(cpu, 3),
    }


def _bytes(reports: Sequence[Report]) -> list[int]:
    return [report.bits // 8 for report in reports]


if __name__ == "__main__":
    main()
