"""Small valid files of every kind that the package reads. The fuzzer damages them."""

import io
import json
import pickle
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

from nncomplexity import Divergence, estimate, rate_distortion, track
from nncomplexity.checkpoint import save_safetensors
from nncomplexity.measure import reports_json
from tests.rows import failed, row


def drawn(*shape: int, seed: int) -> torch.Tensor:
    """Random numbers from a new generator with this seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


WEIGHTS = {"weight": 4 * torch.eye(3, 6) + 0.1 * drawn(3, 6, seed=1), "bias": torch.tensor([0.1, 0.0, 0.02])}
INPUTS = drawn(40, 6, seed=0)


def logits(network: Any, inputs: torch.Tensor = INPUTS) -> torch.Tensor:
    return inputs @ network["weight"].T + network["bias"]


def loss(network: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(logits(network), INPUTS[:, :3].argmax(1))


def error(network: Any) -> float:
    return float((logits(network).argmax(1) != INPUTS[:, :3].argmax(1)).double().mean())


def coarse_files() -> list[bytes]:
    """The golden files, which have every form, dtype and codec, and a file that has only zeros."""
    files = [path.read_bytes() for path in sorted(GOLDEN.rglob("*.coarse"))]
    report = estimate(WEIGHTS, lambda weights: 1.0 + 0 * weights["bias"].sum(), 0.1, method="quantize")
    return [*files, honest_file(), report.file.content]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("mean", torch.zeros(2), persistent=False)


def checkpoints() -> dict[str, list[bytes]]:
    """Checkpoints of every kind, by kind."""
    state = {
        "model": {**WEIGHTS, "tied": WEIGHTS["weight"]},
        "epoch": 3,
        "best": np.float64(0.5),
        "optimizer": {"state": {}, "lr": 0.1},
    }
    arrays = {name: value.numpy() for name, value in WEIGHTS.items()}
    index = {"metadata": {"total_size": 84}, "weight_map": {"weight": "shard.safetensors", "bias": "shard.safetensors"}}
    return {
        "safetensors": [shard()],
        "zip": [_saved(state), _saved(WEIGHTS)],
        "legacy": [_saved(state, zipped=False)],
        "module": [_saved(Net()), _saved(Net(), zipped=False)],
        "npz": [_archive(arrays, np.savez), _archive(arrays, np.savez_compressed)],
        "pickle": [pickle.dumps({"net": arrays, "step": 3}, protocol=protocol) for protocol in (2, 4)],
        "index": [json.dumps(index).encode()],
    }


@cache
def shard() -> bytes:
    """The shard that the index names."""
    return safetensors.torch.save(WEIGHTS, {"format": "pt", "tied": "weight", "step": "3"})


def reports() -> dict[str, list[bytes]]:
    """A report.json, a curve.json and a certificate of the file that `honest_file` gives."""
    report = estimate(WEIGHTS, loss, 0.1, method="quantize", faithfulness=Divergence(logits, INPUTS))
    document = json.loads(reports_json([report], sha256="ab" * 32, loss_fn="mytask:loss", checkpoint="net.safetensors"))
    promise = report.bound(risk=error(report.coarse_weights()), n=40, chance=0.9, constant_risk=0.6).to_dict()
    document["results"][0] |= {"bound": promise, "file": "net.coarse", "codec": report.file.codec.name}
    found = rate_distortion(WEIGHTS, loss, [1.0, 0.3, 0.1, 0.01], method="quantize", n=40, risk=error, loss_unit="nats")
    curve = json.loads(found.to_json())
    curve["results"][0]["file"] = "net.coarse"
    certificate = document | {"certificate": 1, "file_sha256": "ab" * 32, "task": [{"file": "a.py", "sha256": "ab"}], "data": []}
    return {
        "report": [json.dumps(document).encode(), json.dumps(certificate).encode()],
        "curve": [json.dumps(curve).encode()],
    }


def honest_file() -> bytes:
    """The file that the reports describe."""
    return estimate(WEIGHTS, loss, 0.1, method="quantize").file.content


def results() -> list[bytes]:
    """A results.jsonl that `track` wrote with `SETTINGS`, and one that was made by hand."""
    rows = [row(1), row(2, scale=0.5), row(None), failed(3), row(1, kind="untrained", checkpoint=None, run=None)]
    with tempfile.TemporaryDirectory() as folder:
        for step in (1, 10):
            save_safetensors(Path(folder, f"step_{step}.safetensors"), {name: step * value for name, value in WEIGHTS.items()})
        tracked = track(folder, loss, EPS, risk_fn=error, n=40, constant=True, **SETTINGS)
    return ["".join(f"{json.dumps(one)}\n" for one in several).encode() for several in (tracked, rows)]


EPS = (1.0, 0.1)
SETTINGS: dict[str, Any] = {"method": "quantize", "budget": 12, "metrics": {"test_error": error}}


def _saved(content: object, *, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def _archive(arrays: dict[str, Any], save: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def records(content: bytes) -> dict[str, bytes]:
    """The records of a zip archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archived(content: dict[str, bytes]) -> bytes:
    """An archive of these records, with their checksums."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, value in content.items():
            archive.writestr(zipfile.ZipInfo(name), value)
    return stream.getvalue()


GOLDEN = Path(__file__).parents[1] / "golden"
CORPUS = Path(__file__).parent / "corpus"
"""Inputs that once caused a fault. The name of each file is READER-DIGEST."""
