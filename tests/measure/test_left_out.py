"""A network with numbers that its file lacks has no bound, unless the user says that they were not learned."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nncomplexity import best_bound, estimate, rate_distortion
from nncomplexity.cli import main
from nncomplexity.dynamics import track
from nncomplexity.errors import InputError
from nncomplexity.network.modulestate import LeftOut, left_out, numbers_left_out

WORDS = r"left_out: a bound needs a file with everything that was learned, and the network has numbers outside the file: "


class Packed(nn.Module):
    """A module whose weights are in its extra state, and whose state dict has only a scale."""

    def __init__(self, extra: Any = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.extra = {"packed": torch.randn(64, generator=torch.Generator().manual_seed(0))} if extra is None else extra

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


def loss(module: Any) -> torch.Tensor:
    return (module.scale**2).sum()


def error(module: Any) -> float:
    return 0.0


@pytest.mark.parametrize(
    ("extra", "has"),
    [
        ({"packed": (torch.ones(2), None)}, True),
        ([1.5], True),
        (b"\1\2", True),
        pytest.param(object(), True, id="an object"),
        ({"version": "1", "on": True, "dtype": torch.float32}, False),
        ([torch.ones(0)], False),
        ({}, False),
    ],
    ids=repr,
)
def test_which_states_hold_numbers(extra: Any, has: bool) -> None:
    assert left_out(Packed(extra)) == ("_extra_state",)
    assert numbers_left_out(Packed(extra)) == (("_extra_state",) if has else ())
    assert numbers_left_out({"w": torch.ones(1)}) == ()


def test_a_name_keeps_what_it_knows_when_it_is_copied() -> None:
    name = LeftOut("mask", numbers=False)
    assert [copy.deepcopy(name).numbers, pickle.loads(pickle.dumps(name)).numbers] == [False, False]


def test_packed_weights_give_no_bound_without_a_yes() -> None:
    report = estimate(Packed(), loss, 0.5, method="quantize")
    with pytest.raises(InputError, match=WORDS + r"_extra_state; if they .* say so by left_out_is_architecture=True"):
        report.bound(risk=0.0, n=1000)
    assert not report.bound(risk=0.0, n=1000, left_out_is_architecture=True).vacuous
    assert estimate(Packed({}), loss, 0.5, method="quantize").bound(risk=0.0, n=1000).value < 1
    with pytest.raises(InputError, match=WORDS):
        rate_distortion(Packed(), loss, [0.5], method="quantize", risk=lambda weights: 0.0, n=1000)
    yes = {"left_out_is_architecture": True}
    assert rate_distortion(Packed(), loss, [0.5], method="quantize", risk=lambda weights: 0.0, n=1000, **yes).best_bound
    with pytest.raises(InputError, match=WORDS):
        best_bound(Packed(), loss, risk=error, n=1000, eps=[0.5], method="quantize")
    assert best_bound(Packed(), loss, risk=error, n=1000, eps=[0.5], method="quantize", **yes).value < 1


TASK = """
import torch
from torch import nn

class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))
        self.register_buffer("mask", torch.ones(4, 4).tril(), persistent=False)

def build(): return Masked()
def loss(module): return ((module.weight * module.mask) ** 2).mean()
def error(module): return 0.0
"""


def test_on_the_command_line(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "masked.py").write_text(TASK)
    save_file({"weight": torch.eye(4) + 0.1}, workplace / "net.safetensors")
    functions = ["--loss-fn", "masked:loss", "--model", "masked:build", "--risk-fn", "masked:error", "--n", "100"]
    call = ["measure", "net.safetensors", *functions, "--eps", "0.1", "--method", "quantize", "--save", "net.coarse"]
    against = ["--against", "net.safetensors", "--eps", "0.1"]
    bounded = ["bound", "net.safetensors", *functions, "--eps", "0.1", "--method", "quantize"]
    curve = ["curve", "net.safetensors", *functions, "--eps", "0.1", "--method", "quantize"]
    yes = "--left-out-is-architecture"
    assert main([*call, yes]) in (0, 3)
    for argv in (
        call,
        bounded,
        curve,
        ["verify", "net.coarse", *functions],
        ["certify", "net.coarse", *functions, *against, "--out", "c.json"],
    ):
        capsys.readouterr()
        assert main(argv) == 2
        assert "the network has numbers outside the file: mask; if they were fixed" in capsys.readouterr().err
        assert main([*argv, yes]) in (0, 3)


def test_a_row_has_no_bound_and_says_why(workplace: Path) -> None:
    (workplace / "masked.py").write_text(TASK)
    save_file({"weight": torch.eye(4) + 0.1}, workplace / "step_1.safetensors")
    functions = {"model": "masked:build", "risk_fn": "masked:error", "n": 100}
    (row,) = track("step_1.safetensors", "masked:loss", 0.1, method="quantize", out="rows.jsonl", **functions)
    assert (row["status"], row["risk@0.1"], "bound@0.1" in row) == ("measured", 0.0, False)
    assert any(text.startswith("No bound: left_out: ") for text in row["warnings@0.1"])
    assert json.loads((workplace / "rows.jsonl").read_text())["warnings@0.1"] == row["warnings@0.1"]
