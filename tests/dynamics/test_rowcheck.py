"""Rows that were edited by hand end a call before anything is measured, with the line and the key that are wrong."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nncomplexity.dynamics.results_file import ResultsFile, rows_of
from nncomplexity.dynamics.rowcheck import fault_of
from nncomplexity.errors import InputError
from tests.rows import failed, row, write_rows


@pytest.mark.parametrize("one", [row(), row(None), failed(), row(0.5, eps=[1e-5], checkpoint=None, step_from=None, warnings=["a"])])
def test_rows_as_they_are_written_have_no_fault(one: dict[str, Any]) -> None:
    assert fault_of(one) is None


@pytest.mark.parametrize("key", ["kind", "run", "checkpoint", "step", "seed", "eps", "settings", "loss", "bits@1", "within@0.1"])
def test_a_row_without_a_key_that_it_needs(key: str) -> None:
    one = row()
    del one[key]
    assert re.fullmatch(rf"expected {key}, which is .*, got a row without it", fault_of(one) or "")


@pytest.mark.parametrize(
    "change",
    [
        {"step": "100"},
        {"step": True},
        {"run": ["a"]},
        {"checkpoint": {"a": 1}},
        {"checkpoint": "runs/a\0b.pt"},
        {"checkpoint": "runs/\ud800.pt"},
        {"sha256": ["ab"]},
        {"trainer": {}},
        {"seed": 0.5},
        {"seed": [0]},
        {"eps": "0.1"},
        {"eps": []},
        {"eps": [None]},
        {"eps": [float("nan")]},
        {"eps": [10**400]},
        {"eps": [-1.0]},
        {"eps_relative": [0.5]},
        {"eps_relative": [0.5, "x"]},
        {"settings": []},
        {"settings": {"metrics": ["test_error"]}},
        {"loss": None},
        {"loss": "0.1"},
        {"bits@1": "800"},
        {"bits@0.1": float("inf")},
        {"within@1": "yes"},
        {"bound@1": "0.5"},
        {"layers@1": {}},
        {"warnings": "a"},
        {"warnings": ["a", 1]},
        {"eps": [1.0, -0.1]},
        {"eps_relative": [0.5, -0.1]},
        {"warnings@1": [1]},
        {"notes": [["a"]]},
        {"origin@1": 3},
        {"vacuous@1": "no"},
        {"seconds": "long"},
        {"settings": {"metrics": {"test_error": "m:f"}}, "test_error": [0.1]},
    ],
    ids=str,
)
def test_a_key_of_another_type_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    fault = fault_of(row() | change) or ""
    assert fault.startswith("expected ")
    assert any(key in fault for key in (*change, "metrics"))
    write_rows(tmp_path / "results.jsonl", [row(1), row(2) | change])
    for read in (ResultsFile, lambda path: rows_of(str(path))):
        with pytest.raises(
            InputError, match=r"results\.jsonl: expected .* in line 2; mend or remove that line, or choose another file for `out`"
        ):
            read(tmp_path / "results.jsonl")


def test_a_failed_row_is_one_too() -> None:
    assert fault_of(failed() | {"error": ["a"]}) == "expected error to be a text or null, got ['a']"


def test_a_file_that_is_removed_while_it_is_written_has_all_rows_again(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    with ResultsFile(file) as opened:
        opened.append(row(1))
        file.unlink()
        opened.append(row(2))
        file.unlink()
        opened.check_there()
        assert opened.restored == "it was removed while it was written; it has 2 rows again"
        opened.append(row(3))
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3]


def test_a_file_that_was_edited_while_it_was_open_is_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    with ResultsFile(file) as opened:
        opened.append(row(1))
        opened.append(row(2))
        write_rows(tmp_path / "edited", [row(1)])
        (tmp_path / "edited").replace(file)  # editors save files like this
        opened.append(row(3))
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 3]


def test_a_folder_that_is_removed_meanwhile_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    with ResultsFile(tmp_path / "gone" / "results.jsonl") as opened:
        opened.append(row(1))
        (tmp_path / "gone" / "results.jsonl").unlink()
        (tmp_path / "gone").rmdir()
        with pytest.raises(
            InputError, match=r"cannot write there .No such file or directory.; name a file in a folder that exists"
        ):
            opened.check_there()
