"""`track` as its users see it: exit codes, the table, kills at any moment, and wrong calls."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nncomplexity.cli import main
from tests.training_run import QUICK, make_training, untimed

ROOT = Path(__file__).parents[2]
TRACK = ["track", "run/*.safetensors", "--loss-fn", "mytask:loss", "--eps", "1", "--eps", "0.1", *QUICK, "--out", "results.jsonl"]


@pytest.fixture(autouse=True)
def folder(workplace: Path) -> Path:
    make_training(workplace)
    return workplace


def read_rows(name: str = "results.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def test_the_table_has_a_line_for_each_checkpoint_and_the_same_call_measures_nothing_anew(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [*TRACK, "--metric", "test_error=mytask:error", "--seeds", "2", "--constant"]
    assert main(options) == 0
    first = capsys.readouterr()
    lines = first.out.splitlines()
    assert lines[0] == "run:"
    assert [line.split()[0] for line in lines if line[:1].isdecimal()] == ["1", "2", "10"]
    assert any(line.startswith("constant") for line in lines)
    assert "test_error" in first.out
    assert lines[-1] == "Written: results.jsonl, 7 rows"
    assert "a loss was asked for" not in first.out
    content = Path("results.jsonl").read_bytes()
    assert main(options) == 0
    again = capsys.readouterr()
    assert again.out.splitlines()[:-1] == lines[:-1]
    assert again.out.splitlines()[-1] == "Written: results.jsonl, 0 rows; 7 were there"
    assert again.err == ""
    assert Path("results.jsonl").read_bytes() == content


def test_some_that_fail_give_exit_code_1_and_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRACK, "--loss-fn", "mytask:nan_at_ten"]) == 1
    out = capsys.readouterr().out
    assert "Failed: 1 of 3." in out
    assert "run/step_10.safetensors, seed 0: loss_fn: expected a finite loss" in " ".join(out.split())
    assert [row["status"] for row in read_rows()] == ["measured", "measured", "failed"]


def test_nothing_within_eps_gives_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRACK, "--eps", "1e-9", "--budget", "3"]) == 3
    assert " *" in capsys.readouterr().out


def test_an_interrupt_keeps_and_shows_what_is_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    task = Path("mytask.py").read_text(encoding="utf-8")
    Path("mytask.py").write_text(
        task
        + "\ndef stopping(network):\n    if float(network['weight'].sum()) > 20: raise KeyboardInterrupt\n    return loss(network)\n"
    )
    assert main([*TRACK, "--loss-fn", "mytask:stopping"]) == 130
    printed = capsys.readouterr()
    assert "Written: results.jsonl, 2 rows" in printed.out
    assert printed.err.endswith("nncomplexity: interrupted\n")
    assert [row["step"] for row in read_rows()] == [1, 2]


def test_follow_ends_when_idle(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRACK, "--follow", "--poll", "0.05", "--idle-timeout", "0.2"]) == 0
    assert main([*TRACK[:1], "later/*", *TRACK[2:-1], "none.jsonl", "--follow", "--poll", "0.05", "--idle-timeout", "0.1"]) == 0
    assert capsys.readouterr().out.endswith("Written: none.jsonl, 0 rows\n")
    assert not Path("none.jsonl").exists()


def test_follow_keeps_a_log_where_there_is_no_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*TRACK, "--loss-fn", "mytask:nan_at_ten", "--follow", "--poll", "0.1"]
    (folder / "run" / "step_10.safetensors").unlink()
    timer = threading.Timer(1.5, lambda: make_training(folder, (10,)))
    timer.start()
    assert main([*options, "--until", "10"]) == 1
    timer.join()
    lines = [
        line.removeprefix("nncomplexity: ") for line in capsys.readouterr().err.splitlines() if line.startswith("nncomplexity: ")
    ]
    rows = read_rows()
    assert [row["step"] for row in rows] == [1, 2, 10]
    measured = [
        f"{row['checkpoint']}, seed 0: loss {row['loss']:.4g}, {row['bits@1'] / 8:,.0f} bytes at ε = 1, "
        f"{row['bits@0.1'] / 8:,.0f} bytes at ε = 0.1, {row['seconds']:.1f} s"
        for row in rows[:2]
    ]
    waiting = "waiting for checkpoints: run/*.safetensors; rows so far:"
    assert [line for line in lines if line != f"{waiting} 0"] == [
        *(*measured, f"{waiting} 2"),
        f"run/step_10.safetensors, seed 0: failed, {rows[2]['error']}",
    ]
    assert main([*options, "--idle-timeout", "0.1"]) == 1
    told = capsys.readouterr().err
    assert "seed 0: loss" not in told  # the rows that the file already had
    assert f"nncomplexity: {waiting} 3" in told


def test_without_follow_there_is_no_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TRACK) == 0
    assert "nncomplexity: " not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--eps", "much"], "--eps: expected a finite number of at least 0, got 'much'"),
        (["--loss-fn", "mytask:absent"], "--loss-fn: module mytask"),
        (["--metric", "mytask:error"], "--metric: expected NAME=MODULE:FUNCTION, such as test_error=mytask:test_error"),
        (["--metric", "a=mytask:error", "--metric", "a=mytask:loss"], "--metric: 'a' is given twice"),
        (["--metric", "bits=mytask:error"], "--metric: 'bits' is a key that every row has"),
        (["--risk-fn", "mytask:error"], "--n: expected the number of training examples of risk_fn"),
        (["--untrained"], "--untrained: expected a model function, which initialises the network, got none; give model"),
        (["--poll", "3"], "--poll: this option needs --follow; add it"),
        (["--out", "no/results.jsonl"], "no/results.jsonl: cannot write there"),
        (["away/*.pt"], "checkpoints: 'away/*.pt' matches nothing, because there is no folder 'away'"),
    ],
)
def test_a_wrong_call_is_one_line(change: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRACK, *change]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith(f"nncomplexity: {words}")
    assert not Path("results.jsonl").exists()


def test_other_settings_end_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TRACK) == 0
    content = Path("results.jsonl").read_bytes()
    capsys.readouterr()
    assert main([*TRACK, "--eps", "3"]) == 2
    assert "with eps = [1.0, 0.1], this call has [1.0, 0.1, 3.0]; choose another file for `out`" in capsys.readouterr().err
    assert Path("results.jsonl").read_bytes() == content


def start(folder: Path, *more: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "nncomplexity", *TRACK, "--loss-fn", "mytask:slow", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def lines_of(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_as_an_undisturbed_one(folder: Path) -> None:
    make_training(folder, (1, 2, 3, 4, 5, 6))
    (folder / "run" / "step_10.safetensors").unlink()
    file = folder / "results.jsonl"
    before: list[bytes] = []
    for rows, more in ((2, ("--jobs", "2")), (4, ())):
        process = start(folder, *more)
        while lines_of(file) < rows and process.poll() is None:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        content = file.read_bytes()
        whole = content[: content.rindex(b"\n") + 1].splitlines()
        assert whole[: len(before)] == before, "rows that were there were changed"
        before = whole
        with file.open("ab") as opened:
            opened.write(b'{"schema": 1, "kind": "checkpoint", "sta')
    assert main([*TRACK, "--loss-fn", "mytask:slow"]) == 0
    found = read_rows()
    assert [json.dumps(row, ensure_ascii=False).encode() for row in found[: len(before)]] == before
    assert Counter(row["step"] for row in found) == Counter(range(1, 7)), "a checkpoint was measured twice, or never"
    assert main([*TRACK[:-1], "undisturbed.jsonl", "--loss-fn", "mytask:slow"]) == 0
    assert untimed(found) == untimed(read_rows("undisturbed.jsonl"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
def test_no_process_outlives_a_killed_one(folder: Path) -> None:
    process = start(folder, "--jobs", "2", "--budget", "100000", "--method", "tight")
    children: set[str] = set()
    while len(children) < 3 and process.poll() is None:  # two workers, and multiprocessing's resource tracker
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        children = set(listed.read_text().split()) if listed.exists() else set()
        time.sleep(0.02)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(1500):
        left = [child for child in children if Path(f"/proc/{child}/exe").exists()]
        if not left:
            return
        time.sleep(0.02)
    assert left == []
