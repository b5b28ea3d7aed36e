"""`track`: a row depends only on its own checkpoint. It doesn't depend on the process that measures it, or on failures of others."""

import contextlib
import functools
import json
import math
import multiprocessing
import shutil
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nncomplexity import estimate
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.cli import main
from nncomplexity.dynamics import Follow, Tracker, track
from nncomplexity.dynamics.resume import Done
from nncomplexity.errors import InputError
from nncomplexity.search import Quantize
from nncomplexity.show import read_results
from tests.cases import to_identity as loss
from tests.training_run import make_training, untimed, weights

EPS = [1, 0.1]
quick = functools.partial(track, method="quantize", budget=12)


@pytest.fixture(autouse=True)
def folder(workplace: Path) -> Path:
    make_training(workplace)
    return workplace


def test_a_row_is_what_estimate_gives_whatever_else_is_measured() -> None:
    rows = quick("run/*", loss, EPS, seeds=2, method="tight", budget=30)
    assert [(row["step"], row["seed"]) for row in rows] == [(step, seed) for step in (1, 2, 10) for seed in (0, 1)]
    reports = estimate(load_checkpoint("run/step_10.safetensors").tensors, loss, EPS, budget=30, seed=1)
    last = rows[-1]
    for eps, report in zip(EPS, reports, strict=True):
        assert last[f"bits@{eps}"] == report.bits
        assert last[f"coarse_loss@{eps}"] == report.coarse_loss
        assert [layer["bits"] for layer in last[f"layers@{eps}"]] == [layer.bits for layer in report.layers]
    assert untimed(quick("run/step_10.safetensors", loss, EPS, seed=1, method="tight", budget=30)) == untimed(rows[-1:])
    assert last["l2_norm"] == pytest.approx(math.sqrt(sum(float((tensor**2).sum()) for tensor in weights(10).values())))
    assert last["bzip2_bits"] == reports[0].subject.lossless_bits["bzip2"]
    assert [last["effective_rank"]] == [layer.effective_rank for layer in reports[0].layers if layer.name == "weight"]
    assert last["run"] == "run"
    assert last["sha256"] == load_checkpoint("run/step_10.safetensors").sha256


def test_a_row_is_what_the_command_measure_gives() -> None:
    options = ["--loss-fn", "mytask:loss", "--eps", "1", "--eps", "0.1", "--risk-fn", "mytask:error", "--n", "64", "--budget", "30"]
    options += ["--model", "mytask:build"]
    assert main(["measure", "run/step_2.safetensors", *options, "--json", "report.json"]) == 0
    assert main(["track", "run/step_*.safetensors", *options, "--out", "results.jsonl"]) == 0
    report = json.loads(Path("report.json").read_text())
    row = read_rows()[1]
    assert (row["checkpoint"], row["sha256"], row["step"]) == (report["checkpoint"], report["sha256"], report["step"])
    for result in report["results"]:
        at = f"@{result['eps']:g}"
        assert [row[f"{key}{at}"] for key in ("bits", "coarse_loss", "distortion", "evaluations", "shared_bits")] == [
            result[key] for key in ("bits", "coarse_loss", "distortion", "evaluations", "shared_bits")
        ]
        assert (row[f"bound{at}"], row[f"risk{at}"]) == (result["bound"]["value"], result["bound"]["risk"])
        assert row[f"mdl_bits{at}"] == result["description_length"]["total_bits"]


