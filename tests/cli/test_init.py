"""`init` writes modules that run without a change, with the data and the network that the options name."""

import importlib
import io
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nncomplexity.cli import main
from nncomplexity.cli.init import chain_of
from nncomplexity.cli.task_text import KINDS, Linear, TaskPlan, task_text


def measured(command: str, checkpoint: str) -> int:
    """The exit code of the command that `init` prints, with few evaluations."""
    words = command.split()
    assert words[0] == "nncomplexity"
    return main([checkpoint if word == "CHECKPOINT" else "64" if word == "N" else word for word in words[1:]] + ["--budget", "20"])


def proposed(out: str) -> str:
    [line] = [line for line in out.splitlines() if line.startswith("  nncomplexity measure")]
    return line.strip()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs_as_it_is_written(workplace: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert main(["init", "fresh_task.py", "--kind", kind]) == 0
    out = capsys.readouterr().out
    assert "Its data are random numbers: put your data into data()." in out
    assert "\nThen, where CHECKPOINT is the file of your network" in out
    assert ("N is the number of your training examples" in out) == (kind == "classifier")
    namespace: dict[str, object] = {}
    exec(compile((workplace / "fresh_task.py").read_text(encoding="utf-8"), "fresh_task.py", "exec"), namespace)
    network = namespace["build"]()  # type: ignore[operator]
    save_file(network.state_dict(), workplace / "model.safetensors")
    assert measured(proposed(out), "model.safetensors") in (0, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", [None, "models:Net"])
def test_what_is_written_is_in_order(tmp_path: Path, kind: str, model: str | None) -> None:
    pytest.importorskip("ruff")
    chain = () if model else (Linear("0", 12, 4, True), Linear("2", 4, 3, False))
    for plan in (TaskPlan(kind, (3, 4), 3, model), TaskPlan(kind, (3, 4), 3, chain=chain)):
        (tmp_path / "mytask.py").write_text(task_text(plan), encoding="utf-8")
        ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "144", "--select", "E,F,W,B", "mytask.py"]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout


def test_a_chain_of_linear_layers_is_written_from_its_checkpoint(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = nn.Sequential(OrderedDict(hidden=nn.Linear(6, 5), act=nn.ReLU(), output=nn.Linear(5, 4, bias=False)))
    save_file(network.state_dict(), workplace / "mlp.safetensors")
    rng = np.random.default_rng(0)
    np.savez(workplace / "train.npz", x=rng.normal(size=(64, 2, 3)).astype(np.float32), y=rng.integers(0, 4, 64))
    assert main(["init", "chain_task.py", "--kind", "classifier", "--checkpoint", "mlp.safetensors", "--data", "train.npz"]) == 0
    out = capsys.readouterr().out
    assert "random numbers" not in out
    command = proposed(out)
    assert "--n 64 --classes 4" in command
    assert "\nThen:\n" in out  # nothing in the command is to be replaced
    assert measured(command, "mlp.safetensors") in (0, 3)
    chain_task = importlib.import_module("chain_task")

    inputs, labels = chain_task.data()
    assert (inputs.shape, labels.max()) == ((64, 2, 3), 3)
    with torch.no_grad():
        built = chain_task.build()
        built.load_state_dict(network.state_dict())
        assert torch.equal(built(inputs), network(inputs.flatten(1)))


def test_a_network_of_ones_own_and_sequences_from_a_file(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "own_models.py").write_text(
        "from torch import nn\n\ndef small():\n    return nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 11))\n", encoding="utf-8"
    )
    np.savez(workplace / "text.npz", tokens=np.random.default_rng(0).integers(0, 11, (20, 9)))
    call = ["init", "words_task.py", "--kind", "language-model", "--model", "own_models:small", "--data", "text.npz"]
    assert main(call) == 0
    save_file(nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 11)).state_dict(), workplace / "lm.safetensors")
    assert measured(proposed(capsys.readouterr().out), "lm.safetensors") in (0, 3)


def test_layers_are_a_chain_in_the_order_of_their_numbers() -> None:
    tensors = {f"{number}.weight": torch.zeros(number + 1, number) for number in (10, 11, 9)}
    assert [layer.name for layer in chain_of(dict(sorted(tensors.items())))] == ["9", "10", "11"]
    assert chain_of({"a.weight": torch.zeros(3, 2), "b.weight": torch.zeros(3, 2)}) == ()
    assert chain_of({"a.weight": torch.zeros(3, 2), "running_mean": torch.zeros(3)}) == ()
    assert chain_of({"a.weight": torch.zeros(3, 2, 1, 1)}) == ()
    assert chain_of({}) == ()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["my-task.py"], "my-task.py: expected the name of a module that can be imported, such as mytask.py"),
        (["there.py"], "there.py: it exists already; choose another name, or delete it"),
        (["new.py", "--kind", "gan"], "--kind: expected one of classifier, language-model, regression, function, got 'gan'"),
        (["new.py", "--model", "models"], "--model: expected MODULE:FUNCTION, such as mypackage.models:Net, got 'models'"),
        (["new.py", "--shape", "3x"], "--shape: expected whole numbers with x between them, such as 3x32x32, got '3x'"),
        (
            ["new.py", "--checkpoint", "conv.safetensors"],
            "--model: conv.safetensors is no chain of linear layers (it begins with w 3×3×1",
        ),
        (
            ["new.py", "--data", "gone.npz"],
            "--data: expected an .npz file, got 'gone.npz', which is no file; make one with numpy.savez",
        ),
        (["new.py", "--data", "odd.npz"], "--data: expected an array of the inputs, (n, ...), called x or inputs"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    workplace: Path, capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    (workplace / "there.py").write_text("kept", encoding="utf-8")
    save_file({"w": torch.zeros(3, 3, 1)}, workplace / "conv.safetensors")
    np.savez(workplace / "odd.npz", z=np.zeros((2, 2)))
    assert main(["init", *argv]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"nncomplexity: {words}")
    assert err.count("\n") == 1
    assert (workplace / "there.py").read_text(encoding="utf-8") == "kept"
    assert not (workplace / "new.py").exists()


class Terminal(io.StringIO):
    """Standard input on a terminal, with the answers that a person types."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_asks(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("regression\n2x3\n\n"))
    assert main(["init", "asked_task.py"]) == 0
    assert "Shape of one input, such as 784 or 3x32x32 [4]: " in capsys.readouterr().out
    text = (workplace / "asked_task.py").read_text(encoding="utf-8")
    assert "inputs = torch.randn(256, 2, 3, generator=generator)" in text
    assert "return inputs, torch.randn(256, 1, generator=generator)" in text


def test_an_answer_that_is_no_number_is_one_line(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {"Kind": "classifier", "Shape": "4", "Number": "three"}
    monkeypatch.setattr("nncomplexity.cli.init._asked", lambda question, default: answers[question.split()[0]])
    assert main(["init", "new.py"]) == 2
    assert "--outputs: expected a whole number of at least 1, got 'three'" in capsys.readouterr().err
