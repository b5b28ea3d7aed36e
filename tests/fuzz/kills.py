"""Kills at random moments of `measure`, `curve` and `track --jobs 2`: no result is lost, none is half-written, no process is left.

    python -m tests.fuzz.kills --kills 200

Each program is a fork of this one, so that none begins with seconds of imports; the workers of `track` are processes of their own and do.
The figures go to standard output as JSON; the exit code is 1 where something fell.
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
"""Seconds after which a process whose parent was killed counts as left."""


def started(argv: Sequence[str], folder: Path) -> int:
    """The process that runs the command line in that folder, and says nothing."""
    process = os.fork()
    if process:
        return process
    os.chdir(folder)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    # The console script's main module is as light: workers would else import this one before they do anything.
    vars(sys.modules["__main__"]).update(__spec__=None, __file__=None)
    try:
        os._exit(command_line(argv))
    finally:
        os._exit(99)


def ended(process: int) -> int:
    """Its exit code, once it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def children(process: int) -> list[int]:
    """Its children and theirs, where the system has /proc."""
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
    """What was killed, and what was found afterwards, in one folder."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._folder, self._chance = folder, chance
        self.kills: Counter[str] = Counter()
        self.faults: list[str] = []
        self.longest_left = 0.0
        self._seconds: dict[str, float] = {}
        self._rows = 0
        make_training(folder)

    def begin(self, names: Sequence[str]) -> None:
        """Run each once to its end: how long it takes, and what results there are to lose."""
        for name in names:
            began = time.monotonic()
            if (code := ended(started(CALLS[name], self._folder))) != 0:
                raise SystemExit(f"{name} ends with exit code {code} where nobody kills it")
            self._seconds[name] = time.monotonic() - began
        self._whole = self._tracked() if "track" in names else []
        self._forget_rows()

    def kill(self, name: str) -> None:
        """Start a program, kill it at a random moment of its time, and look at what it left."""
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
        """Run each to its end once more: all results are there, as if nobody had killed anything, and no temporary file is left."""
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
        """Plain values."""
        return {
            "kills": dict(self.kills),
            "faults": self.faults,
            "seconds_of_a_whole_run": {name: round(value, 2) for name, value in self._seconds.items()},
            "longest_outlived_seconds": round(self.longest_left, 2),
        }


def main() -> int:
    """Parse the command line and kill."""
    parser = argparse.ArgumentParser(description="Kills of measure, curve and track at random moments.")
    parser.add_argument("--kills", type=int, default=200, help="how many in all")
    parser.add_argument("--seed", type=int, default=None, help="for the same moments again; else others each time")
    parser.add_argument("--only", choices=[*CALLS], action="append", help="only this program; repeat it")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)  # a fork has none of the threads that the arithmetic would wait for
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
