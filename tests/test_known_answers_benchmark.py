"""The benchmark of known answers: it keeps its rows in the file that is named, and its table has means over seeds and over networks."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.cases.planted import Planted
from benchmarks.measuring import known_answers as measuring
from benchmarks.reporting.known_answers import known_answers


def test_rows_are_kept_in_the_file_that_is_named_and_measured_again_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []

    def measured(planted: Planted, eps: float, method: str) -> dict[str, object]:
        calls.append(method)
        return {"ratio": 2.0, "bits": 20, "planted_bits": 10.0}

    monkeypatch.setattr(measuring, "measured", measured)
    monkeypatch.setattr(measuring, "networks", lambda: iter([Planted("signs", width=8)]))
    output = tmp_path / "found.json"
    for arguments, count in (([], 6), ([], 6), (["--again", "tight"], 8), (["--table"], 8)):
        monkeypatch.setattr(sys, "argv", ["known_answers", "--output", str(output), *arguments])
        measuring.main()
        assert len(calls) == count
    assert calls[-2:] == ["tight", "tight"]
    assert len(json.loads(output.read_text(encoding="utf-8"))["rows"]) == 6
    assert "| signs 3×8 | 0.01 | 2.00 | 2.00 | 2.00 |" in capsys.readouterr().out


def test_the_table_has_means_over_seeds_and_over_networks() -> None:
    def row(case: str, ratio: float) -> dict[str, object]:
        return {"case": case, "eps": 0.1, "method": "allocate", "ratio": ratio}

    rows = [row("a", 0.5), row("a", 2.0), row("b", 4.0), row("b rescaled", 3.0)]
    table = known_answers({"rows": rows})
    assert "| a | 0.1 | 1.00 (0.50 to 2.00) |" in table
    assert "| all, without rescaled units |  | 1.59 (0.50 to 4.00) |" in table
    assert "| all with rescaled units |  | 3.00 |" in table
