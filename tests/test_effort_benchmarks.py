"""Benchmarks of settings, repeatability, curves and dynamics: what each row is, that a second run measures nothing, and the tables."""

import json
import math
import sys
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.cases import subjects, trained
from benchmarks.cases.networks import ROOT
from benchmarks.cases.subjects import Subject
from benchmarks.measuring import before, curve_agreement, paper_dynamics, settings, shipped
from benchmarks.peers.earlier import Source, source
from benchmarks.reporting import before as report_before
from benchmarks.reporting import curve_agreement as report_curve_agreement
from benchmarks.reporting import paper_dynamics as report_paper_dynamics
from benchmarks.reporting import settings as report_settings
from benchmarks.reporting import shipped as report_shipped
from examples.grokking.config import preset
from nncomplexity import Divergence


class Counted:
    """A measurement that takes no time. Its bits say the how-manieth it was."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        self.calls.append((*arguments, *named.values()))
        return {"bits": 100 * len(self.calls), "evaluations": 1000.0, "cpu_seconds": 1.0, "converged": True}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """In the place of each benchmark's measurement."""
    counted = Counted()
    for module in (settings, shipped, paper_dynamics):
        monkeypatch.setattr(module, "measured", counted)
    return counted


@pytest.mark.parametrize("subject", sorted({subject[:2] for subject in before.SUBJECTS["before"]}))
def test_a_subject_has_a_loss_of_its_distortion(subject: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "trained", trained.untrained)
    network, loss = subjects.given(*subject)
    assert isinstance(loss, Divergence) == (subject[1] == "kl")
    with torch.no_grad():
        assert float(loss.against(network)(network) if subject[1] == "kl" else loss(network)) >= 0


