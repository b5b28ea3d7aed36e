"""Bounds wherever they are shown: no number is smaller than the bound, none near chance is called not vacuous, and a constant answer's
stands beside."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from nncomplexity import InputError, Tracker, estimate, rate_distortion, track
from nncomplexity.bounds import KINDS, bound, rounded_up, smoothed_bound, vacuous_from
from nncomplexity.cli import main
from nncomplexity.cli.curve_table import curve_table
from nncomplexity.cli.track_table import tracked
from nncomplexity.network import constant_risk
from nncomplexity.show import page, read_results
from nncomplexity.show.html.sections import promise
from nncomplexity.show.html.summary import key_figures
from nncomplexity.show.plots.entries import network_of_report
from nncomplexity.show.plots.results import BoundValue, Measurement, Network
from tests.markup import parsed
from tests.rows import report as report_file
from tests.rows import row, write_rows

TASK = """
import torch
from torch.nn.functional import cross_entropy

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(400, 6, generator=generator)
labels = inputs[:, :4].argmax(1)

def loss(weights): return cross_entropy(inputs @ weights["weight"].T, labels)
def error(weights): return ((inputs @ weights["weight"].T).argmax(1) != labels).double().mean()
def choosy(weights):  # as a metric is that knows no constant answer
    if not weights["weight"].any():
        raise ValueError("no network")
    return error(weights)
