"""Steps and runs of `track`: the table says where they were found, options change them, and files without a network are left out."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nncomplexity.checkpoint import StepRule
from nncomplexity.cli import main
from nncomplexity.cli.track_table import tracked
from nncomplexity.dynamics import track
from nncomplexity.dynamics.sources import find_sources
from nncomplexity.errors import InputError
from nncomplexity.show import chart, read_results
from tests.cases import mean_square as loss
from tests.rows import failed, row

quick = functools.partial(track, method="quantize", budget=5)
TASK = "import torch\ndef loss(w): return ((w['w'] - torch.linspace(-1, 1, 64).reshape(8, 8)) ** 2).mean()\n"
CALL = ["--loss-fn", "mytask:loss", "--eps", "0.1", "--method", "quantize", "--budget", "5", "--out", "results.jsonl"]


@pytest.fixture(autouse=True)
def folder(workplace: Path) -> Path:
    Path("mytask.py").write_text(TASK, encoding="utf-8")
    return workplace


def write(name: str, scale: float = 1.0, **beside: Any) -> None:
    """A checkpoint with further content in addition to the weights."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    weights = {"w": scale * torch.linspace(-1, 1, 64).reshape(8, 8)}
    torch.save({"model": weights, **beside} if beside else weights, name)


def write_optimizer(name: str) -> None:
    module = nn.Linear(2, 2)
    torch.save(torch.optim.Adam(module.parameters()).state_dict() | {"state": {0: {"exp_avg": torch.ones(2)}}}, name)


