"""A `Tracker` in a training loop: no failure stops the training, no row is lost, and two trainings never share a run."""

import json
import math
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import weight_norm

from nncomplexity import Tracker, track
from nncomplexity.dynamics import delivery
from nncomplexity.dynamics.results_file import ResultsFile
from nncomplexity.errors import InputError
from nncomplexity.show import chart, read_results, runs_of
from tests.cases import to_identity as loss
from tests.rows import row, write_rows
from tests.training_run import make_training

ROOT = Path(__file__).parents[2]
OUT = "live.jsonl"
NETWORK = {"weight": torch.eye(3, 6), "bias": torch.tensor([0.1, 0.0, 0.02])}


@pytest.fixture(autouse=True)
def folder(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(delivery, "PATIENCE", 0.05)
    return workplace


def tracker(**options: Any) -> Tracker:
    return Tracker(loss, 1, **{"out": OUT, "method": "quantize", "budget": 3, **options})


def rows(name: str = OUT) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def places() -> list[tuple[str | None, float]]:
    return [(one["run"], one["step"]) for one in rows()]


class Normed(nn.Module):
    """A module whose weight is computed and has its own gradient, so `deepcopy` refuses it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = weight_norm(nn.Linear(6, 8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())


class Locked(nn.Module):
    """A module with a lock, which can't be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.lock = nn.Linear(6, 3), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("kind", [Normed, Locked, lambda: nn.Linear(6, 3)])
def test_metrics_of_a_module_whether_it_can_be_copied_or_not(kind: Callable[[], nn.Module]) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 6, generator=generator)
    labels = inputs[:, :3].argmax(1)
    torch.manual_seed(0)
    model = kind()

    def module_loss(module: nn.Module) -> Tensor:
        return cross_entropy(module(inputs), labels)

    def error(module: nn.Module) -> Tensor:
        return (module.eval()(inputs).argmax(1) != labels).double().mean()

    def spoiling(module: nn.Module) -> float:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
        return 0.0

    module_loss(model).backward()
    before = [(name, one.clone(), one.grad.clone()) for name, one in model.named_parameters() if one.grad is not None]
    metrics = {"spoiled": spoiling, "own_error": error, "own_loss": module_loss}
    found = Tracker(module_loss, 0.1, budget=10, metrics=metrics, risk_fn=error, n=64)(1, model)
    assert found["status"] == "measured"
    assert found["own_loss"] == pytest.approx(found["loss"])
    assert found["own_loss@0.1"] == pytest.approx(found["coarse_loss@0.1"])
    assert (found["risk"], found["risk@0.1"]) == (found["own_error"], found["own_error@0.1"])
    assert model.training
    after = dict(model.named_parameters())
    for name, value, grad in before:
        assert torch.equal(after[name], value)
        assert torch.equal(after[name].grad, grad)


