"""There is a description length for a loss that is a code length, and for no other loss."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from nncomplexity import estimate, rate_distortion, track
from nncomplexity.bounds import check_loss_unit, is_code_length, why_no_code_length
from nncomplexity.cli import main
from nncomplexity.errors import InputError

TASK = """
import torch
from torch.nn.functional import cross_entropy

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(64, 6, generator=generator)
labels = inputs[:, :3].argmax(1)

def outputs(weights): return inputs @ weights["weight"].T
def loss(weights): return cross_entropy(outputs(weights), labels)
def squared(weights): return (outputs(weights) - 3 * inputs[:, :3]).square().mean()
def hinge(weights): return torch.nn.functional.multi_margin_loss(outputs(weights), labels)
def density(weights): return 0.5 * squared(weights) + 0.5 * torch.log(torch.tensor(2 * torch.pi))
def narrow_density(weights): return 5 * squared(weights) + 0.5 * torch.log(torch.tensor(2 * torch.pi / 100))
"""
OTHERS = ("squared", "hinge", "density", "narrow_density")


def data() -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    return inputs, inputs[:, :3].argmax(1)


WEIGHTS = {"weight": 3 * torch.eye(3, 6) + 0.05 * torch.randn(3, 6, generator=torch.Generator().manual_seed(1))}
INPUTS, LABELS = data()


def nats(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return cross_entropy(INPUTS @ weights["weight"].T, LABELS)


def squared(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return (INPUTS @ weights["weight"].T - 3 * INPUTS[:, :3]).square().mean()


@pytest.fixture
def call(workplace: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    (workplace / "units.py").write_text(TASK, encoding="utf-8")
    save_file(WEIGHTS, "model.safetensors")

    def run(command: str, loss: str, *options: str) -> tuple[int, str, str]:
        code = main([command, "model.safetensors", "--loss-fn", f"units:{loss}", "--budget", "20", *options])
        return code, *capsys.readouterr()

    return run


# --- the rule ---


@settings(max_examples=200, deadline=None)
@given(classes=st.integers(2, 1024), loss=st.floats(0, 20))
def test_the_logarithm_of_a_number_of_classes_is_known_in_float32(classes: int, loss: float) -> None:
    zero_loss = float(torch.tensor(math.log(classes), dtype=torch.float32))
    assert is_code_length(None, loss=loss, zero_loss=zero_loss)
    assert not is_code_length("other", loss=loss, zero_loss=zero_loss)
    assert not is_code_length(None, loss=-1e-9 - loss, zero_loss=zero_loss)
    assert not is_code_length("nats", loss=-1e-9 - loss, zero_loss=zero_loss)


@pytest.mark.parametrize("zero_loss", [None, 0.0, -1.0, 1.0, 0.5, math.log(2.5), math.log(3) + 1e-4, 1e4, math.log(50_257), 2.0])
def test_other_losses_are_not_taken_for_one(zero_loss: float | None) -> None:
    assert not is_code_length(None, loss=0.1, zero_loss=zero_loss)
    assert is_code_length("nats", loss=0.1, zero_loss=zero_loss)


def test_few_numbers_are_logarithms_by_chance() -> None:
    values = torch.empty(20_000).uniform_(0.01, math.log(1024), generator=torch.Generator().manual_seed(0)).tolist()
    assert sum(is_code_length(None, loss=0.1, zero_loss=value) for value in values) < 0.004 * len(values)


@pytest.mark.parametrize("count", [7, 1000, 70_001])
@pytest.mark.parametrize("classes", [2, 10, 113, 1000])
def test_means_over_many_examples_are_known_too(count: int, classes: int) -> None:
    labels = torch.randint(classes, (count,), generator=torch.Generator().manual_seed(0))
    zero_loss = float(cross_entropy(torch.zeros(1, classes).expand(count, classes), labels))
    assert is_code_length(None, loss=0.1, zero_loss=zero_loss)


def test_two_classes_by_one_logit_are_known() -> None:
    assert is_code_length(None, loss=0.1, zero_loss=float(binary_cross_entropy_with_logits(torch.zeros(9), torch.ones(9))))


@pytest.mark.parametrize("unit", ["bits", "", 1, True])
def test_a_unit_that_is_none_is_refused(unit: Any) -> None:
    with pytest.raises(InputError, match="loss_unit: expected 'nats', 'other', or None to find it from the loss, got"):
        check_loss_unit(unit)


def test_the_reason_says_what_to_do() -> None:
    assert why_no_code_length(None, loss=0.1, zero_loss=None).endswith("is not finite; if it is one, use --loss-unit nats")
    assert "the loss of all weights zero is 2, not the logarithm of a number of classes" in why_no_code_length(
        None, loss=0.1, zero_loss=2.0
    )
    assert "says that the loss is not a cross-entropy" in why_no_code_length("other", loss=0.1, zero_loss=math.log(3))


# --- Python ---


def test_a_report_knows_a_cross_entropy_and_no_squared_error() -> None:
    one, other = (estimate(WEIGHTS, loss, 0.1, method="quantize", budget=20) for loss in (nats, squared))
    length = one.description_length(64)
    assert length is not None
    assert length.data_bits == pytest.approx(64 * one.coarse_loss / math.log(2), rel=1e-12)
    assert other.description_length(64) is None
    assert one.description_length(64, loss_unit="other") is None
    said = other.description_length(64, loss_unit="nats")
    assert said is not None
    assert said.model_bits == other.bits
    with pytest.raises(InputError, match="loss_unit"):
        one.description_length(64, loss_unit="bits")  # type: ignore[arg-type]


def test_a_curve_has_no_lengths_of_a_squared_error() -> None:
    for loss, unit, expected in ((nats, None, True), (squared, None, False), (squared, "nats", True), (nats, "other", False)):
        curve = rate_distortion(WEIGHTS, loss, [1.0, 0.1], method="quantize", budget=20, n=64, loss_unit=unit)
        assert (curve.mdl is not None) == expected
        assert all((length is not None) == expected for length in curve.lengths)
    with pytest.raises(InputError, match="loss_unit"):
        rate_distortion(WEIGHTS, nats, [1.0], loss_unit="bits")  # type: ignore[arg-type]


def test_rows_have_none_either(workplace: Path) -> None:
    save_file(WEIGHTS, "step_1.safetensors")
    for loss, unit, expected in ((nats, None, True), (squared, None, False), (squared, "nats", True)):
        (row,) = track("*.safetensors", loss, 0.1, method="quantize", budget=20, n=64, loss_unit=unit)
        assert ("mdl_bits@0.1" in row) == expected
        assert row["settings"]["loss_unit"] == unit
        assert row["zero_loss"] == pytest.approx(float(loss({"weight": torch.zeros(3, 6)})), rel=1e-6)


# --- the command line ---


def test_a_cross_entropy_needs_no_option(call: Callable[..., Any]) -> None:
    code, out, _ = call("measure", "loss", "--eps", "0.1", "--n", "64")
    assert code == 0
    assert "Description length (MDL): " in out
    assert call("measure", "loss", "--eps", "0.1", "--n", "64", "--loss-unit", "other")[1].count("Description length (MDL)") == 0


@pytest.mark.parametrize("loss", OTHERS)
def test_no_other_loss_has_a_description_length(call: Callable[..., Any], loss: str) -> None:
    code, out, _ = call("measure", loss, "--eps", "5%", "--n", "64", "--json", "r.json")
    assert code == 0
    assert "(MDL)" not in out
    assert "n·loss" not in out
    assert "No description length: the loss is" in out
    assert json.loads(Path("r.json").read_text(encoding="utf-8"))["results"][0]["description_length"] is None
    code, out, _ = call("curve", loss, "--eps", "5%", "--n", "64", "--json", "c.json")
    assert "MDL" not in out
    assert "No description length: the loss is" in out
    assert json.loads(Path("c.json").read_text(encoding="utf-8"))["curve"]["mdl"] is None


def test_one_that_is_said_to_be_has_one(call: Callable[..., Any]) -> None:
    assert "Description length (MDL): " in call("measure", "squared", "--eps", "5%", "--n", "64", "--loss-unit", "nats")[1]
    assert "(MDL)" not in call("measure", "narrow_density", "--eps", "5%", "--n", "64", "--loss-unit", "nats")[1]


def test_without_n_nothing_is_said_of_it(call: Callable[..., Any]) -> None:
    assert "escription length" not in call("measure", "squared", "--eps", "5%")[1]


@pytest.mark.parametrize("loss", OTHERS)
def test_there_is_no_best_file_of_what_is_no_code_length(call: Callable[..., Any], loss: str) -> None:
    code, out, err = call("curve", loss, "--eps", "5%", "--n", "64", "--save-best", "best.coarse")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("nncomplexity: --save-best: the loss is")
    assert err.endswith("or leave --save-best out\n")


def test_the_network_is_the_original_again_once_its_loss_was_looked_at(call: Callable[..., Any]) -> None:
    """A module has the weights that were loaded last, and all weights zero are loaded too."""
    task = Path("units.py").read_text(encoding="utf-8")
    module = (
        "\ndef build(): return torch.nn.Linear(6, 3, bias=False)\ndef of(network): return cross_entropy(network(inputs), labels)\n"
    )
    Path("units.py").write_text(task + module, encoding="utf-8")
    options = ("--eps", "0.1", "--n", "64", "--save-best", "best.coarse", "--json", "c.json")
    assert call("curve", "of", "--model", "units:build", *options)[0] == 0
    by_module = json.loads(Path("c.json").read_text(encoding="utf-8"))
    assert by_module["loss"] == pytest.approx(float(nats(WEIGHTS)), rel=1e-6)
    assert call("curve", "loss", *options)[0] == 0
    by_mapping = json.loads(Path("c.json").read_text(encoding="utf-8"))
    assert by_mapping["results"][0]["bits"] == by_module["results"][0]["bits"]


def test_a_unit_that_is_none_is_one_line(call: Callable[..., Any]) -> None:
    code, _, err = call("measure", "loss", "--eps", "0.1", "--loss-unit", "bits")
    assert (code, err) == (2, "nncomplexity: --loss-unit: expected nats or other, got 'bits'\n")
