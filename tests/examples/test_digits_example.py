"""The digits example: its task module, its training script, and the checkpoints and figures in the repository."""

import doctest
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from examples.digits import task, train

FOLDER = Path(task.__file__).parent
NAMES = ["mlp", "convnet"]
TEST_ERROR = {"mlp": 0.04, "convnet": 0.02}


def checkpoint(name: str) -> Path:
    return FOLDER / "checkpoints" / f"{name}.safetensors"


def shipped(name: str) -> dict[str, Tensor]:
    return load_file(checkpoint(name))


def readme() -> str:
    return (FOLDER / "README.md").read_text(encoding="utf-8")


def module_of(name: str) -> nn.Module:
    module = task.BUILDERS[name]()
    module.load_state_dict(shipped(name))
    return module


def mlp_logits(weights: dict[str, Tensor], images: Tensor) -> np.ndarray:
    """The perceptron in NumPy and float64."""
    w = {name: tensor.double().numpy() for name, tensor in weights.items()}
    x = images.double().numpy().reshape(len(images), 64)
    x = np.maximum(x @ w["hidden1.weight"].T + w["hidden1.bias"], 0)
    x = np.maximum(x @ w["hidden2.weight"].T + w["hidden2.bias"], 0)
    return x @ w["output.weight"].T + w["output.bias"]


