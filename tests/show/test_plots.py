"""Charts have the numbers of the results. Their pictures are written completely, in three formats."""

import builtins
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nncomplexity.dynamics.settings import RESERVED
from nncomplexity.errors import InputError
from nncomplexity.show import KINDS, Results, chart, default_kind, draw, read_results, runs_of, save
from nncomplexity.show.plots.elements import Axis, place, spread, ticks
from nncomplexity.show.plots.entries import METRIC_ENDINGS, NO_METRICS
from nncomplexity.show.plots.rate_distortion import fits_of, hull_of
from nncomplexity.show.plots.results import Measurement, Network
from tests.rows import report, row, write_rows


@pytest.fixture
def one_run(tmp_path: Path) -> Results:
    rows = [row(step, scale=scale) for step, scale in ((0, 1.0), (10, 4.0), (100, 9.0), (1000, 3.0))]
    return read_results(write_rows(tmp_path / "one.jsonl", [*rows, row(None, kind="untrained", scale=0.5)]))


@pytest.fixture
def two_runs(tmp_path: Path) -> Results:
    rows = [row(step, run=f"runs/{name}", scale=scale) for name, scale in (("a", 1.0), ("b", 3.0)) for step in (10, 100)]
    return read_results(write_rows(tmp_path / "two.jsonl", [*rows, row(500, run="runs/b")]))


def test_dynamics_has_a_line_for_each_eps_and_accuracies(one_run: Results) -> None:
    found = chart(one_run, "dynamics")
    sizes, accuracy = found.panels
    assert [line.label for line in sizes.lines] == ["ε = 1", "ε = 0.1"]
    assert sizes.lines[0].x == (0, 10, 100, 1000)
    assert sizes.lines[0].y == (100, 400, 900, 300)  # bytes
    assert [(line.label, set(line.y)) for line in accuracy.lines] == [("test", {0.75}), ("train", {1.0})]
    assert [(level.label, level.value) for level in chart(one_run, "dynamics", eps=[1]).panels[0].levels] == [("untrained", 50.0)]
    assert chart(one_run, "dynamics", unit="bits", eps=[1]).panels[0].lines[0].y == (800, 3200, 7200, 2400)


def test_step_0_stands_left_of_the_first_step_and_is_called_0(one_run: Results) -> None:
    axis = chart(one_run, "dynamics").x
    assert place(axis, 0) == 0.0
    assert 0.0 < place(axis, 10) < place(axis, 100) < place(axis, 1000) == 1.0
    assert ticks(axis)[0].label == "0"


def test_runs_have_a_line_each_or_a_mean_with_its_standard_error(two_runs: Results) -> None:
    panels = chart(two_runs, "dynamics", eps=[1]).panels
    assert [(line.label, line.x) for line in panels[0].lines] == [("a", (10, 100)), ("b", (10, 100, 500))]
    (mean,) = chart(two_runs, "dynamics", eps=[1], mean=True).panels[0].lines
    values = np.array([100.0, 300.0])
    assert mean.x == (10, 100)
    assert mean.y == pytest.approx([values.mean()] * 2)
    assert mean.error == pytest.approx([values.std(ddof=1) / math.sqrt(2)] * 2)


def test_seeds_of_one_checkpoint_are_averaged(tmp_path: Path) -> None:
    rows = [row(step, seed=seed, scale=scale) for step in (1, 2) for seed, scale in ((0, 1.0), (1, 3.0))]
    (line,) = chart(read_results(write_rows(tmp_path / "r.jsonl", rows)), "dynamics", eps=[1]).panels[0].lines
    assert (line.y, line.error) == ((200, 200), pytest.approx((100, 100)))


def test_networks_of_one_folder_and_step_are_lines_of_their_own(tmp_path: Path) -> None:
    other = [row(step, scale=3.0, checkpoint=f"runs/a/other_{step}.safetensors", sha256="cd" * 32) for step in (1, 2)]
    found = chart(read_results(write_rows(tmp_path / "r.jsonl", [row(1), row(2), *other])), "dynamics", eps=[1])
    assert [(line.label, line.y, line.error) for line in found.panels[0].lines] == [
        ("a", (100, 100), ()),
        ("other", (300, 300), ()),
    ]


def test_names_that_tell_no_step_tell_networks_apart_too(tmp_path: Path) -> None:
    rows = [
        row(3, run="a", checkpoint=f"a/{name}.pt", sha256=sha256 * 32)
        for name, sha256 in (("model", "ab"), ("ema", "cd"), ("copy", "cd"))
    ]
    runs = runs_of(read_results(write_rows(tmp_path / "r.jsonl", rows)))
    assert [(run.label, [network.checkpoint for network in run.networks]) for run in runs] == [
        ("a/model", ["a/model.pt"]),
        ("a/ema", ["a/ema.pt", "a/copy.pt"]),
    ]


