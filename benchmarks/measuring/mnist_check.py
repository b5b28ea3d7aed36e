"""Measure files of `mnist.py` and `mnist_bound.py` again, each from itself alone: decode it, verify its claims, and count its errors.

    python benchmarks/measuring/mnist_check.py --data mnist.npz --networks FOLDER
    python benchmarks/measuring/mnist_check.py --data mnist.npz --networks FOLDER --file F.coarse --case mnist/lenet5 --eps 0.1

No code of a search is used. The first measures every file of the two records, compares it with its row, and ends with exit code 1 where one
differs. The second prints what it finds in one file as JSON. Losses are computed by NumPy in float64 from the decoded tensors, not by the
functions of the search.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.cases.mnist import Images
from benchmarks.cases.networks import ROOT
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.file import read_file

RECORD = ROOT / "benchmarks" / "results" / "mnist.json"
Array = np.ndarray[Any, Any]
BOUNDS = RECORD.with_name("mnist_bound.json")
_ROWS = 500
_ROUNDING = 1e-5
"""The largest difference between a loss in float32 and in float64 that counts as rounding."""


@dataclass(frozen=True)
class Claim:
    """The claims about a file: its case, distortion and ε, and the number of training images (None: all)."""

    case: str
    distortion: str
    eps: float
    examples: int | None = None


def measured(file: Path, claim: Claim, original: Mapping[str, Tensor], train: Images, test: Images) -> dict[str, Any]:
    """Bytes, distortion, errors, whether the names and shapes are the original's, and whether the distortion is within ε."""
    coarse = read_file(file)
    decoded, before = _arrays(coarse.weights()), _arrays(original)
    searched, labels = train.pixels[: claim.examples].numpy(), train.labels[: claim.examples].numpy()
    after, first = _log_probabilities(decoded, searched), _log_probabilities(before, searched)
    if claim.distortion == "kl":
        distortion = float((np.exp(first) * (first - after)).sum(1).mean())
    else:
        rows = np.arange(len(labels))
        distortion = abs(float((first[rows, labels] - after[rows, labels]).mean()))
    same = {name: (array.shape, array.dtype) for name, array in decoded.items()} == {
        name: (array.shape, array.dtype) for name, array in before.items()
    }
    rest = train.pixels[len(searched) :].numpy()
    answers = np.concatenate([after.argmax(1), *([_logits(decoded, rest).argmax(1)] if len(rest) else [])])
    return {
        "bytes": coarse.bits // 8,
        "distortion": distortion,
        "train_error": float((answers != train.labels.numpy()).mean()),
        "test_error": float((_logits(decoded, test.pixels.numpy()).argmax(1) != test.labels.numpy()).mean()),
        "holds": same and distortion <= claim.eps + _ROUNDING,
    }