@pytest.mark.parametrize(
    ("network", "distortion", "words"), [("digits/mlp", "mse", "loss or kl, got mse"), ("mlp", "kl", "got mlp")]
)
def test_an_unknown_subject_is_refused(network: str, distortion: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        subjects.given(network, distortion)


@pytest.mark.skipif(not (ROOT / ".git").exists() or which("git") is None, reason="needs the history in git")
def test_a_worker_measures_with_the_source_of_its_folder() -> None:
    with source("HEAD") as process:
        answer = process.measured(network="digits/convnet", distortion="loss", eps=1.0, budget=2, seed=0)
    assert answer["bits"] > 0
    assert answer["evaluations"] <= 2


def test_a_worker_that_has_ended_is_an_error(tmp_path: Path) -> None:
    worker = tmp_path / "benchmarks" / "peers" / "source_worker.py"
    worker.parent.mkdir(parents=True)
    worker.write_text("raise SystemExit(1)", encoding="utf-8")
    for folder in (worker.parent, worker.parent.parent):
        (folder / "__init__.py").touch()
    process = Source(tmp_path)
    with pytest.raises(RuntimeError, match=r"'seed': 0.*ended with code 1"):
        process.measured(seed=0)
    process.close()


def test_a_second_run_measures_only_what_is_missing_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    monkeypatch.setattr(Source, "measured", counted)
    monkeypatch.setitem(before.SUBJECTS, "today", (Subject("digits/mlp", "loss", 0.1),))
    before.run(["today"], 1, tmp_path / "record.json")
    record = before.run(["today"], 2, tmp_path / "record.json")
    assert counted.calls == [("digits/mlp", "loss", 0.1, budget, seed) for seed in (0, 1) for budget in (400, None)]
    assert [row["bits"] for row in record.rows] == [100, 200, 300, 400]


def test_todays_sizes_come_from_the_records_that_have_them() -> None:
    key = {"network": "a", "distortion": "kl", "eps": 0.1, "seed": 0, "cpu_seconds": 3}
    own = [{**key, "search": "before", "budget": 400, "bits": 1000}]
    efforts = {"default": 200, "400": 500, "quarter": 300, "four times": 100}
    others = [{**key, "effort": effort, "bits": bits} for effort, bits in efforts.items()]
    told = report_before.before({"rows": own}, {"rows": others})
    assert told.splitlines()[2] == "| a | kl | 0.1 | 1,000 | 500 | 200 | 0.50 | 0.20 | 3 | 3 |"
    assert report_before.before({"rows": own}, {"rows": others[:1]}).splitlines()[2:] == [
        "| a | kl | 0.1 | 1,000 | – | 200 | – | 0.20 | 3 | 3 |",
        "| geometric mean |  |  |  |  |  | – | 0.20 |  |  |",
        "| worst |  |  |  |  |  | – | 0.20 |  |  |",
    ]


def test_sizes_before_are_compared_by_means_over_seeds() -> None:
    key = {"network": "a", "distortion": "loss", "eps": 0.1, "cpu_seconds": 3}
    sizes = {("before", 400): (1000, 4000), ("today", 400): (500, 2000), ("today", None): (400, 400)}
    rows = [
        {**key, "search": search, "budget": budget, "seed": seed, "bits": bits}
        for (search, budget), some in sizes.items()
        for seed, bits in enumerate(some)
    ]
    rows += [{**key, "network": "b", "search": "before", "budget": 400, "seed": 0, "bits": 1}]
    lines = report_before.before({"rows": rows}).splitlines()[2:]
    assert lines[0] == "| a | loss | 0.1 | 2,000 | 1,000 | 400 | 0.50 | 0.20 | 3 | 3 |"
    assert [line.split(" | ")[6:8] for line in lines[1:]] == [["0.50", "0.20"]] * 2


def test_the_unchanged_settings_are_measured_once_for_all(tmp_path: Path, counted: Counted) -> None:
    settings.run(["batch", "target"], 2, 3, tmp_path / "record.json")
    assert len(counted.calls) == 6 * (1 + 2 * 2 + 1)
    record = settings.run(["batch", "target"], 2, 3, tmp_path / "record.json")
    assert len(counted.calls) == len(record.rows) == 36
    assert [method.batch for _, method, _ in counted.calls[::6]] == [256, 128, 512, 256, 256, 1200]


def test_a_setting_has_an_effect_if_it_exceeds_the_spread() -> None:
    def rows(setting: str, factor: float, pair: tuple[int, int]) -> list[dict[str, Any]]:
        key = {"setting": setting, "factor": factor, "network": 0, "evaluations": 2.0 * factor}
        return [{**key, "seed": seed, "bits": bits} for seed, bits in enumerate(pair)]

    found = report_settings.settings(
        {
            "rows": [
                *rows("none", 1.0, (200, 220)),
                *rows("batch", 0.5, (100, 110)),
                *rows("batch", 2.0, (200, 220)),
                *rows("batch", 0.0, (400, 440)),
                *rows("soft", 0.5, (190, 215)),
                *rows("soft", 2.0, (205, 225)),
            ]
        }
    )
    lines = found.splitlines()
    spread = f"{math.log(1.1) / math.sqrt(2):.3f}"
    assert lines[2] == f"| batch | 0.50 | 1.00 | 2.00 | 0.50 | 2.00 | {spread} | {spread} | yes |"
    assert lines[3].endswith(" | no |")
    assert lines[4].startswith("| none | 1.00 | 1.00 | – | ")
    assert "soft" not in report_settings.settings({"rows": [*rows("none", 1.0, (200, 220)), *rows("soft", 0.5, (1, 2))]})


def test_the_spread_of_one_seed_is_none() -> None:
    assert report_settings.spread([{"network": 0, "bits": 8}, {"network": 1, "bits": 80}]) == 0


def test_the_pair_is_measured_at_a_quarter_of_its_own_evaluations(tmp_path: Path, counted: Counted) -> None:
    record = shipped.run(2, 1, tmp_path / "record.json")
    assert {method.budget for subject, method, _ in counted.calls if subject in shipped.PAIR} == {None, 250}
    assert len(record.rows) == len(shipped.run(2, 1, tmp_path / "record.json").rows) == len(counted.calls) == 4 * 2 + 2 * 2
    assert {row["seed"] for row in record.rows if row["network"] in subjects.GROKKING} == {0}


def test_the_shipped_networks_are_told_with_spread_and_ratios() -> None:
    key = {"distortion": "kl", "eps": 0.1, "converged": True, "cpu_seconds": 5}
    sizes = {
        ("memorised", "default"): 3000,
        ("grokked", "default"): 100,
        ("memorised", "quarter"): 4000,
        ("grokked", "quarter"): 160,
    }
    rows = [
        {**key, "network": f"grokking/{name}", "effort": effort, "seed": 7, "bits": bits} for (name, effort), bits in sizes.items()
    ]
    rows += [
        {**key, "network": "digits/mlp", "effort": "default", "seed": seed, "bits": bits} for seed, bits in enumerate((100, 400))
    ]
    # The grokked network of this seed is still missing.
    rows += [{**key, "network": "grokking/memorised", "effort": "default", "seed": 8, "bits": 3000}]
    spread = math.log(4) / math.sqrt(2)
    assert f"| digits/mlp | kl | 0.1 | 2 | 200 | 100 | 400 | {spread:.3f} | 2 of 2 | 5 |" in report_shipped.repeats({"rows": rows})
    assert report_shipped.shipped({"rows": rows}).count("| --- |") == 2
    assert report_shipped.shipped({"rows": rows[4:6]}).count("| --- |") == 1
    assert report_shipped.repeats({"rows": rows[:1]}).splitlines()[-1].split(" | ")[7] == "–"
    assert report_shipped.efforts({"rows": rows}).splitlines()[2:] == [
        "| 7 | 4,000 | 160 | 25.0 | 3,000 | 100 | 30.0 | 20% |",
        "| 8 | – | – | – | 3,000 | – | – | – |",
    ]


def test_a_curve_and_single_searches_see_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "trained", trained.untrained)
    row = curve_agreement.compared("random labels", (2.0, 0.01), 0, method="quantize")
    assert row["eps"] == [2.0, 0.01]
    assert row["single_bits"] == row["curve_bits"]
    assert row["curve_bits"][0] < row["curve_bits"][1]


