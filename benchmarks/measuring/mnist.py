"""Bytes and test error on MNIST: LeNet-300-100 and LeNet-5 over a range of ε, with the loss and with the function distortion.

    python benchmarks/measuring/mnist.py --data mnist.npz --networks FOLDER
    python benchmarks/measuring/mnist.py --data mnist.npz --networks FOLDER --cases lenet5 --examples 10000 --eps 0.05 --seeds 0 1 2

`benchmarks/cases/mnist.py` says where to get the data, and what the folder holds. The search sees training images only: all of them or, to
be faster, the first --examples of a fixed order. The test error is measured after the search. Each file is saved to benchmarks/results/mnist/;
another process decodes and verifies it (`mnist_check.py`), and its figures are in the row as `checked`. Writes
benchmarks/results/mnist.json, row by row; an interrupted run continues where it stopped. NNCodec is measured, too, if .venv-nncodec exists.
`python -m benchmarks.reporting.docs` puts the tables and the picture into docs/.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases.mnist import CHANCE, NAMES, Images, networks
from benchmarks.cases.networks import ROOT, Case
from benchmarks.cases.record import Record, Row
from benchmarks.peers.nncodec_client import PYTHON, Nncodec, absence
from benchmarks.peers.nncodec_search import Search
from nncomplexity import estimate
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.file import read_file
from nncomplexity.measure import check_claims
from nncomplexity.network import Task

OUTPUT = ROOT / "benchmarks" / "results" / "mnist.json"
EPS = (0.2, 0.1, 0.05, 0.02)
SEEDS = (0, 1, 2)
DISTORTIONS = ("loss", "kl")
METHODS = ("tight", "nncodec")
DELTA = 0.05


@dataclass(frozen=True)
class Measuring:
    """The data, the images of the search, and the file of the data."""

    archive: Path
    folder: Path
    train: Images
    test: Images
    examples: int | None = None
    budget: float | None = None

    @classmethod
    def read(cls, archive: Path, folder: Path, examples: int | None = None, budget: float | None = None) -> "Measuring":
        return cls(archive, folder, Images.read(archive, "train"), Images.read(archive, "test"), examples, budget)

    @property
    def searched(self) -> Images:
        return self.train.first(self.examples)

    def tight(self, case: Case, distortion: str, eps: float, seed: int, path: Path) -> Row:
        """The row of a file that `tight` finds, saved to `path`. Raises ValueError if another process measures other figures."""
        name = case.name.removeprefix("mnist/")
        loss = self.searched.divergence(name) if distortion == "kl" else self.searched.loss(name)
        report = estimate(case.weights, loss, eps, budget=self.budget, seed=seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        report.save(path)
        decoded = report.coarse_weights()
        train_error = self.train.error(decoded)
        row = {
            "bytes": report.bits // 8,
            "distortion_found": report.distortion,
            "train_error": train_error,
            "test_error": self.test.error(decoded),
            "bound": report.bound(risk=train_error, n=len(self.train.labels), delta=DELTA, chance=CHANCE).value,
            "evaluations": round(report.evaluations, 1),
            "cpu_seconds": round(report.cpu_seconds, 1),
            "converged": report.converged,
            "origin": report.origin,
            "file": path.name,
        }
        verification = check_claims(
            read_file(path), Task(loss), against=load_checkpoint(self.folder / f"{name}.safetensors"), eps=eps
        )
        return row | {"verified": verification.holds, "checked": self._checked(case, distortion, eps, path, row)}

    def _checked(self, case: Case, distortion: str, eps: float, path: Path, row: Row) -> dict[str, Any]:
        """The measurement of the file by another process."""
        asked = ["--case", case.name, "--distortion", distortion, "--eps", repr(eps), "--file", str(path)]
        if self.examples:
            asked += ["--examples", str(self.examples)]
        command = [
            sys.executable,
            "-m",
            "benchmarks.measuring.mnist_check",
            "--data",
            self.archive,
            "--networks",
            self.folder,
            *asked,
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"{path.name}: another process says: {done.stderr.strip() or done.stdout.strip()}")
        found: dict[str, Any] = json.loads(done.stdout)
        if (found["bytes"], found["test_error"]) != (row["bytes"], row["test_error"]):
            raise ValueError(f"{path.name}: another process finds {found}, here it is {row}")
        return found

    def nncodec(self, case: Case, distortion: str, eps: float) -> Row:
        """The row of NNCodec's smallest file within ε, with one quantization parameter for all tensors."""
        name = case.name.removeprefix("mnist/")
        searched = self.searched
        loss = searched.divergence(name).against(case.weights) if distortion == "kl" else searched.loss(name)
        with Nncodec(replace(case, loss_fn=loss), PYTHON) as codec:
            search = Search(codec, eps)
            search.best_single()
            if search.best is None:
                return {"bytes": None, "evaluations": search.evaluations}
            decoded = case.skeleton.expand({**codec.empty, **codec.encode(search.best.settings).weights})
            return {
                "bytes": search.best.bytes,
                "distortion_found": search.best.distortion,
                "train_error": self.train.error(decoded),
                "test_error": self.test.error(decoded),
                "evaluations": search.evaluations,
            }


