"""Critical bits: against quantizers that are written out here, and as a column of `track`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nncomplexity import Divergence, InputError, Tracker, read_results, track
from nncomplexity.cli import main
from nncomplexity.measure import critical_bits, json_schema
from nncomplexity.words import Relative
from tests.training_run import QUICK, make_training


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def distance(original: Mapping[str, Tensor]):
    return lambda network: sum(((network[name] - tensor) ** 2).sum() for name, tensor in original.items())


def test_it_is_the_first_quantizer_within_eps_from_the_coarse_side() -> None:
    weights = {"a": drawn(30, 20), "b": 5 * drawn(7)}

    def change(k: int) -> float:
        """The change of the loss with 2k + 1 levels, rounded by NumPy."""
        total = 0.0
        for tensor in weights.values():
            w = tensor.double().numpy()
            step = abs(w).max() / k
            total += float(((step * (w / step).round() - w) ** 2).sum())
        return total

    for bits, eps in zip(critical_bits(weights, distance(weights), [3.0, 0.03]), (3.0, 0.03), strict=True):
        assert bits is not None
        k = round((2**bits - 1) / 2)
        assert change(k) <= eps
        assert all(change(coarser) > eps for coarser in range(1, k) if coarser in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16, 19))


def test_a_larger_eps_never_needs_more_bits_and_no_eps_is_asked_for_alone() -> None:
    weights = {"w": drawn(40)}
    eps = [0.001, 0.1, 10.0, 1000.0]
    found = critical_bits(weights, distance(weights), eps)
    assert list(found) == sorted(found, reverse=True)
    assert found[-1] == 0
    assert found == tuple(critical_bits(weights, distance(weights), [one])[0] for one in eps)


def test_signs_need_three_levels_under_a_divergence_too() -> None:
    network = nn.Linear(6, 4)
    with torch.no_grad():
        network.weight.copy_(drawn(4, 6).sign())
        network.bias.zero_()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = critical_bits(network, Divergence(lambda model, x: model(x), drawn(50, 6), probe=0), [1e-4])
    assert found == (math.log2(3),)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_what_is_kept_is_not_quantized() -> None:
    weights = {"w": drawn(9), "norm.running_var": drawn(9).abs(), "head": drawn(9), "count": torch.tensor([3])}
    seen: list[dict[str, Tensor]] = []

    def loss(network: Mapping[str, Tensor]) -> Tensor:
        seen.append({name: tensor.clone() for name, tensor in network.items()})
        return ((network["w"] - weights["w"]) ** 2).sum()

    critical_bits(weights, loss, [0.01], exclude="head")
    assert any(not torch.equal(one["w"], weights["w"]) for one in seen)
    assert all(torch.equal(one[name], weights[name]) for one in seen for name in ("norm.running_var", "head", "count"))


def test_none_where_no_quantizer_is_within_eps() -> None:
    weights = {"w": drawn(50)}
    assert critical_bits(weights, distance(weights), [0.0]) == (None,)


@pytest.mark.parametrize("eps", [-1.0, math.nan])
def test_an_eps_below_0_is_refused(eps: float) -> None:
    with pytest.raises(InputError, match="eps: expected a finite number of at least 0, in the loss's unit, got"):
        critical_bits({"w": drawn(3)}, lambda network: network["w"].sum(), [eps])


def test_track_gives_it_in_each_row(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_training(workplace)
    call = ["track", "run/*.safetensors", "--loss-fn", "mytask:loss", "--eps", "1", "--eps", "1%", *QUICK, "--out", "results.jsonl"]
    assert main([*call, "--critical-bits"]) == 0
    assert "critical_bits" in capsys.readouterr().out
    rows = [json.loads(line) for line in Path("results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows
    assert all(row["critical_bits@1"] <= row["critical_bits@1%"] for row in rows)
    assert all(row["settings"]["critical_bits"] is True for row in rows)
    assert "^critical_bits@" in json_schema("row")["patternProperties"]
    assert {record["critical_bits"] for record in read_results("results.jsonl")} == {
        row[f"critical_bits@{eps}"] for row in rows for eps in ("1", "1%")
    }
    with pytest.raises(InputError, match="critical_bits"):
        track("run/*.safetensors", "mytask:loss", [1, Relative(0.01)], method="quantize", budget=12, out="results.jsonl")


def test_a_live_network_has_it_too() -> None:
    weights = {"w": torch.tensor([-1.0, 1.0, 0.0])}
    row = Tracker(distance(weights), 0.1, method="quantize", budget=12, critical_bits=True)(1, weights)
    assert row is not None
    assert row["critical_bits@0.1"] == math.log2(3)
    assert "critical_bits@0.1" not in (Tracker(distance(weights), 0.1, method="quantize", budget=12)(1, weights) or {})


def test_one_eps_may_be_given_alone_and_as_a_share() -> None:
    weights = {"w": drawn(40)}
    loss = distance(weights)
    whole = float(loss({"w": torch.zeros(40)}))
    (expected,) = critical_bits(weights, loss, [0.1 * whole])
    assert critical_bits(weights, loss, 0.1 * whole) == critical_bits(weights, loss, Relative(0.1)) == (expected,)
