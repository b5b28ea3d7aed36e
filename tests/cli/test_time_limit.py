"""A search with a limit on its time: it ends by StopSearch, with the best file so far. The clock is a fake one."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nncomplexity import estimate
from nncomplexity.cli import main
from nncomplexity.errors import InputError
from nncomplexity.measure import rate_distortion
from nncomplexity.search import StopSearch, TimeLimit, timing
from nncomplexity.words import TimeLeft, duration_in_words, seconds_of

WEIGHTS = {"w": torch.randn(96, 96, generator=torch.Generator().manual_seed(0)), "b": torch.ones(96)}


class Clock:
    """A clock whose time passes only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowLoss:
    """The squared distance from the original. Each call takes a second of the clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.calls = clock, 0

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        self.clock.now += 1
        self.calls += 1
        return torch.stack([(weights[name] - WEIGHTS[name]).square().mean() for name in WEIGHTS]).sum()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(timing.TimeLimit.__init__, "__defaults__", (fake,))
    return fake


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("1:30:00", 5400), ("2:30", 150), ("45", 45), ("0.5h", 1800)]
)
def test_a_time_is_read_as_people_type_it(text: str, seconds: float) -> None:
    assert seconds_of(text, "--time-limit") == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "ten", "5 parsecs", "1:99:00:00", "nan", "1e3s", "0m", "1:2:3:4"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--time-limit: expected a time above 0, such as 90s, 10m, 1h"):
        seconds_of(text, "--time-limit")


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 s"), (59.6, "1 min"), (3599, "59 min 59 s"), (7200, "2 h")])
def test_a_time_is_told_in_two_units(seconds: float, words: str) -> None:
    assert duration_in_words(seconds) == words


@pytest.mark.parametrize("limit", [0, -1, float("inf"), float("nan"), True, "10m"])
def test_a_limit_that_is_no_time_is_refused(limit: float) -> None:
    with pytest.raises(InputError, match="time_limit: expected a finite number of seconds above 0"):
        estimate(WEIGHTS, lambda _: 0.0, eps=0.1, time_limit=limit)


def test_each_search_gets_an_even_share_of_what_is_left() -> None:
    clock = Clock()
    limit = TimeLimit(90, clock)
    watched = limit.watching(lambda *_: None)
    ends = []
    for left, takes in ((3, 10), (2, 40), (1, 40)):  # the first is done after 10 of its 30 seconds
        limit.share(left)
        begin = clock.now
        try:
            for _ in range(takes):
                clock.now += 1
                watched(0, 1, "")
        except StopSearch:
            pass
        ends.append(clock.now - begin)
    assert ends == [10, 40, 40]
    assert limit.reached


@pytest.mark.parametrize("method", ["tight", "quantize", "bayes"])
def test_a_search_ends_with_the_best_file_so_far(clock: Clock, method: str) -> None:
    loss = SlowLoss(clock)
    report = estimate(WEIGHTS, loss, eps=0.01, method=method, time_limit=12)
    assert loss.calls < 12 + 10  # the measurements of the original and of the answer are not cut short
    assert report.time_is_up
    assert report.within
    assert report.distortion <= 0.01
    assert "before the time limit of 12 s" in report.status
    assert (report.to_dict()["time_limit"], report.to_dict()["time_is_up"]) == (12, True)


def test_tight_has_an_answer_after_its_first_evaluations(clock: Clock) -> None:
    report = estimate(WEIGHTS, SlowLoss(clock), eps=0.001, time_limit=4)
    assert report.time_is_up
    assert report.within


@pytest.mark.parametrize("seconds", [20, 40, 80])
def test_a_search_is_planned_for_the_time_that_it_has(clock: Clock, seconds: float) -> None:
    """A descent that was cut short has not converged; a shorter one has. A gradient takes a second of the clock."""
    loss = SlowLoss(clock)
    report = estimate(WEIGHTS, loss, eps=0.5, time_limit=seconds)
    assert 0.5 * seconds < clock.now <= seconds + 5
    assert report.bits <= 1.3 * estimate(WEIGHTS, SlowLoss(Clock()), eps=0.5, budget=report.evaluations).bits


def test_several_eps_all_get_an_answer(clock: Clock) -> None:
    reports = estimate(WEIGHTS, SlowLoss(clock), eps=[0.1, 0.01, 0.001], time_limit=60)
    assert all(report.within for report in reports)
    assert min(report.evaluations for report in reports) > 60 / 3 - 5  # a gradient counts as three evaluations, and takes a second
    assert clock.now < 60 + 10


def test_time_enough_changes_no_answer_s_claim(clock: Clock) -> None:
    report = estimate(WEIGHTS, SlowLoss(clock), eps=0.01, method="quantize", time_limit=10_000)
    assert not report.time_is_up
    without = estimate(WEIGHTS, SlowLoss(Clock()), eps=0.01, method="quantize")
    assert (report.bits, report.status) == (without.bits, without.status)


def test_nothing_within_time_says_what_to_raise(clock: Clock) -> None:
    report = estimate(WEIGHTS, SlowLoss(clock), eps=1e-12, time_limit=5)
    assert not report.within
    assert re.search("before the time limit of 5 s; raise eps or the time limit", report.status)


def test_the_time_left_is_estimated_and_never_beyond_the_limit() -> None:
    clock = Clock()
    left = TimeLeft(100, clock)
    assert left.in_words(0, 10) == "1 min 40 s left"
    clock.now = 20
    assert left.in_words(5, 10) == "20 s left"
    assert left.in_words(1, 10) == "1 min 20 s left"  # the next ε begins, with less time than its search would need
    assert TimeLeft(None, clock).in_words(0, 10) == ""


def test_the_command_line_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["measure", "model.pt", "--loss-fn", "mytask:loss", "--eps", "1", "--time-limit", "soon"])
    assert code == 2
    assert "--time-limit: expected a time above 0" in capsys.readouterr().err


def test_the_table_and_the_json_say_that_the_time_ran_out(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(WEIGHTS, "model.safetensors")
    Path("slowtask.py").write_text("def loss(weights):\n    return weights['w'].square().mean()\n")
    options = ["--loss-fn", "slowtask:loss", "--eps", "0.1", "--time-limit", "0.001s", "--json", "report.json"]
    assert main(["measure", "model.safetensors", *options]) == 0
    assert "The time limit of 0.001 s ended the search early; another run may find another file." in " ".join(
        capsys.readouterr().out.split()
    )
    content = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert content["time_limit"] == 0.001
    assert content["results"][0]["time_is_up"]
    assert "before the time limit" in content["results"][0]["status"]


def test_a_curve_s_slow_start_is_not_taken_for_the_speed_of_what_follows(clock: Clock) -> None:
    """Each measurement of the original takes twenty seconds, like a network's first call. Then about fifty evaluations fit."""

    class SlowStart(SlowLoss):
        def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
            self.clock.now += 19 if self.calls < 2 else 0
            return super().__call__(weights)

    loss = SlowStart(clock)
    rate_distortion(WEIGHTS, loss, [1, 0.1, 0.01, 0.001], time_limit=100)
    assert 40 <= loss.calls <= 72


def test_a_curve_is_limited_as_well(clock: Clock) -> None:
    curve = rate_distortion(WEIGHTS, SlowLoss(clock), [1, 0.1, 0.01, 0.001], time_limit=20)
    assert clock.now < 20 + 15
    assert all(report.within and report.time_is_up for report in curve.reports)
