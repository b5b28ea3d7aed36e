"""What a notebook shows for a report and for a running search."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nncomplexity import Report, estimate
from nncomplexity.bounds import smoothed_bound
from nncomplexity.checkpoint import load_checkpoint, save_safetensors
from nncomplexity.measure import rate_distortion
from nncomplexity.measure.curve import curve_of
from nncomplexity.network import loss_from
from nncomplexity.show.html.notebook_curve import _picture
from nncomplexity.words import show_progress
from tests.markup import parsed


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


def test_progress_in_a_notebook_stands_in_the_cells_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's kernel replaces both streams, and shows standard error on a red background."""
    kernels = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    output, errors = kernels(), kernels()
    monkeypatch.setattr("sys.stdout", output)
    monkeypatch.setattr("sys.stderr", errors)
    show_progress()(3, 3, "moves")
    assert "3 of 3 evaluations, moves" in output.getvalue()
    assert errors.getvalue() == ""


def test_progress_elsewhere_is_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    show_progress()(3, 3, "moves")
    said = capsys.readouterr()
    assert "3 of 3 evaluations, moves" in said.err
    assert said.out == ""


def test_what_a_cell_ends_with_is_told_in_a_line_each(report: Report) -> None:
    promise = report.bound(risk=0.1, n=1000)
    for one in (report, report.layers[0], promise, report.file, curve_of([report, report])):
        assert len(repr(one)) < 160, repr(one)
        assert "\n" not in repr(one)
    assert repr(report).startswith(f"Report(eps=0.05, bits={report.bits}, ")
    assert repr(report.layers[0]).startswith("Layer('first.weight', 12×12, ")
    assert repr(curve_of([report, report])).startswith(f"Curve(2 ε from 0.05 to 0.05, {report.bits:,} to {report.bits:,} bits, ")
    assert repr(report.file) == f"CoarseFile({report.bits} bits, 2 tensors, codec {report.file.codec.name!r})"
    assert report == replace(report)
    assert report.layers[0] != report.layers[1]


def test_a_bound_shows_its_sentence(report: Report) -> None:
    promise = report.bound(risk=0.1, n=1000)
    assert str(promise) == promise.sentence()
    assert parsed(promise._repr_html_()).text.strip() == promise.sentence()
    assert repr(promise).startswith(f"Bound(value={promise.value:.6g}, kind='kl', vacuous={promise.vacuous}, ")
    smoothed = smoothed_bound(100, probabilities=[0.9] * 50, n_classes=3)
    assert repr(smoothed).startswith("SmoothedBound(value=")
    assert "smoothed cross-entropy" in str(smoothed)


def test_what_holds_tensors_does_not_print_them(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "net.safetensors", {"w": torch.full((3, 3), 7.0)})
    loss = loss_from(lambda network, inputs, targets: (inputs - targets).square(), (torch.ones(9), torch.ones(9)))
    for one in (load_checkpoint(tmp_path / "net.safetensors"), loss):
        assert "tensor(" not in repr(one)


def test_the_picture_of_a_curve_follows_the_hull_and_says_what_hollow_marks_are() -> None:
    results = [{"eps": d, "distortion": d, "bits": bits} for d, bits in ((1.0, 80), (0.1, 8000), (0.03, 9000), (0.01, 9600))]
    text = _picture(results, hull=[1.0, 0.1, 0.01])
    assert '">●</tspan> on the lower convex hull' in text
    assert '">○</tspan> above it' in text
    assert "○" not in _picture(results[:2], hull=[1.0, 0.1])
    path = re.search(r'<path d="M([^"]*)" fill="none" stroke="#3a8fc4"', text)
    assert path
    line = [tuple(map(float, point.split())) for point in path[1].split("L")]
    marks = {(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', text)}
    assert len(marks & set(line)) == 3
    assert len(line) > 20, "a straight piece of the hull is a curve here"
