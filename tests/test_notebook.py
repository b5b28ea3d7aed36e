"""What a notebook shows of a report, and of a search that runs."""

import io
from dataclasses import replace

import pytest
import torch

from nncomplexity import Report, estimate
from nncomplexity.curve import curve_of, rate_distortion
from nncomplexity.progress import show_progress
from tests.test_html_page import parsed


@pytest.fixture(scope="module")
def report() -> Report:
    weights = {"first.weight": torch.eye(12), "<script>alert(1)</script>": torch.ones(5)}
    return estimate(weights, lambda w: sum((v - 1).square().mean() for v in w.values()), eps=0.05, method="quantize", budget=8)


def test_a_report_shows_itself(report: Report) -> None:
    structure = parsed(report._repr_html_())
    assert f"{report.bits:,} bits" in structure.text
    assert "within ε = 0.05" in structure.text
    tags = [tag for tag, _ in structure.tags]
    assert (tags.count("rect"), tags.count("tr")) == (2, 4)
    assert "script" not in tags
    assert "<script>alert(1)</script>" in structure.text


def test_a_report_on_a_base_says_so(report: Report) -> None:
    weights = {"w": torch.ones(5)}
    relative = estimate(weights, lambda w: w["w"].sum(), eps=0.05, relative_to=weights)
    assert "bits beyond the base (" in parsed(relative._repr_html_()).text
    assert "beyond the base" not in parsed(report._repr_html_()).text


def test_a_lossless_answer_says_so(report: Report) -> None:
    assert "raise eps or the budget" in parsed(replace(report, within=False)._repr_html_()).text


def test_a_curve_shows_its_points_and_a_picture() -> None:
    weights = {"w": torch.randn(12, 12, generator=torch.Generator().manual_seed(0))}
    eps = [1.0, 0.1, 0.01, 0.001, 0.0]
    curve = rate_distortion(
        weights,
        lambda w: (w["w"] - weights["w"]).square().mean(),
        eps,
        method="quantize",
        budget=40,
        risk=lambda _: 0.1,
        n=64,
        loss_unit="nats",
    )
    structure = parsed(curve._repr_html_())
    tags = [tag for tag, _ in structure.tags]
    drawn = {(report.distortion, report.bits) for report in curve.reports if report.distortion > 0}
    assert len(drawn) > 1
    assert tags.count("tr") == 6
    assert len({(entry["cx"], entry["cy"]) for tag, entry in structure.tags if tag == "circle"}) == len(drawn)
    for report in curve.reports:
        assert f"{report.bits:,}" in structure.text
    assert "The least description length at ε = " in structure.text
    assert "best bound at ε = " in structure.text
    bare = parsed(curve_of(curve.reports[-1:])._repr_html_())
    assert "svg" not in [tag for tag, _ in bare.tags]
    assert "bound" not in bare.text


def test_progress_is_one_line_written_anew() -> None:
    stream = io.StringIO()
    shown = show_progress(stream)
    shown(0, 12, "starting")
    shown(1, 12, "too soon to be shown")
    shown(12, 12, "moves")
    first, last = stream.getvalue().strip("\r\n").split("\r")
    assert "0 of 12 evaluations, starting" in first
    assert last.startswith("█" * 24)
    assert "12 of 12 evaluations, moves" in last
    assert stream.getvalue().endswith("\n")


def test_a_search_reports_to_it() -> None:
    stream = io.StringIO()
    estimate({"w": torch.eye(4)}, lambda w: w["w"].sum(), eps=0.1, method="quantize", budget=5, progress=show_progress(stream))
    assert " evaluations, " in stream.getvalue()
