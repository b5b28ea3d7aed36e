"""Ctrl-C during a search: the first one ends the search with the best file so far, which is saved and shown. The second ends the program."""

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nncomplexity import Interrupt, estimate, load, rate_distortion
from nncomplexity.cli import main
from nncomplexity.search import FROM_OUTSIDE, Bayes, Quantize, StopSearch, Tight, unseen
from nncomplexity.search.stopping import UntilStopped

WEIGHTS = {"w": torch.randn(24, 24, generator=torch.Generator().manual_seed(0)), "b": torch.ones(24)}
INTERRUPTED = 130

TASK = """
import os, signal
import torch

calls = risks = 0
weights = torch.randn(24, 24, generator=torch.Generator().manual_seed(0))

def loss(network):
    global calls
    calls += 1
    for number in filter(None, os.environ.get(f"SIGNAL_AT_{calls}", "").split()):
        signal.raise_signal(int(number))
    return (network["w"] - weights).square().mean()

def error(network):
    global risks
    risks += 1
    if os.environ.get("SIGNAL_AT_RISK") == str(risks):
        signal.raise_signal(signal.SIGINT)
    return float((network["w"].sign() != weights.sign()).double().mean())
"""


class Loss:
    """Squared distance from the original, which sends a signal to its process at some of its calls."""

    def __init__(self, *at: int, number: int = signal.SIGINT) -> None:
        self.at, self.number, self.calls = at, number, 0

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        self.calls += 1
        if self.calls in self.at:
            signal.raise_signal(self.number)
        return (weights["w"] - WEIGHTS["w"]).square().mean()


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Every test leaves the handlers as it found them."""
    before = [signal.getsignal(number) for number in FROM_OUTSIDE]
    yield
    assert [signal.getsignal(number) for number in FROM_OUTSIDE] == before


@pytest.fixture
def call(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command whose loss sends signals at some of its calls."""
    Path("stoptask.py").write_text(TASK, encoding="utf-8")
    save_file({"w": WEIGHTS["w"]}, "model.safetensors")

    def run(*argv: str, **at: str) -> tuple[int, str, str]:
        for number, signals in at.items():
            monkeypatch.setenv(f"SIGNAL_{number}".upper(), signals)
        code = main([argv[0], "model.safetensors", "--loss-fn", "stoptask:loss", *argv[1:]])
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("number", FROM_OUTSIDE)
def test_measure_ends_with_the_best_file_so_far(call: Callable[..., Any], number: int) -> None:
    options = ("--eps", "0.3", "--save", "m.coarse", "--json", "r.json", "--risk-fn", "stoptask:error", "--n", "576")
    code, out, err = call("measure", *options, at_40=str(int(number)))
    assert code == INTERRUPTED
    assert "interrupted; ending with the best file so far" in err
    assert "Interrupted: these are the best files so far" in out
    assert "Written: m.coarse, r.json" in out
    (result,) = json.loads(Path("r.json").read_text(encoding="utf-8"))["results"]
    assert result["interrupted"]
    assert result["within"]
    assert result["evaluations"] < 150, "of 400"
    assert "before it was interrupted" in result["status"]
    assert result["bound"]["n"] == 576
    assert (load("m.coarse")["w"] - WEIGHTS["w"]).square().mean() <= 0.3


def test_of_several_eps_those_not_begun_have_what_serves_them(call: Callable[..., Any]) -> None:
    eps = [option for value in ("0.5", "0.3", "0.1", "0.05") for option in ("--eps", value)]
    code, out, _ = call(
        "measure", *eps, "--budget", "30", "--save", "m_{eps}.coarse", "--json", "r.json", at_50=str(int(signal.SIGINT))
    )
    assert code == INTERRUPTED
    results = json.loads(Path("r.json").read_text(encoding="utf-8"))["results"]
    # The searches begin with the smallest ε, whose file is within all others.
    cut = [result["interrupted"] for result in results].index(False)
    assert 0 < cut < 4, "another call of the loss is to be the one"
    assert not any(result["interrupted"] for result in results[cut:])
    not_begun = [result for result in results if not result["evaluations"]]
    assert not_begun == results[: len(not_begun)]
    assert cut - len(not_begun) in (0, 1)
    for result in not_begun:
        assert result["within"]
        assert result["bits"] <= results[cut]["bits"]
        assert f"interrupted before the search for ε = {result['eps']:g} began" in result["status"]
        assert " ".join(result["status"].split()) in " ".join(out.split())
    assert all(Path(f"m_{value}.coarse").is_file() for value in ("0.5", "0.3", "0.1", "0.05"))


def test_an_eps_not_begun_has_the_file_of_another_that_is_within_it() -> None:
    seen: list[str] = []

    def stopping(done: float, total: float, what: str) -> None:
        seen.append(what)
        if "0.5" in what:
            raise StopSearch

    coarse, fine = estimate(WEIGHTS, Loss(), [0.5, 0.3], method=Tight(budget=30), progress=stopping)
    assert not fine.interrupted
    assert sum("0.5" in what for what in seen) == 1, "it was stopped before its first evaluation"
    assert not coarse.begun
    assert coarse.bits == fine.bits
    assert "the smallest file of another ε" in coarse.status


