"""Rows of a results.jsonl, made by hand, as docs/results.md describes them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LAYERS = ("embed.weight", "hidden.weight", "output.weight")


def row(
    step: float | None = 100, *, run: str = "runs/a", eps: Iterable[float] = (1.0, 0.1), scale: float = 1.0, **more: Any
) -> dict[str, Any]:
    """The row of a measured checkpoint. Its bits are 800·scale at ε = 1, and more at smaller ε."""
    values = list(eps)
    found: dict[str, Any] = {
        "schema": 1,
        "kind": "checkpoint",
        "status": "measured",
        "run": run,
        "checkpoint": f"{run}/step_{step}.safetensors",
        "sha256": "ab" * 32,
        "step": step,
        "seed": 0,
        "eps": values,
        "settings": {"method": "tight", "codec": "entropy", "n": 2553, "delta": 0.05, "version": "0.1.0"},
        "parameters": 1000,
        "raw_bits": 32000,
        "loss": 0.01,
        "test_error": 0.25,
        "train_error": 0.0,
        "bzip2_bits": 30000,
    }
    for value in values:
        bits = round(800 * scale / value**0.5)
        third = bits / 4
        layer = {"shape": [10, 20], "form": "low_rank", "rank": 3, "layer_step": 0.1, "layer_effective_rank": 2.5}
        at = {
            "bits": bits,
            "coarse_loss": 0.01 + value * 0.9,
            "distortion": value * 0.9,
            "within": True,
            "risk": 0.1,
            "bound": 0.7 if value == 1 else 1.0,
            "vacuous": value != 1,
            "mdl_bits": bits + 500.0,
            "layers": [{**layer, "name": name, "bits": third} for name in LAYERS],
            "shared_bits": bits - 3 * third,
        }
        found |= {f"{key}@{value:g}": entry for key, entry in at.items()}
    return found | more


def failed(step: float = 300, error: str = "loss: it is nan", run: str = "runs/a") -> dict[str, Any]:
    about = {"run": run, "checkpoint": f"{run}/step_{step}.safetensors", "step": step, "seed": 0}
    return {"schema": 1, "kind": "checkpoint", "status": "failed", "error": error, **about}


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], end: str = "") -> Path:
    """A results.jsonl with these rows and, after them, `end`, such as a cut line."""
    path.write_text("".join(json.dumps(one) + "\n" for one in rows) + end, encoding="utf-8")
    return path


def report(eps: Iterable[float] = (1.0, 0.1), **more: Any) -> dict[str, Any]:
    """A report.json."""
    layer = {"name": "w", "names": ["w"], "shape": [4], "form": "dense", "rank": None, "step": 0.1, "bits": 700.0}
    bound = {"risk": 0.0, "n": 64, "delta": 0.05, "kind": "kl", "value": 0.8, "vacuous": False, "chance": 1.0, "bits_needed": 900.0}
    spent = {"evaluations": 12.0, "seconds": 1.0, "cpu_seconds": 1.0}
    results = [
        {
            "eps": value,
            "method": "tight",
            "codec": "entropy",
            "bits": round(800 / (value or 1e-4) ** 0.5),
            "file_bits": 2000,
            "coarse_loss": 0.1,
            "distortion": value * 0.9,
            "within": True,
            "layers": [{**layer, "effective_rank": None}],
            "shared_bits": 100.0,
            "bound": bound,
            "description_length": {"model_bits": 800, "data_bits": 9.0, "total_bits": 809.0},
            **spent,
        }
        for value in eps
    ]
    top = {"schema": 1, "checkpoint": "net.safetensors", "sha256": "cd" * 32, "loss": 0.01, "parameters": 4, "raw_bits": 3200}
    return {**top, "lossless_bits": {"bzip2": 3000}, "seed": 0, "version": "0.1.0", "results": results, **more}
