"""The grokking example's loss and error against a direct computation, and the checkpoints in the repository."""

import doctest
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from examples.grokking import task
from examples.grokking.complexity import Settings
from examples.grokking.config import preset
from examples.grokking.folder import RunFolder
from nncomplexity import InputError

CONFIG = preset("quick", prime=11, d_model=8, heads=2, d_mlp=16, layers=2, seed=4)


def direct(network: torch.nn.Module, part: int) -> tuple[float, float]:
    """Loss and error, one example at a time."""
    losses, wrong = [], 0
    examples = CONFIG.examples()[part]
    for tokens, answer in zip(examples.tokens, examples.answers, strict=True):
        logits = network(tokens[None])[0].double()
        losses.append((logits.exp().sum().log() - logits[answer]).item())
        wrong += int(logits.argmax() != answer)
    return sum(losses) / len(losses), wrong / len(losses)


@torch.no_grad()
def test_loss_and_error_are_those_of_each_example() -> None:
    network, chosen = CONFIG.decoder(), task.task_for(CONFIG)
    loss, error = direct(network, 0)
    for form in (network, dict(network.state_dict())):
        assert chosen.loss(form).item() == pytest.approx(loss, rel=1e-5)
        assert chosen.error(form) == pytest.approx(error)
        assert chosen.error(form, "test") == pytest.approx(direct(network, 1)[1])
    assert [chosen.size(part) for part in ("train", "test")] == [48, 73]
    assert task.task_for(CONFIG) is chosen


@torch.no_grad()
def test_outputs_and_inputs_are_the_logits_of_all_equations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder(tmp_path / "run", CONFIG, Settings())
    monkeypatch.setenv("GROKKING_RUN", str(tmp_path / "run"))
    network, inputs = CONFIG.decoder(), task.inputs()
    assert len(set(map(tuple, inputs.tolist()))) == len(inputs) == 11 * 11
    for form in (network, dict(network.state_dict())):
        torch.testing.assert_close(task.outputs(form, inputs), network(inputs))
    split = CONFIG.examples()
    assert {tuple(row) for part in split for row in part.tokens.tolist()} == set(map(tuple, inputs.tolist()))


def test_the_loss_is_differentiable_through_the_mapping() -> None:
    network = CONFIG.decoder()
    chosen = task.task_for(CONFIG)
    weights = {name: tensor.detach().double().requires_grad_() for name, tensor in network.state_dict().items()}
    chosen.loss(weights).backward()
    weight = weights["embedding.weight"]
    step = torch.zeros_like(weight)
    step[3, 2] = 1e-5
    with torch.no_grad():
        ahead, behind = (chosen.loss({**weights, "embedding.weight": weight + sign * step}).item() for sign in (1, -1))
    assert weight.grad is not None
    assert weight.grad[3, 2].item() == pytest.approx((ahead - behind) / 2e-5, rel=1e-4)


def test_weights_of_another_network_are_refused() -> None:
    weights = CONFIG.decoder().state_dict()
    weights.pop("output.bias")
    with pytest.raises(InputError, match=r"not those of a network for addition modulo 11 with 2 layer\(s\); set GROKKING_RUN"):
        task.task_for(CONFIG).loss(weights)


def test_the_environment_names_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder(tmp_path / "run", CONFIG, Settings())
    monkeypatch.setenv("GROKKING_RUN", str(tmp_path / "run"))
    network = task.build()
    assert task.loss(network).item() == task.task_for(CONFIG).loss(network).item()
    assert task.error(network) == task.task_for(CONFIG).error(network)
    monkeypatch.setenv("GROKKING_RUN", str(tmp_path))
    with pytest.raises(InputError, match=r"no run of train\.py is here"):
        task.loss(network)


@pytest.mark.parametrize(("name", "largest_error", "smallest_error"), [("memorised", 1.0, 0.5), ("grokked", 0.01, 0.0)])
def test_the_shipped_checkpoints_are_what_they_are_called(
    name: str, largest_error: float, smallest_error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GROKKING_RUN", raising=False)
    weights = load_file(Path(task.__file__).parent / "checkpoints" / f"{name}.safetensors")
    assert task.error(weights) < 0.01
    assert task.loss(weights).item() < 0.6
    assert smallest_error <= task.error(weights, "test") <= largest_error


def test_the_readme_tells_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROKKING_RUN", raising=False)
    folder = Path(task.__file__).parent
    monkeypatch.chdir(folder.parents[1])
    failed, tried = doctest.testfile(str(folder / "README.md"), module_relative=False, encoding="utf-8")
    assert tried >= 3
    assert not failed
