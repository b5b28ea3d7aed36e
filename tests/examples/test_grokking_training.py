"""The grokking example's training: its mathematics, its determinism, and runs that give the same result after a kill."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch.nn.functional import cross_entropy

from examples.grokking import recording
from examples.grokking.complexity import Settings
from examples.grokking.config import Config, preset
from examples.grokking.folder import RunFolder, append_line, keep_lines, read_lines
from examples.grokking.recording import Watcher, recorded_epochs, train_run
from examples.grokking.task import Task
from examples.grokking.training import Trainer
from nncomplexity import InputError

KEYS = ["epoch", "step", "train_loss", "test_loss", "train_accuracy", "test_accuracy", "l2_norm", "effective_rank", "seconds"]
CHEAP = Settings(("1", "0.50"), "quantize", budget=4)
pytestmark = pytest.mark.usefixtures("computing_with_one_thread")


def tiny(**changes: Any) -> Config:
    settings = {"prime": 7, "train_fraction": 0.6, "d_model": 8, "heads": 2, "d_mlp": 16, "epochs": 9, "learning_rate": 0.01}
    return preset("quick", **(settings | changes))


def weights_of(trainer: Trainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def test_an_update_is_that_of_adamw_on_the_stated_objective() -> None:
    """One update, calculated by hand: noise on the weights, cross-entropy plus β·mean spectral entropy, decoupled decay."""
    config = tiny(batch_size=100, weight_decay=0.7, noise=0.05, beta=0.3)
    trainer = Trainer(config)
    model = config.decoder()
    rows = torch.randperm(29, generator=config.stream("order")).tensor_split(3)[0]
    originals = [parameter.detach().clone() for parameter in model.parameters()]
    noise = config.stream("noise")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=noise), alpha=0.05)
    loss = cross_entropy(model(trainer.train.tokens[rows]), trainer.train.answers[rows])
    entropies = []
    for parameter in model.parameters():
        if parameter.ndim == 2:
            share = torch.linalg.svdvals(parameter.double())
            share = share / share.sum()
            entropies.append(-(share * share.log()).sum())
    gradients = torch.autograd.grad(loss + 0.3 * torch.stack(entropies).mean(), list(model.parameters()))
    # In the first update, Adam's corrected moments are g and g², so each weight moves by the learning rate.
    expected = [w * (1 - 0.01 * 0.7) - 0.01 * g / (g.abs() + 1e-8) for w, g in zip(originals, gradients, strict=True)]

    trainer.updates_per_epoch = 3
    steps = []
    trainer.optimizer.register_step_post_hook(lambda *_: steps.append([p.detach().clone() for p in trainer.model.parameters()]))
    trainer.train_epoch()
    assert len(steps) == 3
    for got, want, gradient in zip(steps[0], expected, gradients, strict=True):
        certain = gradient.abs() > 1e-5  # if a gradient is only a rounding error, its sign is one too
        torch.testing.assert_close(got[certain], want[certain], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("regularizer", "expected"), [("none", (0.0, 0.0, 0.0)), ("weight-decay", (1.0, 0.0, 0.0)), ("full", (1.0, 0.01, 0.1))]
)
def test_the_three_regularizers(regularizer: str, expected: tuple[float, ...]) -> None:
    config = preset("paper", "addition", regularizer)
    assert (config.weight_decay, config.noise, config.beta) == expected


def test_dead_tensors_decay_under_summed_attention_as_all_others_do() -> None:
    trainer = Trainer(tiny(attention="summed", regularizer="weight-decay"))
    before = trainer.model.blocks[0].attention.query.weight.detach().clone()
    trainer.train_epoch()
    torch.testing.assert_close(trainer.model.blocks[0].attention.query.weight, before * (1 - 0.01) ** trainer.updates)


def test_every_example_is_seen_once_an_epoch() -> None:
    trainer = Trainer(tiny(batch_size=4))
    seen: list[torch.Tensor] = []
    trainer._objective = lambda rows: (seen.append(rows), next(trainer.model.parameters()).sum() * 0)[1]  # type: ignore[method-assign]
    trainer.train_epoch()
    assert sorted(torch.cat(seen).tolist()) == list(range(29))
    assert [len(rows) for rows in seen] == [4] * 5 + [3] * 3


def test_the_seed_decides_everything() -> None:
    def trained(seed: int) -> torch.Tensor:
        trainer = Trainer(tiny(seed=seed))
        for _ in range(3):
            trainer.train_epoch()
        return weights_of(trainer)

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))


def test_the_streams_of_a_run_and_of_its_neighbours_are_independent() -> None:
    names = ("split", "initialization", "order", "noise")
    first = [torch.rand(3, generator=tiny(seed=seed).stream(name)) for seed in range(3) for name in names]
    assert len({tuple(draw.tolist()) for draw in first}) == 12


def test_the_metrics_are_what_their_names_say() -> None:
    trainer = Trainer(tiny())
    trainer.train_epoch()
    metrics = trainer.evaluate()
    parameters = dict(trainer.model.named_parameters())
    assert metrics["l2_norm"] == pytest.approx(weights_of(trainer).double().norm().item())
    ranks, sizes = [], []
    for parameter in parameters.values():
        if parameter.ndim == 2:
            share = torch.linalg.svdvals(parameter.detach().double())
            share = share[share > 0] / share.sum()
            ranks.append(torch.exp(-(share * share.log()).sum()).item())
            sizes.append(parameter.numel())
    expected = sum(r * s for r, s in zip(ranks, sizes, strict=True)) / sum(sizes)
    assert metrics["effective_rank"] == pytest.approx(expected)
    logits = trainer.model(trainer.test.tokens).detach()
    assert metrics["test_loss"] == pytest.approx(cross_entropy(logits, trainer.test.answers).item())
    assert metrics["test_accuracy"] == pytest.approx((logits.argmax(1) == trainer.test.answers).double().mean().item())


@pytest.mark.parametrize(("epochs", "expected"), [(1, [1]), (2, [1, 2]), (9, [1, 2, 3, 4, 6, 8, 9]), (10, [1, 2, 3, 4, 6, 8, 10])])
def test_the_recorded_epochs(epochs: int, expected: list[int]) -> None:
    assert recorded_epochs(epochs) == expected


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def record_of(folder: RunFolder) -> dict[str, Any]:
    return {
        "metrics": without_times(read_lines(folder.metrics)),
        "measurements": without_times(read_lines(folder.measurements("quantize"))),
        "checkpoints": [(path.name, path.read_bytes()) for path in sorted((folder.path / "checkpoints").iterdir())],
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole", tiny(), CHEAP)
    train_run(folder)
    return folder


def test_a_run_leaves_the_stated_files(uninterrupted: RunFolder) -> None:
    lines = read_lines(uninterrupted.metrics)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 6, 8, 9]
    for line in lines:
        assert list(line)[: len(KEYS)] == KEYS
        assert {"bits@1", "bits@0.50"} <= set(line)
        assert line["step"] == 3 * line["epoch"]
        assert line["bits@1"] <= line["bits@0.50"]
    assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)
    assert uninterrupted.checkpoints() == [1, 2, 3, 4, 6, 8, 9]
    assert Config.of_run(uninterrupted.path) == tiny()
    with safe_open(uninterrupted.path / "checkpoints" / "epoch_000009.safetensors", framework="pt") as file:
        assert Config(**json.loads(file.metadata()["config"])) == tiny()
    weights = uninterrupted.load_checkpoint(9)
    assert Task(tiny()).loss(weights).item() == pytest.approx(lines[-1]["train_loss"], rel=1e-6)


class KilledError(Exception):
    """An exception in place of a kill: no code of the training handles it."""


def kill_when_trained(epoch: int) -> Watcher:
    class Killer(Watcher):
        def trained(self, now: int) -> None:
            if now == epoch:
                raise KilledError

    return Killer()


def kill_while_measuring(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    measure: Callable[..., Any] = recording.measure
    calls = iter(range(100))

    def killed_at(*arguments: Any) -> Any:
        lines = measure(*arguments)
        if next(calls) == at:
            raise KilledError
        return lines

    monkeypatch.setattr(recording, "measure", killed_at)


@pytest.mark.parametrize("between_saves", [0, 1000])
def test_a_run_killed_while_training_ends_as_if_it_had_not_been(
    uninterrupted: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between_saves: int
) -> None:
    monkeypatch.setattr(recording, "SECONDS_BETWEEN_SAVES", between_saves)
    for epoch in (1, 5, 9):
        with pytest.raises(KilledError):
            train_run(RunFolder(tmp_path / "run", tiny(), CHEAP), watcher=kill_when_trained(epoch))
    folder = RunFolder(tmp_path / "run", tiny(), CHEAP)
    train_run(folder)
    assert record_of(folder) == record_of(uninterrupted)


def test_a_run_killed_while_measuring_ends_as_if_it_had_not_been(
    uninterrupted: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run", tiny(), CHEAP)
    with monkeypatch.context() as patch:
        kill_while_measuring(patch, at=3)
        with pytest.raises(KilledError):
            train_run(folder)
    append_line(folder.measurements("quantize"), {"epoch": 4, "eps": "1"})
    with folder.metrics.open("a") as file:
        file.write('{"epoch": 4, "st')
    train_run(folder)
    assert record_of(folder) == record_of(uninterrupted)


def test_a_finished_run_is_left_as_it_is(uninterrupted: RunFolder) -> None:
    before = record_of(uninterrupted)
    train_run(RunFolder.open(uninterrupted.path))
    assert record_of(uninterrupted) == before


def test_a_folder_with_another_run_is_refused(uninterrupted: RunFolder) -> None:
    with pytest.raises(InputError, match="holds a run with another method, seed; name another folder"):
        RunFolder(uninterrupted.path, tiny(seed=1), Settings(("1", "0.50"), "tight", budget=4))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run of train\.py is here"):
        RunFolder.open(tmp_path)
    folder = RunFolder(tmp_path / "run", tiny(), CHEAP)
    (folder.path / "state.pt").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"state\.pt: it is damaged"):
        train_run(folder)
    folder.save_state(Trainer(tiny(d_model=4)).state() | {"seconds": 0})
    with pytest.raises(InputError, match="state: it does not fit this run"):
        train_run(folder)
    folder.metrics.write_text("x\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl: not JSON lines written by train\.py"):
        keep_lines(folder.metrics, lambda _: True)
    (folder.path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"config\.json: not a configuration that train\.py wrote"):
        RunFolder.open(folder.path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to"):
        RunFolder(tmp_path / "file" / "run", tiny(), CHEAP)


def test_a_diverged_run_says_so(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", tiny(learning_rate=1e30), CHEAP)
    with pytest.raises(InputError, match=r"learning_rate: training diverged before epoch \d+; choose one below 1e\+30"):
        train_run(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operation": "modulo"}, "operation: expected one of addition"),
        ({"regularizer": "dropout"}, "regularizer: expected one of none, weight-decay, full, got 'dropout'"),
        ({"attention": "flash"}, "attention: expected one of proper, summed, got 'flash'"),
        ({"prime": 15}, "prime: expected a prime of at least 3, got 15"),
        ({"prime": 2}, "prime: expected a prime of at least 3, got 2"),
        ({"train_fraction": 1.0}, "train_fraction: expected a number between 0 and 1, got 1"),
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"noise": float("inf")}, "noise: expected a finite number of at least 0, got inf"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny(**changes)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(InputError, match="preset: expected one of quick, paper, got 'slow'"):
        preset("slow")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": ("1", "1.0")}, "eps: expected one or more distinct values, got 1, 1.0"),
        ({"eps": ("x",)}, "eps: expected a finite number of at least 0, got 'x'"),
        ({"budget": 0}, "budget: expected at least 1 evaluation, got 0"),
        ({"method": "exact"}, "method: expected one of"),
    ],
)
def test_wrong_ways_to_measure_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**settings)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_the_same_network() -> None:
    config = tiny(noise=0.0)  # the noise is drawn on the device, by another generator
    trainers = [Trainer(config, device) for device in ("cpu", "cuda")]
    for trainer in trainers:
        trainer.train_epoch()
    on_cpu, on_gpu = (weights_of(trainer).cpu() for trainer in trainers)
    torch.testing.assert_close(on_cpu, on_gpu, rtol=1e-3, atol=1e-4)