"""
WEIGHTS = {"weight": 3 * torch.eye(4, 6) + 0.05 * torch.randn(4, 6, generator=torch.Generator().manual_seed(1))}
INPUTS = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
LABELS = INPUTS[:, :4].argmax(1)


def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(INPUTS @ weights["weight"].T, LABELS)


def error(weights: dict[str, torch.Tensor]) -> float:
    return float(((INPUTS @ weights["weight"].T).argmax(1) != LABELS).double().mean())


CONSTANT = float((LABELS != 0).double().mean())
"""The error of a constant answer, the first class, as a network with all weights zero gives it."""


@pytest.fixture
def call(workplace: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    (workplace / "guess.py").write_text(TASK, encoding="utf-8")
    save_file(WEIGHTS, "model.safetensors")

    def run(*argv: str) -> tuple[int, str, str]:
        code = main([*argv])
        return code, *capsys.readouterr()

    return run


MEASURE = ("measure", "model.safetensors", "--loss-fn", "guess:loss", "--method", "quantize", "--budget", "20", "--eps", "0.1")
RISK = ("--risk-fn", "guess:error", "--n", "400")
near = st.one_of(st.floats(0.9, 1.0), st.floats(0.0, 1.0), st.floats(0.9985, 0.9995), st.just(0.9999999999))


def not_near(text: str, value: float, chance: float) -> None:
    """Check what must be true for every text that shows a bound."""
    word = re.search(r"(?i)\b(not vacuous|vacuous)\b", text)
    assert word
    if value >= chance - 0.001:
        assert "not vacuous:" not in text.lower()
        assert word[1].lower() == "vacuous"
    shown = re.search(r"(?:at most|the bound is|bound of) ([\d.e+-]+\d)", text)
    if shown:
        assert float(shown[1]) >= float(f"{value:.12g}") - 1e-12
        assert word[1].lower() == "vacuous" or float(shown[1]) < chance


# --- in words ---


@settings(max_examples=300, deadline=None)
@given(
    bits=st.floats(0, 60_000),
    risk=st.floats(0, 1),
    kind=st.sampled_from(KINDS),
    classes=st.integers(2, 1000),
    given_chance=st.booleans(),
    n=st.integers(50, 5_000),
)
def test_a_sentence_never_says_not_vacuous_near_chance(
    bits: float, risk: float, kind: Any, classes: int, given_chance: bool, n: int
) -> None:
    chance = 1 - 1 / classes if given_chance else None
    result = bound(bits, risk=risk, n=n, kind=kind, chance=chance)
    not_near(result.sentence(), result.value, result.chance)
    assert result.to_dict()["vacuous"] == (result.value >= result.chance - 0.001)


@settings(max_examples=100, deadline=None)
@given(
    bits=st.floats(0, 5_000),
    right=st.floats(0.001, 1),
    classes=st.integers(2, 60),
    n=st.integers(20, 3_000),
    kind=st.sampled_from(KINDS),
)
def test_nor_does_that_of_a_smoothed_bound(bits: float, right: float, classes: int, n: int, kind: Any) -> None:
    result = smoothed_bound(
        bits, probabilities=[right] * n, n_classes=classes, kind=kind, alphas=[1e-6, 1e-3, 0.05, 0.3, 0.9, 0.999999]
    )
    assert result.chance == result.constant_bound == math.log(classes)
    not_near(result.sentence(), result.value, result.chance)
    if result.value >= result.chance - 0.001:
        assert result.vacuous


@settings(max_examples=300, deadline=None)
@given(value=near, chance=st.one_of(st.none(), st.floats(0.5, 1.0)), said=st.booleans())
def test_nor_does_a_page_whatever_its_files_say(value: float, chance: float | None, said: bool) -> None:
    document = report_file(eps=[0.1])
    document["results"][0]["bound"] |= {"value": value, "vacuous": said, "chance": chance}
    point = read_point(document)
    assert point.bound is not None
    word, rest = promise(point, 1.0)
    not_near(f"{word}: {rest}", value, 1.0 if chance is None else chance)
    figures = {name: (figure, remark) for name, figure, remark in key_figures(Network("", "", ""), point)}
    figure, remark = figures["bound on error"]
    not_near(f"{remark}: at most {figure} ", value, 1.0 if chance is None else chance)


def read_point(document: dict[str, Any]) -> Measurement:
    """The first point of a document, read as if it were in a file."""
    return network_of_report("r.json", document).points[0]


def test_a_bound_of_0_9999999999_is_vacuous_on_the_page_of_an_old_file(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "r.jsonl", [row(step, eps=[1.0]) | {"bound@1": 0.9999999999, "vacuous@1": False} for step in (1, 2)]
    )
    text = parsed(page(read_results(path))).text
    assert "Vacuous at ε = 1: the bound is 1, no better than 1" in text
    assert "Not vacuous at" not in text
    assert "error on unseen data is then at most" not in text


def test_rows_tell_their_chance(tmp_path: Path) -> None:
    one = row(1, eps=[1.0])
    one["settings"] = {**one["settings"], "chance": 0.7}
    one |= {"bound@1": 0.6995, "vacuous@1": False, "constant_risk": 0.7, "constant_bound": 0.7123}
    point = read_results(write_rows(tmp_path / "r.jsonl", [one])).networks[0].points[0]
    assert point.bound == BoundValue(0.6995, 0.1, 2553, 0.05, None, 0.7, True, None, 0.7, 0.7123)
    word, rest = promise(point, 1.0)
    assert word == "Vacuous"
    assert (
        "the bound is 0.6995, no better than 0.7, which needs no learning. A constant answer takes 0 bits and has a bound of 0.7123."
        in rest
    )


def test_a_bound_on_a_page_is_rounded_up(tmp_path: Path) -> None:
    document = report_file(eps=[0.1])
    document["results"][0]["bound"] |= {"value": 0.700001, "constant_bound": 0.91}
    (tmp_path / "r.json").write_text(json.dumps(document), encoding="utf-8")
    text = parsed(page(read_results(tmp_path / "r.json"))).text
    assert "the error on unseen data is at most 0.7001. A constant answer takes 0 bits and has a bound of 0.91." in text
    assert "its error on unseen data is then at most 0.701 with" in text


@pytest.mark.parametrize(("chance", "said"), [(None, True), (0.9, False)])
def test_a_page_says_that_a_bound_without_chance_says_little(chance: float | None, said: bool) -> None:
    document = report_file(eps=[0.1])
    document["results"][0]["bound"] |= {"value": 0.7, "chance": chance}
    word, rest = promise(read_point(document), 1.0)
    assert word == "Not vacuous"
    assert ("this does not say whether the file is better than a guess" in rest) is said


# --- a constant answer ---


def test_the_risk_of_all_weights_zero_is_measured_where_there_is_one() -> None:
    assert constant_risk(error, WEIGHTS) == CONSTANT

    def raising(_: object) -> float:
        raise ZeroDivisionError

    for odd in (raising, lambda _: math.nan, lambda _: 7.0, lambda _: "much"):
        assert constant_risk(odd, WEIGHTS) is None  # type: ignore[arg-type]


def test_a_report_s_bound_takes_it() -> None:
    report = estimate(WEIGHTS, loss, 0.1, method="quantize", budget=20)
    promised = report.bound(risk=0.05, n=400, chance=0.75, constant_risk=CONSTANT)
    assert promised.constant_bound == bound(0, risk=CONSTANT, n=400, self_delimiting=False).value


def test_a_curve_measures_it_and_shows_it() -> None:
    curve = rate_distortion(WEIGHTS, loss, [0.3, 0.1], method="quantize", budget=20, risk=error, n=400, chance=0.75)
    best = curve.best_bound
    assert best is not None
    assert {promised.constant_risk for promised in curve.bounds if promised} == {CONSTANT}
    assert curve.to_dict()["best_bound"]["constant_bound"] == best[1].constant_bound
    for text in (curve_table("m", curve), parsed(curve._repr_html_()).text):
        assert best[1].baseline() in " ".join(text.split())
        assert rounded_up(best[1].value, 4) in text
        not_near(text, best[1].value, 0.75)


# --- the command line ---


def test_classes_are_chance(call: Callable[..., Any]) -> None:
    code, out, _ = call(*MEASURE, *RISK, "--classes", "4", "--json", "r.json")
    assert code == 0
    found = json.loads(Path("r.json").read_text(encoding="utf-8"))["results"][0]["bound"]
    assert (found["chance"], found["constant_risk"]) == (0.75, CONSTANT)
    assert found["vacuous"] == (found["value"] >= vacuous_from(0.75))
    assert "chance (0.75)" in out
    assert f"A constant answer takes 0 bits: risk {CONSTANT:.6g} on the examples" in " ".join(out.split())
    assert (
        call(*MEASURE, *RISK, "--chance", "0.75", "--json", "s.json")[1].split("Written")[0].split("seconds")[1:]
        == (out.split("Written")[0].split("seconds")[1:])
    )


def test_without_chance_it_is_the_worst_possible(call: Callable[..., Any]) -> None:
    out = call(*MEASURE, *RISK)[1]
    assert "the worst possible (1)" in " ".join(out.split())


def test_a_risk_that_no_constant_answer_has_is_taken_to_be_at_chance(call: Callable[..., Any]) -> None:
    _, out, err = call(*MEASURE, "--risk-fn", "guess:choosy", "--n", "400", "--classes", "4")
    assert "A constant answer takes 0 bits, and is at chance." in " ".join(out.split())
    assert err == ""


@pytest.mark.parametrize("command", ["measure", "curve", "track", "verify"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--chance", "0.9", "--classes", "10"), "--classes: expected only this or --chance, got both; leave one out"),
        (("--chance", "1.5"), "chance: expected a risk above 0 and at most 1"),
        (("--chance", "0"), "chance: expected a risk above 0 and at most 1"),
        (("--classes", "1"), "--classes: expected a whole number of classes from 2"),
    ],
)
def test_a_chance_that_is_none_is_one_line(call: Callable[..., Any], command: str, options: tuple[str, ...], words: str) -> None:
    rest = {"track": ("--eps", "1", "--out", "r.jsonl"), "measure": ("--eps", "1"), "curve": (), "verify": ()}[command]
    save = call(*MEASURE, "--save", "m.coarse")
    assert save[0] == 0
    file = "m.coarse" if command == "verify" else "model.safetensors"
    code, out, err = call(command, file, "--loss-fn", "guess:loss", *rest, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_verify_takes_them(call: Callable[..., Any]) -> None:
    assert call(*MEASURE, "--save", "m.coarse")[0] == 0
    code, out, _ = call("verify", "m.coarse", "--loss-fn", "guess:loss", *RISK, "--classes", "4", "--json", "v.json")
    assert code == 0
    assert "chance (0.75)" in " ".join(out.split())
    found = json.loads(Path("v.json").read_text(encoding="utf-8"))["bound"]
    assert (found["chance"], found["constant_risk"]) == (0.75, CONSTANT)


def test_curve_takes_them(call: Callable[..., Any]) -> None:
    argv = ("curve", "model.safetensors", "--loss-fn", "guess:loss", "--budget", "20", "--grid", "0.1:1:4", *RISK, "--classes", "4")
    code, out, _ = call(*argv, "--json", "c.json")
    assert code == 0
    content = json.loads(Path("c.json").read_text(encoding="utf-8"))
    assert all(result["bound"]["chance"] == 0.75 for result in content["results"])
    assert content["curve"]["best_bound"]["chance"] == 0.75
    assert "A constant answer takes 0 bits" in " ".join(out.split())


# --- over training ---


def test_rows_and_their_table_have_it(call: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    save_file(WEIGHTS, "step_1.safetensors")
    argv = ("track", "step_1.safetensors", "--loss-fn", "guess:loss", "--eps", "0.1", "--method", "quantize", "--budget", "20")
    code, out, _ = call(*argv, *RISK, "--classes", "4", "--out", "r.jsonl")
    assert code == 0
    (one,) = (json.loads(line) for line in Path("r.jsonl").read_text(encoding="utf-8").splitlines())
    report = estimate(WEIGHTS, loss, 0.1, method="quantize", budget=20)
    expected = report.bound(risk=error(report.coarse_weights()), n=400, chance=0.75, constant_risk=CONSTANT)
    assert (one["bound@0.1"], one["vacuous@0.1"], one["settings"]["chance"]) == (expected.value, expected.vacuous, 0.75)
    assert (one["constant_risk"], one["constant_bound"]) == (CONSTANT, expected.constant_bound)
    assert rounded_up(expected.value, 4) in out
    assert f"A constant answer takes 0 bits: risk {CONSTANT:.4g} on the examples, a bound of 0." in " ".join(out.split())
    assert main([*argv, *RISK, "--classes", "5", "--out", "r.jsonl"]) == 2
    assert "chance = 0.75, this call has 0.8" in capsys.readouterr().err


def test_a_tracker_has_it() -> None:
    tracker = Tracker(loss, 0.1, method="quantize", budget=20, risk_fn=error, n=400, chance=0.75)
    one = tracker(1, WEIGHTS)
    assert one["settings"]["chance"] == 0.75
    assert one["constant_risk"] == CONSTANT


def test_a_wrong_chance_is_told_before_anything_is_measured() -> None:
    for make in (lambda: track("x", loss, 0.1, chance=2), lambda: Tracker(loss, 0.1, chance=0.0)):
        with pytest.raises(InputError, match="chance: expected a risk above 0 and at most 1"):
            make()


def test_means_over_seeds_are_rounded_up_too() -> None:
    rows = [row(1, eps=[1.0], seed=seed) | {"bound@1": value} for seed, value in ((0, 0.70001), (1, 0.70003))]
    for one in rows:
        one["settings"] = {**one["settings"], "metrics": {}}
    assert "0.7001 ± " in tracked(rows)