def read_rows(name: str = "results.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def test_the_number_of_processes_changes_no_row() -> None:
    shared = {"metrics": {"test_error": "mytask:error"}, "seeds": 2}
    alone = quick("run/*", "mytask:noisy", EPS, out="one.jsonl", **shared)
    assert "test_error@0.1" in alone[0]
    assert quick("run/*", "mytask:noisy", EPS, out="two.jsonl", jobs=2, **shared) != []
    assert untimed(read_rows("two.jsonl")) == untimed(read_rows("one.jsonl")) == untimed(alone)
    with ThreadPoolExecutor(3) as threads:
        assert untimed(quick("run/*", "mytask:noisy", EPS, executor=threads, **shared)) == untimed(alone)


OF_THE_PROCESS = (
    "by_a_loader",
    "start_method",
    "threads",
    "dtype",
    "underflow",
    "warning",
    "place",
    "arguments",
    "environment",
)
"""Functions of the task that report about the process in which they are called."""


@pytest.mark.parametrize("usual", [True, False])
def test_another_process_is_like_this_one(usual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_TESTS", "some")
    threads, before = torch.get_num_threads(), multiprocessing.get_start_method(allow_none=True)
    metrics = {name: f"mytask:{name}" for name in OF_THE_PROCESS}
    default, *_, other = multiprocessing.get_all_start_methods()
    if not usual or default != "fork":  # since Python 3.14 it is "forkserver" on Linux
        del metrics["by_a_loader"]  # only a fork can call a lambda
    torch.set_num_threads(1)
    multiprocessing.set_start_method(None if usual else other, force=True)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            if not usual:
                warnings.simplefilter("error")
                warnings.filterwarnings("ignore", category=type("Local", (Warning,), {}))
                stack.callback(torch.set_default_dtype, torch.get_default_dtype())
                torch.set_default_dtype(torch.float64)
                stack.enter_context(np.errstate(under="raise"))
            others = quick("run/step_2.safetensors", "mytask:small", 1, metrics=metrics, jobs=2)
            assert multiprocessing.get_start_method(allow_none=True) == (None if usual else other)
            rows = quick("run/step_2.safetensors", "mytask:small", 1, metrics=metrics)
    finally:
        torch.set_num_threads(threads)
        multiprocessing.set_start_method(before, force=True)
    assert [row.get("error") for row in rows] == [None]
    assert untimed(others) == untimed(rows)
    assert (rows[0]["dtype"], rows[0]["underflow"], rows[0]["warning"]) == ((4, 0, 0) if usual else (8, 1, 1))


def test_a_process_that_dies_fails_its_own_row_alone() -> None:
    rows = quick("run/*", "mytask:dying", 1, out="results.jsonl", jobs=2)
    assert [row["status"] for row in rows] == ["measured", "measured", "failed"]
    assert "the process that measured it died" in rows[2]["error"]
    with ProcessPoolExecutor(1) as executor:
        (lost,) = quick("run/step_10.safetensors", "mytask:dying", 1, executor=executor)
        with pytest.raises(InputError, match=r"executor: it takes no more work \(BrokenProcessPool.*; rows that were measured"):
            quick("run/step_1.safetensors", "mytask:loss", 1, executor=executor)
    assert lost["status"] == "failed"
    assert "the process that measured it died" in lost["error"]


def test_what_cannot_be_measured_is_a_row_and_the_others_go_on() -> None:
    save_file({**weights(3), "bias": torch.full((3,), math.nan)}, "run/step_3.safetensors")
    Path("run/step_4.safetensors").write_bytes(Path("run/step_1.safetensors").read_bytes()[:-9])
    rows = quick("run/*", "mytask:nan_at_ten", 1, out="results.jsonl")
    assert [(row["step"], row["status"]) for row in rows] == [
        (1, "measured"),
        (2, "measured"),
        (3, "failed"),
        (4, "failed"),
        (10, "failed"),
    ]
    assert "'bias' holds 3 values that are NaN" in rows[2]["error"]
    assert "step_4.safetensors" in rows[3]["error"]
    assert "expected a finite loss of the original weights, got nan" in rows[4]["error"]
    assert not any("@" in key or key == "loss" for key in rows[2])
    raised = quick("run/step_1.safetensors", "mytask:raising", 1)
    assert "RuntimeError: no such layer" in raised[0]["error"]


def test_failed_rows_are_tried_again_and_measured_ones_are_not() -> None:
    whole = Path("run/step_2.safetensors").read_bytes()
    Path("run/step_2.safetensors").write_bytes(whole[:-9])
    assert [row["status"] for row in quick("run/*", loss, 1, out="results.jsonl")] == ["measured", "failed", "measured"]
    Path("run/step_2.safetensors").write_bytes(whole)
    known: list[bool] = []
    rows = quick("run/*", loss, 1, out="results.jsonl", on_row=lambda row, there: known.append(there))
    assert [row["status"] for row in rows] == ["measured"] * 3
    assert sorted(known) == [False, True, True]
    assert [row["step"] for row in read_rows()] == [1, 2, 10, 2]
    results = read_results("results.jsonl")
    assert (len(results.networks), results.failures) == (3, ())


def test_what_fails_again_in_the_same_way_is_one_row() -> None:
    whole = Path("run/step_2.safetensors").read_bytes()
    for length in (-9, -9, -9, 5, 5, -9):
        Path("run/step_2.safetensors").write_bytes(whole[:length])
        rows = quick("run/*", loss, 1, out="results.jsonl", seeds=2)
        assert [row["status"] for row in rows] == ["measured"] * 2 + ["failed"] * 2 + ["measured"] * 2
    assert [(row["step"], row["seed"]) for row in read_rows() if row["status"] == "failed"] == [(2, 0), (2, 1)] * 3


def test_a_checkpoint_is_known_by_its_content() -> None:
    quick("run/*", loss, 1, out="results.jsonl")
    shutil.move("run", "moved")
    assert len(quick("./moved/*", loss, 1, out="results.jsonl")) == len(read_rows()) == 3
    shutil.copy("moved/step_2.safetensors", "moved/step_3.safetensors")
    save_file(weights(5), "moved/step_1.safetensors")
    assert [row["step"] for row in quick("./moved/*", loss, 1, out="results.jsonl")] == [1, 2, 3, 10]
    assert [row["checkpoint"] for row in read_rows()[3:]] == [f"./moved/step_{step}.safetensors" for step in (1, 3)]


def test_copies_within_one_call_have_rows_of_their_own() -> None:
    shutil.copy("run/step_2.safetensors", "run/step_3.safetensors")
    quick("run/*", loss, 1, out="results.jsonl")
    Path("results.jsonl").write_text("".join(Path("results.jsonl").read_text().splitlines(keepends=True)[:2]))
    assert [row["step"] for row in quick("run/*", loss, 1, out="results.jsonl")] == [1, 2, 3, 10]
    assert sorted(row["step"] for row in read_rows()) == [1, 2, 3, 10]
    assert not Done([])


def test_calibrations() -> None:
    options = {"model": "mytask:build", "seeds": 2, "untrained": True, "constant": True, "metrics": {"test_error": "mytask:error"}}
    rows = quick("run/*", "mytask:loss", EPS, shuffled="mytask:shuffled", out="results.jsonl", **options)
    kinds = [row["kind"] for row in rows]
    assert kinds == ["checkpoint"] * 6 + ["constant"] + ["untrained"] * 2 + ["shuffled"] * 2
    constant, untrained, again = rows[6:9]
    assert constant["loss"] == pytest.approx(math.log(3))
    assert constant["bits@1"] == constant["bits@0.1"] < untrained["bits@0.1"]
    assert all(layer["form"] == "zero" for layer in constant["layers@1"])
    torch.manual_seed(1)
    assert again["l2_norm"] == pytest.approx(
        math.sqrt(sum(float((tensor**2).sum()) for tensor in nn.Linear(6, 3).state_dict().values()))
    )
    assert rows[9]["loss"] == pytest.approx(2 + rows[9]["test_error"])
    assert rows[9]["trainer"] == "mytask:shuffled"
    assert quick("run/*", "mytask:loss", EPS, shuffled="mytask:shuffled", out="results.jsonl", **options) == rows
    assert len(read_rows()) == len(rows)
    assert {network.kind for network in read_results("results.jsonl").calibrations} == {"constant", "untrained", "shuffled"}
    assert "expected trainer(seed) to return" in quick("run/*", "mytask:loss", 1, shuffled=lambda seed: 3)[-1]["error"]


@pytest.mark.parametrize("follow", [None, Follow(poll=0.05, idle_timeout=0.1)])
def test_the_constant_network_is_of_the_first_checkpoint_that_can_be_read(follow: Follow | None) -> None:
    Path("run/step_1.safetensors").write_bytes(b"damaged")
    save_file({**weights(2), "bias": torch.full((3,), math.nan)}, "run/step_2.safetensors")
    constant = quick("run/*", loss, 1, constant=True, follow=follow)[-1]
    assert (constant["kind"], constant["status"]) == ("constant", "measured")
    assert constant["checkpoint"] == "run/step_10.safetensors"
    Path("run/step_10.safetensors").write_bytes(b"damaged")
    none = [row for row in quick("run/*", loss, 1, constant=True, follow=follow) if row["kind"] == "constant"]
    assert [row["status"] for row in none] == ["failed"]


def test_eps_may_be_an_array() -> None:
    (row,) = quick("run/step_1.safetensors", loss, np.array([1.0, 0.1]), out="results.jsonl")
    assert row["eps"] == [1.0, 0.1]
    assert quick("run/step_1.safetensors", loss, EPS, out="results.jsonl") == read_rows()


def test_a_metric_that_is_no_number_is_null() -> None:
    (row,) = quick("run/step_1.safetensors", loss, 1, metrics={"odd": "mytask:nothing"})
    assert (row["odd"], row["odd@1"]) == (None, None)


def test_a_tensor_of_infinities_has_no_norm() -> None:
    save_file({**weights(1), "mask": torch.full((2,), -math.inf)}, "masked_1.safetensors")
    masked, plain = (quick(name, loss, 1)[0] for name in ("masked_1.safetensors", "run/step_1.safetensors"))
    assert masked["l2_norm"] == plain["l2_norm"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss_fn": 3}, "loss_fn: expected a function or MODULE:FUNCTION, got int"),
        ({"loss_fn": "mytask:absent"}, "loss_fn: module mytask .* has no 'absent'"),
        ({"eps": []}, "eps: expected at least one value, got none"),
        ({"eps": -1}, "eps: expected a finite number of at least 0"),
        ({"eps": [0.1, 0.10000001]}, "eps: expected values that differ in six digits"),
        ({"risk_fn": loss}, "n: expected the number of training examples of risk_fn, got none; give n"),
        ({"metrics": {"loss": loss}}, "metric: 'loss' is a key that every row has; choose another name, such as test_loss"),
        ({"metrics": {"a@b": loss}}, "metric: expected a name of letters, digits"),
        ({"untrained": True}, "untrained: expected a model function"),
        ({"seeds": 0}, "seeds: expected a whole number of at least 1, got 0"),
        ({"jobs": 0}, "jobs: expected a whole number of at least 1, got 0"),
        (
            {"loss_fn": functools.partial(loss, threading.Lock()), "jobs": 2},
            "loss_fn: expected a function that can be pickled, because other processes call it",
        ),
        ({"jobs": 2, "shuffled": functools.partial(loss, threading.Lock())}, "shuffled: expected a function that can be pickled"),
        ({"seed": "x"}, "seed: expected a whole number from 0 to 4294967295, got 'x'"),
        ({"seed": -1}, "seed: expected a whole number from 0 to 4294967295, got -1"),
        ({"follow": True}, r"follow: expected a Follow, such as Follow\(poll=10\), got True"),
        ({"executor": 7}, "executor: expected a concurrent.futures.Executor, got 7"),
        ({"metrics": ["a"]}, r"metrics: expected functions by name, such as .*, got \['a'\]"),
        ({"checkpoints": 5}, "checkpoints: expected the name of a file, a text or a Path, got 5"),
        ({"checkpoints": ["run/*", 5]}, "checkpoints: expected the name of a file, a text or a Path, got 5"),
        ({"method": Quantize(budget=3)}, "budget: a method object carries its own; set it there"),
        ({"out": "run/step_1.safetensors"}, "it would be written into a checkpoint; choose another file for `out`"),
        ({"device": "none"}, "device: expected a device of this machine"),
    ],
)
def test_a_wrong_call_says_what_to_do(change: dict[str, Any], words: str) -> None:
    call = {"checkpoints": "run/*", "loss_fn": loss, "eps": 1} | change
    with pytest.raises(InputError, match=words):
        quick(**call)


def test_a_method_object_is_told_from_its_name() -> None:
    quick("run/*", loss, 1, out="results.jsonl")
    mine = Quantize(budget=12, steps=(0.01, 2.0))
    with pytest.raises(InputError, match="its rows were measured with method_settings = none"):
        track("run/*", loss, 1, method=mine, out="results.jsonl")
    track("run/*", loss, 1, method=Quantize(budget=12), out="results.jsonl")
    assert len(read_rows()) == 3


def test_progress_counts_rows_and_follows_the_search() -> None:
    seen: list[tuple[float, int, str]] = []
    quick("run/*", loss, 1, progress=lambda done, total, what: seen.append((done, total, what)))
    assert seen[-1][:2] == (3, 3)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert any(what.startswith("run/step_2.safetensors, seed 0: ") for _, _, what in seen)


def late(folder: Path, write: Callable[[Path], None]) -> threading.Timer:
    timer = threading.Timer(0.3, write, [folder])
    timer.start()
    return timer


def test_follow_waits_for_checkpoints_until_a_step(folder: Path) -> None:
    whole = Path("run/step_10.safetensors").read_bytes()
    Path("run/step_10.safetensors").write_bytes(whole[:-9])  # as if it were still being written
    Path("run/step_2.safetensors").unlink()

    def write(folder: Path) -> None:
        save_file(weights(20), folder / "run" / "step_20.safetensors")
        (folder / "run" / "step_10.safetensors").write_bytes(whole)

    timer = late(folder, write)
    rows = quick("run/*", loss, 1, out="results.jsonl", constant=True, follow=Follow(poll=0.2, until=20, idle_timeout=20))
    timer.join()
    assert sorted((row["step"] or 0, row["status"]) for row in rows) == [(step, "measured") for step in (0, 1, 10, 20)]


def test_follow_ends_when_idle_and_gives_a_damaged_file_up() -> None:
    Path("run/step_2.safetensors").write_bytes(b"")
    told: list[str] = []
    follow = Follow(poll=0.05, idle_timeout=0.6)
    rows = quick(["run/*", "later/*.pt"], loss, 1, follow=follow, progress=lambda done, total, what: told.append(what))
    assert [(row["step"], row["status"]) for row in rows] == [(1, "measured"), (10, "measured"), (2, "failed")]
    assert "waiting for checkpoints" in told


def test_follow_ends_with_a_row_for_what_is_half_written() -> None:
    whole = Path("run/step_2.safetensors").read_bytes()
    Path("run/step_2.safetensors").write_bytes(whole[:-9])
    for _ in range(2):
        rows = quick("run/*", loss, 1, out="results.jsonl", follow=Follow(poll=0.05, until=10))
        assert [(row["step"], row["status"]) for row in rows] == [(1, "measured"), (10, "measured"), (2, "failed")]
    assert "step_2.safetensors" in rows[-1]["error"]
    Path("run/step_2.safetensors").write_bytes(whole)  # so late that it could still change
    rows = quick("run/*", loss, 1, out="results.jsonl", follow=Follow(poll=30, idle_timeout=0))
    assert [row["status"] for row in rows] == ["measured"] * 3
    assert [row["step"] for row in read_rows()] == [1, 10, 2, 2]


def test_follow_says_what_is_wrong_with_it() -> None:
    with pytest.raises(InputError, match="idle_timeout: expected a number of at least 0, got -1"):
        Follow(idle_timeout=-1)


def test_a_tracker_in_a_training_loop_writes_the_same_rows() -> None:
    def module_loss(module: nn.Module) -> Tensor:
        return ((module.weight - torch.eye(3, 6)) ** 2).mean()

    model = nn.Linear(6, 3)
    model.load_state_dict(weights(2))
    metrics = {"size": lambda module: module.weight.abs().mean()}
    tracker = Tracker(module_loss, EPS, out="live.jsonl", run="mine", method="quantize", budget=12, metrics=metrics)
    state = torch.get_rng_state()
    row = tracker(2, model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, weights(2)[name]) for name, tensor in model.state_dict().items())
    reports = estimate(model, module_loss, EPS, method="quantize", budget=12)
    assert [row["bits@1"], row["bits@0.1"]] == [report.bits for report in reports]
    (same,) = quick("run/step_2.safetensors", loss, EPS)
    mapped = Tracker(loss, EPS, run="run", method="quantize", budget=12)(2, load_checkpoint("run/step_2.safetensors").tensors)
    assert untimed([{**mapped, **{key: same[key] for key in ("checkpoint", "sha256", "step_from")}}]) == untimed([same])
    assert (row["run"], row["checkpoint"], row["size"]) == ("mine", None, pytest.approx(float(model.weight.abs().mean())))
    with torch.no_grad():
        model.weight[0, 0] = math.nan
    with pytest.warns(UserWarning, match="step 3 could not be measured: .*'weight' holds 1 values that are NaN"):
        assert tracker(3, model)["status"] == "failed"
    assert [one["step"] for one in read_rows("live.jsonl")] == [2, 3]
    with pytest.raises(InputError, match="its rows were measured with budget = 12, this call has 13"):
        Tracker(module_loss, EPS, out="live.jsonl", method="quantize", budget=13, metrics=metrics)