def measured_bound(file: Path, train: Images, test: Images, delta: float) -> dict[str, Any]:
    """Bytes, errors, and the bound p at which kl(training error ‖ p) = (bits · ln 2 + ln(1/δ)) / n, by bisection."""
    coarse = read_file(file)
    weights = _arrays(coarse.weights())
    train_error, test_error = (
        float((_logits(weights, part.pixels.numpy()).argmax(1) != part.labels.numpy()).mean()) for part in (train, test)
    )
    nats = (coarse.bits * math.log(2) - math.log(delta)) / len(train.labels)
    low, high = train_error, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _kl(train_error, middle) <= nats else (low, middle)
    return {"bytes": coarse.bits // 8, "train_error": train_error, "test_error": test_error, "bound": high}


def _kl(q: float, p: float) -> float:
    return sum(a * math.log(a / b) for a, b in ((q, p), (1 - q, 1 - p)) if a > 0)


def _arrays(weights: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in weights.items()}


def _log_probabilities(weights: Mapping[str, Array], pixels: Array) -> Array:
    z = _logits(weights, pixels).astype(np.float64)
    z -= z.max(1, keepdims=True)
    result: Array = z - np.log(np.exp(z).sum(1, keepdims=True))
    return result


def _logits(weights: Mapping[str, Array], pixels: Array) -> Array:
    """Logits (m, 10) of images (m, 784)."""
    convolutional = _lenet5 if "fc2.weight" in weights else _small
    network = convolutional if "conv1.weight" in weights else _lenet300
    return np.concatenate([network(weights, pixels[begin : begin + _ROWS]) for begin in range(0, len(pixels), _ROWS)])


def _lenet300(weights: Mapping[str, Array], x: Array) -> Array:
    for layer in (0, 2):
        x = np.maximum(x @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"], 0)
    result: Array = x @ weights["4.weight"].T + weights["4.bias"]
    return result


def _lenet5(weights: Mapping[str, Array], x: Array) -> Array:
    x = _pooled(_convolved(x.reshape(-1, 1, 28, 28), weights["conv1.weight"], weights["conv1.bias"]))
    x = _pooled(_convolved(x, weights["conv2.weight"], weights["conv2.bias"]))
    x = np.maximum(x.reshape(len(x), -1) @ weights["fc1.weight"].T + weights["fc1.bias"], 0)
    result: Array = x @ weights["fc2.weight"].T + weights["fc2.bias"]
    return result


def _small(weights: Mapping[str, Array], x: Array) -> Array:
    x = np.maximum(_convolved(x.reshape(-1, 1, 28, 28), weights["conv1.weight"], weights["conv1.bias"], 2), 0)
    x = np.maximum(_convolved(x, weights["conv2.weight"], weights["conv2.bias"], 2), 0)
    result: Array = x.reshape(len(x), -1) @ weights["fc1.weight"].T + weights["fc1.bias"]
    return result


def _convolved(x: Array, kernels: Array, bias: Array, stride: int = 1) -> Array:
    """Every patch, or every second one, as a row (m, h, w, c·k·k) times the kernels (o, c, k, k)."""
    patches = np.lib.stride_tricks.sliding_window_view(x, kernels.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    m, _, h, w = patches.shape[:4]
    rows = patches.transpose(0, 2, 3, 1, 4, 5).reshape(m * h * w, -1)
    result: Array = (rows @ kernels.reshape(len(kernels), -1).T + bias).reshape(m, h, w, -1).transpose(0, 3, 1, 2)
    return result


def _pooled(x: Array) -> Array:
    """Max pooling, two by two."""
    m, c, h, w = x.shape
    result: Array = x.reshape(m, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
    return result


def differences(row: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """The differences between a row and its file, in words."""
    # An image or two may lie on the boundary between two classes, where rounding decides.
    allowed = {"bytes": 0.0, "train_error": 1e-4, "test_error": 2e-4, "bound": 1e-3, "distortion": _ROUNDING}
    said = {**row, "distortion": row.get("distortion_found")}
    differing = [
        f"{name}: {said[name]} in the row, {found[name]} in the file"
        for name, difference in allowed.items()
        if name in found and abs(said[name] - found[name]) > difference
    ]
    return differing if found.get("holds", True) else [*differing, "the file isn't within ε, or isn't of this architecture"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--networks", type=Path, required=True)
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--bounds", type=Path, default=BOUNDS, help="the record of mnist_bound.py")
    parser.add_argument("--files", type=Path, help="the folder of the files; by default that named as the record")
    parser.add_argument("--file", type=Path, help="one file, instead of those of the record")
    parser.add_argument("--case", default="mnist/lenet300")
    parser.add_argument("--distortion", default="loss", choices=("loss", "kl"))
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--examples", type=int)
    given = parser.parse_args()
    train, test = Images.read(given.data, "train"), Images.read(given.data, "test")

    def original(case: str) -> dict[str, Tensor]:
        return load_checkpoint(given.networks / f"{case.removeprefix('mnist/')}.safetensors").tensors

    if given.file:
        claim = Claim(given.case, given.distortion, given.eps, given.examples)
        print(json.dumps(measured(given.file, claim, original(claim.case), train, test)))
        return 0
    folder = given.files or given.record.with_suffix("")
    wrong = 0
    for record in (given.record, given.bounds):
        content = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {"rows": []}
        for row in content["rows"]:
            if "file" not in row:
                continue
            if "bound" in row and "distortion" not in row:
                again = measured_bound(folder / row["file"], train, test, content["settings"]["delta"])
            else:
                claim = Claim(row["case"], row["distortion"], row["eps"], row["examples"])
                again = measured(folder / row["file"], claim, original(claim.case), train, test)
            found = differences(row, again)
            wrong += bool(found)
            print(f"{row['file']}: {'; '.join(found) or 'as the record says'}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