def test_runs_without_a_common_step_have_no_mean(tmp_path: Path) -> None:
    results = read_results(write_rows(tmp_path / "r.jsonl", [row(1), row(2), row(3, run="b"), row(4, run="b")]))
    with pytest.raises(InputError, match="mean: the runs have no step in common"):
        chart(results, "dynamics", mean=True)
    with pytest.raises(InputError, match="mean: the runs have no step in common"):
        chart(results, "layers", mean=True)


def test_layers_add_up_to_bits(one_run: Results) -> None:
    (panel,) = chart(one_run, "layers", eps=[1]).panels
    top = panel.lines[-1]
    assert top.y == pytest.approx((100, 400, 900, 300))
    assert panel.lines[0].base == (0, 0, 0, 0)


def test_layers_of_one_network_stand_over_eps(tmp_path: Path) -> None:
    found = chart(read_results(write_rows(tmp_path / "r.jsonl", [row(None)])), "layers")
    assert found.panels[0].bars
    assert found.x.names == ("1", "0.1")


@pytest.mark.parametrize("many", [3, 12, 40])
def test_labels_of_bars_do_not_overlap(tmp_path: Path, many: int) -> None:
    eps = [float(f"{value:.3g}") for value in np.geomspace(2, 0.0005, many)]
    (tmp_path / "curve.json").write_text(json.dumps(report(eps=eps)), encoding="utf-8")
    figure = draw(chart(read_results(tmp_path / "curve.json"), "layers"))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [label.get_window_extent(renderer) for label in figure.axes[0].get_xticklabels()]
    assert len(boxes) >= min(many, 5)
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_bounds_have_the_vacuous_line_and_the_test_error(one_run: Results, two_runs: Results) -> None:
    (panel,) = chart(one_run, "bounds").panels
    assert [(level.value, level.label) for level in panel.levels] == [(1.0, "vacuous")]
    assert {line.label: set(line.y) for line in panel.lines} == {"ε = 1": {0.7}, "ε = 0.1": {1.0}, "test error": {0.25}}
    least = chart(two_runs, "bounds").panels[0].lines
    assert {line.label: set(line.y) for line in least if line.label} == {"a": {0.7}, "b": {0.7}}


def test_description_length_is_drawn(one_run: Results) -> None:
    assert chart(one_run, "description-length", eps=[1], unit="bits").panels[0].lines[0].y == (1300, 3700, 7700, 2900)


def measured(step: float, **more: Any) -> dict[str, Any]:
    """A row with all other measures in addition to the complexity."""
    settings = {"n": 100, "metrics": {"test_error": "task:error", "test_loss": "task:test"}}
    others = {"settings": settings, "loss": step / 7, "test_loss": step / 2, "l2_norm": 3 * step, "effective_rank": 5 + step}
    return row(step, **{**others, "llc": 9 * step, "llc_error": step / 10, **more})


def test_other_measures_stand_below_complexity(tmp_path: Path) -> None:
    found = chart(read_results(write_rows(tmp_path / "r.jsonl", [measured(step) for step in (1, 10, 100)])), "measures", eps=[1])
    heights = {panel.y.heading: panel.lines[0].y for panel in found.panels}
    assert heights == {
        "complexity (bytes)": (100, 100, 100),
        "loss": pytest.approx((1 / 7, 10 / 7, 100 / 7)),
        "test loss": (0.5, 5, 50),
        "L2 norm": (3, 30, 300),
        "effective rank": (6, 15, 105),
        "bzip2 (bytes)": (3750, 3750, 3750),
        "learning coefficient": (9, 90, 900),
    }
    assert found.panels[-1].lines[0].error == (0.1, 1, 10)
    assert found.panels[-1].title == "± standard error over chains"
    draw(found)


def test_the_standard_error_of_the_learning_coefficient_is_no_error_rate(tmp_path: Path) -> None:
    _, accuracy = chart(read_results(write_rows(tmp_path / "r.jsonl", [measured(1), measured(10)])), "dynamics", eps=[1]).panels
    assert [line.label for line in accuracy.lines] == ["test", "train"]
    assert set(NO_METRICS) == {name for name in RESERVED if name.endswith(METRIC_ENDINGS)}


