"""A `Tracker` that measures in another process gives the same rows in the same order, and no failure there ends the training."""

import json
import threading
import warnings
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nncomplexity import Tracker
from nncomplexity.errors import InputError
from nncomplexity.measure import estimate
from nncomplexity.network import Snapshot, tensors_of, unwrapped
from tests.cases import dying, to_zero
from tests.executors import AtOnce, Later
from tests.pages import run_section
from tests.threads import one_thread
from tests.training_run import untimed

QUICK: dict[str, Any] = {"method": "quantize", "budget": 3}


def tracker(**options: Any) -> Tracker:
    return Tracker(to_zero, 0.1, **{**QUICK, **options})


def tied() -> nn.Sequential:
    """A network in which two layers are one object, and a third one shares only their storage, with dropout and a frozen bias."""
    torch.manual_seed(3)
    one, two, three = (nn.Linear(6, 6) for _ in range(3))
    two.weight = one.weight
    three.weight = nn.Parameter(one.weight.detach())
    one.bias.requires_grad_(False)
    return nn.Sequential(one, nn.BatchNorm1d(6), two, nn.Dropout(0.0), three)


def train(live: Tracker, *steps: int, close: bool = False) -> None:
    for step in steps:
        assert live(step, {"weight": torch.eye(6)}) is None
        if close:
            live.close()


def test_another_process_gives_the_rows_of_this_one(workplace: Path) -> None:
    networks = [tied(), {"weight": torch.randn(6, 6)}, nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))]
    with one_thread():  # as the other process copies it
        here = [tracker()(step, one) for step, one in enumerate(networks)]
    with tracker(background=True, out="live.jsonl") as there:
        before = torch.get_rng_state()
        assert [there(step, one) for step, one in enumerate(networks)] == [None] * 3
        assert torch.equal(torch.get_rng_state(), before)
    rows = there.ready()
    assert untimed(rows) == untimed(here)
    assert rows[0]["raw_bits"] == 8 * sum(tensor.nbytes for tensor in stored(networks[0]))
    assert [json.loads(line) for line in Path("live.jsonl").read_text().splitlines()] == rows
    assert there.ready() == []


def stored(module: nn.Module) -> list[torch.Tensor]:
    """One tensor for each storage."""
    return list({tensor.data_ptr(): tensor for tensor in tensors_of(module).values()}.values())


def test_a_process_that_dies_gives_failed_rows_and_is_started_no_more() -> None:
    live = Tracker(dying, 0.1, background=True, **QUICK)
    with pytest.warns(UserWarning, match="the process that measures died.*training goes on") as said:
        train(live, 1, 2, close=True)
    assert [row["status"] for row in live.ready()] == ["failed", "failed"]
    assert len(said) == 1


def test_a_process_that_had_given_rows_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying(AtOnce):
        """A process that dies with the second network. The next call starts a new process, as a `LocalPool` always does."""

        calls = 0

        def submit(self, *given: Any, **named: Any) -> Future[Any]:
            self.calls += 1
            if self.calls != 2:
                return super().submit(*given, **named)
            future: Future[Any] = Future()
            future.set_exception(BrokenExecutor("it died"))
            return future

    monkeypatch.setattr("nncomplexity.dynamics.background.own_process", Dying)
    live = tracker(background=True)
    with pytest.warns(UserWarning, match="the process that measures died"):
        train(live, 1, 2, 3)
    assert [row["status"] for row in live.ready()] == ["measured", "failed", "measured"]


def test_the_copy_is_of_the_moment_of_the_call() -> None:
    executor, network = Later(), {"weight": torch.ones(6, 6)}
    live = tracker(executor=executor)
    live(1, network)
    network["weight"].zero_()
    executor.work()
    (row,) = live.ready()
    assert row["loss"] == 1.0


def test_rows_come_in_the_order_of_their_steps(workplace: Path) -> None:
    executor = Later()
    live = tracker(executor=executor, out="live.jsonl")
    for step in range(4):
        live(step, {"weight": torch.ones(2, 6)})
    executor.work(1, 3)
    assert live.ready() == []
    executor.work(0)
    assert [row["step"] for row in live.ready()] == [0, 1]
    executor.work()
    assert [row["step"] for row in live.ready()] == [2, 3]
    assert [json.loads(line)["step"] for line in Path("live.jsonl").read_text().splitlines()] == [0, 1, 2, 3]