def test_agreement_is_told_for_each_eps_with_the_farthest_ratio() -> None:
    row = {"network": "a", "seed": 0, "eps": [0.2, 0.1], "curve_bits": [100, 100], "single_bits": [110, 125]}
    assert report_curve_agreement.agreement({"rows": [row]}).splitlines()[2:] == [
        "| a | 0 | 0.2 | 100 | 110 | 0.91 | yes |",
        "| a | 0 | 0.1 | 100 | 125 | 0.80 | no |",
        "| geometric mean |  |  |  |  | 0.85 |  |",
        "| farthest from 1 |  |  |  |  | 0.80 |  |",
    ]


@pytest.fixture
def trained_run(tmp_path: Path) -> Path:
    """The folder of a run with four checkpoints, as train.py leaves it, without its training."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    config = preset("paper", seed=3)
    (folder / "config.json").write_text(json.dumps({"training": vars(config), "measuring": {}}), encoding="utf-8")
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for epoch in (10, 66, 112, 1000):
            save_file({"w": torch.zeros(1)}, folder / "checkpoints" / f"epoch_{epoch:06d}.safetensors")
            about = {"train_loss": 1.0, "test_loss": 2.0, "train_accuracy": 0.5, "test_accuracy": 0.25}
            file.write(json.dumps({"epoch": epoch, **about}) + "\n")
    return folder


def test_the_peak_is_found_by_a_scan_and_measured_at_three_efforts(trained_run: Path, tmp_path: Path, counted: Counted) -> None:
    record = paper_dynamics.run(trained_run, 2, tmp_path / "record.json")
    assert [row["epoch"] for row in record.rows if row["effort"] == "scan"] == [66, 112]
    assert {row["epoch"] for row in record.rows if row["effort"] == "twice"} == {112, 1000}  # here the later row is the larger one
    done = len(counted.calls)
    paper_dynamics.run(trained_run, 2, tmp_path / "record.json")
    assert len(counted.calls) == done
    assert {method.budget for _, _, method, _ in counted.calls} == {None, 250, 2000}


def test_the_command_line_measures_some_of_the_efforts(
    trained_run: Path, tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paper_dynamics, "train", lambda _: None)
    output = tmp_path / "record.json"
    command = ["paper_dynamics", "--run", str(trained_run), "--seeds", "1", "--output", str(output), "--efforts", "quarter"]
    monkeypatch.setattr(sys, "argv", command)
    paper_dynamics.main()
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"]
    assert {row["effort"] for row in rows} == {"scan", "default", "quarter"}
    assert "| " in capsys.readouterr().out


def test_the_tables_of_the_paper_run_have_the_scan_and_peak_over_end() -> None:
    rows = [{"epoch": epoch, "effort": "scan", "seed": 0, "bits": bits} for epoch, bits in ((66, 900), (86, 1200), (1000, 100))]
    rows += [
        {"epoch": epoch, "effort": effort, "seed": seed, "bits": bits}
        for effort in ("quarter", "default")
        for seed in (0, 1)
        for epoch, bits in ((86, 400 * 4**seed), (1000, 100))
    ]
    about = {"train_loss": 1.0, "test_loss": 2.0, "test_accuracy": 0.25}
    content = {"rows": rows, "cases": {str(epoch): about for epoch in (66, 86, 1000)}}
    assert report_paper_dynamics.scan(content).splitlines()[2] == "| 66 | 1.0000 | 2.0000 | 25.0% | 900 |"
    lines = report_paper_dynamics.efforts(content).splitlines()
    assert lines[0] == "| effort | search seed | epoch 86, bits | end, bits | peak / end |"
    assert lines[2:5] == [
        "| a quarter | 0 | 400 | 100 | 4.0 |",
        "| a quarter | 1 | 1,600 | 100 | 16.0 |",
        "| a quarter | mean | 800 | 100 | 8.0 |",
    ]
    assert len(lines) == 8


def test_the_training_of_the_paper_run_is_in_no_other_record() -> None:
    assert not (ROOT / "examples" / "grokking" / "results" / f"add-full-{paper_dynamics.SEED}").exists()
