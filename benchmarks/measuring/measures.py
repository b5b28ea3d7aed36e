"""Which measure of complexity tells the truth? Each measure on networks whose size is known.

    python -m benchmarks.measuring.measures            # about an hour of one core
    python -m benchmarks.measuring.measures --table    # the tables of what was measured

The networks (`benchmarks.cases.known_sizes`) are planted ones, whose weights have a description of known length, and networks of
random labels, whose files have a least length. The measures are the bits that each search finds within ε with its own codec, those of NNCodec
if .venv-nncodec exists, the local learning coefficient if devinterp is installed, and measures of the weights alone. Writes
benchmarks/results/measures.json, row by row; an interrupted run continues where it stopped.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from benchmarks.cases.known_sizes import DOUBT, Subject, subjects
from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, Row, record_options
from benchmarks.peers import weights_alone
from benchmarks.peers.nncodec_client import PYTHON, Nncodec, absence
from benchmarks.peers.nncodec_search import Search
from benchmarks.reporting.measures import against_known, against_least
from nncomplexity import Langevin, Report, estimate, local_learning_coefficient
from nncomplexity.errors import InputError

OUTPUT = ROOT / "benchmarks" / "results" / "measures.json"
SAMPLER = Langevin(chains=3, draws=300, burn_in=300)
BAYES_BUDGET = 30

Measure = Callable[[Subject], Row]
"""Measures a network. The row has `value`, which is None if there is none."""


def searched(subject: Subject, method: str, budget: float | None = None) -> Row:
    """The bits that a search finds within ε."""
    case = subject.case
    report = estimate(case.weights, case.loss_fn, subject.eps, method=method, budget=budget)
    assert isinstance(report, Report)
    return {
        "value": report.bits,
        "distortion": report.distortion,
        "evaluations": round(report.evaluations, 1),
        "origin": report.origin,
    }


def by_nncodec(subject: Subject) -> Row:
    """The bits of NNCodec's smallest file within ε, with one quantization parameter for all tensors."""
    with Nncodec(subject.case, PYTHON) as codec:
        search = Search(codec, subject.eps)
        search.best_single()
        best = search.best
    if best is None:
        return {"value": None, "evaluations": search.evaluations}
    return {"value": 8 * best.bytes, "distortion": best.distortion, "evaluations": search.evaluations}


def learning_coefficient(subject: Subject) -> Row:
    """The local learning coefficient (Lau et al. 2023, arXiv 2308.12108)."""
    found = local_learning_coefficient(subject.case.weights, subject.case.loss_fn, subject.examples, sampler=SAMPLER)
    return {"value": found.value, "error": found.error, "drift": found.drift, "evaluations": found.evaluations}


def of_weights(subject: Subject, function: Callable[[weights_alone.Weights], float]) -> Row:
    """A measure of the weights alone."""
    return {"value": function(subject.case.weights)}


MEASURES: Mapping[str, Measure] = {
    **{
        name: partial(of_weights, function=function)
        for name, function in {
            "parameters": weights_alone.parameters,
            "bzip2 of float32": weights_alone.bzip2_bits,
            "bzip2 of float16": partial(weights_alone.bzip2_bits, dtype=torch.float16),
            "effective rank": weights_alone.effective_ranks,
            "stable rank": weights_alone.stable_ranks,
            "L2 norm": weights_alone.l2_norm,
        }.items()
    },
    "allocate": partial(searched, method="allocate"),
    "tight": partial(searched, method="tight"),
    "quantize": partial(searched, method="quantize"),
    "bayes": partial(searched, method="bayes", budget=BAYES_BUDGET),
    "learning coefficient": learning_coefficient,
    "NNCodec": by_nncodec,
}


def missing() -> dict[str, str]:
    """The measures that can't run here, each with the reason."""
    found = {}
    if reason := absence():
        found["NNCodec"] = reason
    try:
        local_learning_coefficient({"w": torch.ones(2)}, lambda w: (w["w"] ** 2).sum(), 3, sampler=Langevin(1, 1, 0))
    except InputError as error:
        found["learning coefficient"] = str(error)
    return found


def run(given: list[Subject], names: list[str], output: Path) -> Record:
    """Measure the rows that the file at `output` doesn't have yet."""
    settings = {"bayes_budget": BAYES_BUDGET, "doubt": DOUBT, "sampler": vars(SAMPLER)}
    record = Record.open(output, settings)
    record.skipped = {name: reason for name, reason in missing().items() if name in names}
    for subject in given:
        record.cases[subject.case.name] = subject.about()
        for name in names:
            if name in record.skipped:
                continue
            row = record.row({"case": subject.case.name, "measure": name}, partial(_timed, MEASURES[name], subject))
            print(f"{subject.case.name}, {subject.known_bits:,.0f} bits, {name}: {row['value']}", flush=True)
    record.save()
    return record


def _timed(measure: Measure, subject: Subject) -> Row:
    begin = time.process_time()
    row = measure(subject)
    return {**row, "cpu_seconds": round(time.process_time() - begin, 2)}


def main() -> None:
    parser = record_options(__doc__, OUTPUT)
    parser.add_argument("--measures", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        run(list(subjects()), arguments.measures, arguments.output)
    record = Record.open(arguments.output, {})
    content = {"rows": record.rows, "cases": record.cases}
    print(against_known(content), against_least(content), sep="\n\n")


if __name__ == "__main__":
    main()
