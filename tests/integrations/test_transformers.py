"""The callback of transformers' Trainer: numbers in its log at the right step, a killed and resumed training, mixed precision."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from nncomplexity import Tracker
from nncomplexity.errors import InputError
from nncomplexity.integrations import TransformersCallback
from tests.executors import AtOnce, Later
from tests.pages import penalty_gradient, run_section

OUT = Path("live.jsonl")


@pytest.fixture(autouse=True)
def folder(workplace: Path) -> Path:
    return workplace


class TinyConfig(PretrainedConfig):
    model_type = "tiny"


class Tiny(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config: TinyConfig, stop_at: int | None = None) -> None:
        super().__init__(config)
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
        self.stop_at, self.calls = stop_at, 0
        self.post_init()

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        if self.training:
            self.calls += 1
            if self.calls == self.stop_at:
                raise RuntimeError("killed")
        logits = self.net(x)
        return {"logits": logits} if labels is None else {"loss": cross_entropy(logits, labels), "logits": logits}


def inputs() -> Tensor:
    return torch.randn(32, 6, generator=torch.Generator().manual_seed(0))


def loss(network: nn.Module) -> Tensor:
    found = network(inputs())
    return cross_entropy(found["logits"] if isinstance(found, dict) else found, inputs()[:, :3].argmax(1))


def in_training(network: nn.Module) -> float:
    return float(any(part.training for part in network.modules()))


def tracker(**options: Any) -> Tracker:
    return Tracker(loss, 0.1, **{"method": "quantize", "budget": 3, "out": OUT, "run": "mine", **options})


class Log(TrainerCallback):
    """The values that the Trainer gives to a reporter, with their step."""

    def __init__(self, ends: list[str]) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []
        self.ends = ends

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.seen.append((state.global_step, dict(logs)))
        self.ends.append("log")

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.ends.append("end")

    def bits(self) -> list[tuple[int, float]]:
        return [(step, logs["complexity/bits_at_0.1"]) for step, logs in self.seen if "complexity/bits_at_0.1" in logs]


def trainer(model: nn.Module | None = None, **options: Any) -> tuple[Trainer, Log]:
    """Two epochs of four steps."""
    data = [{"x": x, "labels": x[:3].argmax()} for x in inputs()]
    usual = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
    }
    arguments = TrainingArguments("kept", **{"disable_tqdm": True, "use_cpu": True, **usual, **options})
    log = Log([])
    return Trainer(model or Tiny(TinyConfig()), arguments, train_dataset=data, callbacks=[log]), log  # type: ignore[arg-type]


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in OUT.read_text().splitlines()]


def steps() -> list[float]:
    assert {row["run"] for row in rows()} == {"mine"}
    return [row["step"] for row in rows()]


@pytest.mark.parametrize(("every", "expected"), [(None, [4, 8]), (3, [0, 3, 6])])
def test_numbers_are_in_the_log_of_the_trainer_at_the_step_of_their_network(every: int | None, expected: list[int]) -> None:
    training, log = trainer()
    TransformersCallback(tracker(every=every, metrics={"in_training": in_training})).attach(training)
    training.train()
    assert steps() == expected
    assert log.bits() == [(row["step"], row["bits@0.1"]) for row in rows()]
    found = [one for one in training.state.log_history if "complexity/bits_at_0.1" in one]
    assert [one["step"] for one in found] == expected
    assert all("epoch" not in one for one in found)
    losses = [one["step"] for one in training.state.log_history if "loss" in one]
    assert losses == list(range(1, 9))
    assert all(row["in_training"] == 0 for row in rows())
    assert training.model.training


def test_a_late_row_is_logged_before_the_trackers_end_their_runs() -> None:
    executor = Later()

    class Slow(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 7:
                executor.work()

    training, log = trainer()
    training.add_callback(Slow())
    TransformersCallback(tracker(every=3, executor=executor)).attach(training)
    training.train()
    assert [step for step, _ in log.bits()] == [0, 3, 6]
    assert log.ends[-1] == "end"


def test_training_is_what_it_is_without_the_callback() -> None:
    states = []
    for every in (None, 2):
        training, _ = trainer(seed=1)
        if every:
            TransformersCallback(tracker(every=every, executor=AtOnce())).attach(training)
        training.train()
        states.append(training.model.state_dict())
    assert all(torch.equal(one, states[1][name]) for name, one in states[0].items())
    assert len(rows()) == 5


def test_a_training_that_is_killed_and_resumed_has_no_step_twice() -> None:
    options = {"save_strategy": "steps", "save_steps": 3, "save_total_limit": 1}
    killed, _ = trainer(Tiny(TinyConfig(), stop_at=6), **options)
    TransformersCallback(tracker(every=2)).attach(killed)
    with pytest.raises(RuntimeError, match="killed"):
        killed.train()
    assert steps() == [0, 2, 4]
    resumed, log = trainer(**options)
    TransformersCallback(tracker(every=2)).attach(resumed)
    resumed.train(resume_from_checkpoint=True)
    assert steps() == [0, 2, 4, 6, 8]
    assert [step for step, _ in log.bits()] == [6, 8]


@pytest.mark.parametrize("saved", ["epoch", "steps"])
def test_the_network_of_a_checkpoint_is_measured_if_the_training_was_killed_before(saved: str) -> None:
    options = {"save_strategy": saved, "save_steps": 3, "save_total_limit": 1}
    killed, _ = trainer(Tiny(TinyConfig(), stop_at=6), **options)
    TransformersCallback(tracker(executor=Later())).attach(killed)
    with pytest.raises(RuntimeError, match="killed"):
        killed.train()
    assert not OUT.exists()
    resumed, log = trainer(**options)
    TransformersCallback(tracker()).attach(resumed)
    resumed.train(resume_from_checkpoint=True)
    assert steps() == [4, 8]
    assert [step for step, _ in log.bits()] == [4, 8]


def test_mixed_precision_and_accumulated_gradients() -> None:
    training, log = trainer(bf16=True, gradient_accumulation_steps=2)
    TransformersCallback(tracker(every=2, executor=AtOnce()), part="net").attach(training)
    training.train()
    assert [step for step, _ in log.bits()] == [0, 2, 4]
    assert rows()[0]["layers@0.1"][0]["name"] == "0.weight"


def raising(network: nn.Module) -> Tensor:
    raise ValueError("no such layer")


class Failing(TrainerCallback):
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "complexity/bits_at_0.1" in logs:
            raise ConnectionError("the server is gone")


@pytest.mark.parametrize(
    ("live", "part", "reason"),
    [
        (lambda: Tracker(raising, 1, every=1), "", "step 0 could not be measured: .*no such layer"),
        (lambda: tracker(), "gone", "could not be measured or logged: AttributeError.*gone"),
        (lambda: tracker(), "", "could not be measured or logged: ConnectionError: the server is gone"),
    ],
)
def test_what_fails_is_said_once_and_ends_no_training(live: Any, part: str, reason: str) -> None:
    training, _ = trainer()
    training.add_callback(Failing())
    TransformersCallback(live(), part=part).attach(training)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        training.train()
    assert training.state.global_step == 8
    (ours,) = [str(one.message) for one in said if "training goes on" in str(one.message)]
    assert re.search(reason, ours)


def test_a_callback_that_is_added_twice_measures_once() -> None:
    training, log = trainer()
    callback = TransformersCallback(tracker())
    training.add_callback(callback)
    callback.attach(training)
    callback.attach(training)
    training.train()
    assert steps() == [4, 8]
    assert [step for step, _ in log.bits()] == [4, 8]


def test_a_callback_that_cannot_log_says_so() -> None:
    training, log = trainer(max_steps=1)
    training.add_callback(TransformersCallback(tracker(every=1)))
    with pytest.warns(UserWarning, match=r"nothing is logged; call attach\(trainer\)"):
        training.train()
    assert steps() == [0, 1]
    assert log.bits() == []


def test_a_wrong_argument_is_said_at_once() -> None:
    with pytest.raises(InputError, match=r"tracker: expected an nncomplexity.Tracker, got function"):
        TransformersCallback(loss)  # type: ignore[arg-type]


def test_the_program_of_the_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nncomplexity.dynamics.background.own_process", AtOnce)
    training = run_section("The Trainer of transformers", folder)["trainer"]
    assert [(row["run"], row["step"]) for row in rows()] == [("mlp", step) for step in (0, 8, 16)]
    found = {one["step"]: one["complexity/bits_at_1"] for one in training.state.log_history if "complexity/bits_at_1" in one}
    assert found == {row["step"]: row["bits@1"] for row in rows()}


def test_regularizers_in_the_loop_of_the_page(folder: Path) -> None:
    """Each pass has its own noise on the weights, the optimizer has none, and the penalty counts once for four batches."""
    found = run_section("In the Trainer of transformers", folder)
    assert found["trainer"].state.global_step == 8
    seen: list[Tensor] = []

    class NoLoss(found["Classifier"]):  # type: ignore[name-defined,misc]
        def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            seen.append(self.model[0].weight.detach().clone())
            return {name: value * 0.0 for name, value in super().forward(x, labels).items()}

    class Watching(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, model: nn.Module, **__: Any) -> None:
            self.weight, self.gradient = (one.clone() for one in (model.model[0].weight.detach(), model.model[0].weight.grad))  # type: ignore

    arguments = TrainingArguments(
        "out", max_steps=1, per_device_train_batch_size=8, gradient_accumulation_steps=4, max_grad_norm=0.0, report_to="none",
        use_cpu=True, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    model, watching = NoLoss(PretrainedConfig()), Watching()
    before, expected = model.model[0].weight.detach().clone(), penalty_gradient(model.model, "0.weight")
    found["SimplerTrainer"](model, arguments, train_dataset=found["data"], callbacks=[watching]).train()
    assert torch.equal(watching.weight, before)
    assert torch.allclose(watching.gradient, expected, rtol=0.2, atol=0.1 * float(expected.abs().max()))
    assert len({tuple(one.flatten().tolist()) for one in seen}) == 4
    assert not any(torch.equal(one, before) for one in seen)
