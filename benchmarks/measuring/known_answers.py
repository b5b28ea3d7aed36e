"""Sizes found for networks whose size is known, by three searches under one coder.

    python -m benchmarks.measuring.known_answers                   # about ten minutes of one core
    python -m benchmarks.measuring.known_answers --again tight     # its rows once more
    python -m benchmarks.measuring.known_answers --table           # the table of what was measured

Each network is planted (`benchmarks.cases.planted`): its weights have a short description, and noise is added that costs half of ε. The
measure is the ratio found / planted; 1 is perfect. Seeds from 100 on are only for this table: no setting was chosen on them.
"""

import time
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.cases.networks import ROOT
from benchmarks.cases.planted import FAMILIES, Planted, divergence
from benchmarks.cases.record import Record, Row, record_options
from benchmarks.reporting.known_answers import known_answers
from nncomplexity import Report, estimate

RESULTS = ROOT / "benchmarks" / "results" / "known_answers.json"
EPS = (0.01, 0.001)
SEEDS = (100, 101, 102)
METHODS = ("allocate", "tight", "quantize")


def main() -> None:
    parser = record_options(__doc__, RESULTS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--again", nargs="+", default=[], choices=METHODS, help="methods whose rows are measured again")
    arguments = parser.parse_args()
    record = Record.open(arguments.output, {"eps": EPS, "seeds": SEEDS, "methods": METHODS, "codec": "entropy"})
    if not arguments.table:
        torch.set_num_threads(1)
        record.forget(arguments.again, [planted.name for planted in networks()])
        for planted in networks():
            for eps in EPS:
                for method in arguments.methods:
                    key = {"case": planted.name, "seed": planted.seed, "eps": eps, "method": method}
                    row = record.row(key, partial(measured, planted, eps, method))
                    print(f"{planted.name}, seed {planted.seed}, ε = {eps:g}, {method}: {row['ratio']:.2f}", flush=True)
    print(known_answers({"rows": record.rows}))


def networks() -> Iterator[Planted]:
    """Every family, unchanged and with rescaled units, for each seed."""
    for rescaled in (False, True):
        for family in FAMILIES:
            for seed in SEEDS if not rescaled else SEEDS[:1]:
                yield Planted(family, rescaled=rescaled, seed=seed)


def measured(planted: Planted, eps: float, method: str) -> Row:
    """Bits found and planted, and the cost of the search."""
    weights, (_, bits) = planted.noisy(eps), planted.drawn
    begin = time.process_time()
    report = estimate(weights, divergence(planted.inputs, weights), eps, method=method, codec="entropy", seed=planted.seed)
    assert isinstance(report, Report)
    took = time.process_time() - begin
    return {
        **{"bits": report.bits, "planted_bits": bits, "ratio": report.bits / bits, "origin": report.origin},
        **{"distortion": report.distortion, "evaluations": report.evaluations, "cpu_seconds": took},
    }


if __name__ == "__main__":
    main()
