"""The results.jsonl, to which whole lines are added: cut lines, locks, and files of another kind."""

import json
import math
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from nncomplexity.dynamics import results_file
from nncomplexity.dynamics.results_file import ResultsFile, line_of, rows_of
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
        assert opened.mended == "dropped the last line, because it was cut"
        opened.append(row(3))
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3]


def test_a_last_line_that_lacks_its_end_alone_is_kept(file: Path) -> None:
    write_rows(file, [row(1)], end=json.dumps(row(2)))
    with ResultsFile(file) as opened:
        assert opened.mended == "added the missing end of the last line"
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


def test_names_can_be_read_in_the_file_and_those_that_are_no_text_read_back() -> None:
    given = {"checkpoint": "größe/ε=0.1/\udcff.pt"}
    line = line_of(given)
    assert "größe/ε=0.1/".encode() in line
    assert json.loads(line) == given


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_json_does_not_have_is_no_line(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        line_of({"loss": value})


def test_one_process_at_a_time(file: Path) -> None:
    with ResultsFile(file) as first:
        first.append(row(1))
        with pytest.raises(InputError, match="another process is writing it; wait for its end, or choose another file for `out`"):
            ResultsFile(file, patience=0)
    with ResultsFile(file) as second:
        assert len(second.rows) == 1


def test_every_row_is_synced_to_the_disk_and_the_name_of_a_new_file_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = [], os.fsync

    def noted(handle: int) -> None:
        synced.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else file.read_bytes().count(b"\n"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    with ResultsFile(file) as opened:
        for step in (1, 2, 3):
            opened.append(row(step))
    assert synced == [1, "folder", 2, 3]


def test_a_file_to_which_nothing_was_written_is_not_left_behind(file: Path) -> None:
    with ResultsFile(file):
        assert file.exists()
    assert not file.exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write there .*; name a file in a folder that exists"):
        ResultsFile(tmp_path / "no" / "results.jsonl")


@contextmanager
def no_larger_than(size: int) -> Iterator[None]:
    """Files of this process can't grow beyond a size, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("room", "reason"), [(40, "the disk is full"), (0, "File too large")])
def test_a_row_that_does_not_fit_leaves_no_part_of_it(file: Path, room: int, reason: str) -> None:
    with ResultsFile(file) as opened:
        opened.append(row(1))
        words = rf"cannot write the next row .{reason}.; make room and start again"
        with no_larger_than(file.stat().st_size + room), pytest.raises(InputError, match=words):
            opened.append(row(2))
        opened.append(row(3))
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 3]


def test_a_file_that_cannot_be_mended_is_named(file: Path) -> None:
    write_rows(file, [row(1)], end=json.dumps(row(2)))
    with (
        no_larger_than(file.stat().st_size),
        pytest.raises(InputError, match=r"results.jsonl: cannot read and mend it .File too large."),
    ):
        ResultsFile(file)


def test_a_file_is_taken_when_another_process_is_done_with_it(file: Path) -> None:
    write_rows(file, [row(1)])
    first = ResultsFile(file)
    done = threading.Timer(0.2, lambda: (first.append(row(2)), first.__exit__(None, None, None)))
    done.start()
    with ResultsFile(file, patience=60) as second:
        assert [one["step"] for one in second.rows] == [1, 2]
    done.join()


def test_a_file_that_another_process_removed_while_it_was_waited_for_is_made_anew(file: Path) -> None:
    """A process that opens the file and writes nothing removes it. Rows of another process must not be lost with it."""
    first = ResultsFile(file)
    done = threading.Timer(0.2, lambda: first.__exit__(None, None, None))
    done.start()
    with ResultsFile(file, patience=60) as second:
        second.append(row(1))
    done.join()
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1]


def test_a_fork_that_has_the_file_open_does_not_keep_it(file: Path) -> None:
    """A worker of a DataLoader that a loss starts inherits all open files, and may outlive the loss."""
    with ResultsFile(file) as opened:
        opened.append(row(1))
        inherited = os.dup(opened._file.fileno())
    try:
        with ResultsFile(file, patience=0) as again:
            assert len(again.rows) == 1
    finally:
        os.close(inherited)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_device_is_refused() -> None:
    for opening in (ResultsFile, rows_of):
        with pytest.raises(InputError, match="/dev/full: it is not a regular file; choose another file for `out`"):
            opening("/dev/full")


def test_many_writers_lose_no_row(file: Path) -> None:
    """Locks separate threads as well as processes, because each one opens the file itself."""

    def write(run: str) -> None:
        for step in range(20):
            with ResultsFile(file, patience=60) as opened:
                opened.append(row(step, run=run))

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write, "abc"))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert all([one["step"] for one in rows if one["run"] == run] == list(range(20)) for run in "abc")


@pytest.mark.parametrize("content", ["my notes", '{"a": 1}\n'])
def test_another_file_is_read_no_more_than_it_is_written(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(InputError, match=r"expected a results.jsonl that track wrote, or no file yet, got .* in line 1"):
        rows_of(str(file))


def test_rows_are_read_beside_another_process(file: Path) -> None:
    assert rows_of(str(file)) == []
    write_rows(file, [row(1), row(2)], end='{"schema": 1, "kind": "che')
    content = file.read_bytes()
    assert [one["step"] for one in rows_of(str(file))] == [1, 2]
    assert file.read_bytes() == content
    write_rows(file, [row(1)], end=json.dumps(row(2)))
    assert [one["step"] for one in rows_of(str(file))] == [1, 2]
    with pytest.raises(InputError, match=r"cannot read it \(Is a directory\); expected a results.jsonl"):
        rows_of(str(file.parent))


def test_one_process_at_a_time_where_the_file_itself_cannot_be_locked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: another file is locked."""
    monkeypatch.setattr(results_file, "_fcntl", None)
    monkeypatch.setattr(results_file, "FileLock", FileLock, raising=False)
    with ResultsFile(file) as first:
        first.append(row(1))
        with pytest.raises(InputError, match="another process is writing it; wait for its end"):
            ResultsFile(file, patience=0)
    for step in (2, 3):
        with ResultsFile(file, patience=0) as later:
            later.append(row(step))
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3]
    write_rows(file, [], end="my notes\n")
    for _ in range(2):  # the lock is gone with the first error
        with pytest.raises(InputError, match=r"expected a results.jsonl"):
            ResultsFile(file, patience=0)


def test_where_the_system_has_neither_locks_nor_pread(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system as on Windows."""
    monkeypatch.setattr(results_file, "_fcntl", None)
    monkeypatch.setattr(results_file, "FileLock", FileLock, raising=False)
    monkeypatch.delattr(os, "pread", raising=False)
    write_rows(file, [row(1)], end="{")
    with ResultsFile(file) as opened:
        assert opened.mended == "dropped the last line, because it was cut"
        opened.append(row(2))
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"budget": 9},
            "its rows were measured with budget = 8, this call has 9; choose another file for `out`, or the same settings",
        ),
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
