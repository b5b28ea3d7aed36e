"""Kills `measure`, `curve` and `track --jobs 2` at random moments: no result is lost or incomplete, and no process is left.

    python -m tests.fuzz.kills --kills 200

Each program is a fork of this one, so it begins without the seconds that imports take. The workers of `track` are new processes, which do
import. Standard output has the figures as JSON. The exit code is 1 if there was a fault.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from nncomplexity.cli import main as command_line
from nncomplexity.file import read_file
from tests.training_run import QUICK, make_training, untimed

TASK = ["--loss-fn", "mytask:loss"]
CALLS: dict[str, list[str]] = {
    "measure": ["measure", "run/step_10.safetensors", *TASK, *QUICK, "--eps", "0.1", "--save", "m.coarse", "--json", "m.json"],
    "curve": [
        *("curve", "run/step_10.safetensors", *TASK, *QUICK, "--eps", "1", "--eps", "0.1", "--n", "64", "--loss-unit", "nats"),
        *("--save-best", "c.coarse", "--json", "c.json"),
    ],
    "track": ["track", "run/*.safetensors", *TASK, *QUICK, "--eps", "0.1", "--jobs", "2", "--seeds", "2", "--out", "t.jsonl"],
}
SHARES = {"measure": 0.4, "curve": 0.4, "track": 0.2}
PATIENCE = 10.0
"""A process that still exists this number of seconds after its parent was killed counts as left."""


def started(argv: Sequence[str], folder: Path) -> int:
    """The id of a new process that runs the command line in that folder, without output."""
    process = os.fork()
    if process:
        return process
    os.chdir(folder)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    # Workers import the main module of their parent first. Like the console script's, it must be light, so it isn't this module.
    vars(sys.modules["__main__"]).update(__spec__=None, __file__=None)
    try:
        os._exit(command_line(argv))
    finally:
        os._exit(99)


def ended(process: int) -> int:
    """Wait until the process has ended. Returns its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def children(process: int) -> list[int]:
    """The ids of a process's children and their descendants. Empty on a system without /proc."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
    found, wanted = [], [process]
    while wanted:
        one = wanted.pop()
        below = [child for child, parent in parents.items() if parent == one]
        found += below
        wanted += below
    return found


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Kills:
    """The kills in one folder, and the faults that were found after them."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._folder, self._chance = folder, chance
        self.kills: Counter[str] = Counter()
        self.faults: list[str] = []
        self.longest_left = 0.0
        self._seconds: dict[str, float] = {}
        self._rows = 0
        make_training(folder)

    def begin(self, names: Sequence[str]) -> None:
        """Run each program once to its end. This measures its time, and makes the results that a kill could damage."""
        for name in names:
            began = time.monotonic()
            if (code := ended(started(CALLS[name], self._folder))) != 0:
                raise SystemExit(f"{name} ends with exit code {code} without a kill")
            self._seconds[name] = time.monotonic() - began
        self._whole = self._tracked() if "track" in names else []
        self._forget_rows()

    def kill(self, name: str) -> None:
        """Start a program, kill it at a random moment, and check the files and processes that it left."""
        process = started(CALLS[name], self._folder)
        time.sleep(self._chance.uniform(0.0, 1.05 * self._seconds[name]))
        below = children(process)
        os.kill(process, signal.SIGKILL)
        ended(process)
        killed = time.monotonic()
        self.kills[name] += 1
        while any(map(is_alive, below)) and time.monotonic() - killed < PATIENCE:
            time.sleep(0.01)
        self.longest_left = max(self.longest_left, time.monotonic() - killed) if below else self.longest_left
        if any(map(is_alive, below)):
            self.faults.append(f"{name}: a process is left {PATIENCE:g} s after its parent was killed")
        self._look(name)

    def end(self, names: Sequence[str]) -> None:
        """Run each program to its end once more. All results must be the same as without kills, and no temporary file may be left."""
        for name in names:
            if (code := ended(started(CALLS[name], self._folder))) != 0:
                self.faults.append(f"{name}: exit code {code} after the kills")
            self._look(name)
        if "track" in names and untimed(self._tracked()) != untimed(self._whole):
            self.faults.append("track: other rows than without kills")
        left = [path.name for path in self._folder.iterdir() if path.name.startswith(".nncomplexity.")]
        if left and {"measure", "curve"} & {*names}:
            self.faults.append(f"{len(left)} temporary files are left")

    def _look(self, name: str) -> None:
        look: Callable[[], None] = self._look_at_rows if name == "track" else lambda: self._look_at_files(name[0])
        try:
            look()
        except Exception as error:
            self.faults.append(f"{name}: {type(error).__name__}: {error}")

    def _look_at_files(self, letter: str) -> None:
        read_file(self._folder / f"{letter}.coarse").weights()
        assert json.loads((self._folder / f"{letter}.json").read_text())["results"]

    def _look_at_rows(self) -> None:
        path = self._folder / "t.jsonl"
        content = path.read_bytes() if path.exists() else b""
        rows = [json.loads(line) for line in content.split(b"\n")[:-1]]
        assert len(rows) >= self._rows, f"{len(rows)} rows, {self._rows} before"
        assert len({(row["checkpoint"], row["seed"]) for row in rows}) == len(rows), "a row twice"
        self._rows = len(rows)
        if self._rows == len(self._whole):
            self._forget_rows()

    def _forget_rows(self) -> None:
        (self._folder / "t.jsonl").unlink(missing_ok=True)
        self._rows = 0

    def _tracked(self) -> list[dict[str, object]]:
        path = self._folder / "t.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else self._whole

    def figures(self) -> dict[str, object]:
        """The counts, faults and times as plain values."""
        return {
            "kills": dict(self.kills),
            "faults": self.faults,
            "seconds_of_a_whole_run": {name: round(value, 2) for name, value in self._seconds.items()},
            "longest_outlived_seconds": round(self.longest_left, 2),
        }


def main() -> int:
    """Parse the command line, and make the kills."""
    parser = argparse.ArgumentParser(description="Kill measure, curve and track at random moments.")
    parser.add_argument("--kills", type=int, default=200, help="the number of kills")
    parser.add_argument(
        "--seed", type=int, default=None, help="the same seed gives the same moments; without it, they are new each time"
    )
    parser.add_argument("--only", choices=[*CALLS], action="append", help="only this program; can be repeated")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)  # with more threads, arithmetic in a fork would wait for threads that the fork doesn't have
    seed = random.SystemRandom().randrange(2**32) if given.seed is None else given.seed
    chance = random.Random(seed)
    names = [name for name in CALLS if not given.only or name in given.only]
    with tempfile.TemporaryDirectory() as folder:
        kills = Kills(Path(folder), chance)
        kills.begin(names)
        for name in chance.choices(names, [SHARES[name] for name in names], k=given.kills):
            kills.kill(name)
        kills.end(names)
    print(json.dumps({"seed": seed, **kills.figures()}, indent=1))
    return 1 if kills.faults else 0


if __name__ == "__main__":
    sys.exit(main())