def raising(network: object) -> float:
    raise RuntimeError("no such layer")


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Broken(nn.Module):
    def state_dict(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        raise SpeechlessError


def leaving(network: object) -> float:
    sys.exit("enough")


@pytest.mark.parametrize(
    ("change", "network", "reason"),
    [
        ({"metrics": {"bad": raising}}, NETWORK, "metric bad: raising raised RuntimeError: no such layer"),
        ({"metrics": {"bad": leaving}}, NETWORK, "metric bad: leaving raised SystemExit: enough"),
        ({"metrics": {"bad": lambda network: "much"}}, NETWORK, "metric bad: expected a float or a 0-d tensor, got str"),
        ({"risk_fn": lambda network: 2.0, "n": 9}, NETWORK, "risk_fn: expected the share of wrong answers, in [0, 1], got 2.0"),
        ({}, {"weight": torch.full((3, 6), math.nan)}, "'weight' holds 18 values that are NaN"),
        ({}, {"weights": torch.eye(3, 6)}, "KeyError: 'weight'"),
        ({}, Broken(), "SpeechlessError"),
        ({}, "no network", "expected"),
        ({}, {}, "expected at least one tensor"),
    ],
)
def test_what_cannot_be_measured_is_a_failed_row_and_said_once(change: dict[str, Any], network: Any, reason: str) -> None:
    live = tracker(**change)
    with pytest.warns(UserWarning, match="step 1 could not be measured: .*; training goes on") as said:
        found = [live(step, network) for step in (1, 2, 3)]
    assert [one["status"] for one in found] == ["failed"] * 3
    assert reason in found[0]["error"]
    assert len(said) == 1
    assert said[0].filename == __file__
    assert rows() == found


def test_a_warning_that_the_program_makes_an_error_ends_no_training(capsys: pytest.CaptureFixture[str]) -> None:
    live = tracker(metrics={"bad": raising})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert live(1, NETWORK)["status"] == "failed"
    assert "nncomplexity: step 1 could not be measured: metric bad: raising raised RuntimeError" in capsys.readouterr().err


def test_a_current_folder_that_is_gone_ends_no_training(folder: Path) -> None:
    (folder / "gone").mkdir()
    live = tracker(out=None, metrics={"bad": raising})
    os.chdir("gone")
    Path("../gone").rmdir()
    try:
        with pytest.warns(UserWarning, match="metric bad: raising raised RuntimeError: no such layer"):
            live(1, NETWORK)
        assert tracker(out=None)(1, NETWORK)["status"] == "measured"
    finally:
        os.chdir(folder)


def test_an_interrupt_ends_a_training() -> None:
    def interrupted(network: object) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tracker(metrics={"bad": interrupted})(1, NETWORK)


@contextmanager
def another_process_writes() -> Iterator[None]:
    write_rows(Path(OUT), [])
    with ResultsFile(OUT):
        yield


@contextmanager
def the_disk_is_full() -> Iterator[None]:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def a_folder_has_its_name() -> Iterator[None]:
    Path(OUT).mkdir()
    yield
    Path(OUT).rmdir()


@contextmanager
def something_else_is_there() -> Iterator[None]:
    Path(OUT).write_text("my notes\n", encoding="utf-8")
    yield
    Path(OUT).unlink()


@contextmanager
def rows_of_other_settings_are_there() -> Iterator[None]:
    Tracker(loss, 2, out=OUT, method="quantize", budget=3)(1, NETWORK)
    yield
    Path(OUT).unlink()


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (another_process_writes, "another process is writing it"),
        (the_disk_is_full, "cannot write the next row"),
        (a_folder_has_its_name, "cannot write there"),
        (something_else_is_there, "expected a results.jsonl that track wrote"),
        (rows_of_other_settings_are_there, r"its rows were measured with eps = \[2.0\]"),
    ],
)
def test_a_row_that_cannot_be_written_is_kept_and_written_later(
    trouble: Callable[[], Any], reason: str, recwarn: pytest.WarningsRecorder
) -> None:
    live = tracker()
    with trouble():
        found = [live(step, NETWORK) for step in (1, 2)]
        assert [one["status"] for one in found] == ["measured"] * 2
        assert [str(one.message).count("training goes on, and rows are kept until they can be written") for one in recwarn] == [1]
        assert re.search(reason, str(recwarn[0].message))
    found.append(live(3, NETWORK))
    assert rows() == found
    live(4, NETWORK)
    assert [one["step"] for one in rows()] == [1, 2, 3, 4]
    assert len(recwarn) == 1


def test_a_file_that_is_deleted_is_made_anew() -> None:
    live = tracker(run="mine")
    live(1, NETWORK)
    Path(OUT).unlink()
    live(2, NETWORK)
    assert places() == [("mine", 2)]


