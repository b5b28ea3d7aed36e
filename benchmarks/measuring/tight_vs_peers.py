"""Compares `tight` with the paper's methods and other compressors, for the same weights and ε in one run.

    python benchmarks/measuring/tight_vs_peers.py                        the networks that ship with the project
    python benchmarks/measuring/tight_vs_peers.py --folder DIR --output benchmarks/results/tight_vs_peers_dir.json
    python benchmarks/measuring/tight_vs_peers.py --docs                 rewrite the tables and pictures of docs/ from the records

DIR holds task.py, with loss(weights), and .safetensors files. Each row is saved as soon as it is measured; an interrupted run
continues where it stopped; `--again METHOD` measures a method's rows again.

`bytes` are those of a decodable file's payload; for `bayes` and `quantize` those by the authors' recipe (`paper_bytes`). `distortion`
is measured on the decoded weights after the method has ended. `cpu_seconds` is processor time over all threads and processes; `cost` is
this time in units of one loss evaluation outside a search, timed just before.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases.networks import ROOT, SHIPPED, Case, find_cases
from benchmarks.cases.record import Record, Row
from benchmarks.peers import int8_zstd, nncodec_client
from benchmarks.peers.int8_zstd import Answer
from benchmarks.peers.nncodec_client import Nncodec
from benchmarks.peers.nncodec_search import Search
from benchmarks.reporting import comparison, docs
from nncomplexity import estimate

OUTPUT = ROOT / "benchmarks" / "results" / "tight_vs_peers.json"
METHODS = ("tight", "bayes", "quantize", "int8_zstd", "nncodec", "nncodec_per_tensor")
NNCODEC = ("nncodec", "nncodec_per_tensor")


@dataclass(frozen=True)
class Plan:
    """The methods, ε and budgets that are measured on each case."""

    eps: tuple[float, ...] = (1.0, 0.1, 0.01)
    methods: tuple[str, ...] = METHODS
    seeds: int = 3
    """Seeds of `bayes`: 0, 1, …"""
    budgets: tuple[int, ...] = ()
    """Further budgets of `tight`, apart from its default."""
    nncodec_evaluations: int = 400
    """Loss evaluations of NNCodec's search by tensor, after the search for one parameter."""
    nncodec_python: Path = nncodec_client.PYTHON
    again: tuple[str, ...] = ()
    """Methods whose rows are measured again."""


def main() -> None:
    arguments = _parser().parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.docs:
        docs.write_docs()
        return
    plan = Plan(
        tuple(arguments.eps),
        tuple(arguments.methods),
        arguments.seeds,
        tuple(arguments.budgets),
        arguments.nncodec_evaluations,
        arguments.nncodec_python,
        tuple(arguments.again),
    )
    run(find_cases(arguments.folder or SHIPPED, arguments.cases), plan, arguments.output)
    content = comparison.read(arguments.output)
    print(f"\n{comparison.sizes([content])}\n\n{comparison.ratios([content])}")


def run(cases: list[Case], plan: Plan, output: Path) -> Record:
    """Measure the rows that the file at `output` doesn't have yet."""
    settings = {"eps": plan.eps, "seeds": plan.seeds, "nncodec_evaluations": plan.nncodec_evaluations}
    record = Record.open(output, settings)
    record.forget(plan.again, [case.name for case in cases])
    methods = list(plan.methods)
    if set(NNCODEC) & set(methods):
        reason = nncodec_client.absence(plan.nncodec_python)
        for method in set(NNCODEC) & set(methods):
            record.skipped.pop(method, None)
            if reason:
                record.skipped[method] = reason
                methods.remove(method)
                print(f"{method} is left out: {reason}")
    for case in cases:
        record.cases[case.name] = case.about()
        record.save()
        with ExitStack() as stack:
            nncodec = _Nncodecs(case, plan, stack)
            for eps in plan.eps:
                for method in methods:
                    _measure(record, case, eps, method, plan, nncodec)
    record.save()
    return record


