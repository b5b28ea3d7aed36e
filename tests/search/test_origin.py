"""The origin of an answer is shown wherever the answer is. If descents were lost, a warning says so."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nncomplexity import Report, estimate, rate_distortion, track
from nncomplexity.cli import main
from nncomplexity.cli.curve_table import curve_table
from nncomplexity.cli.table import measured, warnings
from nncomplexity.cli.track_table import tracked
from nncomplexity.search import Bayes, Found, Problem, Quantize, Tight
from nncomplexity.search.descent import Cycle, Ended
from nncomplexity.show import page, read_results
from tests.cases import two_layers
from tests.markup import parsed

WEIGHTS = {"w": torch.randn(32, 32, generator=torch.Generator().manual_seed(0))}


def distance(weights: Mapping[str, Tensor]) -> Tensor:
    return (weights["w"] - WEIGHTS["w"]).square().mean()


def silent(weights: Mapping[str, Tensor]) -> float:
    """The same without a gradient."""
    return float(distance(weights).detach())


@pytest.mark.parametrize(
    ("method", "loss", "origins"),
    [
        (Bayes(budget=14), distance, {"Bayesian optimisation"}),
        (Quantize(budget=20), distance, {"uniform quantization"}),
        (Tight(budget=60), silent, {"bit allocation", "uniform quantization"}),
        (Tight(budget=5), distance, {"bit allocation", "uniform quantization"}),
        (Tight(budget=60), distance, {"bit allocation", "uniform quantization", "rounding without descent", "descent"}),
    ],
    ids=lambda value: getattr(value, "name", None) or getattr(value, "__name__", None),
)
def test_each_search_says_what_its_answers_come_from(method: Any, loss: Any, origins: set[str]) -> None:
    reports = estimate(WEIGHTS, loss, [0.3, 0.1], method=method)
    for report in reports:
        assert report.origin in origins
        assert f", by {report.origin}" in report.status
        assert report.to_dict()["origin"] == report.origin
        assert f"method {report.method}, by {report.origin}, codec" in " ".join(measured("m", [report], [None], [None]).split())
        assert f"by {report.origin}" in report._repr_html_()


def test_a_descent_s_answer_is_called_so_and_has_no_warning() -> None:
    weights, loss = two_layers()
    report = estimate(weights, loss, 0.1, budget=1200)
    assert (report.origin, report.warnings) == ("descent", ())


def test_the_lossless_file_is_called_so() -> None:
    exact, nothing = estimate(WEIGHTS, distance, [0, 1e-12], budget=30)
    assert (exact.origin, nothing.origin) == ("lossless", "lossless")
    assert "the lossless one" in exact.status
    assert "method tight, lossless, codec" in " ".join(measured("m", [exact], [None], [None]).split())


class Named:
    """A method of somebody else's, whose candidates say nothing of what they come from."""

    name, codec, budget = "mine", "entropy", 3

    def search(self, problem: Problem, eps: Any) -> list[Found]:
        tensors = [problem.quantized(spec, 0.25) for spec in problem.skeleton.tensors]
        return [Found(problem.candidate(tensors), 1.0, 0.0, 0.0) for _ in eps]


def test_a_method_without_words_of_its_own_is_named() -> None:
    report = estimate(WEIGHTS, distance, 0.3, method=Named())
    assert report.origin == "mine"
    assert "by mine" in report.status


def lost(cycle: Any, *_: Any) -> Ended:
    """In the place of a cycle: one that never comes within ε, as it is where its loss leaps."""
    cycle._trials.descended = True
    return Ended(within=False, distortion=math.inf, integral=0.0)


def test_a_lost_descent_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cycle, "run", lost)
    report = estimate(WEIGHTS, distance, 0.3, method=Tight(most=200))
    assert report.origin in {"bit allocation", "uniform quantization"}
    (warning,) = report.warnings
    assert warning.startswith(f"The descent was lost: the answer comes from {report.origin}")
    assert "another seed or a larger budget" in warning
    assert report.to_dict()["warnings"] == [warning]
    assert f"Warning: {warning}" in " ".join(measured("m", [report], [None], [None]).split())
    assert "Warning: The descent was lost" in parsed(report._repr_html_()).text


def test_an_answer_of_no_bits_is_no_loss() -> None:
    report = estimate(WEIGHTS, distance, 2.0, budget=60)
    assert (report.bits, report.warnings) == (0, ())


def test_no_descent_is_none_lost() -> None:
    for report in (estimate(WEIGHTS, silent, 0.1, budget=40), estimate(WEIGHTS, distance, 0.1, budget=5)):
        assert not any("descent" in warning for warning in report.warnings)


def some(report: Report, *texts: str) -> Report:
    return replace(report, warnings=texts)


def test_a_warning_stands_once_and_names_its_eps_unless_all_have_it() -> None:
    one, two = estimate(WEIGHTS, distance, [0.3, 0.1], method="quantize", budget=20)
    assert warnings([some(one, "A."), some(two, "A.", "B.")]) == ["", "Warning: A.", "Warning, at ε = 0.1: B."]
    assert warnings([one, two]) == []


def test_a_curve_says_which_come_from_what() -> None:
    curve = rate_distortion(WEIGHTS, distance, [0.3, 0.1, 0.0], method="quantize", budget=20)
    text = curve_table("m", curve)
    assert "By uniform quantization: ε = 0.3, 0.1." in text
    assert "Lossless: ε = 0." in text
    assert "All by uniform quantization." in curve_table("m", rate_distortion(WEIGHTS, distance, [0.3, 0.1], method="quantize"))


def test_rows_and_pages_say_it(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cycle, "run", lost)
    save_file(WEIGHTS, "step_1.safetensors")
    rows = track("*.safetensors", distance, 0.3, method=Tight(most=200), out="r.jsonl")
    origin = rows[0]["origin@0.3"]
    assert origin in {"bit allocation", "uniform quantization"}
    assert rows[0]["warnings@0.3"][0].startswith("The descent was lost")
    assert "Warning: The descent was lost" in " ".join(tracked(rows).split())
    results = read_results(Path("r.jsonl"))
    point = results.networks[0].points[0]
    assert (point.origin, len(point.warnings)) == (origin, 1)
    text = parsed(page(results)).text
    assert f"bits, by {origin}" in text
    assert "The descent was lost" in text


def test_the_report_says_it(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "mine.py").write_text("def loss(weights): return weights['w'].square().mean()\n", encoding="utf-8")
    save_file(WEIGHTS, "m.safetensors")
    argv = ["measure", "m.safetensors", "--loss-fn", "mine:loss", "--eps", "0.3", "--method", "quantize", "--json", "r.json"]
    assert main(argv) == 0
    capsys.readouterr()
    (result,) = json.loads(Path("r.json").read_text(encoding="utf-8"))["results"]
    assert (result["origin"], result["warnings"]) == ("uniform quantization", [])
    assert result["status"].endswith("by uniform quantization")
    assert read_results(Path("r.json")).networks[0].points[0].origin == "uniform quantization"
