"""Numbers of rows have names that every tracker accepts. The tests of the integrations check the trackers' own rules."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nncomplexity import Relative, Tracker
from nncomplexity.dynamics import numbers
from nncomplexity.errors import InputError
from tests.cases import to_zero


def test_the_numbers_of_a_row() -> None:
    live = Tracker(to_zero, [1e6, 0.1, Relative(0.01)], method="quantize", budget=3, risk_fn=lambda _: 0.25, n=64)
    weight = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    row = live(3, {"weight": weight})
    assert row is not None
    found = live.numbers(row)
    for name in ("1e06", "0.1", "1pct"):
        key = {"1e06": "1e+06", "1pct": "1%"}.get(name, name)
        for value in ("bits", "distortion", "bound", "risk"):
            assert found[f"complexity/{value}_at_{name}"] == row[f"{value}@{key}"]
    spectrum = torch.linalg.svdvals(weight.double())
    entropy = torch.special.entr(spectrum / spectrum.sum()).sum()
    assert found["complexity/effective_rank_of_weight"] == pytest.approx(float(entropy.exp()))
    assert found["complexity/loss"] == row["loss"]
    assert not {"complexity/step", "complexity/seed", "complexity/schema", "complexity/within_at_0.1"} & set(found)
    assert all(type(value) in (int, float) for value in found.values())


def test_other_names() -> None:
    row = {"status": "measured", "step": 1, "loss": 0.5, "bits@0.1": 800}
    assert numbers(row, prefix="", at="@") == {"loss": 0.5, "bits@0.1": 800}
    assert numbers(row, prefix="a/b.", at="-") == {"a/b.loss": 0.5, "a/b.bits-0.1": 800}


@given(st.text(min_size=1))
def test_a_tensor_of_any_name_has_a_name_that_is_taken(name: str) -> None:
    row = {"status": "measured", "layers@0.1": [{"name": name, "layer_effective_rank": 2.0}]}
    ((found, value),) = numbers(row).items()
    assert re.fullmatch(r"complexity/effective_rank_of_[A-Za-z0-9_.-]+", found)
    assert value == 2.0


@pytest.mark.parametrize("row", [None, {}, {"status": "failed", "error": "no", "step": 3, "seed": 0}])
def test_what_was_not_measured_has_no_numbers(row: Any) -> None:
    assert numbers(row) == {}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"prefix": "of the run: "}, "prefix: expected letters"),
        ({"prefix": "/a"}, "prefix: expected letters"),
        ({"prefix": None}, "prefix: expected letters"),
        ({"at": "%"}, "at: expected letters"),
        ({"at": ""}, "at: expected letters"),
    ],
)
def test_a_wrong_name_is_said(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        numbers({"status": "measured"}, **wrong)
