"""The callback of Lightning: one row for each measured step, numbers in the loggers at the right step, and the same training."""

import csv
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from nncomplexity import LogSchedule, Tracker
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.errors import InputError
from nncomplexity.integrations import LightningCallback
from tests.executors import AtOnce, Later
from tests.pages import penalty_gradient, run_section

ROOT = Path(__file__).parents[2]
OUT = Path("live.jsonl")
pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.rank_zero.LightningDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*(does not have many workers|number of training batches|LeafSpec|not empty).*"),
]


@pytest.fixture(autouse=True)
def folder(workplace: Path) -> Path:
    return workplace


def examples() -> tuple[Tensor, Tensor]:
    inputs = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
    return inputs, inputs[:, :3].argmax(1)


class Classifier(pl.LightningModule):
    """A network with batch norm and dropout, whose mode makes a difference. A part of it stays in eval mode."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
        self.stop_at = stop_at
        self.modes: list[list[bool]] = []

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        if self.global_step == self.stop_at:
            raise RuntimeError("killed")
        self.modes.append([part.training for part in self.modules()])
        return cross_entropy(self.model(batch[0]), batch[1])

    def on_train_end(self) -> None:
        if self.trainer.world_size > 1:
            Path(f"rank_{self.global_rank}").write_text(str(self.global_step))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def loss(network: nn.Module) -> Tensor:
    inputs, labels = examples()
    return cross_entropy(getattr(network, "model", network)(inputs), labels)


def in_training(network: nn.Module) -> float:
    return float(any(part.training for part in network.modules()))


def tracker(**options: Any) -> Tracker:
    return Tracker(loss, 0.1, **{"method": "quantize", "budget": 3, "out": OUT, "run": "mine", **options})


def fit(callback: pl.Callback | None, *more: Any, module: Classifier | None = None, **options: Any) -> pl.Trainer:
    """Two epochs of four batches."""
    resume_from = options.pop("resume_from", None)
    given = {
        "max_epochs": 2,
        "logger": CSVLogger("logs"),
        "enable_checkpointing": any(isinstance(one, ModelCheckpoint) for one in more),
    }
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "log_every_n_steps": 1}
    trainer = pl.Trainer(callbacks=[*([callback] if callback else []), *more], **{**quiet, **given, **options})
    torch.manual_seed(0)
    trainer.fit(module or Classifier(), DataLoader(TensorDataset(*examples()), 8), ckpt_path=resume_from)
    return trainer


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in OUT.read_text().splitlines()]


def steps() -> list[tuple[str, float]]:
    return [(row["run"], row["step"]) for row in rows()]


def logged(trainer: pl.Trainer) -> dict[int, float]:
    """The bits in the logger's file, by step."""
    with (Path(trainer.loggers[0].log_dir) / "metrics.csv").open() as file:  # type: ignore[arg-type]
        found = [
            (int(row["step"]), float(row["complexity/bits_at_0.1"]))
            for row in csv.DictReader(file)
            if row["complexity/bits_at_0.1"]
        ]
    assert found == sorted(found, key=lambda one: one[0])
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize(
    ("every", "epochs", "expected"), [(None, 1, [4, 8]), (None, 2, [8]), (3, 1, [0, 3, 6]), (LogSchedule(3), 1, [0, 1, 3, 5])]
)
def test_rows_of_each_measured_step_are_in_the_file_and_in_the_log(every: Any, epochs: int, expected: list[int]) -> None:
    module = Classifier()
    trainer = fit(LightningCallback(tracker(every=every, metrics={"in_training": in_training}), epochs=epochs), module=module)
    assert steps() == [("mine", step) for step in expected]
    assert logged(trainer) == {row["step"]: row["bits@0.1"] for row in rows()}
    assert all(row["in_training"] == 0 for row in rows())
    assert all(all(modes) for modes in module.modes)
    assert module.training


