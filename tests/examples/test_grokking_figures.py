"""The grokking example's figures: their data against runs made by hand, and the pictures made from them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.grokking import drawing, figures
from examples.grokking.complexity import Settings
from examples.grokking.config import preset
from examples.grokking.curves import Run, group_runs, mean_curve
from examples.grokking.folder import RunFolder, append_line
from examples.grokking.panels import FIGURES, MissingError, Panel, View
from nncomplexity import InputError

EPOCHS = (1, 2, 4)
SIZES = {"tight": 1.0, "quantize": 2.0}

SMALL = {"prime": 7, "d_model": 8, "heads": 2, "d_mlp": 8}

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a run whose sizes are 1000 · (epoch + seed) bits at ε = 1 by `tight`, twice that by `quantize`."""

    def run(name: str, *, seed: int = 0, regularizer: str = "full", eps: tuple[str, ...] = ("1",), **changes: Any) -> Path:
        config = preset(
            "quick", "addition", regularizer, seed=seed, **{"prime": 7, "d_model": 8, "heads": 2, "d_mlp": 8, **changes}
        )
        folder = RunFolder(tmp_path / name, config, Settings())
        for epoch in EPOCHS:
            folder.save_checkpoint(epoch, config.decoder().state_dict())
            metrics = {"train_accuracy": 0.2 * epoch, "test_accuracy": 0.1 * epoch, "effective_rank": 8.0 - epoch}
            append_line(folder.metrics, {"epoch": epoch, **metrics})
            for method, factor in SIZES.items():
                for text in eps:
                    bits = 1000 * factor * (epoch + seed) * (2 - math.log(float(text)))
                    line = {"epoch": epoch, "eps": text, "bits": round(bits), "paper_bytes": None, "coarse_loss": 0.5}
                    if method == "quantize":
                        line["paper_bytes"] = 77
                    append_line(folder.measurements(method), {**line, "coarse_train_error": 0.25})
        return folder.path

    return run


def panels(number: int, paths: list[Path], view: View | None = None) -> list[Panel]:
    return FIGURES[number].panels(group_runs([Run.load(path) for path in paths]), view or View())


def test_curves_are_means_over_seeds_with_their_standard_errors() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3))
    curve = mean_curve("five seeds", [dict(zip((1, 2, 3), row.tolist(), strict=True)) for row in values])
    np.testing.assert_allclose(curve.mean, values.mean(0))
    np.testing.assert_allclose(curve.error, values.std(0, ddof=1) / np.sqrt(5))


def test_runs_that_differ_in_more_than_the_seed_are_kept_apart(make: Make) -> None:
    paths = [make("a"), make("b", seed=1), make("c", regularizer="none"), make("d", attention="summed")]
    groups = group_runs([Run.load(path) for path in paths])
    assert [[run.path.name for run in group.runs] for group in groups] == [["a", "b"], ["c"], ["d"]]
    with pytest.raises(InputError, match=r"e: the same run as .*a; leave one of them out"):
        group_runs([Run.load(paths[0]), Run.load(make("e"))])


def test_complexity_is_in_bytes_over_epochs(make: Make) -> None:
    (panel,) = panels(2, [make("a"), make("b", seed=2)])
    (curve,) = panel.curves
    assert curve.x == EPOCHS
    assert curve.mean == tuple(2000 * (epoch + 1) / 8 for epoch in EPOCHS)
    assert curve.error == (2000 / 8,) * 3
    assert [(right.label, right.mean[-1]) for right in panel.right] == [("train accuracy", 0.8), ("test accuracy", 0.4)]


def test_the_papers_recipe_is_drawn_where_it_is_asked_for(make: Make) -> None:
    path = make("a")
    (panel,) = panels(2, [path], View("quantize", paper_bytes=True))
    assert panel.curves[0].mean == (77, 77, 77)
    with pytest.raises(MissingError, match="the method tight has no paper_bytes; leave --paper-bytes out"):
        panels(2, [path], View("tight", paper_bytes=True))


def test_each_figure_shows_what_its_caption_says(make: Make) -> None:
    paths = [make(name, regularizer=name, eps=("4", "1", "0.25")) for name in ("none", "weight-decay", "full")]

    def labels(number: int) -> list[str]:
        (panel,) = panels(number, paths)
        return [curve.label for curve in panel.curves]

    regularizers = ["none", "weight-decay", "full"]
    assert labels(1) == labels(8) == labels(9) == labels(11) == regularizers
    assert labels(2) == labels(3) == ["complexity"]
    assert labels(4) == [f"addition, {name}" for name in regularizers]
    assert labels(5) == ["ε = 0.25", "ε = 1", "ε = 4"]
    assert labels(6) == [f"{name}, {what}" for name in regularizers for what in ("Eq. 4", "kl", "test error")]
    assert labels(7) == ["tight", "Algorithm 2"]
    assert labels(10) == [f"{name}, {part} accuracy" for name in regularizers for part in ("train", "test")]


