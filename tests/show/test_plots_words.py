"""The texts in pictures and pages: units, names, the word for a step, the meaning of marks; in any script."""

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nncomplexity.cli import main
from nncomplexity.cli.curve_table import curve_table
from nncomplexity.errors import InputError
from nncomplexity.linalg import fitted
from nncomplexity.show import Results, chart, draw, page, read_results, save, svg
from nncomplexity.show.html.summary import page_title
from nncomplexity.show.plots.elements import Axis, ticks
from nncomplexity.show.plots.fonts import fonts_for
from tests.rows import report, row, write_rows

CJK = "权重偏置가중치"


def results_of(tmp_path: Path, *documents: dict[str, Any], name: str = "report") -> Results:
    paths = []
    for index, document in enumerate(documents):
        path = tmp_path / f"{name}{index or ''}.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        paths.append(path)
    return read_results(paths)


# Units


@pytest.mark.parametrize("top", [7, 900, 9_999, 10_001, 123_456, 10**7, 3 * 10**11])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("unit", ["bytes", "bits"])
def test_an_axis_is_labelled_in_one_unit(top: float, log: bool, unit: str) -> None:
    axis = Axis("complexity", log=log, limits=(top / 1000 if log else 0.0, top), unit=unit)
    sizes = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "bits": 1, "kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9}
    name = re.fullmatch(r"complexity \((\w+)\)", axis.heading)
    assert name
    found = ticks(axis)
    assert len(found) >= 2
    for tick in found:
        assert re.fullmatch(r"[\d.,]+", tick.label), "no letter of its own"
        assert float(tick.label.replace(",", "")) * sizes[name[1]] == pytest.approx(tick.value, rel=1e-3)
    assert 1 <= top / sizes[name[1]] < 10_001 or sizes[name[1]] in (1, 1e9)


def test_sizes_of_one_figure_have_one_unit_in_picture_and_page(tmp_path: Path) -> None:
    rows = [row(step, scale=scale) | {"bzip2_bits": 8 * 10**7} for step, scale in ((1, 1.0), (10, 900.0), (100, 300.0))]
    results = read_results(write_rows(tmp_path / "r.jsonl", rows))
    headings = {panel.y.heading for panel in chart(results, "measures").panels if panel.y.unit}
    assert {re.sub(r".*\(", "", heading) for heading in headings} == {"MB)"}
    picture = chart(results, "dynamics")
    assert f">{picture.panels[0].y.heading}<" in svg(picture, 820)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page(results), flags=re.S)[1])  # type: ignore[index]
    panel = data["charts"]["dynamics-0"]["panels"][0]
    assert (panel["unit"], panel["size"]) == ("kB", 1000)


# Names


@pytest.mark.parametrize(
    ("checkpoint", "title"),
    [
        (".", "Complexity of a network"),
        ("..", "Complexity of a network"),
        ("/dev/stdin", "Complexity of a network"),
        ("-", "Complexity of a network"),
        ("./net.pt", "Complexity of net.pt"),
        ("/data/nets/gpt2/model.safetensors", "Complexity of gpt2/model.safetensors"),
        ("model.safetensors", "Complexity of model.safetensors"),
        ("../runs/a", "Complexity of a"),
    ],
)
def test_a_page_on_one_network_is_named_after_it(tmp_path: Path, checkpoint: str, title: str) -> None:
    results = results_of(tmp_path, report(checkpoint=checkpoint))
    assert page_title(results) == title
    assert f"<h1>{title}</h1>" in page(results)


@pytest.mark.parametrize(
    ("run", "title"),
    [
        (".", "Complexity over training"),
        ("..", "Complexity over training"),
        ("/", "Complexity over training"),
        ("/data/runs/a", "Complexity of a"),
        ("runs/quick/checkpoints", "Complexity of quick/checkpoints"),
    ],
)
def test_a_page_on_a_training_is_named_after_its_folder(tmp_path: Path, run: str, title: str) -> None:
    results = read_results(write_rows(tmp_path / "results.jsonl", [row(1, run=run), row(2, run=run)]))
    assert page_title(results) == title
    labels = {line.label for panel in chart(results, "measures").panels for line in panel.lines}
    assert not labels & {"", ".", "..", "/"}
    assert not re.search(r">(\.|\.\.|/)<", page(results))