def test_a_full_queue_leaves_networks_out_and_counts_them() -> None:
    executor = Later()
    live = tracker(executor=executor, queue=2)
    with pytest.warns(UserWarning, match="step 2 was left out, because measuring is slower than training") as said:
        train(live, *range(5))
    assert (live.skipped, len(executor.waiting), len(said)) == (3, 2, 1)
    executor.work()
    live(5, {"weight": torch.ones(2, 6)})
    executor.work()
    assert [row["step"] for row in live.ready()] == [0, 1, 5]


class Gone(Executor):
    """An executor that was shut down, or whose scheduler can't be reached."""

    def submit(self, *given: Any, **named: Any) -> Future[Any]:
        raise RuntimeError("cannot schedule new futures after shutdown")


class Losing(Executor):
    """An executor whose scheduler died: its futures are cancelled without a message."""

    def submit(self, *given: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        return future


class Breaking(Executor):
    def submit(self, *given: Any, **named: Any) -> Future[Any]:
        raise BrokenExecutor("a process in the pool died")


@pytest.mark.parametrize(
    ("executor", "reason"),
    [
        (Gone(), "RuntimeError: cannot schedule new futures after shutdown"),
        (Losing(), "it was not measured, because the executor lost it or was shut down"),
        (Breaking(), "the process that measures died"),
    ],
)
def test_an_executor_that_fails_is_said_once_and_ends_no_training(executor: Executor, reason: str) -> None:
    live = tracker(executor=executor)
    with pytest.warns(UserWarning, match="could not be measured") as said:
        train(live, 1, 2)
    live.close()
    rows = live.ready()
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert all(reason in row["error"] for row in rows)
    assert [one.filename for one in said] == [__file__]


def run_to_end(thread: threading.Thread) -> None:
    thread.start()
    thread.join()


def test_a_warning_of_a_thread_is_at_a_line_of_the_package() -> None:
    executor = Later()
    live = tracker(executor=executor)
    train(live, 1)
    (future, _), *_ = executor.waiting
    thread = threading.Thread(target=future.cancel)
    with pytest.warns(UserWarning, match="could not be measured") as said:
        run_to_end(thread)
    assert [Path(one.filename).name for one in said] == ["background.py"]


def test_what_is_given_up_has_no_row() -> None:
    executor = Later()
    live = tracker(executor=executor)
    live(1, {"weight": torch.eye(6)})
    live.close(wait=False)
    executor.work()
    assert live.ready() == []


def test_a_block_that_fails_waits_for_no_rows() -> None:
    executor = Later()
    live = tracker(executor=executor)

    def failing() -> None:
        with live:
            train(live, 1)
            raise RuntimeError("of the training")

    with pytest.raises(RuntimeError, match="of the training"):
        failing()
    assert live.ready() == []


class Locked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.lock = nn.Linear(6, 2), threading.Lock()


class Unsendable(nn.Linear):
    """It can be copied, but not pickled."""

    def __deepcopy__(self, memo: Any) -> "Unsendable":
        return Unsendable(6, 2)

    def __getstate__(self) -> Any:
        raise TypeError("it holds a lock")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Locked(), "can't be copied"),
        (
            Unsendable(6, 2),
            "model: expected a network that can be pickled, because another process measures it (TypeError: it holds",
        ),
        ("no network", "expected a module"),
        ({}, "at least one tensor"),
    ],
)
def test_a_network_that_cannot_be_copied_is_a_failed_row(model: Any, reason: str) -> None:
    live = tracker(executor=AtOnce())
    with pytest.warns(UserWarning, match="step 1 could not be measured"):
        assert live(1, model) is None
    (row,) = live.ready()
    assert row["status"] == "failed"
    assert reason in row["error"]