def test_training_is_what_it_is_without_the_callback() -> None:
    plain, measured = Classifier(), Classifier()
    measured.load_state_dict(plain.state_dict())
    for module, callback in ((plain, None), (measured, LightningCallback(tracker(every=2, executor=AtOnce())))):
        fit(callback, module=module)
    for one, other in zip(plain.state_dict().values(), measured.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert len(rows()) == 5


def test_a_late_row_is_logged_at_the_step_of_its_network() -> None:
    executor = Later()

    class Slow(pl.Callback):
        """A callback that stands for another process, which has finished its work at step 6, and again at the end."""

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 6:
                executor.work()

        def on_train_end(self, *_: Any) -> None:
            executor.work()

    callback = LightningCallback(tracker(every=3, executor=executor))
    trainer = fit(Slow(), callback)
    assert sorted(logged(trainer)) == [0, 3, 6]


def test_a_part_is_measured_under_its_own_names() -> None:
    fit(LightningCallback(tracker(), part="model", epochs=2))
    assert rows()[0]["layers@0.1"][0]["name"] == "0.weight"


def test_a_training_that_is_killed_and_resumed_has_no_step_twice() -> None:
    saving = ModelCheckpoint("kept", filename="last", every_n_train_steps=3, save_top_k=1)
    with pytest.raises(RuntimeError, match="killed"):
        fit(LightningCallback(tracker(every=2)), saving, module=Classifier(stop_at=5))  # the checkpoint is of step 3
    resumed = fit(LightningCallback(tracker(every=2)), resume_from="kept/last.ckpt")
    assert steps() == [("mine", step) for step in (0, 2, 4, 6, 8)]
    assert list(logged(resumed)) == [6, 8]


@pytest.mark.parametrize(
    ("every", "saved", "expected"),
    [(None, {"every_n_epochs": 1}, [4, 8]), (None, {"every_n_train_steps": 3}, [4, 8]), (4, {}, [4, 8])],
)
def test_the_network_of_a_checkpoint_is_measured_if_the_training_was_killed_before(
    every: int | None, saved: dict[str, int], expected: list[int]
) -> None:
    saving = ModelCheckpoint("kept", filename="last", save_top_k=1, **(saved or {"every_n_train_steps": 4}))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="killed"):
        fit(LightningCallback(tracker(every=every, executor=Later())), saving, module=Classifier(stop_at=5))
    assert not OUT.exists()
    resumed = fit(LightningCallback(tracker(every=every)), resume_from="kept/last.ckpt")
    assert steps() == [("mine", step) for step in expected]
    assert list(logged(resumed)) == expected
    assert load_checkpoint("kept/last.ckpt").step == (3 if "every_n_train_steps" in saved else 4)


def test_a_trainer_may_have_several_callbacks() -> None:
    both = [LightningCallback(tracker(run=name), part="model", prefix=f"{name}/") for name in ("one", "two")]
    fit(*both, ModelCheckpoint("kept", every_n_epochs=1))
    assert sorted(steps()) == [("one", 4), ("one", 8), ("two", 4), ("two", 8)]


def test_a_resumed_training_without_a_file_measures_only_later_steps() -> None:
    """Without rows in a file, the callback can't know whether the checkpoint's network was measured before."""
    saving = ModelCheckpoint("kept", filename="last", every_n_epochs=1)
    with pytest.raises(RuntimeError, match="killed"):
        fit(LightningCallback(tracker(out=None)), saving, module=Classifier(stop_at=5))
    assert list(logged(fit(LightningCallback(tracker(out=None)), resume_from="kept/last.ckpt"))) == [8]


def raising(network: nn.Module) -> Tensor:
    raise ValueError("no such layer")


class Failing(CSVLogger):
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        raise ConnectionError("the server is gone")


