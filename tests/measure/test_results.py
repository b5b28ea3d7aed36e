"""Results files as records, from which pandas and polars make tables in one line."""

import json
from pathlib import Path

import pandas
import polars
import pytest

from nncomplexity import InputError, read_results
from tests.rows import failed, report, row, write_rows


def test_a_record_for_each_checkpoint_seed_and_eps(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "results.jsonl", [row(step, seed=seed) for step in (100, 200) for seed in (0, 1)])
    found = read_results(file)
    assert [(one["step"], one["seed"], one["eps"]) for one in found] == [
        (step, seed, eps) for step in (100, 200) for seed in (0, 1) for eps in (1.0, 0.1)
    ]
    assert [one["bits"] for one in found[:2]] == [row()["bits@1"], row()["bits@0.1"]]
    assert (found[0]["loss"], found[0]["test_error"], found[0]["coarse_risk"], found[0]["vacuous"]) == (0.01, 0.25, 0.1, False)


def test_of_several_rows_of_one_checkpoint_the_last_counts(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "results.jsonl", [row(100), row(100, scale=2.0)], end='{"schema": 1, "kind": "che')
    assert [one["bits"] for one in read_results(file)] == [row(100, scale=2.0)[f"bits@{eps}"] for eps in ("1", "0.1")]


def test_a_failed_row_is_a_record_with_its_reason(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "results.jsonl", [row(100), failed(300, "loss: it is nan")])
    *_, last = read_results(file)
    assert (last["status"], last["step"], last["error"], last["bits"]) == ("failed", 300, "loss: it is nan", None)


def test_a_share_has_both_its_numbers(tmp_path: Path) -> None:
    names = {"1": "1%"}
    one = {key.replace("@1", f"@{names['1']}") if key.endswith("@1") else key: value for key, value in row(eps=(1.0,)).items()}
    file = write_rows(tmp_path / "results.jsonl", [one | {"eps": [0.025], "eps_relative": [0.01]}])
    [found] = read_results(file)
    assert (found["eps"], found["eps_relative"]) == (0.025, 0.01)


def test_metrics_of_both_networks_have_columns(tmp_path: Path) -> None:
    more = {"margin": 3.5, "margin@1": 2.5, "test_error@1": 0.5}
    settings = row()["settings"] | {"metrics": {"margin": "mytask:margin", "test_error": "mytask:error"}}
    [found] = read_results(write_rows(tmp_path / "results.jsonl", [row(eps=(1.0,), settings=settings, **more)]))
    assert (found["margin"], found["coarse_margin"], found["test_error"], found["coarse_test_error"]) == (3.5, 2.5, 0.25, 0.5)


@pytest.mark.parametrize("layers", [False, True])
def test_one_line_makes_a_table(tmp_path: Path, layers: bool) -> None:
    files = [write_rows(tmp_path / "results.jsonl", [*(row(step) for step in range(200)), failed(900)]), tmp_path / "report.json"]
    files[1].write_text(json.dumps(report()), encoding="utf-8")
    found = read_results(files, layers=layers)
    here = pandas.DataFrame(found)
    there = polars.DataFrame(found, infer_schema_length=None)
    assert len(here) == len(there) == len(found)
    assert list(here.columns) == there.columns
    assert here["bits"].sum() == there["bits"].sum() == sum(one["bits"] or 0 for one in found)
    assert there.filter(polars.col("status") == "measured")["eps"].dtype == polars.Float64


def test_a_record_for_each_layer_keeps_the_step_of_the_training(tmp_path: Path) -> None:
    found = read_results(write_rows(tmp_path / "results.jsonl", [row(100)]), layers=True)
    assert len(found) == 6
    first = row(100)["layers@1"][0]
    assert (found[0]["step"], found[0]["layer"], found[0]["layer_step"], found[0]["layer_bits"]) == (
        100,
        first["name"],
        0.1,
        first["bits"],
    )
    assert (found[0]["layer_shape"], found[0]["layer_rank"], found[0]["layer_effective_rank"]) == ("10×20", 3, 2.5)


def test_layers_of_rows_from_before_keep_their_numbers(tmp_path: Path) -> None:
    old = row(100)
    for eps in ("1", "0.1"):
        old[f"layers@{eps}"] = [
            {key.removeprefix("layer_"): value for key, value in layer.items()} for layer in old[f"layers@{eps}"]
        ]
    new = read_results(write_rows(tmp_path / "new.jsonl", [row(100)]), layers=True)
    assert [one | {"source": ""} for one in read_results(write_rows(tmp_path / "old.jsonl", [old]), layers=True)] == [
        one | {"source": ""} for one in new
    ]


def test_a_report_has_its_own_times(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report()), encoding="utf-8")
    found = read_results(tmp_path / "report.json")
    assert [(one["seconds"], one["total_seconds"], one["mdl_bits"]) for one in found] == [(1.0, 2.0, 809.0)] * 2


def test_what_is_no_results_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("my notes", encoding="utf-8")
    with pytest.raises(InputError, match=r"expected a results.jsonl, report.json or curve.json"):
        read_results(tmp_path / "notes.txt")
