"""The data that tests of the integrations write: reports of a small network at two ε and lossless, and a row."""

from typing import Any

import torch
from torch import Tensor

from nncomplexity import Relative, Report, Tracker, estimate
from tests.cases import mean_square

PICTURE = "complexity/rate_distortion"
NUMBERS = ("bits_at_0.5", "bits_at_1pct", "bits_at_1e06", "distortion_at_0.5", "effective_rank_of_w", "loss")


def network(seed: int = 0) -> dict[str, Tensor]:
    return {"w": torch.randn(16, 12, generator=torch.Generator().manual_seed(seed))}


def reports() -> tuple[Report, ...]:
    return estimate(network(), mean_square, [0.5, 0.1, 0.0], method="quantize", budget=6)


def row(step: int, seed: int = 0) -> dict[str, Any]:
    found = Tracker(mean_square, [0.5, Relative(0.01), 1e6], method="quantize", budget=3)(step, network(seed))
    assert found is not None
    return found


def value_in(row: dict[str, Any], name: str) -> float:
    """The value of the row for one of `NUMBERS`."""
    key, _, eps = name.partition("_at_")
    if eps:
        return row[f"{key}@{ {'1pct': '1%', '1e06': '1e+06'}.get(eps, eps) }"]
    return row["layers@0.5"][0]["layer_effective_rank"] if key == "effective_rank_of_w" else row[key]
