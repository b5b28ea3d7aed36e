"""Tasks on executors of all kinds: no task is lost with its worker, and a failure to send or to reach is one line."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nncomplexity import best_bound, estimate, rate_distortion, track
from nncomplexity.dynamics import user_function
from nncomplexity.dynamics.functions import check_sendable
from nncomplexity.dynamics.job import Job, measure
from nncomplexity.dynamics.settings import settings_of
from nncomplexity.errors import InputError
from nncomplexity.search import Quantize, StopSearch
from nncomplexity.workers import CannotPackError, LocalPool, Surroundings, ThisProcess, packed, unpacked
from nncomplexity.workers.local import _main_hidden
from nncomplexity.workers.packing import main_is_a_file
from tests.training_run import make_training, untimed

quick = partial(track, eps=1, method="quantize", budget=12)


@dataclass
class SentThrough(Executor):
    """An executor that sends everything as bytes, as to another process. It can fail at calls with given numbers."""

    fails: Callable[[int], BaseException | None] = lambda call: None
    calls: int = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        future: Future[Any] = Future()
        assert all(isinstance(one, bytes | tuple | bool) for one in args)
        if (error := self.fails(self.calls)) is None:
            future.set_result(fn(*args))
        else:
            future.set_exception(error)
        return future


class Polled:
    """A future of another library, which can only be asked whether it is done."""

    def __init__(self, future: Future[Any], error: BaseException | None) -> None:
        self._future, self._error, self._asked = future, error, 0

    def done(self) -> bool:
        self._asked += 1
        return self._asked > 1

    def result(self) -> Any:
        if self._error:
            raise self._error
        return self._future.result()


@dataclass
class OfAnotherLibrary(SentThrough):
    broken: list[int] = field(default_factory=list)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future = super().submit(fn, *args)
        return Polled(future, AttributeError("no attribute '_condition'") if self.calls in self.broken else None)


@pytest.fixture
def training(workplace: Path) -> Path:
    make_training(workplace)
    return workplace


def ended(*errors: BaseException | None) -> Callable[[int], BaseException | None]:
    return lambda call: errors[call - 1] if call <= len(errors) else None


def test_what_dies_is_done_again_and_no_row_is_lost(training: Path) -> None:
    alone = quick("run/*", "mytask:loss")
    for error in (BrokenExecutor("died"), OSError("node lost"), AttributeError("no attribute '_condition'")):
        executor = SentThrough(ended(error, None, error))
        assert untimed(quick("run/*", "mytask:loss", executor=executor)) == untimed(alone)
        assert executor.calls == 5
    polled = OfAnotherLibrary(broken=[1])
    assert untimed(quick("run/*", "mytask:loss", executor=polled)) == untimed(alone)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BrokenExecutor(), "the process that measured it died, perhaps because memory ran out"),
        (type("KilledWorker", (Exception,), {})("run-1"), "the process that measured it died"),
        (AttributeError("no '_condition'"), "the executor gave no result: AttributeError: no '_condition'"),
        (ValueError(), "the executor gave no result: ValueError"),
    ],
)
def test_what_dies_again_alone_is_a_failed_row_with_the_reason(training: Path, error: BaseException, words: str) -> None:
    executor = SentThrough(lambda call: error if call in (2, 4) else None)
    rows = quick("run/*", "mytask:loss", executor=executor)
    assert [row["status"] for row in rows] == ["measured", "failed", "measured"]
    assert rows[1]["error"].startswith(words)


def test_an_executor_that_takes_its_work_back_is_one_line_and_finished_rows_are_kept(training: Path) -> None:
    class Gone(SentThrough):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future = super().submit(fn, *args) if not self.calls else Future()
            future.cancel()
            if future.cancelled():
                future.set_running_or_notify_cancel()
            return future

    with pytest.raises(
        InputError, match=r"^executor: it withdrew the work that it was given, .*; rows that were measured are in the results file"
    ):
        quick("run/*", "mytask:loss", executor=Gone(), out="results.jsonl")
    assert len(Path("results.jsonl").read_text().splitlines()) == 1


def test_an_executor_that_breaks_under_several_is_one_line(training: Path) -> None:
    class Broken(SentThrough):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            if self.calls == 3:
                raise RuntimeError("cannot schedule new futures after shutdown")
            return super().submit(fn, *args)

    with pytest.raises(InputError, match=r"^executor: its workers died \(BrokenExecutor: memory\) and it takes no more work"):
        quick("run/*", "mytask:loss", executor=Broken(lambda call: BrokenExecutor("memory")))
    with pytest.raises(InputError, match=r"^executor: it takes no more work \(RuntimeError: cannot schedule"):
        quick("run/*", "mytask:loss", seeds=2, executor=Broken())


def test_what_is_no_executor_is_one_line(training: Path) -> None:
    class Odd(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            return 7

    with pytest.raises(InputError, match=r"executor: expected submit\(\) to return a future with done\(\) and result\(\), got int"):
        quick("run/*", "mytask:loss", executor=Odd())
    with pytest.raises(InputError, match=r"executor: expected a concurrent.futures.Executor, got 'two'"):
        estimate({"w": torch.eye(2)}, lambda w: w["w"].sum(), 1, executor="two")  # type: ignore[arg-type]


def test_a_client_gives_its_executor() -> None:
    class Client:
        def get_executor(self) -> Executor:
            return SentThrough()

    report = estimate({"w": torch.eye(4)}, lambda w: (w["w"] ** 2).mean(), 1, method="quantize", executor=Client())  # type: ignore[arg-type]
    assert report.loss == 0.25


def test_a_worker_computes_with_one_thread_unless_it_is_told_otherwise(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for told, used in ((None, 1), ("2", 2)):
            monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
            if told:
                monkeypatch.setenv("OMP_NUM_THREADS", told)
            (row,) = quick("run/step_1.*", "mytask:loss", metrics={"threads": "mytask:threads"}, executor=SentThrough())
            assert row["threads"] == used
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_folder_that_a_worker_lacks_fails_only_what_needs_it(training: Path) -> None:
    settings = settings_of("mytask:loss", 1, method="quantize", budget=12)
    elsewhere = replace(Surroundings.here(), folder=str(training / "absent"))
    whole = measure(Job(str(training / "run" / "step_1.safetensors"), 0), settings, elsewhere)
    assert whole["status"] == "measured"
    lacking = measure(Job("absent/step_1.safetensors", 0), settings, elsewhere)
    assert lacking["error"].endswith(f"has no folder {training / 'absent'})")


def test_a_function_that_only_this_program_knows_is_sent_by_value(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main: dict[str, Any] = {"__name__": "__main__", "scale": 2.0}
    exec("def loss(network):\n    return scale * (network['weight'] ** 2).mean()", main)  # as if a notebook had defined it
    monkeypatch.setattr(sys.modules["__main__"], "loss", main["loss"], raising=False)
    content = packed(main["loss"])
    monkeypatch.delattr(sys.modules["__main__"], "loss")  # the main module of a worker is another one
    assert unpacked(content)({"weight": torch.ones(2)}).item() == 2.0


def test_without_cloudpickle_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(
        InputError, match=r"loss_fn: expected a function that can be pickled, .*; install cloudpickle, or define it"
    ):
        check_sendable([user_function("loss_fn", lambda network: 0.0)], SentThrough())
    monkeypatch.setattr(sys.modules["__main__"], "of_main", type("of_main", (), {"__module__": "__main__"}), raising=False)
    with pytest.raises(CannotPackError, match="it belongs to a notebook, to standard input or to a script"):
        packed(sys.modules["__main__"].of_main)
    assert packed(sys.modules["__main__"].of_main, main_is_known=True)


def test_what_cannot_be_sent_at_all_is_one_line() -> None:
    loss = partial(lambda lock, network: 0.0, threading.Lock())
    with pytest.raises(
        InputError, match=r"^executor: expected a network and functions that can be sent to other processes \(TypeError"
    ):
        estimate({"w": torch.eye(2)}, loss, 1, executor=SentThrough())


def test_tensors_that_share_memory_share_it_when_they_arrive() -> None:
    base = torch.arange(12.0)
    tied = nn.Linear(3, 3)
    given = {
        "a": base[:6].view(2, 3),
        "b": base,
        "c": torch.zeros(0),
        "half": base.half(),
        "complex": torch.ones(2) * 1j,
        "module": tied,
    }
    found = unpacked(packed(given))
    assert found["a"].untyped_storage().data_ptr() == found["b"].untyped_storage().data_ptr()
    assert found["half"].untyped_storage().data_ptr() != found["b"].untyped_storage().data_ptr()
    for name in ("a", "b", "c", "half", "complex"):
        assert found[name].dtype == given[name].dtype
        assert torch.equal(found[name], given[name])
    assert torch.equal(found["module"].weight, tied.weight)
    found["b"][0] = 5
    assert found["a"][0, 0] == 5
    assert base[0] == 0


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def twice_parametrized() -> nn.Module:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
    nn.utils.parametrize.register_parametrization(layer, "bias", Doubled())
    return layer


def of_a_class_that_workers_lack() -> nn.Module:
    class Mine(nn.Linear):
        pass

    layer = nn.utils.parametrizations.weight_norm(Mine(3, 2))
    layer.__dict__["itself"] = layer
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)),
        lambda: nn.utils.parametrizations.orthogonal(nn.Linear(3, 2)),
        twice_parametrized,
        of_a_class_that_workers_lack,
    ],
)
def test_a_module_with_parametrizations_arrives_as_it_was(layer: Callable[[], nn.Module]) -> None:
    """PyTorch itself refuses to pickle such a module."""
    torch.manual_seed(0)
    network = nn.Sequential(layer(), nn.ReLU()).eval()
    found = unpacked(packed(network))
    inputs = torch.randn(4, 3)
    assert torch.equal(found(inputs), network(inputs))
    assert {name: tensor.tolist() for name, tensor in found.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in network.state_dict().items()
    }
    assert type(found[0]).__name__ == type(network[0]).__name__
    assert found[0].__dict__.get("itself", found[0]) is found[0]
    with torch.no_grad():
        next(found.parameters()).mul_(3)
    assert not torch.equal(found(inputs), network(inputs))


def tied_network() -> dict[str, torch.Tensor]:
    weight = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    return {"in": weight, "out": weight.view(8, 6), "bias": torch.tensor([0.1, 0.2])}


def to_data(network: dict[str, torch.Tensor]) -> torch.Tensor:
    inputs = torch.randn(30, 6, generator=torch.Generator().manual_seed(2))
    return ((inputs @ network["in"].T @ network["out"] - inputs) ** 2).mean() + 1e-4 * torch.rand(()) + network["bias"].sum() ** 2


def test_searches_with_seeds_give_the_same_files_on_an_executor() -> None:
    options: dict[str, Any] = {"budget": 16, "seeds": 2}
    told: list[tuple[float, float, str]] = []
    here = estimate(tied_network(), to_data, [0.5, 0.05], **options)
    for executor in (SentThrough(ended(BrokenExecutor())), ThreadPoolExecutor(2)):
        there = estimate(tied_network(), to_data, [0.5, 0.05], executor=executor, progress=lambda *one: told.append(one), **options)
        for one, other in zip(here, there, strict=True):
            assert (one.bits, one.coarse_loss, one.spread, one.evaluations) == (
                other.bits,
                other.coarse_loss,
                other.spread,
                other.evaluations,
            )
            assert one.file.payload == other.file.payload
            assert one.subject == other.subject
    assert told[0] == (0, 2, "0 of 2 searches done")


def test_curves_and_bounds_are_the_same_on_an_executor() -> None:
    data = torch.randn(40, 6, generator=torch.Generator().manual_seed(3))
    labels = data[:, :2].argmax(1)
    weights = {"w": torch.eye(2, 6) + 0.01 * torch.randn(2, 6, generator=torch.Generator().manual_seed(4))}
    loss = lambda w: nn.functional.cross_entropy(4 * data @ w["w"].T, labels)  # noqa: E731
    error = lambda w: float(((data @ w["w"].T).argmax(1) != labels).double().mean())  # noqa: E731
    options: dict[str, Any] = {"method": "quantize", "budget": 10, "seeds": 2, "n": 40, "risk": error}
    one, other = (rate_distortion(weights, loss, [1, 0.1], executor=executor, **options) for executor in (None, SentThrough()))
    assert [report.bits for report in one.reports] == [report.bits for report in other.reports]
    assert one.bounds == other.bounds
    # Threads would wait for `best_bound` if it held the lock that they need.
    bounds = [
        best_bound(weights, loss, eps=[1, 0.1], executor=executor, **options)
        for executor in (None, SentThrough(), ThreadPoolExecutor(1))
    ]
    assert len({(bound.value, bound.report.bits, bound.tried) for bound in bounds}) == 1


def test_what_a_search_raises_comes_back_in_its_words() -> None:
    def raising(network: dict[str, torch.Tensor]) -> float:
        raise ZeroDivisionError("no data")

    for executor in (None, SentThrough()):
        with pytest.raises(InputError, match=r"^loss_fn: it raised ZeroDivisionError: no data"):
            estimate({"w": torch.eye(2)}, raising, 1, seeds=2, executor=executor)

    class Odd(Quantize):
        def search(self, *_: Any) -> Any:
            raise KeyError("own")

    for executor, kind in ((None, KeyError), (SentThrough(), RuntimeError)):
        with pytest.raises(kind, match="own"):
            estimate({"w": torch.eye(2)}, lambda w: (w["w"] ** 2).sum(), 1, method=Odd(), executor=executor)
    with pytest.raises(InputError, match=r"^seed 0: the process that measured it died"):
        estimate({"w": torch.eye(2)}, lambda w: (w["w"] ** 2).sum(), 1, executor=SentThrough(lambda call: BrokenExecutor()))


def test_searches_that_are_stopped_end_with_those_that_are_done() -> None:
    network, loss = {"w": torch.eye(4)}, lambda w: (w["w"] ** 2).sum()

    def stop_after(count: int, executor: Executor) -> Any:
        def progress(done: float, total: float, what: str) -> None:
            if done >= count:
                raise StopSearch

        return estimate(network, loss, 1, method="quantize", seeds=3, executor=executor, progress=progress)

    class OneByOne(SentThrough):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            return super().submit(fn, *args) if not self.calls else Future()

    assert stop_after(1, OneByOne()).spread.bits == (estimate(network, loss, 1, method="quantize").bits,)
    assert stop_after(0, SentThrough()).interrupted


def test_a_local_pool_has_processes() -> None:
    with pytest.raises(InputError, match="jobs: expected a whole number of at least 1, got 0"):
        LocalPool(0)


def test_new_processes_do_not_look_for_the_file_of_a_program_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None)
    for file, known in (("<stdin>", False), (__file__, True)):
        monkeypatch.setattr(main, "__file__", file, raising=False)
        assert main_is_a_file() is known
        with _main_hidden():
            assert hasattr(main, "__file__") is known
        assert main.__file__ == file


def test_this_process_makes_a_call_when_it_is_submitted() -> None:
    assert ThisProcess().submit(divmod, 7, 2).result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        ThisProcess().submit(divmod, 7, 0).result()
