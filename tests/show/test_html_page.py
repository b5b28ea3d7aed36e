"""The page needs no other file, escapes all text from the data, and has in plain HTML everything that its pictures show."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from nncomplexity.show import page, read_results
from nncomplexity.show.plots import reading, runs
from tests.markup import parsed
from tests.rows import failed, report, row, write_rows

NASTY = '<script>alert("1")</script>&\'"\u2028'


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[Path]]:
    curve = {"hull": [1.0, 0], "fits": {"log": {"a": -1.0, "b": 2.0, "r2": 0.9, "points": 3}}, "best_fit": "log", "mdl": None}
    for name, content in (("report", report()), ("curve", report(curve=curve)), ("bare", report(eps=[0.5]))):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    steps = [row(step, scale=scale) for step, scale in ((0, 1.0), (10, 9.0), (100, 2.0))]
    one = write_rows(tmp_path / "one.jsonl", [*steps, row(None, kind="untrained"), failed()], end="{")
    two = write_rows(tmp_path / "two.jsonl", [row(step, run="runs/b") for step in (0, 10)])
    single = {name: [tmp_path / f"{name}.json"] for name in ("report", "curve", "bare")}
    return {**single, "one": [one], "both": [one, two], "mixed": [one, tmp_path / "report.json"]}


@pytest.mark.parametrize("name", ["report", "curve", "bare", "one", "both", "mixed"])
def test_a_page_is_well_formed_and_stands_alone(files: dict[str, list[Path]], name: str) -> None:
    text = page(read_results(files[name]))
    structure = parsed(text)
    tags = [tag for tag, _ in structure.tags]
    assert not {"link", "img", "iframe", "object", "base"} & set(tags)
    assert not re.search(r"(?:src|href)=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    ids = [attributes["id"] for _, attributes in structure.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert tags.count("h1") == 1
    charts = {attributes["data-chart"] for tag, attributes in structure.tags if tag == "svg"}
    assert charts == set(json.loads(text.split('id="data">')[1].split("</script>")[0])["charts"])
    assert all(attributes.get("aria-label") for tag, attributes in structure.tags if tag == "svg")


def test_the_verdict_tells_of_the_rise_and_fall(files: dict[str, list[Path]]) -> None:
    text = parsed(page(read_results(files["one"]))).text
    assert "complexity rose to 2,846 bytes at step 10 and fell to 632 bytes (22.2 %) by step 100; the bound" in text
    assert "Complexity of a" in text


def test_a_page_without_scripts_shows_every_figure(files: dict[str, list[Path]]) -> None:
    text = page(read_results(files["one"]))
    structure = parsed(text)
    shown = [attributes for tag, attributes in structure.tags if tag == "figure" and "alt" not in (attributes["class"] or "")]
    assert [one.get("data-eps") for one in shown] == ["1", "0.1", None, "0.1", None, None, None]
    for words in (
        "Rate and distortion",
        "embed.weight",
        "Vacuous at ε = 0.1",
        "drawn independently",
        "Description length",
        "Other measures over training",
        "sha256",
    ):
        assert words in structure.text
    assert "loss: it is nan" in structure.text
    assert "1 cut line left out" in structure.text


def test_one_network_is_told_with_its_bound(files: dict[str, list[Path]]) -> None:
    text = parsed(page(read_results(files["report"]))).text
    assert "net.safetensors" in text
    assert "at most 0.8" in text
    assert "Not vacuous at ε = 0.1: with probability 0.95 the error on unseen data is at most 0.8." in text
    assert "kl bound" in text
    assert "not vacuous up to 900 bits" in text


def test_a_curve_says_which_eps_is_the_best(files: dict[str, list[Path]]) -> None:
    text = page(read_results(files["curve"]))
    shown = parsed(text).text
    assert "The least:net.safetensors: a bound of 0.8, at ε = 0.1" in shown
    assert "The least:net.safetensors: 101 bytes, at ε = 0.1" in shown
    charts = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])["charts"]  # type: ignore[index]
    assert [charts[name]["x"]["label"] for name in ("bounds", "description-length")] == ["ε", "ε"]
    assert "The least at the end:step 100" in parsed(page(read_results(files["one"]))).text.replace("runs/", "")


def test_settings_by_name_are_told_as_text(tmp_path: Path) -> None:
    one = row()
    one["settings"]["metrics"] = {"test_error": "mytask:error", "size": "mytask:size"}
    text = parsed(page(read_results(write_rows(tmp_path / "r.jsonl", [one])))).text
    assert "metricstest_error = mytask:error, size = mytask:size" in text


def test_the_headline_is_there_for_every_eps(files: dict[str, list[Path]]) -> None:
    text = page(read_results(files["one"]))
    verdicts = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])["verdicts"]  # type: ignore[index]
    assert [verdict.split(",")[0] for verdict in verdicts] == ["Within ε = 1", "Within ε = 0.1"]
    assert verdicts[1] in parsed(text).text


def test_what_the_bits_are_relative_to_is_told(tmp_path: Path) -> None:
    for base, words in (
        ({"path": "base<1>.pt", "sha256": "ab"}, "base<1>.pt"),
        ({"path": None, "sha256": "cd" * 32}, "a base of sha256 cdcd"),
    ):
        (tmp_path / "report.json").write_text(json.dumps(report(relative_to=base)), encoding="utf-8")
        text = parsed(page(read_results(tmp_path / "report.json"))).text
        assert f"what the network has learned beyond {words}" in text
        assert f"relative_to{words}" in text
        assert "The base, whose bits are free, was made without these n examples." in text


def test_rows_relative_to_a_base_say_so_too(tmp_path: Path) -> None:
    one = row(1, run="runs/a")
    for name, base in (("based", {"relative_to": "cd" * 32}), ("plain", {})):
        line = json.dumps(one | {"settings": {**one["settings"], **base}})
        (tmp_path / f"{name}.jsonl").write_text(line + "\n", encoding="utf-8")
    text, plain = (parsed(page(read_results(tmp_path / f"{name}.jsonl"))).text for name in ("based", "plain"))
    assert "a base of sha256 cdcd" in text
    assert "The base, whose bits are free" in text
    assert "sha256 cdcd" not in plain
    assert "The base, whose bits are free" not in plain


def test_what_is_not_told_is_not_shown(tmp_path: Path) -> None:
    bare = {"schema": 1, "results": [{"eps": 1.0, "bits": 800}]}
    (tmp_path / "report.json").write_text(json.dumps(bare), encoding="utf-8")
    text = parsed(page(read_results(tmp_path / "report.json"))).text
    for absent in ("None", "nan", "search seeds", "bound", "Description length", "Not measured"):
        assert absent not in text


def test_every_text_from_the_data_is_escaped(tmp_path: Path) -> None:
    layers = [{"name": NASTY, "shape": [2], "form": NASTY, "rank": None, "step": None, "bits": 5.0, "effective_rank": None}]
    settings = {"method": NASTY, "loss_fn": NASTY, "metrics": [NASTY], "n": 10, "delta": 0.05}
    rows = [
        row(step, run=f"runs/{NASTY}/{run}", sha256=NASTY, checkpoint=NASTY, settings=settings) for step in (1, 2) for run in "ab"
    ]
    rows = [one | {"layers@1": layers, "layers@0.1": layers, f"{NASTY}error": 0.5} for one in rows]
    results = read_results(write_rows(tmp_path / "r.jsonl", [*rows, failed(error=NASTY, run=NASTY)]))
    text = page(results, title=NASTY)
    structure = parsed(text)
    scripts = [attributes for tag, attributes in structure.tags if tag == "script"]
    assert len(scripts) == 3
    assert "alert(" in structure.text
    assert not re.search(
        r"<script>alert|<(?!/?[a-z0-9]+[ >/]|!doctype)", re.sub(r"<script>.*?</script>|<style>.*?</style>", "", text, flags=re.S)
    )
    assert json.loads(text.split('id="data">')[1].split("</script>")[0])["names"] == [NASTY]


def test_an_eps_without_steps_has_no_curve(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report(eps=[0.5])), encoding="utf-8")
    rows = write_rows(tmp_path / "r.jsonl", [row(step, eps=[1.0]) for step in (1, 2)])
    structure = parsed(page(read_results([rows, tmp_path / "report.json"])))
    assert {attributes.get("data-eps") for tag, attributes in structure.tags if tag == "figure"} == {"1", None}


def test_work_on_a_page_grows_as_the_number_of_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are split and rows are compared only a few times for each network. A page of 500 networks once took half a minute."""
    calls: list[str] = []

    def counting(module: ModuleType, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: calls.append(name) or function(*given))

    counting(runs, "place_of_step")
    counting(reading, "_restepped")
    page(read_results(write_rows(tmp_path / "results.jsonl", [row(step) for step in range(1, 41)])))
    assert calls.count("place_of_step") == 40
    assert calls.count("_restepped") == 0
