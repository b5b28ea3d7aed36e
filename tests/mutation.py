"""Whether tests notice when the code is wrong: small faults are put into copies of the package, one at a time, and its tests run on each.

    python tests/mutation.py --count 200 --seed 0

A fault (a mutant) is one changed operator, constant, condition or call. First the tests run once on the unchanged package, and it is recorded
which functions each of them calls. A fault is then put to the tests that call its function, the fastest first, and to the other tests of their
files where none of those fails. It is caught if a test fails or takes far too long. What survives is listed with its line, to be looked at by
a person: some faults change nothing that anybody could see.

With `--seconds`, a fault is put to the fastest tests only, as many as take so long together. What survives them is put to all tests with
`--again`, also to those that were written since:

    python tests/mutation.py --count 200 --seconds 40 --record calls.json --out verdicts.json
    python tests/mutation.py --again verdicts.json --record calls.json --out verdicts-again.json
"""

import argparse
import hashlib
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from faults import Mutant, mutants_of

ROOT = Path(__file__).parents[1]
PACKAGE = "nncomplexity"
TARGETS = {
    f"{PACKAGE}/codecs": ["tests/codecs", "tests/file"],
    f"{PACKAGE}/bounds": ["tests/bounds"],
    f"{PACKAGE}/file": [
        "tests/file",
        "tests/codecs",
        "tests/network/test_relative.py",
        "tests/checkpoint/test_checkpoint_damaged.py",
    ],
    f"{PACKAGE}/network/distortion.py": ["tests/network"],
    f"{PACKAGE}/dynamics": ["tests/dynamics", "tests/measure/test_critical_bits.py"],
    f"{PACKAGE}/search": ["tests/search"],
}
"""What is changed, and the tests that should notice."""
ARGUMENTS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:random_order"]
PATIENCE, GRACE = 5.0, 20
"""A test is taken to hang after so many times the seconds that it took on the unchanged package, and so many seconds."""
MEMORY = 6 << 30
"""The largest number of bytes that tests may allocate, because a fault may make a loop that fills a list for ever."""


def chosen(count: int, seed: int, targets: Sequence[str], root: Path) -> list[tuple[Mutant, list[str]]]:
    """A random sample of the faults of all targets together, with the folders of tests that should notice each."""
    every: list[tuple[Mutant, list[str]]] = []
    for target in targets:
        paths = [root / target] if target.endswith(".py") else sorted((root / target).rglob("*.py"))
        every += [(mutant, TARGETS[target]) for path in paths for mutant in mutants_of(path.relative_to(root).as_posix(), root)]
    print(f"{len(every)} possible faults", flush=True)
    return random.Random(seed).sample(every, min(count, len(every)))


def again(file: Path, root: Path) -> list[tuple[Mutant, list[str]]]:
    """The faults that survive in a file of verdicts, found by function and line where the code around them has changed since."""
    found: list[tuple[Mutant, list[str]]] = []
    for row in json.loads(file.read_text(encoding="utf-8")):
        if row.pop("verdict") != "survives":
            continue
        was = Mutant(**row)
        same = [one for one in mutants_of(was.path, root) if replace(one, line=was.line, begin=was.begin, end=was.end) == was]
        if same:
            now = min(same, key=lambda one: abs(one.begin - was.begin))
            found.append((now, next(tests for target, tests in TARGETS.items() if was.path.startswith(target))))
        else:
            print(f"gone     {was.path}:{was.line}  {was.text}", flush=True)
    return found


class Recorder:
    """A plugin of pytest that records how long each test takes, and which functions of the package it calls."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tests = str(folder / PACKAGE), dict[str, dict[str, Any]]()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        reached: dict[int, CodeType] = {}

        def trace(frame: FrameType, _event: str, _given: object) -> None:
            reached[id(frame.f_code)] = frame.f_code

        forget_results()
        before = time.monotonic()
        threading.settrace(trace)
        sys.settrace(trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            ours = [code for code in reached.values() if code.co_filename.startswith(self.folder)]
            calls = {f"{PACKAGE}{code.co_filename.removeprefix(self.folder)}:{code.co_qualname}" for code in ours}
            self.tests[item.nodeid] = {"seconds": time.monotonic() - before, "calls": sorted(calls)}


def forget_results() -> None:
    """Clear the caches of the package's functions, so that a test calls each function whose result it uses."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == PACKAGE]
    for function in {id(one): one for module in modules for one in vars(module).values() if hasattr(one, "cache_clear")}.values():
        function.cache_clear()


