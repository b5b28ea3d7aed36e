"""Several seeds of one checkpoint become one network with a band, in every kind of picture and on the page."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from nncomplexity.show import KINDS, Results, chart, page, read_results
from nncomplexity.show.html.summary import verdict
from nncomplexity.show.plots.seeds import by_checkpoint, mean_over
from tests.rows import report, row, write_rows

SCALES = (1.0, 3.0, 8.0)


def error(values: object) -> float:
    """The standard error of a mean."""
    found = np.asarray(values, dtype=float)
    return float(found.std(ddof=1) / np.sqrt(len(found)))


@pytest.fixture
def trained(tmp_path: Path) -> Results:
    rows = [row(step, seed=seed, scale=scale * step) for step in (1, 2, 4) for seed, scale in enumerate(SCALES)]
    return read_results(write_rows(tmp_path / "trained.jsonl", rows))


@pytest.fixture
def alone(tmp_path: Path) -> Results:
    """One network, measured with three seeds, in three report.json."""
    paths = []
    for seed, scale in enumerate(SCALES):
        content = report(eps=(1.0, 0.1, 0.01), seed=seed, lossless_bits={"bzip2": 1_000_000})
        for result in content["results"]:
            result |= {"bits": round(scale * result["bits"]), "distortion": result["distortion"] * (1 - 0.1 * seed)}
            result["layers"][0]["bits"] = result["bits"] - result["shared_bits"]
            result["description_length"]["total_bits"] = result["bits"] + 9
            result["bound"] = result["bound"] | {"value": 0.5 + 0.05 * seed}
        path = tmp_path / f"seed{seed}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        paths.append(path)
    return read_results(paths)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_over_training_has_a_band_that_its_axis_holds(trained: Results, kind: str) -> None:
    found = chart(trained, kind)
    banded = [(panel, line) for panel in found.panels for line in panel.lines if line.error]
    assert banded or kind == "bounds", "the rows' bounds are the same for all seeds"
    for panel, line in banded:
        low, high = panel.y.limits or (0.0, 0.0)
        assert all(y + half <= high for y, half in zip(line.y, line.error, strict=True))
        assert all(y - half >= low for y, half in zip(line.y, line.error, strict=True))
    if kind != "bounds":
        assert any("standard error" in note for note in found.notes)


def test_a_band_to_the_top_is_whole(tmp_path: Path) -> None:
    rows = [row(step, seed=seed, eps=[1.0], scale=scale) for step in (100, 200) for seed, scale in ((0, 0.1), (1, 1.0))]
    (panel, _) = chart(read_results(write_rows(tmp_path / "r.jsonl", rows)), "dynamics").panels
    assert panel.lines[0].error == pytest.approx((45, 45))
    assert panel.y.limits is not None
    assert panel.y.limits[1] > 100


def test_rate_and_distortion_of_seeds_are_means_with_the_hull_of_the_means(alone: Results) -> None:
    found = chart(alone, "rate-distortion")
    marks = next(line for line in found.panels[0].lines if line.marks)
    assert marks.label == "net.safetensors"
    for at, eps in enumerate((0.01, 0.1, 1.0)):
        points = [network.at(eps) for network in alone.networks]
        bits = [point.bits / 8 for point in points if point]
        assert marks.y[at] == pytest.approx(np.mean(bits))
        assert marks.error[at] == pytest.approx(error(bits))
        assert marks.x[at] == pytest.approx(np.mean([point.distortion for point in points if point and point.distortion]))
    assert not any(marks.hollow)
    assert "Several seeds of one checkpoint are averaged" in found.notes[-1]


def test_rate_and_distortion_of_a_training_has_all_seeds_of_the_step(trained: Results) -> None:
    for steps in ((), (2,)):
        marks = next(line for line in chart(trained, "rate-distortion", steps=steps).panels[0].lines if line.marks)
        assert len(marks.x) == 2
        assert marks.error[-1] == pytest.approx(error([100 * scale * (steps[0] if steps else 4) for scale in SCALES]))


def test_layers_of_seeds_are_means_with_the_error_of_their_sum(alone: Results) -> None:
    found = chart(alone, "layers")
    (panel,) = found.panels
    top = panel.lines[-1]
    sums = [[network.at(eps).bits / 8 for network in alone.networks] for eps in (1.0, 0.1, 0.01)]  # type: ignore[union-attr]
    assert top.y == pytest.approx([np.mean(one) for one in sums])
    assert top.error == pytest.approx([error(one) for one in sums])
    assert "the bar is ± one standard error of the sum" in found.notes[-1]


@pytest.mark.parametrize("kind", ["bounds", "description-length"])
def test_quantities_by_eps_say_that_seeds_are_averaged(alone: Results, kind: str) -> None:
    found = chart(alone, kind)
    (line,) = found.panels[0].lines
    assert line.error
    assert "Several seeds of one checkpoint are averaged" in found.notes[-1]


def test_a_mean_of_one_seed_is_that_seed(trained: Results) -> None:
    network = trained.networks[0]
    assert mean_over([network]) is network
    assert [len(seeds) for seeds in by_checkpoint(trained.networks)] == [3, 3, 3]


def test_the_page_has_the_means_of_its_pictures(trained: Results, alone: Results) -> None:
    mean = np.mean([400 * scale for scale in SCALES])
    assert f"takes {mean:,.0f} bytes at step 4" in verdict(trained, 1.0)
    assert "(mean of 3 seeds)" in verdict(trained, 1.0)
    assert "(mean of 3 seeds); its error on unseen data is then at most 0.5 " in verdict(alone, 0.1)
    for results in (trained, alone):
        text = page(results)
        sections = dict(re.findall(r'<section id="([\w-]+)">(.*?)</section>', text, flags=re.S))
        for name in ("rate-distortion", "layers", "description-length"):
            assert 'class="band' in sections[name] or 'class="whisker"' in sections[name], name
            assert "are averaged" in sections[name], name
    assert page(alone).count("<li>net.safetensors: ") == 2, "one line for all seeds, on bounds and on description lengths"
