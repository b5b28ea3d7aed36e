"""Compares bit allocation with rate-aware rounding (`benchmarks.peers.rate_aware_rounding`), for the function distortion.

    python benchmarks/measuring/rate_aware_rounding.py
    python benchmarks/measuring/rate_aware_rounding.py --data mnist.npz --lenet lenet300.safetensors

The networks are those of examples/: the perceptron on digits, and the transformer that has grokked modular arithmetic. LeNet-300-100 is added
with --data, a NumPy archive of MNIST with train_x (60000, 28, 28) of bytes, and --lenet, a file of its weights 0.weight to 4.bias; MNIST is at
https://huggingface.co/datasets/ylecun/mnist. A seed draws four fifths of the inputs. Writes benchmarks/results/rate_aware_rounding.json, row by
row, with NNCodec's size of the same symbols if .venv-nncodec exists, and prints a table of means and standard deviations over seeds.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from benchmarks.cases.mnist import lenet300
from benchmarks.cases.networks import ROOT, SHIPPED, Case, find_cases
from benchmarks.cases.record import Record, Row
from benchmarks.peers.nncodec_client import PYTHON, Nncodec, Settings, absence
from benchmarks.peers.rate_aware_rounding import Rounded, search
from benchmarks.reporting.rate_aware_rounding import rate_aware_rounding
from examples.digits import task as digits
from examples.grokking import task as grokking
from examples.grokking.data import equations
from nncomplexity import Divergence, estimate
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.codecs import Entropy
from nncomplexity.network import Distortion
from nncomplexity.search import Problem

OUTPUT = ROOT / "benchmarks" / "results" / "rate_aware_rounding.json"
EPS = (0.1, 0.01, 0.001)
SEEDS = (0, 1, 2)
SHARE = 0.8
METHODS = ("rate_aware_rounding", "allocate")


@dataclass(frozen=True)
class Subject:
    """A network, the function that gives its logits, and its inputs (n, …)."""

    case: Case
    outputs: Callable[[Any, Any], Any]
    inputs: Tensor

    def divergence(self, seed: int) -> Divergence:
        """KL from the original's outputs on the inputs that a seed draws."""
        order = torch.randperm(len(self.inputs), generator=torch.Generator().manual_seed(seed))
        return Divergence(self.outputs, self.inputs[order[: int(SHARE * len(order))]], probe=0)


def measured(subject: Subject, method: str, eps: float, seed: int, python: Path | None) -> Row:
    """One row: bytes of the payload, and NNCodec's bytes for the same symbols; None if nothing is within ε or NNCodec isn't installed."""
    if method != "rate_aware_rounding":
        report = estimate(subject.case.weights, subject.divergence(seed), eps, method=method, seed=seed)
        return {
            "bytes": report.bits // 8,
            "distortion": report.distortion,
            "evaluations": report.evaluations,
            "cpu_seconds": round(report.cpu_seconds, 1),
            "origin": report.origin,
        }
    begin = time.process_time()
    with Distortion(subject.case.weights, subject.divergence(seed), eps=eps) as distortion:
        found = search(Problem(distortion, Entropy()), distortion.moments(), eps)
        row: Row = {"bytes": None, "evaluations": distortion.evaluations, "cpu_seconds": round(time.process_time() - begin, 1)}
        if found is None:
            return row
        row |= {"bytes": found.candidate.bits // 8, "distortion": found.candidate.distortion}
        row |= {"levels": found.levels, "multiplier": found.multiplier}
        return row if python is None else row | {"nncodec_bytes": _by_nncodec(subject.case, found, distortion, eps, python)}


def _by_nncodec(case: Case, found: Rounded, distortion: Distortion, eps: float, python: Path) -> int | None:
    with Nncodec(replace(case, weights=found.tensors), python) as codec:
        encoded = codec.encode(Settings(found.qp, use_dq=False))
    decoded = {**found.tensors, **encoded.weights}
    return encoded.bytes if abs(distortion.loss(decoded) - distortion.original) <= eps else None


def subjects(data: Path | None, lenet: Path | None) -> list[Subject]:
    """The networks, by their names on the command line."""
    shipped = find_cases(SHIPPED, ["digits/mlp", "grokking/grokked"])
    everything = equations(grokking.SHIPPED.operation, grokking.SHIPPED.prime)
    decoder = grokking.SHIPPED.decoder()

    def answers(weights: Mapping[str, Tensor], tokens: Tensor) -> Any:
        return functional_call(decoder, dict(weights), (tokens,))

    ways = {
        "digits/mlp": (digits.logits, digits.split("train")[0]),
        "grokking/grokked": (answers, everything.tokens),
    }
    found = [Subject(case, *ways[case.name]) for case in shipped]
    if data and lenet:
        checkpoint = load_checkpoint(lenet)
        pixels = torch.from_numpy(np.load(data)["train_x"]).float().div_(255).reshape(-1, 784)
        case = Case("mnist/lenet300", checkpoint.sha256, checkpoint.tensors, lambda weights: lenet300(weights, pixels).sum())
        found.append(Subject(case, lenet300, pixels))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--eps", type=float, nargs="+", default=EPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--data", type=Path, help="mnist.npz, with train_x")
    parser.add_argument("--lenet", type=Path, help="the weights of LeNet-300-100, as safetensors")
    given = parser.parse_args()
    record = Record.open(given.output, {"eps": given.eps, "seeds": given.seeds, "share": SHARE, "distortion": "kl"})
    missing = absence()
    if missing:
        record.skipped["nncodec"] = missing
    for subject in subjects(given.data, given.lenet):
        if given.cases and subject.case.name not in given.cases:
            continue
        record.cases[subject.case.name] = {"sha256": subject.case.sha256, "parameters": subject.case.skeleton.parameters}
        for eps in given.eps:
            for seed in given.seeds:
                for method in given.methods:
                    key = {"case": subject.case.name, "method": method, "eps": eps, "seed": seed}
                    row = record.row(
                        key,
                        lambda subject=subject, key=key: measured(
                            subject, key["method"], key["eps"], key["seed"], None if missing else PYTHON
                        ),
                    )
                    print(
                        {name: row.get(name) for name in (*key, "bytes", "nncodec_bytes", "evaluations", "cpu_seconds")}, flush=True
                    )
    print(rate_aware_rounding({"rows": record.rows}))


if __name__ == "__main__":
    main()
