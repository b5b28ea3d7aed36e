"""The sizes of `tight` at the commit before it was made again, and of today's `tight`, on the same networks.

    python -m benchmarks.measuring.before [--seeds 2] [--searches before today]      # about half an hour of one core
    python -m benchmarks.measuring.before --table                                     # the table of what was measured

The default of the earlier search was a budget of 400 evaluations. Its source is taken from git (`benchmarks.peers.earlier`). Sizes of
today's search, by its default and with 400 evaluations, come from the records of convergence and of the shipped networks
(`benchmarks.measuring.convergence`, `benchmarks.measuring.shipped`); only what neither has is measured here. Writes
benchmarks/results/before.json, row by row.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, record_options
from benchmarks.cases.subjects import Subject
from benchmarks.measuring.convergence import CASES
from benchmarks.measuring.shipped import DIGITS, PAIR
from benchmarks.peers.earlier import source
from benchmarks.reporting.before import before

OUTPUT = ROOT / "benchmarks" / "results" / "before.json"
TODAY = tuple(ROOT / "benchmarks" / "results" / f"{name}.json" for name in ("convergence", "shipped"))
COMMIT = "d604ee8bb7b2a416713b41f3bf250c9e222d9739"
"""The last commit before `tight` was made again."""
BUDGET = 400
"""The default evaluations at that commit."""
ALONE = (
    Subject("digits/mlp", "loss", 0.001),
    Subject("digits/convnet", "loss", 0.001),
    Subject("grokking/memorised", "loss", 0.1),
    Subject("grokking/grokked", "loss", 0.1),
)
"""Subjects that no other record has."""
SUBJECTS = {"before": (*CASES, *DIGITS, *PAIR, *ALONE), "today": ALONE}
SEARCHES = {"before": (COMMIT, (BUDGET,)), "today": (None, (BUDGET, None))}
"""For each search its commit, None for the working tree, and its budgets; None is the default."""


def run(searches: Sequence[str], seeds: int, output: Path) -> Record:
    """Measure the rows that the file at `output` doesn't have yet, all with the first seed before any with the second."""
    record = Record.open(output, {"commit": COMMIT})
    for name in searches:
        commit, budgets = SEARCHES[name]
        with source(commit) as process:
            for seed, subject, budget in product(range(seeds), SUBJECTS[name], budgets):
                asked = {**subject._asdict(), "budget": budget, "seed": seed}
                row = record.row({"search": name, **asked}, partial(process.measured, **asked))
                print(name, *asked.values(), row["bits"], flush=True)
    return record


def main() -> None:
    parser = record_options(__doc__, OUTPUT)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--searches", nargs="+", choices=list(SEARCHES), default=list(SEARCHES))
    arguments = parser.parse_args()
    if not arguments.table:
        run(arguments.searches, arguments.seeds, arguments.output)
    print(before(*({"rows": Record.open(path, {}).rows} for path in (arguments.output, *TODAY))))


if __name__ == "__main__":
    main()