def run(measuring: Measuring, cases: list[Case], plan: argparse.Namespace) -> Record:
    """Measure the rows that the record doesn't have yet."""
    settings = {"eps": list(plan.eps), "seeds": list(plan.seeds), "distortions": list(plan.distortions), "delta": DELTA}
    record = Record.open(plan.output, settings)
    missing = absence()
    record.skipped = {"nncodec": missing} if missing else {}
    for case in cases:
        if case.name not in record.cases:
            errors = {"train_error": measuring.train.error(case.weights), "test_error": measuring.test.error(case.weights)}
            record.cases[case.name] = {**case.about(), **errors}
        for distortion in plan.distortions:
            for eps in plan.eps:
                key = {"case": case.name, "sha256": case.sha256, "distortion": distortion, "eps": eps, "examples": plan.examples}
                for seed in plan.seeds if "tight" in plan.methods else ():
                    path = plan.files / file_name(case.name.removeprefix("mnist/"), distortion, eps, seed, plan)
                    row = record.row(
                        {**key, "method": "tight", "budget": plan.budget, "seed": seed},
                        lambda case=case, distortion=distortion, eps=eps, seed=seed, path=path: measuring.tight(
                            case, distortion, eps, seed, path
                        ),
                    )
                    print(as_line(row), flush=True)
                if "nncodec" in plan.methods and not missing:
                    row = record.row(
                        {**key, "method": "nncodec"},
                        lambda case=case, distortion=distortion, eps=eps: measuring.nncodec(case, distortion, eps),
                    )
                    print(as_line(row), flush=True)
    record.save()
    return record


def file_name(network: str, distortion: str, eps: float, seed: int, plan: argparse.Namespace) -> str:
    """The name of a found file. Searches on other images or with other budgets have other names."""
    images = "" if plan.examples is None else f"-{plan.examples}images"
    effort = "" if plan.budget is None else f"-{plan.budget:g}"
    return f"{network}-{distortion}-{eps:g}-{seed}{images}{effort}.coarse"


def as_line(row: Row) -> str:
    """A row as a line of text."""
    where = f"{row['case']}, {row['method']}, {row['distortion']} ε = {row['eps']:g}, seed {row.get('seed', '–')}"
    if row["bytes"] is None:
        return f"{where}: nothing within ε"
    bound = f", bound {row['bound']:.1%}" if "bound" in row else ""
    return f"{where}: {row['bytes']:,} bytes, test error {row['test_error']:.2%}, training error {row['train_error']:.2%}{bound}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz, with train_x, train_y, test_x and test_y")
    parser.add_argument("--networks", type=Path, required=True, help="a folder with lenet300.safetensors, lenet5.safetensors")
    parser.add_argument("--cases", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--distortions", nargs="+", choices=DISTORTIONS, default=DISTORTIONS)
    parser.add_argument("--eps", type=float, nargs="+", default=EPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--examples", type=int, help="training images of the search; all where it isn't given")
    parser.add_argument("--budget", type=float, help="evaluations of a search; without it, it goes on until it has converged")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--files", type=Path, default=OUTPUT.with_suffix(""), help="the folder of the files that are found")
    plan = parser.parse_args()
    torch.set_num_threads(plan.threads)
    measuring = Measuring.read(plan.data.resolve(), plan.networks.resolve(), plan.examples, plan.budget)
    run(measuring, networks(plan.networks, measuring.searched, tuple(plan.cases)), plan)


if __name__ == "__main__":
    main()