def test_rate_distortion_curves_are_fitted_by_logarithms(make: Make) -> None:
    (panel,) = panels(4, [make("a", eps=("4", "1", "0.25"))])
    assert panel.curves[0].x == (0.25, 1.0, 4.0)
    # 1000 · 4 · (2 − ln ε) bits, except for the rounding to whole bits.
    assert panel.fits[0].label == "-500·ln ε + 1,000, R² = 1.000"


def test_bounds_are_those_of_the_least_epsilon(make: Make) -> None:
    (panel,) = panels(6, [make("a", eps=("1", "4"))])
    n = 19
    bits = round(1000 * (2 - math.log(4)))
    nats = (bits + 2 * math.log2(bits)) * math.log(2) + math.log(1 / 0.05)
    assert panel.curves[0].mean[0] == pytest.approx(0.25 + math.sqrt(nats / (2 * n)))
    assert panel.curves[1].mean == pytest.approx((1.0, 1.0, 1.0), abs=1e-6)
    assert panel.curves[2].mean == pytest.approx((0.9, 0.8, 0.6))
    assert panel.levels == ((1 - 1 / 7, "chance"),)


def test_the_description_length_adds_the_labels(make: Make) -> None:
    (panel,) = panels(11, [make("a")])
    assert panel.curves[0].mean[0] == pytest.approx((2000 + 19 * 0.5 / math.log(2)) / 8)


def test_raw_weights_hardly_compress(make: Make) -> None:
    (panel,) = panels(9, [make("a")])
    config = preset("quick", **SMALL)
    raw = 4 * sum(parameter.numel() for parameter in config.decoder().parameters())
    assert all(0.8 * raw < size < 1.1 * raw for size in panel.curves[0].mean)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (1, "no task has runs of both train.py --regularizer full and --regularizer none"),
        (3, "there is no run of train.py --regularizer none"),
        (4, "first run measure.py .* --method tight --last --eps 4"),
        (5, "first run measure.py .* --method tight --eps 4 --eps 1 --eps 0.25"),
    ],
)
def test_a_figure_says_what_it_lacks(number: int, message: str, make: Make) -> None:
    with pytest.raises(MissingError, match=message):
        panels(number, [make("a")])


def test_a_method_that_was_not_measured_is_named(make: Make) -> None:
    with pytest.raises(MissingError, match=r"first run measure\.py .*a --method bayes --eps 1"):
        panels(2, [make("a")], View("bayes"))


def test_the_script_draws_what_it_can(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(make("a", eps=("4", "1", "0.25"))), str(make("b", seed=1, eps=("4", "1", "0.25")))]
    assert figures.main([*runs, "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["figure 1 left out", "figure 2", "figure 3 left out"]
    pictures = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in pictures] == [f"figure_{number:02d}.png" for number in (2, 4, 5, 6, 7, 8, 9, 10, 11)]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_wrong_calls_end_in_one_line(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(make("a")), str(tmp_path / "out")
    (tmp_path / "file").touch()
    empty = RunFolder(tmp_path / "empty", preset("quick"), Settings()).path
    for arguments, message in [
        ([run, "--out", out, "--figure", "12"], "--figure: expected a number from 1 to 11, got 12"),
        ([run, "--out", out, "--format", "gif"], "--format: expected png, pdf or svg, got 'gif'"),
        ([run, "--out", out, "--figure", "3"], "--runs: they hold none of the figures asked for"),
        ([run, "--out", str(tmp_path / "file" / "out")], "--out: "),
        ([run, "--out", out, "--eps", "x"], "--eps: expected a finite number"),
        ([str(tmp_path), "--out", out], "no run of train.py is here"),
        ([str(empty), "--out", out], "nothing is recorded there yet; train it first"),
    ]:
        assert figures.main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_panels_may_have_two_rows(tmp_path: Path) -> None:
    curve = mean_curve("x", [{1: 1.0, 10: 2.0}])
    drawing.draw([Panel("title", "y", (curve,))] * 3, "three panels", tmp_path / "three.svg")
    assert (tmp_path / "three.svg").read_text().count("title") >= 3