def test_over_seeds_the_learning_coefficient_has_their_standard_error(tmp_path: Path) -> None:
    rows = [measured(step, seed=seed, llc=step + seed) for step in (1, 10) for seed in (0, 2)]
    last = chart(read_results(write_rows(tmp_path / "r.jsonl", rows)), "measures", eps=[1]).panels[-1]
    assert (last.lines[0].y, last.lines[0].error, last.title) == ((2, 11), pytest.approx((1, 1)), "")


def test_a_measure_that_no_network_has_takes_no_room(one_run: Results, two_runs: Results) -> None:
    assert [panel.y.heading for panel in chart(one_run, "measures", unit="bits").panels] == [
        "complexity (kbit)",
        "loss",
        "bzip2 (kbit)",
    ]
    assert [level.label for level in chart(one_run, "measures").panels[1].levels] == ["untrained"]
    (mean,) = chart(two_runs, "measures", eps=[1], mean=True).panels[1].lines
    assert (mean.label, mean.x, mean.y) == ("mean of 2 runs", (10, 100), (0.01, 0.01))


@pytest.mark.parametrize(("kind", "value"), [("bounds", 0.8), ("description-length", 809 / 8)])
def test_networks_without_several_steps_stand_over_eps(tmp_path: Path, kind: str, value: float) -> None:
    (tmp_path / "curve.json").write_text(json.dumps(report(eps=(1.0, 0.1, 0.01, 0.0))), encoding="utf-8")
    found = chart(read_results(tmp_path / "curve.json"), kind)
    (line,) = found.panels[0].lines
    assert (found.x.label, found.x.log, line.x) == ("ε", True, (0.0, 0.01, 0.1, 1.0))
    assert line.y == pytest.approx([value] * 4)
    assert [tick.label for tick in ticks(found.x)][:2] == ["0", "0.01"]
    chosen = chart(read_results(tmp_path / "curve.json"), kind, eps=[0.1]).panels[0].lines
    assert [line.x for line in chosen] == [(0.1,)]
    rows = [row(100, run=f"runs/{name}", seed=seed) for name in "ab" for seed in (0, 1)]
    ends = read_results(write_rows(tmp_path / "ends.jsonl", [*rows, row(None, kind="untrained")]))
    every = chart(ends, kind)
    assert [(line.label, line.x) for line in every.panels[0].lines] == [(name, (0.1, 1.0)) for name in ("a", "b", "untrained")]
    assert "Several seeds of one checkpoint are averaged" in every.notes[-1]
    assert [line.label for line in chart(ends, kind, mean=True).panels[0].lines] == ["mean of 2 runs", "untrained"]
    draw(every)


def test_the_test_error_stands_beside_the_bounds_of_one_network(tmp_path: Path) -> None:
    one = row(100, **{"test_error@1": 0.3, "test_error@0.1": 0.2})
    lines = chart(read_results(write_rows(tmp_path / "r.jsonl", [one])), "bounds").panels[0].lines
    assert [(line.label, line.y) for line in lines] == [("step 100", (1.0, 0.7)), ("test error", (0.2, 0.3))]


def test_rate_distortion_shows_the_last_network_or_the_chosen_steps(one_run: Results) -> None:
    lines = chart(one_run, "rate-distortion").panels[0].lines
    assert {line.label for line in lines if line.label} == {"step 1000"}
    lines = chart(one_run, "rate-distortion", steps=[10, 100]).panels[0].lines
    assert {line.label for line in lines if line.label} == {"step 10", "step 100"}
    with pytest.raises(InputError, match="step: nothing was measured at step 11; choose another"):
        chart(one_run, "rate-distortion", steps=[11])


def test_the_hull_is_convex_and_below_every_point() -> None:
    points = [(0.9, 100), (0.5, 300), (0.3, 350), (0.1, 800), (0.05, 1000)]
    network = Network("f", "r", "c", bzip2_bits=5000, points=tuple(Measurement(x, y, distortion=x) for x, y in points))
    hull = sorted(hull_of(network))
    heights = dict(points) | {0.0: 5000}
    found = [(x, heights[x]) for x in hull]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(found)]
    assert slopes == sorted(slopes)
    for x, y in points:
        assert np.interp(x, [one[0] for one in found], [one[1] for one in found]) <= y + 1e-9
    assert 0.5 not in hull


def test_fits_find_the_curves_that_made_the_points() -> None:
    x = [0.01, 0.1, 1.0, 3.0]
    log, _ = fits_of([Measurement(d, 1000 - 200 * math.log(d), distortion=d) for d in x])
    assert (log.a, log.b, log.r2) == pytest.approx((-200, 1000, 1))
    _, power = fits_of([Measurement(d, 50 * d**-0.5, distortion=d) for d in x])
    assert (power.a, power.b, power.r2) == pytest.approx((-0.5, 50, 1))
    assert fits_of([Measurement(d, 5, distortion=d) for d in x[:2]]) == ()