def test_a_tracker_takes_steps_as_training_loops_have_them_and_refuses_others_before_it_measures() -> None:
    def never(network: object) -> float:
        raise AssertionError

    network = weights(2)
    tracker = Tracker(loss, 1, out="live.jsonl", method="quantize", budget=12)
    steps = [np.int64(401), torch.tensor(402), np.float32(0.5), np.array([7]), 3]
    assert [tracker(step, network)["step"] for step in steps] == [401, 402, 0.5, 7, 3]
    assert [row["step"] for row in read_rows("live.jsonl")] == [401, 402, 0.5, 7, 3]
    with pytest.raises(InputError, match="seed: expected a whole number from 0 to 4294967295, got 'a'"):
        Tracker(loss, 1, seed="a")  # type: ignore[arg-type]
    for step in (math.nan, math.inf, torch.tensor(math.nan), "401", None, True, torch.ones(2), np.ones(3)):
        with pytest.raises(InputError, match="step: expected the training step, a finite number of at least 0, got"):
            Tracker(never, 1, method="quantize", budget=12)(step, network)


def test_a_copy_has_a_row_of_its_own_while_the_original_is_there() -> None:
    quick("run/*", loss, 1, out="results.jsonl")
    Path("tuned").mkdir()
    shutil.copy("run/step_10.safetensors", "tuned/step_0.safetensors")
    assert [(row["run"], row["step"]) for row in quick("tuned/*", loss, 1, out="results.jsonl")] == [("tuned", 0)]
    assert len(read_rows()) == 4


def test_a_tracker_writes_where_it_was_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(loss, 1, out="here.jsonl", method="quantize", budget=8)
    (tmp_path / "elsewhere").mkdir()
    with monkeypatch.context() as changed:
        changed.chdir(tmp_path / "elsewhere")
        tracker(1, weights(1))
    assert [row["step"] for row in read_rows("here.jsonl")] == [1]


def test_a_checkpoint_that_is_renamed_to_another_step_has_a_row_of_its_own() -> None:
    quick("run/*", loss, 1, out="results.jsonl")
    Path("run/step_10.safetensors").rename("run/step_11.safetensors")
    assert [row["step"] for row in quick("run/*", loss, 1, out="results.jsonl")] == [1, 2, 11]
    assert [row["step"] for row in read_rows()] == [1, 2, 10, 11]