def test_several_networks_without_steps_are_counted_and_named(tmp_path: Path) -> None:
    results = results_of(tmp_path, report(checkpoint="a.pt"), report(checkpoint="b.pt", sha256="ef" * 32))
    assert page_title(results) == "Complexity of 2 networks"
    assert {line.label for line in chart(results, "bounds").panels[0].lines} == {"a.pt", "b.pt"}
    assert [panel.title for panel in chart(results, "layers").panels] == ["a.pt", "b.pt"]


# Steps


def test_epochs_are_called_epochs(tmp_path: Path) -> None:
    rows = [row(step) | {"checkpoint": f"runs/a/epoch_{step:06d}.safetensors"} for step in (1, 10, 100)]
    results = read_results(write_rows(tmp_path / "r.jsonl", rows))
    found = chart(results, "dynamics")
    assert (found.x.label, found.stepped) == ("epoch", True)
    text = page(results)
    assert "at epoch 100" in text
    assert ">epoch<" in text
    assert "training step" not in text.split("<script", 1)[0]
    assert chart(results, "rate-distortion").panels[0].lines[0].label == "epoch 100"


def test_steps_are_what_the_row_says(tmp_path: Path) -> None:
    for more, expected in (
        ({"step_name": "tokens"}, "tokens"),
        ({"step_name": " "}, "training step"),
        ({"step_name": 3}, "training step"),
        ({}, "training step"),
        ({"checkpoint": "runs/a/epoch_7-step_100.ckpt"}, "training step"),
    ):
        rows = [row(10), row(100) | more] if "checkpoint" in more else [row(step) | more for step in (10, 100)]
        assert chart(read_results(write_rows(tmp_path / "r.jsonl", rows)), "dynamics").x.label == expected


def test_an_option_names_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(write_rows(tmp_path / "r.jsonl", [row(10), row(100)]))
    assert main(["plot", source, "--step-name", "epoch", "--out", str(tmp_path / "a.svg")]) == 0
    assert ">epoch<" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert main(["report", source, "--step-name", "epoch", "--out", str(tmp_path / "a.html")]) == 0
    assert "at epoch 100" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert main(["plot", source, "--step-name", " ", "--out", str(tmp_path / "b.svg")]) == 2
    assert "--step-name: expected a word such as epoch, got ' '; leave it out" in capsys.readouterr().err


# Marks, hulls and fits


def test_the_hull_is_drawn_as_the_curve_that_it_is(tmp_path: Path) -> None:
    eps = (1.0, 0.3, 0.1, 0.03, 0.01)
    results = results_of(tmp_path, report(eps=eps, lossless_bits={"bzip2": 10**6}))
    found = chart(results, "rate-distortion")
    marks = next(line for line in found.panels[0].lines if line.marks)
    hull = next(line for line in found.panels[0].lines if line.drawn and not line.faint)
    corners = [(x, y) for x, y, hollow in marks.marked if not hollow]
    assert len(corners) > 2
    assert len(hull.x) > 5 * len(corners)
    np.testing.assert_allclose(hull.y, np.interp(hull.x, *zip(*corners, strict=True)), rtol=1e-9)
    middle = np.interp(np.log(hull.x), np.log([x for x, _ in corners]), [y for _, y in corners])
    assert np.max(np.asarray(hull.y) - middle) > 0.02 * max(hull.y), "straight lines on the logarithmic axis are something else"
    drawn = draw(found).axes[0].lines
    assert any(len(line.get_xdata()) == len(hull.x) for line in drawn)