def test_a_row_is_written_when_the_program_ends_at_the_latest() -> None:
    program = """
import os, torch
from nncomplexity import Tracker
os.mkdir("logs")
tracker = Tracker(lambda network: network["w"].mean(), 1, out="logs/live.jsonl", method="quantize", budget=3)
os.rename("logs", "away")
for step in range(2): tracker(step, {"w": torch.eye(4)})
os.rename("away", "logs")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.count("training goes on, and rows are kept until they can be written") == 1
    assert [one["step"] for one in rows("logs/live.jsonl")] == [0, 1]


def test_a_row_that_is_changed_before_it_could_be_written_is_written_as_it_was() -> None:
    live = tracker()
    with another_process_writes(), pytest.warns(UserWarning, match="another process is writing it"):
        live(1, NETWORK).clear()
    live(2, NETWORK)
    assert [(one["step"], one["status"]) for one in rows()] == [(1, "measured"), (2, "measured")]


@pytest.mark.parametrize(("run", "further"), [("mine", "mine (2)"), (None, "live (2)")])
def test_a_script_that_is_run_again_begins_a_run(run: str | None, further: str) -> None:
    for steps in ((0, 10, 20), (0, 10)):
        live = tracker(run=run)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = [live(step, NETWORK) for step in steps]
    assert [one["run"] for one in found] == [further] * 2
    assert len(said) == 1
    assert "there are steps up to 20 of" in str(said[0].message)
    assert f"this training's rows go to {further!r}" in str(said[0].message)
    assert places() == [(run, 0), (run, 10), (run, 20), (further, 0), (further, 10)]
    results = read_results(OUT)
    assert [[one.step for one in run.networks] for run in runs_of(results)] == [[0, 10, 20], [0, 10]]
    lines = chart(results, "dynamics").panels[0].lines
    assert [list(line.x) for line in lines] == [[0, 10, 20], [0, 10]]
    assert len({line.label for line in lines}) == 2


@pytest.mark.filterwarnings("ignore:.*this training's rows go to")
def test_a_training_that_is_resumed_goes_on_in_its_run() -> None:
    for steps in ((0, 10), (20,), (0, 5), (15, 25), (25,)):
        live = tracker(run="mine")
        for step in steps:
            live(step, NETWORK)
    assert places() == [
        *(("mine", 0), ("mine", 10), ("mine", 20)),
        *(("mine (2)", 0), ("mine (2)", 5), ("mine (2)", 15), ("mine (2)", 25)),
        ("mine (3)", 25),
    ]


def test_a_run_may_go_back_to_earlier_steps() -> None:
    live = tracker(run="mine")
    for step in (10, 20, 15, 20):
        live(step, NETWORK)
    assert places() == [("mine", 10), ("mine", 20), ("mine", 15), ("mine", 20)]


@pytest.mark.filterwarnings("ignore:.*this training's rows go to")
@pytest.mark.parametrize("first", [0, 5])
def test_processes_beside_each_other_have_runs_of_their_own(first: int) -> None:
    """Ranks that were started together. Their steps may be equal or not."""
    ranks = [tracker() for _ in range(3)]
    for step in (0, 10, 20):
        for number, rank in enumerate(ranks):
            rank(step + first * number, NETWORK)
    found = {run: [step for name, step in places() if name == run] for run, _ in places()}
    assert found == {
        run: [step + first * number for step in (0, 10, 20)] for number, run in enumerate((None, "live (2)", "live (3)"))
    }


@pytest.mark.filterwarnings("ignore:.*another process writes the run 'mine'")
def test_a_process_that_joined_a_run_which_goes_on_after_all_is_left_alone_in_it() -> None:
    first = tracker(run="mine")
    first(0, NETWORK)
    second = tracker(run="mine")
    second(5, NETWORK)
    for step in (10, 20):
        first(step, NETWORK)
        second(step + 5, NETWORK)
    assert places() == [
        *(("mine", 0), ("mine", 5), ("mine (2)", 10)),
        *(("mine", 15), ("mine (2)", 20), ("mine", 25)),
    ]


@pytest.mark.filterwarnings("ignore:.*this training's rows go to")
def test_several_seeds_of_one_training_share_its_run() -> None:
    for _ in range(2):
        seeds = [tracker(run="mine", seed=seed) for seed in range(3)]
        for step in (0, 10):
            for one in seeds:
                one(step, NETWORK)
    assert {(one["run"], one["seed"]) for one in rows()} == {(run, seed) for run in ("mine", "mine (2)") for seed in range(3)}


def test_rows_of_track_and_its_calibrations_are_no_run_of_a_tracker(folder: Path) -> None:
    make_training(folder)
    track("run/*", loss, 1, out=OUT, method="quantize", budget=3, constant=True)
    live = tracker()
    assert [live(step, NETWORK)["run"] for step in (0, 1)] == [None, None]


def test_a_wrong_file_is_said_at_once() -> None:
    with pytest.raises(
        InputError, match=r"no/live.jsonl: cannot write there \(No such file or directory\); name a file in a folder"
    ):
        tracker(out="no/live.jsonl")
    Path(OUT).mkdir()
    with pytest.raises(InputError, match=r"cannot read it \(Is a directory\)"):
        tracker()
    Path("notes.txt").write_text("my notes\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"expected a results.jsonl that track wrote, or no file yet, got 'my notes' in line 1"):
        tracker(out="notes.txt")
    write_rows(Path("other.jsonl"), [row(1)])
    with pytest.raises(InputError, match=r"other\.jsonl: its rows were measured with eps = "):
        tracker(out="other.jsonl")
    with pytest.raises(InputError, match="run: expected the name of the run, a text, or None, got 3"):
        tracker(out=None, run=3)


def test_a_file_that_another_process_writes_is_no_reason_not_to_begin() -> None:
    with another_process_writes():
        live = tracker()
    assert live(1, NETWORK)["status"] == "measured"
    assert len(rows()) == 1


def test_nothing_is_left_where_nothing_was_measured() -> None:
    tracker()
    assert not Path(OUT).exists()


def test_only_the_first_row_waits_for_a_file_that_another_process_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, open_file = [], delivery.ResultsFile
    monkeypatch.setattr(delivery, "ResultsFile", lambda path, patience: waits.append(patience) or open_file(path, patience))
    live = tracker()
    with another_process_writes():
        with pytest.warns(UserWarning, match="another process is writing it"):
            live(0, NETWORK)
        live(1, NETWORK)
        live(2, NETWORK)
    live(3, NETWORK)
    live(4, NETWORK)
    assert waits == [delivery.PATIENCE, 0, 0, 0, delivery.PATIENCE]
    assert [step for _, step in places()] == [0, 1, 2, 3, 4]


def test_a_file_that_stays_unwritable_gives_one_warning_and_loses_no_row(tmp_path: Path) -> None:
    out, weights = tmp_path / "results.jsonl", {"w": torch.linspace(-1, 1, 20)}
    tracker = Tracker(lambda tensors: (tensors["w"] ** 2).mean(), 0.1, out=out, method="quantize", budget=3)
    out.unlink(missing_ok=True)
    out.mkdir()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tracker(1, weights)
        tracker(2, weights)
    (only,) = caught
    assert "training goes on, and rows are kept until they can be written" in str(only.message)
    out.rmdir()
    tracker(3, weights)
    assert [json.loads(line)["step"] for line in out.read_text().splitlines()] == [1, 2, 3]


class Keeping(nn.Linear):
    """A module that goes on with the weight of its first call."""

    def __init__(self) -> None:
        super().__init__(16, 8, bias=False)
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = self.weight.detach().clone()
        return x @ self.kept.T


def test_risk_and_metrics_of_a_file_are_not_those_of_values_that_the_network_keeps() -> None:
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    model = Keeping()
    with torch.no_grad():
        model.weight.copy_(torch.randn(8, 16, generator=torch.Generator().manual_seed(1)))
        before = model(x)

    def loss_of(network: nn.Module) -> Tensor:
        return (network(x) - before).square().mean()

    found = Tracker(
        loss_of,
        0.5,
        method="quantize",
        budget=8,
        risk_fn=lambda net: min(1.0, float(loss_of(net))),
        n=64,
        metrics={"again": loss_of},
    )(1, model)
    assert found is not None
    assert found["distortion@0.5"] > 0
    assert found["again@0.5"] == pytest.approx(found["distortion@0.5"], rel=1e-5)
    assert found["risk@0.5"] == pytest.approx(found["distortion@0.5"], rel=1e-5)
    assert (found["again"], found["risk"]) == (0, 0)
    assert torch.equal(model.kept, model.weight)
