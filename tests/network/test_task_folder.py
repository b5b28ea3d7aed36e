"""A task module that changes the current folder when it is imported: its functions are called there, and typed paths don't change."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from nncomplexity import track
from nncomplexity.cli import main
from nncomplexity.network import find_function, folder_of
from tests.training_run import make_training, untimed, weights

TASK = """
import os, torch
from torch import nn
os.chdir("outputs")

def target():
    return torch.eye(3, 6) * float(open("data.txt").read())

def loss(network):
    weight = network.weight if isinstance(network, nn.Module) else network["weight"]
    return ((weight - target()) ** 2).mean()

def error(network): return float(loss(network) > 1e9)
def raising(network): raise RuntimeError("no such layer")

def build():
    target()
    return nn.Linear(6, 3)

def shuffled(seed): return {"weight": target() + torch.randn(3, 6), "bias": torch.zeros(3)}
"""
TRAINED = ["--loss-fn", "moving:loss"]
RISK = ["--risk-fn", "moving:error", "--n", "64"]


@pytest.fixture(autouse=True)
def folder(workplace: Path) -> Path:
    make_training(workplace)
    (workplace / "outputs").mkdir()
    (workplace / "outputs" / "data.txt").write_text("2", encoding="utf-8")
    (workplace / "moving.py").write_text(TASK, encoding="utf-8")
    save_file(weights(2), "net.safetensors")
    save_file(weights(1), "base.safetensors")
    return workplace


@pytest.fixture(autouse=True)
def stays(folder: Path) -> Iterator[None]:
    yield
    assert Path.cwd() == folder
    assert [file.name for file in Path("outputs").iterdir()] == ["data.txt"]


@pytest.mark.parametrize("model", [[], ["--model", "moving:build"]])
@pytest.mark.parametrize("name", ["moving:loss", "./moving.py:loss", "outputs/../moving.py:loss"])
def test_measure_and_verify(name: str, model: list[str]) -> None:
    options = ["--loss-fn", name, *model, *RISK, "--eps", "0.1", "--budget", "12", "--relative-to", "base.safetensors"]
    assert main(["measure", "net.safetensors", *options, "--save", "net.coarse", "--json", "report.json"]) == 0
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert report["checkpoint"] == "net.safetensors"
    assert report["loss"] < 0.1
    options = [*TRAINED, *model, *RISK, "--against", "net.safetensors", "--base", "base.safetensors", "--claims", "report.json"]
    assert main(["verify", "net.coarse", *options, "--json", "verified.json"]) == 0
    assert main(["decompress", "net.coarse", "--base", "base.safetensors", "--out", "coarse.safetensors"]) == 0
    assert {*load_file("coarse.safetensors")} == {"weight", "bias"}
    assert Path("verified.json").exists()


def test_curve_and_plot() -> None:
    options = [
        *TRAINED,
        *RISK,
        "--eps",
        "0.1",
        "--eps",
        "1",
        "--budget",
        "12",
        "--save",
        "net_{eps}.coarse",
        "--save-best",
        "best.coarse",
        "--loss-unit",
        "nats",
    ]
    assert main(["curve", "net.safetensors", *options, "--json", "curve.json"]) == 0
    assert main(["plot", "curve.json", "--out", "curve.svg"]) == 0
    assert all(Path(name).exists() for name in ("net_0.1.coarse", "net_1.coarse", "best.coarse", "curve.svg"))


def test_track() -> None:
    calibrations = ["--untrained", "--model", "moving:build", "--constant", "--shuffled", "moving:shuffled"]
    options = [
        *TRAINED,
        *RISK,
        "--metric",
        "test_error=moving:error",
        *calibrations,
        "--eps",
        "1",
        "--method",
        "quantize",
        "--budget",
        "5",
    ]
    for jobs in ("1", "2"):
        assert main(["track", "run/*.safetensors", *options, "--jobs", jobs, "--out", f"{jobs}.jsonl"]) == 0
    alone, together = ([json.loads(line) for line in Path(f"{jobs}.jsonl").read_text().splitlines()] for jobs in "12")
    assert [row["status"] for row in alone] == ["measured"] * 6
    assert untimed(alone) == untimed(together)


def test_track_as_a_function(folder: Path) -> None:
    rows = track("run/*.safetensors", "moving:loss", 1, method="quantize", budget=5, metrics={"test_error": "moving:error"})
    assert [(row["checkpoint"], row["status"]) for row in rows] == [
        (f"run/step_{step}.safetensors", "measured") for step in (1, 2, 10)
    ]
    assert folder_of("moving:loss") == str(folder / "outputs")
    assert folder_of("mytask:loss", "moving:loss") == str(folder / "outputs")
    assert folder_of("mytask:loss", None) is None


def test_an_error_names_the_file_and_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "net.safetensors", *TRAINED, "--risk-fn", "moving:raising", "--n", "9", "--eps", "1"]) == 2
    assert "raising raised RuntimeError: no such layer (moving.py, line 14)" in capsys.readouterr().err


def test_a_module_that_stays_has_no_folder(folder: Path) -> None:
    find_function("mytask:loss", "--loss-fn")
    assert folder_of("mytask:loss") is None