def test_curve_ends_with_what_it_has(call: Callable[..., Any]) -> None:
    options = ("--grid", "0.01:0.5:5", "--save", "c_{eps}.coarse", "--json", "c.json")
    code, out, _ = call("curve", *options, at_60=str(int(signal.SIGINT)))
    assert code == INTERRUPTED
    assert "Interrupted: these are the best files so far" in out
    content = json.loads(Path("c.json").read_text(encoding="utf-8"))
    assert all(result["interrupted"] for result in content["results"])
    assert content["curve"]["evaluations"] < 250, "of 1,140"
    assert len(list(Path().glob("c_*.coarse"))) == 5


def test_a_second_one_ends_at_once(call: Callable[..., Any]) -> None:
    number = int(signal.SIGINT)
    code, out, err = call("measure", "--eps", "0.3", "--save", "m.coarse", at_40=f"{number} {number}")
    assert (code, out) == (INTERRUPTED, "")
    assert err.splitlines()[-1] == "nncomplexity: interrupted"
    assert not Path("m.coarse").exists()


def test_before_the_search_it_ends_at_once(call: Callable[..., Any]) -> None:
    code, out, err = call("measure", "--eps", "0.3", "--save", "m.coarse", at_1=str(int(signal.SIGINT)))
    assert (code, out, err) == (INTERRUPTED, "", "nncomplexity: interrupted\n")


def test_one_after_the_search_lets_the_rest_be_written(call: Callable[..., Any]) -> None:
    options = (
        "--method",
        "quantize",
        "--budget",
        "12",
        "--eps",
        "0.3",
        "--json",
        "r.json",
        "--risk-fn",
        "stoptask:error",
        "--n",
        "9",
    )
    code, out, err = call("measure", *options, at_risk="2")  # the first is before the search
    assert code == INTERRUPTED
    assert "ending with the best file so far" in err
    assert "Written: r.json" in out
    (result,) = json.loads(Path("r.json").read_text(encoding="utf-8"))["results"]
    assert not result["interrupted"]
    assert result["bound"]["n"] == 9


@pytest.mark.parametrize("method", [Tight(budget=60), Bayes(budget=30), Quantize(budget=30)])
def test_each_method_keeps_what_it_found(method: Any) -> None:
    loss = Loss(14)
    with Interrupt() as interrupt:
        report = estimate(WEIGHTS, loss, 0.5, method=method, progress=interrupt.watching())
    assert interrupt.caught
    assert report.interrupted
    assert report.within
    assert report.distortion <= 0.5
    assert loss.calls < 25


def test_without_it_python_raises_and_the_network_is_as_it_was() -> None:
    model = torch.nn.Linear(8, 8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    calls = []

    def loss(network: torch.nn.Linear) -> Tensor:
        calls.append(1)
        if len(calls) == 12:
            signal.raise_signal(signal.SIGINT)
        return (network.weight - before["weight"]).square().mean()

    model.train()
    with pytest.raises(KeyboardInterrupt):
        estimate(model, loss, 0.01, budget=60)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_curve_in_python_keeps_what_it_found() -> None:
    loss = Loss(50)
    with Interrupt() as interrupt:
        curve = rate_distortion(WEIGHTS, loss, [0.5, 0.3, 0.1, 0.05], progress=interrupt.watching())
    assert all(report.interrupted for report in curve.reports)
    assert loss.calls < 70


def test_the_callers_progress_is_told_until_then() -> None:
    told: list[float] = []
    with Interrupt() as interrupt:
        watched = interrupt.watching(lambda done, total, what: told.append(done))
        watched(1, 9, "")
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(StopSearch):
            watched(2, 9, "")
    assert told == [1]


def test_other_threads_and_ignored_signals_change_nothing() -> None:
    found: list[bool] = []

    def enter() -> None:
        with Interrupt() as interrupt:
            found.append(interrupt.caught)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [False]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            interrupt.watching()(1, 2, "")
            signal.raise_signal(signal.SIGINT)
            assert not interrupt.caught
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_loss_whose_processes_ctrl_c_has_ended_ends_the_search_too() -> None:
    """A loader's workers end before the search hears of it, and the loss fails for want of them."""

    class Orphaned(Loss):
        def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
            found = super().__call__(weights)
            if self.calls in self.at:
                raise RuntimeError("a worker exited unexpectedly")
            return found

    with Interrupt() as interrupt:
        report = estimate(WEIGHTS, Orphaned(20), 0.5, method=Quantize(budget=40), progress=interrupt.watching())
    assert report.interrupted
    assert report.within


def test_an_error_that_no_stop_explains_is_an_error() -> None:
    with pytest.raises(ValueError, match="as it is"), UntilStopped(unseen):
        raise ValueError("as it is")