def recorded(folders: Sequence[str], root: Path, known: dict[str, Any]) -> dict[str, Any]:
    """For every file of tests its digest, and the seconds and the calls of its tests; only files that have changed since `known` run.

    Ends the program where a test fails.
    """
    paths = [
        path
        for folder in folders
        for path in ([root / folder] if folder.endswith(".py") else sorted((root / folder).rglob("test_*.py")))
    ]
    digests = {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    changed = [file for file, digest in digests.items() if known.get(file, {}).get("digest") != digest]
    into = root / "recorded.json"

    def record() -> int:
        recorder = Recorder(root)
        status = int(pytest.main([*ARGUMENTS, *changed], plugins=[recorder]))
        into.write_text(json.dumps(recorder.tests), encoding="utf-8")
        return status

    if changed and in_a_copy(record, root) != 0:
        sys.exit(f"{' '.join(changed)}: expected tests that pass before anything is changed; mend them first")
    tests: dict[str, Any] = json.loads(into.read_text(encoding="utf-8")) if changed else {}
    news = {file: {"digest": digests[file], "tests": {}} for file in changed}
    for test, what in tests.items():
        news[test.split("::")[0]]["tests"][test] = what
    return known | news


def tests_for(mutant: Mutant, folders: Sequence[str], record: dict[str, Any], seconds: float) -> dict[str, float]:
    """The tests to run on a fault with the seconds that each takes: those that call its function, then the others of their files.

    A result may be kept between tests, so that the test that calls the function isn't the one that looks at the result.
    """
    known = {test: what for file, one in record.items() if file.startswith(tuple(folders)) for test, what in one["tests"].items()}
    place = f"{mutant.path}:{mutant.function}"

    def reaches(what: dict[str, Any]) -> bool:
        return any(call == place or (not mutant.function and call.startswith(place)) for call in what["calls"])

    calling = {test for test, what in known.items() if reaches(what)}
    files = {test.split("::")[0] for test in calling}
    others = {test for test in known if test not in calling and (not calling or test.split("::")[0] in files)}
    chosen: dict[str, float] = {}
    for part in (calling, others):
        for test in sorted(part, key=lambda test: known[test]["seconds"]):
            if sum(chosen.values()) + known[test]["seconds"] <= seconds:
                chosen[test] = known[test]["seconds"]
    return chosen


class Alarm:
    """A plugin of pytest that has the process killed where a test hangs."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        signal.alarm(GRACE + math.ceil(PATIENCE * self.seconds[item.nodeid]))


def verdict(mutant: Mutant, tests: dict[str, float], root: Path) -> str:
    """What becomes of a fault: "caught", "hangs", or "survives"."""
    file = root / mutant.path
    original = file.read_bytes()
    file.write_bytes(original[: mutant.begin] + mutant.new.encode() + original[mutant.end :])
    try:
        status = in_a_copy(lambda: pytest.main([*ARGUMENTS, *tests], plugins=[Alarm(tests)]), root, GRACE * 3)
    finally:
        file.write_bytes(original)
    return {0: "survives", -signal.SIGALRM: "hangs"}.get(status, "caught")


def in_a_copy(call: Callable[[], int], root: Path, seconds: int = 0) -> int:
    """The exit status that `call` gives in a copy of this process, which has PyTorch already; it is killed after so many seconds, if any."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(root)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        sys.path.insert(0, str(root))
        signal.alarm(seconds)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        status = 1
        try:
            status = int(call())
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the tests had started
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    """Run the mutants, and say what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no further mutant after so long")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="only this; can be repeated")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="put each fault to the fastest tests, of so many seconds together"
    )
    parser.add_argument("--again", type=Path, help="a JSON file of verdicts: what survives in it is tried again, and nothing else")
    parser.add_argument(
        "--record", type=Path, help="a JSON file of what tests call, kept for later runs; delete it when the package has changed"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the verdicts")
    options = parser.parse_args()
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    sys.dont_write_bytecode = True  # two mutants of one size and second would have one cached file
    targets = options.target or list(TARGETS)
    began, verdicts = time.monotonic(), list[tuple[Mutant, str]]()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in (PACKAGE, "tests", "examples", "docs", "benchmarks"):
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("pyproject.toml", "nncomplexity_launch.py", "README.md"):
            shutil.copy(ROOT / part, root / part)
        sample = again(options.again, root) if options.again else chosen(options.count, options.seed, targets, root)
        known = json.loads(options.record.read_text(encoding="utf-8")) if options.record and options.record.exists() else {}
        record = recorded(sorted({test for _, tests in sample for test in tests}), root, known)
        if options.record:
            options.record.write_text(json.dumps(record), encoding="utf-8")
        for mutant, folders in sample:
            if time.monotonic() - began > 60 * options.minutes:
                break
            verdicts.append((mutant, verdict(mutant, tests_for(mutant, folders, record, options.seconds), root)))
            print(
                f"{verdicts[-1][1]:9}{mutant.path}:{mutant.line}  {mutant.old!r} -> {mutant.new!r}  in  {mutant.text}", flush=True
            )
            if options.out:
                rows = [{**asdict(one), "verdict": word} for one, word in verdicts]
                options.out.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    counts = Counter(word for _, word in verdicts)
    caught = counts["caught"] + counts["hangs"]
    print(f"{caught} of {len(verdicts)} caught, {100 * caught / max(len(verdicts), 1):.1f} %; {counts['survives']} survive")


if __name__ == "__main__":
    # Imported here, once for all: each mutant's process begins as a copy of this one.
    import hypothesis  # noqa: F401
    import numpy  # noqa: F401
    import scipy.special  # noqa: F401
    import torch  # noqa: F401

    main()
