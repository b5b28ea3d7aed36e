"""Networks that others trained and published, at small ε of a function distortion: uniform quantization, `allocate` and `tight`.

    python -m benchmarks.measuring.strangers                        # the pip command that downloads the packages
    python -m benchmarks.measuring.strangers --wheels FOLDER        # about an hour of one core
    python -m benchmarks.measuring.strangers --table                # the table of what was measured

Inputs are made up from a seed (`benchmarks.cases.strangers`). All three methods write files with the same coder. *Uniform* is one step
size for all weights: Algorithm 2 with 61 step sizes over four decades, then twenty between the neighbours of the best. `tight` has its
default settings, and a budget where its default would take more than about five minutes. Writes benchmarks/results/strangers.json, row by
row.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, Row, record_options
from benchmarks.cases.strangers import STRANGERS, Stranger, pip_command
from benchmarks.reporting.strangers import strangers
from nncomplexity import Divergence, Report, estimate
from nncomplexity.search import Allocate, Method, Quantize, Tight

OUTPUT = ROOT / "benchmarks" / "results" / "strangers.json"
STEPS = (1e-4, 1.0)
"""The smallest and the largest step size of uniform quantization."""
_GRID, _REFINED = 61, 20
"""Step sizes of the grid, and between the neighbours of the best."""


def uniform(network: nn.Module, divergence: Divergence, eps: float) -> list[Report]:
    """Files within ε with one step size for all weights: of a grid, and of step sizes near its best."""

    def found(steps: tuple[float, float], count: int) -> Report:
        return _report(network, divergence, eps, Quantize(budget=count + 1, steps=steps))

    coarse = found(STEPS, _GRID)
    best = max((layer.step or 0.0 for layer in coarse.layers), default=0.0)
    if not best:
        return [coarse]
    ratio = (STEPS[1] / STEPS[0]) ** (1 / (_GRID - 1))
    # The next larger step size was beyond ε, but the loss isn't monotone: one a little beyond may be within.
    return [coarse, found((best / ratio, best * ratio**2), _REFINED)]


def allocate(network: nn.Module, divergence: Divergence, eps: float) -> list[Report]:
    """The answer of `allocate` with its default budget."""
    return [_report(network, divergence, eps, Allocate())]


def tight(network: nn.Module, divergence: Divergence, eps: float, budget: float | None) -> list[Report]:
    """The answer of `tight`."""
    return [_report(network, divergence, eps, Tight(budget=budget))]


def measured(search: Callable[[], list[Report]]) -> Row:
    """One row on the smallest file: bits, distortion and agreement on the inputs of the search and on fresh ones, and the whole cost."""
    begin = time.process_time()
    reports = search()
    took = time.process_time() - begin
    report = min(reports, key=lambda one: one.bits)
    held_out = report.faithfulness and report.faithfulness.held_out
    return {
        "bits": report.bits,
        "origin": report.origin,
        "distortion": report.distortion,
        "agreement": report.agreement and report.agreement.searched,
        "distortion_fresh": held_out and held_out.divergence,
        "agreement_fresh": held_out and held_out.agreement,
        "evaluations": sum(one.evaluations for one in reports),
        "cpu_seconds": round(took, 1),
        "converged": report.converged,
        "warnings": list(report.warnings),
    }


def run(cases: Sequence[Stranger], wheels: Path, output: Path, methods: Sequence[str]) -> Record:
    """Measure the rows that the file at `output` doesn't have yet."""
    record = Record.open(output, {"steps": STEPS, "grid": _GRID, "refined": _REFINED, "codec": "entropy"})
    for case in cases:
        network, divergence = case.network(wheels), case.divergence()
        parameters = sum(tensor.numel() for tensor in network.parameters())
        record.cases[case.name] = {
            **{"package": case.package, "parameters": parameters, "inputs": case.count, "kind": case.kind},
            **{"tensors": len(list(network.parameters()))},
        }
        for eps in case.eps:
            searches = {
                "uniform": partial(uniform, network, divergence, eps),
                "allocate": partial(allocate, network, divergence, eps),
                "tight": partial(tight, network, divergence, eps, case.budget),
            }
            for method in methods:
                budget = case.budget if method == "tight" else None
                key = {"case": case.name, "eps": eps, "method": method, "budget": budget}
                row = record.row(key, partial(measured, searches[method]))
                print(f"{case.name}, ε = {eps:g}, {method}: {row['bits']:,} bits, {row['cpu_seconds']:.0f} s", flush=True)
    return record


def main() -> None:
    parser = record_options(__doc__, OUTPUT)
    parser.add_argument("--wheels", type=Path, help="the folder of the downloaded packages")
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in STRANGERS], help="only these networks")
    parser.add_argument("--methods", nargs="+", default=["uniform", "allocate", "tight"], choices=["uniform", "allocate", "tight"])
    parser.add_argument("--again", nargs="+", default=[], help="methods whose rows are measured again")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        if arguments.wheels is None:
            parser.exit(2, f"--wheels: give the folder that this command makes:\n    {pip_command(Path('wheels'))}\n")
        chosen = [case for case in STRANGERS if not arguments.cases or case.name in arguments.cases]
        record = Record.open(arguments.output, {})
        record.forget(arguments.again, [case.name for case in chosen])
        if arguments.again:
            record.save()
        run(chosen, arguments.wheels, arguments.output, arguments.methods)
    record = Record.open(arguments.output, {})
    print(strangers({"rows": record.rows, "cases": record.cases}))


def _report(network: nn.Module, divergence: Divergence, eps: float, method: Method) -> Report:
    report = estimate(network, divergence, eps, method=method, codec="entropy")
    assert isinstance(report, Report)
    return report


if __name__ == "__main__":
    main()
