"""Whether `curve` and `measure` give the same sizes at the default effort.

    python -m benchmarks.measuring.curve_agreement [--networks perceptron …] [--seeds 1]     # about ten minutes of one core
    python -m benchmarks.measuring.curve_agreement --table                                     # the table of what was measured

Each ε is measured alone and as a point of one curve, on networks that chose no setting of the search. Writes
benchmarks/results/curve_agreement.json, row by row.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import torch

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, Row, record_options
from benchmarks.cases.subjects import given
from benchmarks.reporting.curve_agreement import agreement
from nncomplexity import estimate, rate_distortion

OUTPUT = ROOT / "benchmarks" / "results" / "curve_agreement.json"
EPS = {
    "perceptron": (0.3, 0.1, 0.03, 0.01),
    "random labels": (0.2, 0.05, 0.02, 0.005),
    "addition, memorised": (0.5, 0.2, 0.1, 0.03),
}
"""Networks and their ε, from the largest on."""


def compared(network: str, eps: Sequence[float], seed: int, method: str = "tight") -> Row:
    """Bits at each ε by single searches, and by one curve."""
    subject, loss = given(network, "loss")
    single = [estimate(subject, loss, value, seed=seed, method=method) for value in eps]
    curve = rate_distortion(subject, loss, list(eps), seed=seed, method=method)
    return {
        "eps": [report.eps for report in single],
        "single_bits": [report.bits for report in single],
        "curve_bits": [report.bits for report in curve.reports],
        "single_evaluations": [report.evaluations for report in single],
        "curve_evaluations": [report.evaluations for report in curve.reports],
        "single_cpu_seconds": sum(report.cpu_seconds for report in single),
        "curve_cpu_seconds": sum(report.cpu_seconds for report in curve.reports),
    }


def run(networks: Sequence[str], seeds: int, output: Path) -> Record:
    """Measure the rows that the file at `output` doesn't have yet."""
    record = Record.open(output, {"distortion": "loss", "seeds": seeds})
    for seed, network in product(range(seeds), networks):
        row = record.row({"network": network, "seed": seed}, partial(compared, network, EPS[network], seed))
        print(network, seed, row["curve_bits"], row["single_bits"], flush=True)
    return record


def main() -> None:
    parser = record_options(__doc__, OUTPUT)
    parser.add_argument("--networks", nargs="+", choices=list(EPS), default=list(EPS))
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        run(arguments.networks, arguments.seeds, arguments.output)
    print(agreement({"rows": Record.open(arguments.output, {}).rows}))


if __name__ == "__main__":
    main()
