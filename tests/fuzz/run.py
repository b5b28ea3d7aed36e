"""The fuzzer: it gives damaged files to every reader, for a chosen time.

    python -m tests.fuzz.run --seconds 600

An input is a fault if it gives neither a result nor one of the package's own exceptions, if it takes much longer than a valid file, or if it
takes too much memory. Such an input is kept in tests/fuzz/corpus, where the tests read it from then on, and the exit code is 1. Standard
output has the figures as JSON.
"""

import argparse
import hashlib
import json
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from nncomplexity.file import reading
from tests.fuzz.readers import LIMIT, READERS, Reader, outcome
from tests.fuzz.seeds import CORPUS

MIB = 1 << 20
SECONDS_ALWAYS, SECONDS_A_MIB = 1.0, 0.01
MEMORY_ALWAYS, MEMORY_TIMES = 200 * MIB, 4
"""The limits for an input: seconds in addition to those of a valid file of its length, and bytes in addition to the limit of a .coarse file."""


def peak() -> int:
    """The largest number of bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Run:
    """Counts and times of the inputs so far."""

    def __init__(self, corpus: Path) -> None:
        self.corpus = corpus
        self.tried: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self.faults: Counter[str] = Counter()

    def one(self, reader: Reader, content: bytes, folder: Path, seconds_a_byte: float) -> None:
        """Read one input, and keep it if it is a fault."""
        before, began = peak(), time.process_time()
        error = outcome(reader, content, folder)
        took = time.process_time() - began
        self.tried[reader.name] += 1
        self.seconds[reader.name] += took
        self.slowest[reader.name] = max(self.slowest.get(reader.name, 0.0), took)
        if error is not None:
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._keep(reader, content, f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {str(error)[:100]}")
        most = SECONDS_ALWAYS + seconds_a_byte * len(content) + (SECONDS_A_MIB * LIMIT / MIB if reader.name == "coarse" else 0.0)
        if took > most:
            self._keep(reader, content, "takes too long", f"{took:.2f} s, at most {most:.2f}")
        grown = peak() - before
        if grown > MEMORY_ALWAYS + MEMORY_TIMES * LIMIT:
            self._keep(reader, content, "takes too much memory", f"{grown / MIB:.0f} MiB more than before")

    def _keep(self, reader: Reader, content: bytes, what: str, figures: str = "") -> None:
        self.faults[f"{reader.name}: {what}"] += 1
        if self.faults[f"{reader.name}: {what}"] == 1:
            self.corpus.mkdir(parents=True, exist_ok=True)
            name = f"{reader.name}-{hashlib.sha256(content).hexdigest()[:16]}"
            (self.corpus / name).write_bytes(content)
            print(f"{name}: {what} {figures}", file=sys.stderr, flush=True)

    def figures(self) -> dict[str, object]:
        """The counts and times as plain values, for people and for docs/reliability.md."""
        each = {
            name: {"inputs": count, "seconds": round(self.seconds[name], 1), "slowest": round(self.slowest[name], 3)}
            for name, count in self.tried.items()
        }
        return {"inputs": self.tried.total(), "faults": dict(self.faults), "peak_mib": peak() // MIB, "readers": each}


def seconds_a_byte(reader: Reader, folder: Path) -> float:
    """The largest time for each byte of a valid file."""
    slowest = 0.0
    for content in reader.seeds():
        began = time.process_time()
        assert outcome(reader, content, folder) is None
        slowest = max(slowest, (time.process_time() - began) / len(content))
    return slowest


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="Damaged files for every reader.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to run")
    parser.add_argument(
        "--seed", type=int, default=None, help="the same seed gives the same inputs; without it, they are new each time"
    )
    parser.add_argument("--reader", choices=[reader.name for reader in READERS], help="only this reader")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="the folder for inputs that are faults")
    given = parser.parse_args()
    reading.PAUSES = (0.0,)  # a reader takes a new damaged file for one that is being written, and reads it again
    seed = random.SystemRandom().randrange(2**32) if given.seed is None else given.seed
    chance, run = random.Random(seed), Run(given.corpus)
    readers = [reader for reader in READERS if given.reader in (None, reader.name)]
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        for reader in readers:  # the first inputs also import modules, which must not count as their time
            for content in reader.seeds():
                reader.read(content, folder)
        rates = {reader.name: seconds_a_byte(reader, folder) for reader in readers}
        until = time.monotonic() + given.seconds
        try:
            while time.monotonic() < until:
                # A share is a part of the time, not of the inputs.
                reader = min(readers, key=lambda one: run.seconds[one.name] / one.share)
                for _ in range(20):
                    run.one(reader, reader.inputs(chance), folder, rates[reader.name])
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
    print(json.dumps({"seed": seed, **run.figures()}, indent=1))
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())