def test_the_legend_says_what_hollow_marks_are(tmp_path: Path) -> None:
    document = report(eps=(1.0, 0.3, 0.1), lossless_bits={"bzip2": 10**6})
    document["results"][1]["bits"] = 10**5
    found = chart(results_of(tmp_path, document), "rate-distortion")
    assert [(key.label, key.mark) for key in found.keys][:2] == [("on the lower convex hull", "filled"), ("above it", "hollow")]
    (legend,) = draw(found).legends
    shown = {text.get_text(): handle for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)}
    assert shown["above it"].get_markerfacecolor() == "white"
    assert shown["on the lower convex hull"].get_markerfacecolor() != "white"
    assert re.search(r'mark cn hollow"[^>]*/></g><text[^>]*>above it<', svg(found, 820))


@pytest.mark.parametrize("kind", ["dynamics", "measures", "bounds", "description-length"])
def test_lossless_answers_are_hollow_and_the_legend_says_so(tmp_path: Path, kind: str) -> None:
    rows = [row(1), row(2) | {"within@0.1": False}, row(4)]
    found = chart(read_results(write_rows(tmp_path / "r.jsonl", rows)), kind)
    hollow = [(line.label, x) for line in found.panels[0].lines for x, _, empty in line.marked if empty]
    assert hollow == [("ε = 0.1", 2)]
    assert [(key.label, key.mark) for key in found.keys] == [("nothing smaller than the lossless file found", "hollow")]
    draw(found)
    plain = chart(read_results(write_rows(tmp_path / "r.jsonl", [row(1), row(2)])), kind)
    assert plain.keys == ()


def test_a_fit_worse_than_the_mean_is_kept_and_not_shown(tmp_path: Path) -> None:
    document = report(eps=(1.0, 0.3, 0.1, 0.03), lossless_bits={"bzip2": 10**6})
    fits = {"log": {"a": -1.0, "b": 5.0, "r2": -0.5, "points": 4}, "power": {"a": -1.0, "b": 5.0, "r2": -2.0, "points": 4}}
    curve = {"hull": [1.0, 0.03], "fits": fits, "best_fit": None, "mdl": None, "best_bound": None}
    results = results_of(tmp_path, document | {"curve": curve})
    assert {fit.r2 for fit in results.networks[0].curve.fits} == {-0.5, -2.0}  # type: ignore[union-attr]
    found = chart(results, "rate-distortion")
    assert not any(line.faint for line in found.panels[0].lines)
    assert "R²" not in " ".join(found.notes)
    assert "R²" not in page(results)
    document["curve"] = curve | {"fits": {**fits, "power": {"a": -0.5, "b": 900.0, "r2": 0.9, "points": 4}}}
    assert "R² = 0.900" in " ".join(chart(results_of(tmp_path, document), "rate-distortion").notes)


def test_the_table_of_a_curve_leaves_out_what_explains_nothing() -> None:
    import torch

    from nncomplexity.measure import rate_distortion

    weights = {"w": torch.randn(12, 12, generator=torch.Generator().manual_seed(0))}
    curve = rate_distortion(
        weights, lambda w: (w["w"] - weights["w"]).square().mean(), [1.0, 0.1, 0.01, 0.001], method="quantize", budget=30
    )
    object.__setattr__(
        curve, "fits", tuple(type(fit)(fit.kind, fit.a, fit.b, r2) for fit, r2 in zip(curve.fits, (-0.3, 0.8), strict=True))
    )
    text = curve_table("net.pt", curve)
    assert text.count("R²") == 1
    assert curve.to_dict()["fits"]["log"]["r2"] == -0.3
    assert curve.to_dict()["best_fit"] == "power"


def test_a_fit_beyond_floating_point_is_none() -> None:
    found = fitted([(0.1, 1e6), (0.1 + 1e-9, 100.0), (0.1 + 2e-9, 1.0)])
    assert all(np.isfinite([fit.a, fit.b, fit.r2]).all() for fit in found)
    assert [fit.kind for fit in found] in ([], ["log"])


# Scripts


