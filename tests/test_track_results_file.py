"""The results.jsonl that grows by whole lines: cut lines, locks, and files that are something else."""

import json
import os
from pathlib import Path

import pytest

from nncomplexity.dynamics.results_file import ResultsFile
from nncomplexity.dynamics.settings import settings_of
from nncomplexity.errors import InputError
from tests.rows import row, write_rows


def loss(weights: object) -> float:
    return 0.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


@pytest.mark.parametrize("end", ['{"schema": 1, "kind": "che', "{", '{"schema": 1, ' + "x" * 5000, "\0\0\0"])
def test_a_cut_last_line_is_dropped_and_no_line_is_ever_cut_in_the_middle(file: Path, end: str) -> None:
    write_rows(file, [row(1), row(2)], end=end)
    with ResultsFile(file) as opened:
        assert [one["step"] for one in opened.rows] == [1, 2]
        assert opened.mended == "dropped the last line, which was cut"
        opened.append(row(3))
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3]


def test_a_last_line_that_lacks_its_end_alone_is_kept(file: Path) -> None:
    write_rows(file, [row(1)], end=json.dumps(row(2)))
    with ResultsFile(file) as opened:
        assert opened.mended == "ended the last line, which lacked its end"
        opened.append(row(3))
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3]


def test_every_cut_of_a_line_is_mended(file: Path) -> None:
    line = json.dumps(row(2))
    for length in range(1, len(line), 97):
        write_rows(file, [row(1)], end=line[:length])
        with ResultsFile(file) as opened:
            assert [one["step"] for one in opened.rows] == [1]
        assert file.read_text() == json.dumps(row(1)) + "\n"


@pytest.mark.parametrize("content", ["my notes", "my notes\n", '{"a": 1}\n', "[1]\n", '{"schema": 2, "status": "measured"}\n'])
def test_another_file_is_left_as_it_is(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(InputError, match=r"expected a results.jsonl that track wrote, or no file yet, got .* in line 1"):
        ResultsFile(file)
    assert file.read_text() == content


def test_one_process_at_a_time(file: Path) -> None:
    with ResultsFile(file) as first:
        first.append(row(1))
        with pytest.raises(InputError, match="another process is writing it; wait for its end, or choose another --out"):
            ResultsFile(file)
    with ResultsFile(file) as second:
        assert len(second.rows) == 1


def test_a_file_to_which_nothing_was_written_is_not_left_behind(file: Path) -> None:
    with ResultsFile(file):
        assert file.exists()
    assert not file.exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write there .*; name a file in a folder that exists"):
        ResultsFile(tmp_path / "no" / "results.jsonl")


def test_a_row_that_does_not_fit_leaves_no_part_of_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with ResultsFile(file) as opened:
        opened.append(row(1))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda handle, line: write(handle, line[:40]))
            with pytest.raises(InputError, match=r"cannot write the next row .the disk is full.; make room and start again"):
                opened.append(row(2))
        opened.append(row(3))
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budget": 9}, "its rows were measured with budget = 8, this call has 9; choose another --out, or the same settings"),
        ({"eps": 0.1}, r"eps = \[1.0\], this call has \[0.1\]"),
        ({"n": 7}, "n = none, this call has 7"),
        ({"metrics": {"test_error": loss}}, 'metrics = {}, this call has {"test_error": '),
        ({"method": "bayes"}, 'method = "quantize", this call has "bayes"'),
    ],
)
def test_other_settings_are_told_by_the_first_difference(file: Path, change: dict[str, object], words: str) -> None:
    mine = {"loss_fn": loss, "eps": 1, "method": "quantize", "budget": 8}
    before = settings_of(**mine)
    failed = row(2, status="failed", eps=[1.0], settings={})
    older = before.described() | {"version": "0.0.1"}
    write_rows(file, [row(1, eps=[1.0], settings=older), failed])
    with ResultsFile(file) as opened:
        assert opened.check_settings(before) == ["some rows were measured with version 0.0.1"]
        with pytest.raises(InputError, match=words):
            opened.check_settings(settings_of(**(mine | change)))