def _measure(record: Record, case: Case, eps: float, method: str, plan: Plan, nncodec: "_Nncodecs") -> None:
    key = {"case": case.name, "sha256": case.sha256, "eps": eps, "method": method}
    if method == "tight":
        for budget in (None, *plan.budgets):
            _row(
                record, {**key, "budget": budget, "seed": 0}, case, lambda budget=budget: _estimated(case, eps, "tight", 0, budget)
            )
    elif method == "bayes":
        for seed in range(plan.seeds):
            _row(record, {**key, "seed": seed}, case, partial(_estimated, case, eps, "bayes", seed))
    elif method == "quantize":
        _row(record, key, case, partial(_estimated, case, eps, "quantize", 0))
    elif method == "int8_zstd":
        _row(record, key, case, lambda: _answered(int8_zstd.search(case, eps)))
    else:
        _row(record, key, case, lambda: nncodec.measure(method, eps), lambda: nncodec.cpu_seconds)


def _row(
    record: Record,
    key: Mapping[str, Any],
    case: Case,
    work: Callable[[], Row],
    elsewhere: Callable[[], float] = lambda: 0.0,
) -> None:
    """Measure one row with its times, unless the record has it. `elsewhere` returns the processor seconds spent in other processes."""

    def measure() -> Row:
        plain, plain_cpu = case.evaluation_seconds()
        wall, cpu, other = time.perf_counter(), time.process_time(), elsewhere()
        row = work()
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu + elsewhere() - other
        timing = {
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu_seconds, 3),
            "evaluation_seconds": plain,
            "evaluation_cpu_seconds": plain_cpu,
            "cost": round(cpu_seconds / plain_cpu, 1),
        }
        label = " ".join(
            f"{value:g}" if isinstance(value, float) else str(value) for name, value in key.items() if name != "sha256"
        )
        print(f"{label}: {row['bytes']} bytes, {seconds:.1f} s, cost {timing['cost']}", flush=True)
        return {**row, **timing}

    record.row(key, measure)


def _estimated(case: Case, eps: float, method: str, seed: int, budget: int | None = None) -> Row:
    """A row of one of the project's own methods. Its distortion is measured again here, on the decoded weights."""
    found = estimate(case.weights, case.loss_fn, eps, method=method, seed=seed, budget=budget)
    loss = case.loss(found.coarse_weights())
    return {
        "bytes": found.paper_bytes if found.within and found.paper_bytes is not None else found.bits // 8,
        "payload_bytes": found.bits // 8,
        "within": found.within,
        "loss": loss,
        "distortion": abs(loss - found.loss),
        "evaluations": found.evaluations,
    }


def _answered(answer: Answer) -> Row:
    found = answer.bytes is not None
    return {
        "bytes": answer.bytes,
        "within": found,
        "loss": answer.loss if found else None,
        "distortion": answer.distortion if found else None,
        "evaluations": answer.evaluations,
        "settings": answer.settings,
    }


class _Nncodecs:
    """NNCodec on one case. It is started at its first use, and keeps what it has coded for the next ε."""

    def __init__(self, case: Case, plan: Plan, stack: ExitStack) -> None:
        self._case, self._plan, self._stack = case, plan, stack
        self._codec: Nncodec | None = None
        self._searches: dict[float, tuple[Search, Row]] = {}

    @property
    def cpu_seconds(self) -> float:
        return self._codec.cpu_seconds if self._codec else 0.0

    def measure(self, method: str, eps: float) -> Row:
        """The row with one parameter for all tensors, or with one for each; the latter search begins with the former's answer."""
        if self._codec is None:
            self._codec = self._stack.enter_context(Nncodec(self._case, self._plan.nncodec_python))
        if eps not in self._searches:
            search = Search(self._codec, eps)
            search.best_single()
            self._searches[eps] = search, _answered(search.answer())
        search, single = self._searches[eps]
        if method == "nncodec":
            return single
        search.best_per_tensor(self._plan.nncodec_evaluations)
        return _answered(search.answer())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, nargs="+", help="folders with task.py and checkpoints; those of examples/ if none")
    parser.add_argument("--cases", nargs="+", default=(), metavar="FOLDER/NAME", help="some of their networks")
    parser.add_argument("--eps", type=_positive, nargs="+", default=Plan.eps)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, default=Plan.seeds, help="seeds of bayes")
    parser.add_argument("--budgets", type=int, nargs="+", default=(), help="tight at these budgets too, such as 30 62 250 1000")
    parser.add_argument("--nncodec-evaluations", type=int, default=Plan.nncodec_evaluations)
    parser.add_argument("--nncodec-python", type=Path, default=nncodec_client.PYTHON)
    parser.add_argument("--again", nargs="+", choices=METHODS, default=(), help="forget these methods' rows and measure them again")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--docs", action="store_true", help="measure nothing: rewrite the tables and pictures of docs/")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


if __name__ == "__main__":
    main()
