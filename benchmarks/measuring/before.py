"""The sizes of `tight` at the commit before it was made again, and of today's `tight`, on the same networks.

    python -m benchmarks.measuring.before [--seeds 3] [--searches before today]      # about half an hour of one core
    python -m benchmarks.measuring.before --table                                     # the table of what was measured

The default of the earlier search was a budget of 400 evaluations. Today's is measured by its default and with 400 evaluations. The
earlier source is taken from git (`benchmarks.peers.earlier`). A search that the same source has already measured for the benchmarks of
convergence and of the shipped networks is taken from their records. Writes benchmarks/results/before.json, row by row.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, Row, record_options
from benchmarks.cases.source import source_digest
from benchmarks.cases.subjects import Subject
from benchmarks.measuring.convergence import CASES
from benchmarks.peers.earlier import source
from benchmarks.reporting.before import before

OUTPUT = ROOT / "benchmarks" / "results" / "before.json"
RECORDS = tuple(ROOT / "benchmarks" / "results" / f"{name}.json" for name in ("convergence", "shipped"))
COMMIT = "d604ee8bb7b2a416713b41f3bf250c9e222d9739"
"""The last commit before `tight` was made again."""
BUDGET = 400
"""The default evaluations at that commit."""
SHIPPED = (
    Subject("digits/mlp", "loss", 0.1),
    Subject("digits/mlp", "loss", 0.001),
    Subject("digits/convnet", "loss", 0.1),
    Subject("digits/convnet", "loss", 0.001),
    Subject("grokking/memorised", "loss", 0.1),
    Subject("grokking/grokked", "loss", 0.1),
    Subject("grokking/memorised", "kl", 0.1),
    Subject("grokking/grokked", "kl", 0.1),
)
SUBJECTS = (*CASES, *SHIPPED)
SEARCHES = {"before": (COMMIT, (BUDGET,)), "today": (None, (BUDGET, None))}
"""For each search its commit, None for the working tree, and its budgets; None is the default."""


def measured_already(
    records: Sequence[Path], network: str, distortion: str, eps: float, budget: float | None, seed: int
) -> Row | None:
    """What today's source measured for another benchmark, or None."""
    wanted = {
        "network": network,
        "distortion": distortion,
        "eps": eps,
        "seed": seed,
        "effort": "default" if budget is None else f"{budget:g}",
        "source": source_digest(),
    }
    for row in (row for path in records for row in Record.open(path, {}).rows):
        if all(row.get(name) == value for name, value in wanted.items()):
            return {**{name: row[name] for name in ("bits", "evaluations", "cpu_seconds")}, "measured_by": row["source"]}
    return None


def run(subjects: Sequence[Subject], searches: Sequence[str], seeds: int, output: Path) -> Record:
    """Measure the rows that the file at `output` doesn't have yet, all with the first seed before any with the second."""
    record = Record.open(output, {"commit": COMMIT})
    for name in searches:
        commit, budgets = SEARCHES[name]
        with source(commit) as process:
            for seed, subject, budget in product(range(seeds), subjects, budgets):
                asked = {**subject._asdict(), "budget": budget, "seed": seed}
                known = measured_already(RECORDS, **asked) if commit is None else None
                row = record.row({"search": name, **asked}, partial(dict, known) if known else partial(process.measured, **asked))
                print(name, *asked.values(), row["bits"], flush=True)
    return record


def main() -> None:
    parser = record_options(__doc__, OUTPUT)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--searches", nargs="+", choices=list(SEARCHES), default=list(SEARCHES))
    parser.add_argument("--networks", nargs="+", help="measure only these")
    arguments = parser.parse_args()
    if not arguments.table:
        subjects = [subject for subject in SUBJECTS if not arguments.networks or subject.network in arguments.networks]
        run(subjects, arguments.searches, arguments.seeds, arguments.output)
    print(before({"rows": Record.open(arguments.output, {}).rows}))


if __name__ == "__main__":
    main()
