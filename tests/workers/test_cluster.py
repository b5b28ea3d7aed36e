"""A real Dask scheduler with three worker processes on loopback: the rows are those of one machine, whichever process dies."""

import gc
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nncomplexity import track
from nncomplexity.cli import main
from nncomplexity.errors import InputError
from nncomplexity.workers import cluster as cluster_file
from nncomplexity.workers import dask_executor
from tests.cluster import RunningCluster, running_cluster
from tests.training_run import QUICK, make_training, untimed

pytest.importorskip("distributed")

STEPS = (1, 2, 3, 4, 10)
OPTIONS: dict[str, Any] = {"method": "quantize", "budget": 12}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    with running_cluster(3, tmp_path_factory.mktemp("cluster")) as running:
        yield running


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def test_rows_are_those_of_one_machine_and_a_dead_worker_loses_none_and_a_dead_scheduler_is_one_line(
    cluster: RunningCluster, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_training(workplace, STEPS)
    alone = track("run/*", "mytask:slow", 1, **OPTIONS)

    # Loss and data of this function are sent to the workers by value.
    scale = {"of": 2.0}
    mine = lambda network: scale["of"] * (network["weight"] ** 2).mean()  # noqa: E731
    here = track("run/*", mine, 1, untrained=True, model="mytask:build", **OPTIONS)
    with dask_executor(cluster.address) as executor:
        there = track("run/*", mine, 1, untrained=True, model="mytask:build", executor=executor, **OPTIONS)
    assert untimed(there) == untimed(here)

    command = ["track", "run/*", "--loss-fn", "mytask:slow", "--eps", "1", *QUICK, "--scheduler", cluster.address]
    assert main([*command, "--out", "whole.jsonl"]) == 0
    assert untimed(rows_of("whole.jsonl")) == untimed(alone)

    searched = ["run/step_10.safetensors", "--loss-fn", "mytask:loss", "--eps", "1", *QUICK, "--seeds", "2"]
    for name in ("measure", "curve"):
        for options in ([], ["--scheduler", cluster.address]):
            assert main([name, *searched, *options, "--json", f"{name}{len(options)}.json"]) in (0, 3)
        one, other = (json.loads(Path(f"{name}{count}.json").read_text())["results"] for count in (0, 2))
        assert [(one["bits"], one["spread"]) for one in one] == [(one["bits"], one["spread"]) for one in other]

    # A worker is killed while it measures a row.
    killed: list[int] = []

    def kill(row: dict[str, Any], known: bool) -> None:
        if not killed:
            killed.append(cluster.workers[0])
            os.kill(killed[0], signal.SIGKILL)

    with dask_executor(cluster.address) as executor:
        rows = track("run/*", "mytask:slow", 1, executor=executor, on_row=kill, out="killed.jsonl", **OPTIONS)
    assert killed
    assert untimed(rows) == untimed(rows_of("killed.jsonl")) == untimed(alone)

    # The scheduler is killed: the file has the rows that were finished before, and nothing about the others.
    ended: list[int] = []

    def end(row: dict[str, Any], known: bool) -> None:
        if not ended:
            ended.append(cluster.scheduler)
            os.kill(ended[0], signal.SIGKILL)

    capsys.readouterr()
    with dask_executor(cluster.address) as executor, pytest.raises(InputError, match="executor: it withdrew the work") as lost:
        track("run/*", "mytask:slow", 1, executor=executor, on_row=end, out="ended.jsonl", **OPTIONS)
    assert "\n" not in str(lost.value)
    assert [row["status"] for row in rows_of("ended.jsonl")] in (["measured"], ["measured"] * 2, ["measured"] * 3)
    assert capsys.readouterr().err == ""
    assert untimed(track("run/*", "mytask:slow", 1, out="ended.jsonl", **OPTIONS)) == untimed(alone)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            ["track", "--jobs", "2", "--scheduler", "tcp://127.0.0.1:9", "--out", "rows.jsonl"],
            "--scheduler: expected only this or --jobs",
        ),
        (
            ["measure", "--seeds", "2", "--jobs", "2", "--scheduler", "tcp://127.0.0.1:9"],
            "--scheduler: expected only this or --jobs",
        ),
        (
            ["measure", "--seeds", "2", "--jobs", "3"],
            "--jobs: expected at most one process for each of the 2 searches of --seeds, got 3",
        ),
    ],
)
def test_a_call_for_workers_that_is_wrong_is_one_line(
    command: list[str], words: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_training(workplace, (1,))
    assert main([*command, "run/step_1.safetensors", "--loss-fn", "mytask:loss", "--eps", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"nncomplexity: {words}")


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"--scheduler: it needs Dask; install it with pip install 'nncomplexity\[dask\]'"):
        dask_executor("tcp://127.0.0.1:9", "--scheduler").__enter__()


def test_a_scheduler_that_cannot_be_reached_is_one_line(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_training(workplace, (1,))
    monkeypatch.setattr(cluster_file, "PATIENCE", 0.2)
    for address in ("tcp://127.0.0.1:9", "nonsense", "foo://127.0.0.1:9"):
        command = ["track", "run/*", "--loss-fn", "mytask:loss", "--eps", "1", "--out", "rows.jsonl", "--scheduler", address]
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"nncomplexity: --scheduler: no Dask scheduler answers at {address} (")
    Path("text.json").write_text("no JSON")
    Path("other.json").write_text('{"id": "Scheduler-1"}')
    for address in ("absent.json", "text.json", "other.json", ""):
        with pytest.raises(InputError, match=r"scheduler: expected the address of a Dask scheduler, such as .*, got '"):
            dask_executor(address).__enter__()
    assert not Path("rows.jsonl").exists()
    # Python would close an open client when the program ends, and print a traceback after ten seconds.
    clients = [one for one in gc.get_objects() if type(one).__name__ == "Client" and type(one).__module__ == "distributed.client"]
    assert all(one.status == "closed" for one in clients)
