"""A Dask cluster on loopback for tests: a scheduler and workers, each in its own process, which a test may kill.

These processes are forks of one process, so PyTorch is imported only once.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = """
import asyncio, os, sys
import nncomplexity.dynamics
from distributed import Scheduler, Worker

async def schedule(told):
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        print(scheduler.address, file=told, flush=True)
        await scheduler.finished()

async def work(address, number):
    async with Worker(address, nthreads=1, name=number, dashboard=False, local_directory=sys.argv[2]) as worker:
        await worker.finished()

def forked(make):
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(make())
        finally:
            os._exit(0)
    return child

read, write = os.pipe()
scheduler = forked(lambda: schedule(os.fdopen(write, "w")))
os.close(write)
address = os.fdopen(read).readline().strip()
print(address, scheduler, *(forked(lambda: work(address, number)) for number in range(int(sys.argv[1]))), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class RunningCluster:
    """The address of a scheduler, and the ids of processes."""

    address: str
    scheduler: int
    workers: tuple[int, ...]


@contextmanager
def running_cluster(workers: int, folder: Path) -> Iterator[RunningCluster]:
    """A scheduler and this number of workers, whose current folder is `folder`."""
    command = [sys.executable, "-c", _PROGRAM, str(workers), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder, env=environment
        )
        assert started.stdin
        assert started.stdout
        line = started.stdout.readline().split()
        assert line, (folder / "log").read_text()
        pids = [int(pid) for pid in line[1:]]
        try:
            yield RunningCluster(line[0], pids[0], tuple(pids[1:]))
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            started.stdin.close()
            started.stdout.close()
            started.wait(30)
