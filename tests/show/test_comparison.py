"""Runs side by side: geometric means over seeds, their spread, and ratios to the first."""

import json
import math
from pathlib import Path
from statistics import geometric_mean, stdev

import pytest

from nncomplexity import InputError
from nncomplexity.cli import main
from nncomplexity.show import common_eps, comparison, differing_settings, read_results, side_by_side, sides_of
from tests.rows import report, row, write_rows


def seeds(tmp_path: Path, name: str, scales: list[float], step: float = 200, **more: object) -> Path:
    """A results file with a first step, and a last step at which each seed has its own size."""
    last = [row(step, scale=scale, seed=seed, **more) for seed, scale in enumerate(scales)]
    return write_rows(tmp_path / name, [row(100, **more), *last])


def test_sizes_are_geometric_means_over_the_seeds_of_the_last_network(tmp_path: Path) -> None:
    files = [seeds(tmp_path, "a.jsonl", [1.0, 1.1, 1.3]), seeds(tmp_path, "b.jsonl", [0.5])]
    first, second = sides_of(side_by_side([read_results(file) for file in files]))
    sizes = [row(200, scale=scale)["bits@1"] for scale in (1.0, 1.1, 1.3)]
    one, other = first.size(1.0), second.size(1.0)
    assert one is not None
    assert other is not None
    assert one.bits == pytest.approx(geometric_mean(sizes))
    assert one.sd == pytest.approx(stdev(map(math.log, sizes)))
    assert (one.searches, other.searches, other.sd) == (3, 1, 0.0)
    ratio, error = other.relative_to(one)
    assert ratio == pytest.approx(row(scale=0.5)["bits@1"] / geometric_mean(sizes))
    assert error == pytest.approx(ratio * one.sd / math.sqrt(3))
    assert first.size(0.5) is None


def test_the_searches_of_a_report_count_as_its_seeds(tmp_path: Path) -> None:
    spread = {"searches": 4, "bits": [800, 900, 950, 1000], "mean_ln_bits": math.log(900), "sd_ln_bits": 0.1}
    document = report()
    document["results"] = [one | {"spread": spread} for one in document["results"]]
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps(report()), encoding="utf-8")
    found = side_by_side([read_results(tmp_path / name) for name in ("a.json", "b.json")])
    first, second = sides_of(found)
    assert [side.label for side in (first, second)] == ["a.json", "b.json"]
    size = first.size(1.0)
    assert size is not None
    assert (size.bits, size.sd, size.searches) == (pytest.approx(900), 0.1, 4)
    [panel] = comparison(found).panels
    errors = {line.label: line.error for line in panel.lines if line.label}
    assert errors["a.json"] == pytest.approx([900 / 8 * 0.1 / 2] * 2)
    assert errors["b.json"] == ()


def test_one_network_measured_twice_stays_two(tmp_path: Path) -> None:
    for name, budget in (("a.json", 100), ("b.json", 400)):
        (tmp_path / name).write_text(json.dumps(report(budget=budget)), encoding="utf-8")
    sides = sides_of(side_by_side([read_results(tmp_path / name) for name in ("a.json", "b.json")]))
    assert len(sides) == 2
    assert differing_settings(sides) == {"budget": ["100", "400"]}


def test_sizes_relative_to_a_base_are_not_compared_in_silence(tmp_path: Path) -> None:
    plain, based = row()["settings"], {**row()["settings"], "relative_to": "ab" * 32}
    files = [seeds(tmp_path, f"{number}.jsonl", [1.0], settings=one) for number, one in enumerate((plain, based))]
    sides = sides_of(side_by_side([read_results(file) for file in files]))
    assert differing_settings(sides) == {"relative_to": ["none", "a base of sha256 abababababab…"]}


def test_trainings_are_drawn_over_their_steps_and_networks_over_distortion(tmp_path: Path) -> None:
    trainings = [read_results(seeds(tmp_path, name, [1.0])) for name in ("a.jsonl", "b.jsonl")]
    assert comparison(side_by_side(trainings)).kind == "dynamics"
    (tmp_path / "c.json").write_text(json.dumps(report()), encoding="utf-8")
    assert comparison(side_by_side([*trainings, read_results(tmp_path / "c.json")])).kind == "rate-distortion"


def test_one_run_alone_and_no_eps_in_common_are_refused(tmp_path: Path) -> None:
    one, other = seeds(tmp_path, "a.jsonl", [1.0]), seeds(tmp_path, "b.jsonl", [1.0], eps=(0.3,))
    with pytest.raises(InputError, match="results: expected at least two runs to compare, got one; name another results file"):
        sides_of(side_by_side([read_results(one)]))
    found = side_by_side([read_results(one), read_results(other)])
    with pytest.raises(InputError, match="eps: no ε was measured for two of the networks; measure them at the same ε"):
        common_eps(sides_of(found), found.eps)


def test_two_runs_of_one_file_are_compared(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "both.jsonl", [row(100, run="runs/a"), row(100, run="runs/b", scale=0.5)])
    assert [side.label for side in sides_of(side_by_side([read_results(file)]))] == ["a", "b"]


def test_the_command_prints_the_table_and_draws(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds(workplace, "plain.jsonl", [1.0, 1.2])
    seeds(workplace, "pruned.jsonl", [0.5, 0.6], settings={**row()["settings"], "budget": 400})
    assert main(["compare", "plain.jsonl", "pruned.jsonl", "--eps", "1", "--out", "both.svg"]) == 0
    out = capsys.readouterr().out
    [line] = [line for line in out.splitlines() if "±" in line and "pruned" in line]
    assert line.split()[-3:] == ["0.5", "±", "0.064"]
    assert "Different settings: budget is none, 400, in this order." in out
    assert (workplace / "both.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_the_command_at_a_step(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds(workplace, "a.jsonl", [1.0])
    seeds(workplace, "b.jsonl", [0.5])
    assert main(["compare", "a.jsonl", "b.jsonl", "--step", "100"]) == 0
    ratios = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if line.strip().startswith("b.jsonl, step 100")]
    assert ratios[-2:] == ["1", "1"]  # its sizes at both ε, next to those of a.jsonl
    assert main(["compare", "a.jsonl", "b.jsonl", "--step", "7"]) == 2
    assert "nothing was measured at step 7" in capsys.readouterr().err