def convnet_logits(weights: dict[str, Tensor], images: Tensor) -> np.ndarray:
    """The convnet in float64, batch norm written out with the running statistics that the weights hold."""
    w = {name: tensor.double() for name, tensor in weights.items()}
    x = images.double()
    for i in (1, 2):
        x = functional.conv2d(x, w[f"conv{i}.weight"], padding=1)
        scale = w[f"norm{i}.weight"] / torch.sqrt(w[f"norm{i}.running_var"] + 1e-5)
        x = (x - w[f"norm{i}.running_mean"][:, None, None]) * scale[:, None, None] + w[f"norm{i}.bias"][:, None, None]
        x = x.clamp_min(0)
        n, channels, height, width = x.shape
        x = x.reshape(n, channels, height // 2, 2, width // 2, 2).amax(dim=(3, 5))
    return (x.flatten(1) @ w["output.weight"].T + w["output.bias"]).numpy()


REFERENCE = {"mlp": mlp_logits, "convnet": convnet_logits}


@pytest.fixture
def empty_caches() -> Iterator[None]:
    """Empty the caches, so that no tensor of a test reaches the tests that follow."""
    task.split.cache_clear()
    task._architecture.cache_clear()
    yield
    task.split.cache_clear()
    task._architecture.cache_clear()


# The data


def test_the_splits_share_out_the_digits() -> None:
    digits = load_digits()
    (train_images, train_labels), (test_images, test_labels) = task.split("train"), task.split("test")
    assert train_images.shape == (1437, 1, 8, 8)
    assert test_images.shape == (360, 1, 8, 8)
    pixels = torch.cat([train_images, test_images]).flatten(1) * 16
    labelled = torch.column_stack([pixels, torch.cat([train_labels, test_labels])])
    assert sorted(labelled.tolist()) == sorted(np.column_stack([digits.data, digits.target]).tolist())
    order = np.random.RandomState(0).permutation(1797)
    assert torch.equal(test_labels, torch.from_numpy(digits.target[order[1437:]]))


def test_the_splits_are_cached() -> None:
    assert task.split("train") is task.split("train")


def test_another_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split: expected 'train' or 'test', got 'validation'"):
        task.split("validation")


@pytest.mark.usefixtures("empty_caches")
def test_without_scikit_learn_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'nncomplexity[examples]'")):
        task.split("train")


def test_the_task_is_imported_from_its_folder_without_scikit_learn() -> None:
    code = "import sys, task; assert callable(task.loss); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=FOLDER, check=True)


# The measures


@pytest.mark.parametrize("name", NAMES)
def test_measures_agree_with_a_second_implementation(name: str) -> None:
    weights = shipped(name)
    for split in ("train", "test"):
        images, labels = task.split(split)
        logits, answers = REFERENCE[name](weights, images), labels.numpy()
        np.testing.assert_allclose(task.logits(weights, images).numpy(), logits, atol=1e-3)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        right = log_p[np.arange(len(answers)), answers]
        np.testing.assert_allclose(task.probabilities(weights, split).numpy(), np.exp(right), atol=1e-4)
        assert task.error(weights, split) == np.mean(logits.argmax(axis=1) != answers)
        if split == "train":
            assert task.loss(weights).item() == pytest.approx(-right.mean(), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_module_and_its_mapping_measure_the_same(name: str) -> None:
    module, weights = module_of(name), shipped(name)
    assert torch.equal(task.loss(module), task.loss(weights))
    assert task.error(module, "test") == task.error(weights, "test")
    assert torch.equal(task.probabilities(module, "test"), task.probabilities(weights, "test"))
    assert task.loss(weights).shape == ()


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_flows_through_the_mapping(name: str) -> None:
    """The gradient against a central difference along it, in float64."""
    weights = {key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in shipped(name).items()}
    parameters = dict(task.BUILDERS[name]().named_parameters())
    for key in parameters:
        weights[key].requires_grad_()
    loss = task.loss(weights)
    gradients = dict(zip(parameters, torch.autograd.grad(loss, [weights[key] for key in parameters]), strict=True))
    squared = sum(gradient.square().sum().item() for gradient in gradients.values())
    assert squared > 0

    def along(step: float) -> float:
        moved = {key: tensor + step * gradients[key] if key in gradients else tensor for key, tensor in weights.items()}
        return task.loss(moved).item()

    h = 1e-5
    assert (along(h) - along(-h)) / (2 * h) == pytest.approx(squared, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_module_and_the_mapping_have_one_gradient(name: str) -> None:
    module = module_of(name)
    task.loss(module).backward()
    weights = {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}
    for key, parameter in module.named_parameters():
        weights[key].requires_grad_()
        (gradient,) = torch.autograd.grad(task.loss(weights), weights[key])
        assert torch.equal(gradient, parameter.grad)


def test_batch_norm_statistics_come_from_the_mapping() -> None:
    weights = shipped("convnet")
    before = task.loss(weights)
    weights["norm2.running_mean"] += 1
    assert task.loss(weights) > before + 0.1


def test_a_module_keeps_its_mode_and_its_statistics() -> None:
    module = module_of("convnet").train()
    module.norm1.eval()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert torch.equal(task.loss(module), task.loss(state))
    assert [module.training, module.norm1.training, module.norm2.training] == [True, False, True]
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def test_a_module_keeps_its_mode_when_it_raises() -> None:
    module = nn.Sequential(nn.Linear(3, 10)).train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        task.loss(module)
    assert module.training
    assert module[0].training


@pytest.mark.usefixtures("empty_caches")
def test_a_mapping_is_left_alone_and_draws_no_random_numbers() -> None:
    weights = shipped("convnet")
    copies = {name: tensor.clone() for name, tensor in weights.items()}
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    task.loss(weights)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert all(torch.equal(weights[name], copies[name]) for name in copies)


@pytest.mark.usefixtures("empty_caches")
def test_a_first_call_in_inference_mode_does_not_spoil_the_caches() -> None:
    weights = shipped("convnet")
    with torch.inference_mode():
        expected = task.loss(weights).item()
    weights["conv1.weight"].requires_grad_()
    loss = task.loss(weights)
    loss.backward()
    assert loss.item() == expected
    assert weights["conv1.weight"].grad.abs().max() > 0


def test_a_mapping_of_neither_network_is_refused() -> None:
    weights = shipped("convnet")
    del weights["norm1.running_var"]
    weights["head.weight"] = torch.zeros(1)
    message = "weights: expected those of mlp() or convnet(); missing ['norm1.running_var'], unexpected ['head.weight']"
    with pytest.raises(ValueError, match=re.escape(message)):
        task.loss(weights)


# The files in the repository


@pytest.mark.parametrize("name", NAMES)
def test_the_checkpoints_are_small_complete_and_good(name: str) -> None:
    weights, state = shipped(name), task.BUILDERS[name]().state_dict()
    assert checkpoint(name).stat().st_size < 300_000
    assert {key: (t.shape, t.dtype) for key, t in weights.items()} == {key: (t.shape, t.dtype) for key, t in state.items()}
    assert task.error(weights) < 0.01
    assert task.error(weights, "test") < TEST_ERROR[name]
    with safe_open(checkpoint(name), framework="pt") as file:
        provenance = json.loads(file.metadata()["training"])
    assert provenance.keys() == {"seed", "epochs", "torch"}
    assert (provenance["seed"], provenance["epochs"]) == (0, train.RECIPES[name].epochs)


def test_the_readme_states_the_figures_of_the_checkpoints() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*?\| (\d+) \| (\d+) \| (\S+) nats \| (\S+) % \| (\S+) % \|$", readme(), re.M)
    assert [row[0] for row in rows] == NAMES
    for name, parameters, size, loss, error, test_error in rows:
        weights = shipped(name)
        assert int(parameters) == sum(parameter.numel() for parameter in task.BUILDERS[name]().parameters())
        assert int(size) == checkpoint(name).stat().st_size
        assert float(loss) == pytest.approx(task.loss(weights).item(), abs=6e-5)
        assert float(error) == pytest.approx(100 * task.error(weights), abs=6e-3)
        assert float(test_error) == pytest.approx(100 * task.error(weights, "test"), abs=6e-3)


def test_the_examples_in_the_readme_and_the_docstrings_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    monkeypatch.setitem(sys.modules, "task", task)
    session = doctest.DocTestParser().get_doctest(readme(), {}, "README.md", "README.md", 0)
    results = [doctest.testmod(task), doctest.DocTestRunner().run(session)]
    assert all(result.attempted >= 4 for result in results)
    assert [result.failed for result in results] == [0, 0]


# Training


@pytest.mark.parametrize("name", NAMES)
def test_a_short_training_lowers_the_loss_and_repeats(name: str) -> None:
    recipe = replace(train.RECIPES[name], epochs=2)
    rng, threads = torch.get_rng_state(), torch.get_num_threads()
    first, again, other = train.train(name, recipe, 3), train.train(name, recipe, 3), train.train(name, recipe, 4)
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.get_num_threads() == threads
    assert task.loss(first) < 0.7 * math.log(10)
    assert not first.training
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in first.state_dict().items())
    assert not torch.equal(task.loss(first), task.loss(other))


def test_the_command_line_writes_the_same_file_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        train.main(["all", "--epochs", "1", "--seed", "5", "--out", str(folder)])
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert files[0].keys() == {"mlp.safetensors", "convnet.safetensors"}
    assert files[0] == files[1]
    weights = load_file(tmp_path / "a" / "convnet.safetensors")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert f"training loss {task.loss(weights).item():.4f} nats" in lines[1]


def test_the_script_runs_from_its_folder(tmp_path: Path) -> None:
    command = [sys.executable, "train.py", "convnet", "--epochs", "1", "--out", str(tmp_path)]
    subprocess.run(command, cwd=FOLDER, check=True, capture_output=True)
    assert load_file(tmp_path / "convnet.safetensors")["norm1.num_batches_tracked"].item() == 23


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mlp.safetensors"
    path.write_bytes(b"old")

    def interrupted(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.save(task.mlp(), path, {})
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mlp", "--epochs", "0"], "argument --epochs: expected at least 1, got 0"),
        (["mlp", "--out", "nowhere"], "--out: expected an existing folder, got nowhere; make it first"),
        (["perceptron"], "invalid choice: 'perceptron'"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        train.main(arguments)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_help_tells_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        train.main(["--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    for name, recipe in train.RECIPES.items():
        assert f"{name:8} {recipe.epochs} epochs, peak learning rate {recipe.peak_learning_rate}" in text