@pytest.fixture
def font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A font with squares for some characters that DejaVu Sans lacks, installed after matplotlib has made its list."""
    builder = FontBuilder(1000, isTTF=True)
    names = [f"u{ord(one):04X}" for one in CJK]
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap({ord(one): name for one, name in zip(CJK, names, strict=True)})
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 800), (900, 800), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    glyph = pen.glyph()
    builder.setupGlyf(dict.fromkeys((".notdef", *names), glyph))
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", *names), (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular", "psName": "Squares-Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path / "squares.ttf"
    builder.save(path)
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", [one for one in manager.ttflist if one.name.startswith(("DejaVu", "Last"))])
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_, **__: [str(path)])
    return path


@pytest.fixture
def cjk(tmp_path: Path) -> Results:
    rows = [row(step, run=f"runs/{name}", scale=scale) for name, scale in (("权重", 1.0), ("偏置", 2.0)) for step in (1, 10)]
    return read_results(write_rows(tmp_path / "r.jsonl", rows))


@pytest.mark.parametrize("form", ["png", "pdf", "svg"])
def test_a_font_that_has_the_characters_is_found_and_used(cjk: Results, font: Path, tmp_path: Path, form: str) -> None:
    found = fonts_for(["权重", "step"])
    assert (found.families[-1], found.missing, found.postscript) == ("Squares", "", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert save(chart(cjk, "dynamics"), tmp_path / f"figure.{form}") is None
    if form == "pdf":
        assert b"Squares" in (tmp_path / "figure.pdf").read_bytes()


def test_labels_in_that_font_are_not_boxes(cjk: Results, font: Path) -> None:
    figure = draw(chart(cjk, "dynamics", eps=[1]))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (label, *_) = [text for text in figure.axes[0].texts if text.get_text() == "权重"]
    assert "Squares" in label.get_fontfamily()


@pytest.mark.usefixtures("font")
def test_what_no_font_has_is_said_once(tmp_path: Path) -> None:
    found = fonts_for([CJK, "☃ ❤️ اللغة", "अक्षर"])
    assert set(found.missing) == set("अक्षर")
    rows = [row(step, run=f"runs/{name}") for name in ("अक्षर", "b") for step in (1, 10)]
    results = read_results(write_rows(tmp_path / "r.jsonl", rows))
    for form in ("png", "pdf"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            note = save(chart(results, "dynamics"), tmp_path / f"figure.{form}")
        assert note is not None
        assert note.startswith(f"{tmp_path}/figure.{form}: no font on this machine has the characters ")
        assert "(Devanagari); install one, such as Noto Sans Devanagari, or write .svg" in note
        assert "\n" not in note
    assert save(chart(results, "dynamics"), tmp_path / "figure.svg") is None, "its texts are text"


def test_the_command_line_says_it_in_a_line(tmp_path: Path) -> None:
    source = tmp_path / "report.json"
    layer = {
        "name": "\U00012000",
        "names": [],
        "shape": [4],
        "form": "dense",
        "rank": None,
        "step": 0.1,
        "bits": 700.0,
        "effective_rank": None,
    }
    document = report()
    for result in document["results"]:
        result["layers"] = [layer]
    source.write_text(json.dumps(document), encoding="utf-8")
    command = [sys.executable, "-m", "nncomplexity", "plot", str(source), "--kind", "layers", "--out", str(tmp_path / "l.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    lines = done.stderr.splitlines()
    assert len(lines) <= 1, lines
    assert (
        not lines
        or "no font on this machine has the character \U00012000 (Cuneiform); install one, such as Noto Sans Cuneiform" in lines[0]
    )


def test_a_picture_names_the_versions_that_made_it(tmp_path: Path) -> None:
    results = read_results(write_rows(tmp_path / "r.jsonl", [row(1), row(2)]))
    assert results.versions == "nncomplexity 0.1.0"
    for form in ("png", "svg", "pdf"):
        path = tmp_path / f"figure.{form}"
        save(chart(results), path, made_by=results.versions)
        assert b"measured by nncomplexity 0.1.0, drawn by nncomplexity " in path.read_bytes()


@pytest.mark.parametrize("unit", ["kilobytes", ""])
def test_other_units_are_refused(tmp_path: Path, unit: str) -> None:
    results = read_results(write_rows(tmp_path / "r.jsonl", [row(1), row(2)]))
    with pytest.raises(InputError, match="unit: expected bytes or bits"):
        chart(results, unit=unit)