class Method:
    """A method of the user that can't be sent to another process."""

    name, codec, budget = "mine", "entropy", 3

    def search(self, *_: Any) -> None: ...

    def __reduce__(self) -> Any:
        raise TypeError("it holds a lock")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"executor": 3}, "executor: expected a concurrent.futures.Executor, got 3"),
        ({"executor": ThreadPoolExecutor()}, "executor: expected one that works in other processes, got a ThreadPoolExecutor"),
        ({"background": True, "queue": 0}, "queue: expected"),
        (
            {"background": True, "metrics": {"mine": partial(to_zero, threading.Lock())}},
            "metric mine: expected a function that can be pickled",
        ),
        (
            {"background": True, "method": Method(), "budget": None},
            r"background: expected settings that can be pickled.*it holds a lock",
        ),
        ({"every": 0}, "every: expected a number of steps of at least 1, a LogSchedule, or None"),
        ({"every": "epoch"}, "every: expected a number of steps of at least 1, a LogSchedule, or None"),
        ({"time_limit": 0}, "time_limit: expected a finite number of seconds above 0"),
        ({"relative_to": "base.pt"}, "relative_to: expected a module or a mapping"),
    ],
)
def test_a_wrong_argument_is_said_at_once(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        tracker(**options)


def test_a_process_that_imports_the_program_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.process._current_process._inheriting", True, raising=False)
    with pytest.raises(InputError, match=r"background: expected a program that other processes can import.*below `if __name__"):
        tracker(background=True)


def test_what_wraps_a_network_is_taken_off() -> None:
    layer, compiled = nn.Linear(6, 2), type("OptimizedModule", (nn.Module,), {"__module__": "torch._dynamo.eval_frame"})()
    compiled._orig_mod = layer
    assert unwrapped(nn.DataParallel(compiled)) is layer
    assert unwrapped({"weight": layer.weight}) == {"weight": layer.weight}
    own = type("DataParallel", (nn.Module,), {"module": 3})()  # another class with the same name
    assert unwrapped(own) is own


def test_of_distributed_data_parallel_the_module_is_measured(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        network = tied()
        wrapped = DistributedDataParallel(nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)))
        row = tracker()(1, wrapped)
    finally:
        torch.distributed.destroy_process_group()
    assert row is not None
    assert [layer["name"] for layer in row["layers@0.1"]][:2] == ["0.weight", "0.bias"]
    assert network.training


@pytest.mark.parametrize("network", [tied(), {"weight": torch.eye(6)}])
def test_a_snapshot_shares_no_memory(network: Any) -> None:
    copy = Snapshot.of(network).on(torch.device("cpu"))
    tensors = [tensors_of(one) if isinstance(one, nn.Module) else one for one in (network, copy)]
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        assert torch.equal(tensors[1][name], tensor)
        assert tensors[1][name].data_ptr() != tensor.data_ptr()


def test_complexity_relative_to_the_network_at_the_start() -> None:
    """The base is the network that trains, so its values must be copied."""
    layer = nn.Linear(6, 2)
    start = {name: tensor.detach().clone() for name, tensor in layer.state_dict().items()}
    live = tracker(relative_to=layer)
    with torch.no_grad():
        layer.bias.add_(1.0)
    row = live(1, layer)
    expected = estimate(layer, to_zero, 0.1, relative_to=start, method="quantize", budget=3)
    assert row is not None
    assert row["bits@0.1"] == expected.bits
    assert expected.subject.relative_to is not None
    assert row["settings"]["relative_to"] == expected.subject.relative_to.sha256
    unlike = tracker()(1, layer)
    assert unlike is not None
    assert "relative_to" not in unlike["settings"]
    assert "time_limit" not in unlike["settings"]


def test_rows_of_another_base_or_limit_are_of_other_settings(workplace: Path) -> None:
    tracker(out="live.jsonl", time_limit=60)(1, {"weight": torch.eye(6)})
    with pytest.raises(InputError, match="its rows were measured with time_limit = 60"):
        tracker(out="live.jsonl")
    with pytest.raises(InputError, match="its rows were measured with relative_to = none"):
        tracker(out="live.jsonl", time_limit=60, relative_to={"weight": torch.eye(6)})


def test_a_resumed_training_measures_no_step_twice(workplace: Path) -> None:
    network = {"weight": torch.eye(6)}
    first = tracker(out="live.jsonl", run="mine", every=10)
    for step in range(35):
        first(step, network)
    second = tracker(out="live.jsonl", run="mine", every=10)
    second.resume()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(15, 55):  # from a checkpoint at step 15
            second(step, network)
    found = [json.loads(line) for line in Path("live.jsonl").read_text().splitlines()]
    assert [(row["run"], row["step"]) for row in found] == [("mine", step) for step in (0, 10, 20, 30, 40, 50)]


def test_resuming_tries_again_what_had_failed(workplace: Path) -> None:
    with pytest.warns(UserWarning, match="could not be measured"):
        tracker(out="live.jsonl")(1, {"bias": torch.eye(6)})
    again = tracker(out="live.jsonl")
    again.resume()
    row = again(1, {"weight": torch.eye(6)})
    assert row is not None
    assert row["status"] == "measured"


def test_the_program_of_the_page_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nncomplexity.dynamics.background.own_process", AtOnce)
    run_section("Your own loop", workplace)
    found = [json.loads(line) for line in Path("live.jsonl").read_text().splitlines()]
    assert [row["step"] for row in found] == [0, 1, 2, 3, 4, 7, 10, 16]
    assert all(row["warnings"] == [] for row in found)