def test_the_kind_follows_from_the_data(one_run: Results, tmp_path: Path) -> None:
    several = read_results(write_rows(tmp_path / "s.jsonl", [row(None)]))
    alone = read_results(write_rows(tmp_path / "a.jsonl", [row(None, eps=[1.0])]))
    assert [default_kind(one) for one in (one_run, several, alone)] == ["dynamics", "rate-distortion", "layers"]


def test_wrong_wishes_are_refused(one_run: Results, tmp_path: Path) -> None:
    bare = {key: value for key, value in row(None).items() if "@" not in key or key.startswith("bits@")}
    alone = read_results(write_rows(tmp_path / "a.jsonl", [bare]))
    with pytest.raises(InputError, match=r"kind: expected one of dynamics, .*, got 'pie'"):
        chart(one_run, "pie")
    with pytest.raises(InputError, match="unit: expected bytes or bits, got 'kilobytes'"):
        chart(one_run, unit="kilobytes")
    with pytest.raises(InputError, match=r"eps: 7 was not measured; choose among 1, 0\.1"):
        chart(one_run, eps=[7])
    for kind, words in (
        ("dynamics", "no network has a training step"),
        ("measures", "no network has a training step"),
        ("bounds", "measure with risk_fn and n"),
        ("description-length", "measure with n"),
        ("layers", "the files have no layers"),
        ("rate-distortion", "no chosen network has a file with a distortion above 0"),
    ):
        with pytest.raises(InputError, match=words):
            chart(alone, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mean", [False, True])
def test_every_kind_is_drawn(two_runs: Results, kind: str, mean: bool) -> None:
    figure = draw(chart(two_runs, kind, mean=mean and kind != "rate-distortion"), title="A title")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    whole = figure.bbox
    for axes in figure.axes:
        for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()):
            box = text.get_window_extent(renderer)
            assert not text.get_text() or not text.get_visible() or whole.x0 - 1 <= box.x0 <= box.x1 <= whole.x1 + 1, (
                text.get_text()
            )
    assert figure.get_suptitle() == "A title"


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")])
def test_the_ending_says_the_format(one_run: Results, tmp_path: Path, ending: str, begins: bytes) -> None:
    path = tmp_path / f"figure.{ending}"
    save(chart(one_run), path)
    assert path.read_bytes().startswith(begins)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_an_unknown_ending_is_refused(one_run: Results, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"figure\.gif: expected a name that ends in \.png, \.svg or \.pdf"):
        save(chart(one_run), tmp_path / "figure.gif")


def test_a_missing_matplotlib_names_the_extra(one_run: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'nncomplexity\[plots\]'"):
        draw(chart(one_run))


def test_labels_are_spread_without_leaving_the_axes() -> None:
    found = spread([0.9, 0.91, 0.92, 0.1], 0.1, 0.0, 1.0)
    assert max(found) <= 1.0
    between = np.diff(sorted(found))
    assert (between >= 0.1 - 1e-9).all()


def test_ticks_lie_between_the_limits() -> None:
    for low, high in ((0.0, 1.0), (0.0, 123456.0), (-0.03, 1.03), (3.0, 4.0)):
        values = [tick.value for tick in ticks(Axis("", limits=(low, high)))]
        assert 2 <= len(values) <= 9
        assert min(values) >= low - 1e-9
        assert max(values) <= high + 1e-9
    assert len(ticks(Axis("", log=True, limits=(1.0, 1e9)))) <= 6
    assert len(ticks(Axis("", log=True, limits=(2.0, 7.0)))) >= 1


def test_points_none_of_which_is_on_the_hull_are_drawn_and_named(tmp_path: Path) -> None:
    results = read_results(write_rows(tmp_path / "r.jsonl", [row(1, eps=[1.0, 0.5, 0.1]) | {"bits@0.5": 1e6}]))
    found = chart(results, "rate-distortion", eps=[0.5])
    (line,) = found.panels[0].lines
    assert (line.hollow, bool(line.label)) == ((True,), True)
    assert draw(found) is not None


@pytest.mark.parametrize("kind", ["dynamics", "rate-distortion", "layers"])
@pytest.mark.parametrize("more", [{"step": 2**70}, {"step": 1e308}, {"distortion@1": 1e308}, {"bits@1": 1e150}])
def test_numbers_beyond_all_measure_are_drawn_or_left_out(tmp_path: Path, kind: str, more: dict[str, float]) -> None:
    results = read_results(write_rows(tmp_path / "r.jsonl", [row(1), row(2) | more]))
    draw(chart(results, kind)).canvas.draw()
