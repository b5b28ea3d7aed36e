"""Whether a reading repeats and converges: `tight` on networks that chose none of its settings, over seeds and over effort.

    python -m benchmarks.measuring.convergence [--seeds 3] [--cases 9]      # about fifteen minutes of one core
    python -m benchmarks.measuring.convergence --table                       # the table of what was measured

The networks (`benchmarks.cases.trained`) are trained first. Each is measured by the default search for several seeds; and for seed 0 with four
times the evaluations that the default took, with a quarter of them, and with 400. Writes benchmarks/results/convergence.json, row by
row.
"""

from pathlib import Path

import torch

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, Row, record_options
from benchmarks.cases.subjects import Subject, given
from benchmarks.reporting.convergence import convergence
from nncomplexity import estimate
from nncomplexity.search import Tight

OUTPUT = ROOT / "benchmarks" / "results" / "convergence.json"


CASES = (
    Subject("perceptron", "loss", 0.1),
    Subject("perceptron", "kl", 0.01),
    Subject("random labels", "loss", 0.05),
    Subject("regression", "loss", 0.01),
    Subject("addition, memorised", "loss", 0.1),
    Subject("addition, memorised", "kl", 0.1),
    Subject("addition, generalised", "kl", 0.1),
    Subject("recurrent", "loss", 0.02),
    Subject("convolutional", "loss", 0.05),
)


def measured(case: Subject, method: Tight, seed: int) -> Row:
    """Bits of one search."""
    report = estimate(*given(case.network, case.distortion), case.eps, method=method, seed=seed)
    return {
        "bits": report.bits,
        "evaluations": report.evaluations,
        "cpu_seconds": report.cpu_seconds,
        "origin": report.origin,
        "converged": report.converged,
    }


def run(cases: tuple[Subject, ...], seeds: int, output: Path) -> Record:
    """Measure the rows that the file at `output` doesn't have yet."""
    record = Record.open(output, {"seeds": seeds, "most": Tight().most})
    for case in cases:
        key = case._asdict()
        rows = [
            record.row({**key, "effort": "default", "seed": seed}, lambda case=case, seed=seed: measured(case, Tight(), seed))
            for seed in range(seeds)
        ]
        efforts = {
            "quarter": Tight(budget=rows[0]["evaluations"] / 4),
            "400": Tight(budget=400),
            "four times": Tight(budget=4 * rows[0]["evaluations"]),
        }
        for effort, method in efforts.items():
            record.row({**key, "effort": effort, "seed": 0}, lambda case=case, method=method: measured(case, method, 0))
        print(*case, flush=True)
    return record


def main() -> None:
    parser = record_options(__doc__, OUTPUT)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many, from the first on")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        run(CASES[: arguments.cases], arguments.seeds, arguments.output)
    print(convergence({"rows": Record.open(arguments.output, {}).rows}))


if __name__ == "__main__":
    main()