@pytest.mark.parametrize(
    ("callback", "options", "reason"),
    [
        (lambda: LightningCallback(Tracker(raising, 1, every=1)), {}, "step 0 could not be measured: .*no such layer"),
        (lambda: LightningCallback(tracker(), part="gone"), {}, "could not be measured or logged: AttributeError.*gone"),
        (
            lambda: LightningCallback(tracker()),
            {"logger": Failing("logs")},
            "measured or logged: ConnectionError: the server is gone",
        ),
    ],
)
def test_what_fails_is_said_once_and_ends_no_training(callback: Any, options: Any, reason: str) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer = fit(callback(), **options)
    assert trainer.global_step == 8
    ours = [str(one.message) for one in said if "training goes on" in str(one.message)]
    assert len(ours) == 1
    assert re.search(reason, ours[0])


def test_after_an_error_what_waits_is_given_up() -> None:
    executor = Later()
    with pytest.raises(RuntimeError, match="killed"):
        fit(LightningCallback(tracker(every=2, executor=executor)), module=Classifier(stop_at=5))
    executor.work()
    assert not OUT.exists()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda: LightningCallback(loss), "tracker: expected an nncomplexity.Tracker, got function"),
        (lambda: LightningCallback(tracker(), part=3), "part: expected the name of a module, such as 'model', got 3"),
        (lambda: LightningCallback(tracker(), epochs=0), "epochs: expected"),
        (lambda: LightningCallback(tracker(), prefix="a b"), "prefix: expected letters"),
    ],
)
def test_a_wrong_argument_is_said_at_once(wrong: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        wrong()


def test_the_program_of_the_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nncomplexity.dynamics.background.own_process", AtOnce)
    trainer = run_section("Lightning", folder)["trainer"]
    assert steps() == [("mlp", 8), ("mlp", 16)]
    assert logged(trainer) == {row["step"]: row["bits@0.1"] for row in rows()}


def test_regularizers_in_the_loop_of_the_page(folder: Path) -> None:
    """Each pass has its own noise on the weights, the optimizer has none, and the penalty counts once for four batches."""
    found = run_section("In Lightning", folder)
    assert found["trainer"].global_step == 2
    seen: list[Tensor] = []

    class PenaltyAlone(found["Classifier"]):  # type: ignore[name-defined,misc]
        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            seen.append(self.model[0].weight.detach().clone())
            return super().training_step((batch[0], batch[1]), index) - cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1.0)

    module = PenaltyAlone()
    module.model[2].p = 0.0  # two passes with dropout would not cancel
    before = module.model[0].weight.detach().clone()
    expected = penalty_gradient(module.model, "0.weight")
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "enable_checkpointing": False}
    pl.Trainer(max_steps=1, accelerator="cpu", accumulate_grad_batches=4, **quiet).fit(module, found["batches"]())
    assert torch.allclose(before - module.model[0].weight.detach(), expected, rtol=0.2, atol=0.1 * float(expected.abs().max()))
    assert len({tuple(one.flatten().tolist()) for one in seen}) == 4
    assert not any(torch.equal(one, before) for one in seen)


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.integrations.test_lightning import *

if __name__ == "__main__":
    trainer = fit(LightningCallback(tracker(every=2)), strategy="ddp_fork", devices=2)
"""


@pytest.mark.skipif(not hasattr(os, "fork") or not torch.distributed.is_gloo_available(), reason="it needs gloo, and a fork")
def test_two_processes_write_each_row_once() -> None:
    """Two processes of DistributedDataParallel, with batch norm. A forward pass of one rank would wait for the other."""
    Path("train.py").write_text(PROGRAM)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "train.py", str(ROOT)], env=environment, capture_output=True, text=True, check=True, timeout=200
    )
    assert sorted(path.name for path in Path().glob("rank_*")) == ["rank_0", "rank_1"]
    assert steps() == [("mine", 0), ("mine", 2), ("mine", 4)]
    assert all(row["status"] == "measured" for row in rows())
    assert rows()[0]["layers@0.1"][0]["name"] == "model.0.weight"
