"""Whether readings of the shipped networks repeat, and whether the memorised and the grokked network stay apart at less effort.

    python -m benchmarks.measuring.shipped [--digits 8] [--grokking 4]     # about half an hour of one core
    python -m benchmarks.measuring.shipped --table                           # the tables of what was measured

The digits' networks are measured by the default search for several seeds, under the loss and under the function distortion. The grokking pair
is measured under the function distortion over all equations, for each seed by the default search and then with a quarter of the evaluations
that this one took. Writes benchmarks/results/shipped.json, row by row.
"""

from functools import partial
from pathlib import Path

import torch

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, record_options
from benchmarks.cases.subjects import GROKKING, Subject
from benchmarks.measuring.convergence import measured
from benchmarks.reporting.shipped import shipped as tables
from nncomplexity.search import Tight

OUTPUT = ROOT / "benchmarks" / "results" / "shipped.json"
EPS = 0.1
DIGITS = tuple(Subject(name, distortion, EPS) for name in ("digits/mlp", "digits/convnet") for distortion in ("loss", "kl"))
PAIR = tuple(Subject(name, "kl", EPS) for name in GROKKING)


def run(digits: int, grokking: int, output: Path) -> Record:
    """Measure the rows that the file at `output` doesn't have yet, with so many seeds of each kind."""
    record = Record.open(output, {"eps": EPS, "seeds": {"digits": digits, "grokking": grokking}})
    for seed in range(max(digits, grokking)):
        for subject in (*(DIGITS if seed < digits else ()), *(PAIR if seed < grokking else ())):
            key = {**subject._asdict(), "seed": seed}
            row = record.row({**key, "effort": "default"}, partial(measured, subject, Tight(), seed))
            print(*key.values(), row["bits"], flush=True)
            if subject in PAIR:
                method = Tight(budget=row["evaluations"] / 4)
                record.row({**key, "effort": "quarter"}, partial(measured, subject, method, seed))
    return record


def main() -> None:
    parser = record_options(__doc__, OUTPUT)
    parser.add_argument("--digits", type=int, default=8, help="seeds of each of the digits' networks")
    parser.add_argument("--grokking", type=int, default=4, help="seeds of each of the grokking pair")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        run(arguments.digits, arguments.grokking, arguments.output)
    print(tables({"rows": Record.open(arguments.output, {}).rows}))


if __name__ == "__main__":
    main()