def rows_of(name: str = "results.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def test_every_row_says_what_told_its_step() -> None:
    write("run/a.pt", iter_num=5000)
    write("run/best_acc_0.93.pt")
    write("run/checkpoint-500/pytorch_model.bin")
    write("run/foo-1.pt")
    write("run/foo-2.pt")
    rows = quick(["run/*.pt", "run/checkpoint-*"], loss, 0.1)
    assert [(row["step"], row["step_from"]) for row in rows] == [
        (5000, "metadata iter_num"),
        (None, None),
        (500, "name: checkpoint-500"),
        (1, "name: 1 of foo-1, the number that varies"),
        (2, "name: 2 of foo-2, the number that varies"),
    ]
    lines = tracked(rows, width=120).splitlines()
    assert "Steps are from metadata iter_num; their names, as checkpoint-500." in lines
    assert "No step was found for best_acc_0.93.pt; --step-pattern or --step-key can name it." in lines
    assert "a.pt: took the state dict under 'model'; --key names another." in lines


def test_rows_of_older_versions_tell_nothing_of_where_steps_are_from() -> None:
    out = tracked([{**row(1), "settings": {"metrics": {}}}, {**row(None), "settings": {"metrics": {}}}, failed(2)])
    assert "Steps are from" not in out
    assert "No step is known" not in out


def test_options_name_the_step() -> None:
    for step in (1, 2):
        write(f"run/step_9{step}_at_{step}0.pt", step, step=7, counts={"seen": 100 * step})
    named = quick("run/*", loss, 0.1, step_pattern=r"at_(\d+)")
    assert [(row["step"], row["step_from"]) for row in named] == [(10, "name: at_10"), (20, "name: at_20")]
    counted = quick("run/*", loss, 0.1, step_key="counts.seen")
    assert [(row["step"], row["step_from"]) for row in counted] == [(100, "metadata counts.seen"), (200, "metadata counts.seen")]
    assert [row["step"] for row in quick("run/*", loss, 0.1, step_key="counts.absent")] == [None, None]
    with pytest.raises(InputError, match="step_key: expected only this or step_pattern"):
        quick("run/*", loss, 0.1, step_key="a", step_pattern="(a)")


def test_a_tensor_among_the_weights_may_be_named_as_the_step() -> None:
    weights = {"w": torch.ones(4, 4), "num_updates": torch.tensor(70), "scale": torch.tensor(3)}
    torch.save(weights, "flat.pt")
    torch.save({"model": weights}, "nested.pt")
    for name, key in (("flat.pt", "num_updates"), ("nested.pt", "model.num_updates")):
        assert quick(name, loss, 0.1)[0]["step"] is None
        assert quick(name, loss, 0.1, step_key=key)[0]["step"] == 70


def test_the_same_call_with_another_rule_mends_the_steps_and_measures_nothing() -> None:
    for step in (1, 2):
        write(f"run/net_v{step}.pt", step)
    assert [row["step"] for row in quick("run/*", loss, 0.1, out="results.jsonl")] == [None, None]
    told: list[str] = []
    known: list[bool] = []
    rows = quick(
        "run/*",
        loss,
        0.1,
        out="results.jsonl",
        step_pattern=r"v(\d+)",
        on_note=told.append,
        on_row=lambda row, there: known.append(there),
    )
    assert ([row["step"] for row in rows], known) == ([1, 2], [True, True])
    assert told == ["the training step of 2 rows was found in another way now; they were not measured again"]
    assert [row["step"] for row in rows_of()] == [None, None, 1, 2]
    assert {row["seconds"] for row in rows_of()} == {row["seconds"] for row in rows}
    (line,) = chart(read_results("results.jsonl"), "dynamics").panels[0].lines
    assert line.x == (1, 2)
    assert quick("run/*", loss, 0.1, out="results.jsonl", step_pattern=r"v(\d+)") == rows
    assert len(rows_of()) == 4


def test_networks_their_averages_and_optimizers_of_one_folder(capsys: pytest.CaptureFixture[str]) -> None:
    for step in (100, 200):
        write(f"run/model{step:06d}.pt", 1 + 1 / step)
        write(f"run/ema_0.9999_{step:06d}.pt", 1.01)
        write_optimizer(f"run/opt{step:06d}.pt")
        write_optimizer(f"run/adam{step:06d}.pt")  # the name doesn't show it
    assert main(["track", "run", *CALL]) == 0
    printed = capsys.readouterr()
    assert "left out files that trainers write with a network: opt000100.pt, opt000200.pt" in printed.err
    assert "left out the states of optimizers: adam000100.pt, adam000200.pt" in printed.err
    assert [line for line in printed.out.splitlines() if line.endswith(":")] == ["run/ema_0.9999:", "run:"]
    assert [(row["run"], row["step"]) for row in rows_of()] == [
        (run, step) for run in ("run/ema_0.9999", "run") for step in (100, 200)
    ]
    lines = chart(read_results("results.jsonl"), "dynamics").panels[0].lines
    assert [(line.label, line.x, line.error) for line in lines] == [("ema_0.9999", (100, 200), ()), ("run", (100, 200), ())]


def test_an_optimizers_state_alone_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    write_optimizer("opt.pt")
    assert main(["track", "opt.pt", *CALL]) == 2
    assert "checkpoints: opt.pt: expected a state dict in it, tensors by name" in capsys.readouterr().err
    assert not Path("results.jsonl").exists()


def test_networks_whose_steps_only_their_content_tells_have_their_names_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    write("run/model.pt", 1, step=100)
    write("run/average.pt", 2, step=100)
    assert main(["track", "run", *CALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("100")] == [["100", "average.pt"], ["100", "model.pt"]]
    labels = [line.label for line in chart(read_results("results.jsonl"), "dynamics").panels[0].lines]
    assert labels == ["average", "run/model"]


@pytest.mark.parametrize(
    ("names", "runs"),
    [
        (["G_100.pth", "G_200.pth", "D_100.pth", "D_200.pth"], ["run/D", "run/D", "run/G", "run/G"]),
        (["100_net_G.pth", "100_net_D.pth"], ["run/net_D", "run/net_G"]),
        (["step_1.pt", "step_1_ema.pt", "step_2.pt"], ["run", "run/ema", "run"]),
        (["step_1.pt", "model_1.pt"], ["run/model", "run/step"]),
        (["step_1.pt", "step_1.ckpt"], ["run/step_1.ckpt", "run/step_1.pt"]),
        (["step_1.pt", "model_2.pt", "last.pt"], ["run", "run", "run"]),
        (["ema_1.pt", "ema_2.pt"], ["run", "run"]),
        (
            ["checkpoint-5/unet/model.safetensors", "checkpoint-5/vae/model.safetensors"],
            ["run/unet", "run/vae"],
        ),
        (["checkpoint-5/unet/model.safetensors", "checkpoint-6/unet/model.safetensors"], ["run", "run"]),
    ],
)
def test_networks_of_one_folder_and_step_are_runs_of_their_own(names: list[str], runs: list[str]) -> None:
    for name in names:
        write(f"run/{name}")
    assert [source.run for source in find_sources("run/**/*.*")] == runs


def test_runs_follow_the_pattern_of_steps() -> None:
    for name in ("v1_at_5/a.pt", "v2_at_5/a.pt"):
        write(f"run/{name}")
    assert [source.run for source in find_sources("run/*/*.pt", steps=StepRule(r"at_(\d+)"))] == ["run/v1", "run/v2"]


def test_a_trainers_state_tells_the_step_of_the_model_beside_it() -> None:
    write("out/best/pytorch_model.bin")
    write("out/best/other.pt", 2)
    Path("out/best/trainer_state.json").write_text('{"global_step": 500, "epoch": 2.0, "best_metric": null}')
    rows = quick(["out/best/*.bin", "out/best/other.pt"], loss, 0.1)
    assert [(row["step"], row["step_from"]) for row in rows] == [(None, None), (500, "trainer_state.json global_step")]
    Path("out/best/trainer_state.json").write_text("no JSON")
    assert quick("out/best/*.bin", loss, 0.1)[0]["step"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--step-pattern", "step"], "--step-pattern: expected a regular expression with a group for the number"),
        (["--step-pattern", "(a)", "--step-key", "b"], "--step-key: expected only this or step_pattern, got both"),
        (["--step-pattern", "([a-z]+)_1"], "--step-pattern: expected the first group of '([a-z]+)_1' to be a number, got 'step'"),
    ],
)
@pytest.mark.parametrize("command", ["track", "measure", "curve"])
def test_a_wrong_rule_is_one_line(command: str, options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("run/step_1.pt")
    call = CALL if command == "track" else CALL[:-2]
    assert main([command, "run/step_1.pt", *call, *options]) == 2
    printed = capsys.readouterr()
    assert (printed.err.count("\n"), printed.err.startswith(f"nncomplexity: {words}")) == (1, True)


@pytest.mark.parametrize("command", ["measure", "curve"])
def test_measure_and_curve_say_the_step_and_where_it_is_from(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("net_v2.pt", counts={"seen": 300})
    found = []
    for options in ([], ["--step-pattern", "v([0-9])"], ["--step-key", "counts.seen"]):
        assert main([command, "net_v2.pt", *CALL[:-2], "--json", "-", *options]) == 0
        report = json.loads(capsys.readouterr().out)
        found.append((report["step"], report["step_from"]))
    assert found == [(None, None), (2, "name: v2"), (300, "metadata counts.seen")]
    assert report["notes"] == ["took the state dict under 'model'; --key names another"]
