"""Measures how well tests notice faults: it puts small faults into copies of the package, one at a time, and runs the tests on each.

    python tests/mutation.py --count 200 --seed 0

A fault (a mutant) is one changed operator, constant, condition or call. First, the tests run once on the unchanged package, and the functions
that each test calls are recorded. For each fault, the tests that call the faulty function run, the fastest first. If none of them fails, the
other tests of their files run. The fault is caught if a test fails or takes far too long. Faults that survive are listed with their lines.
A person must look at them, because some faults have no effect that a user could see.
"""

import argparse
import ast
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "nncomplexity"
TARGETS = {
    f"{PACKAGE}/codecs": ["tests/codecs", "tests/file"],
    f"{PACKAGE}/bounds": ["tests/bounds"],
    f"{PACKAGE}/file": ["tests/file", "tests/codecs"],
    f"{PACKAGE}/network/distortion.py": ["tests/network/test_distortion.py", "tests/network/test_soundness.py"],
    f"{PACKAGE}/dynamics": ["tests/dynamics"],
    f"{PACKAGE}/search": ["tests/search"],
}
"""The files that get faults, and the tests that should notice them."""
COMPARISONS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.In: "not in"}
COMPARISONS |= {ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is"}
ARITHMETIC = {ast.Add: "-", ast.Sub: "+", ast.Mult: "//", ast.FloorDiv: "*", ast.Div: "*", ast.Mod: "+", ast.Pow: "*"}
ARITHMETIC |= {ast.LShift: ">>", ast.RShift: "<<", ast.BitOr: "&", ast.BitAnd: "|", ast.BitXor: "|"}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "floor": "ceil", "ceil": "floor"}
ARGUMENTS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:random_order"]
PATIENCE = 5.0
"""Tests hang if they take longer than this factor times their time on the unchanged package, plus half a minute."""


@dataclass(frozen=True)
class Mutant:
    """One fault: a part of a file, and the text that replaces it."""

    path: str
    line: int
    begin: int
    end: int
    old: str
    new: str
    function: int = 0
    """The first line of the function with the fault; 0 for code that runs when the module is imported."""


def mutants_of(path: str, root: Path = ROOT) -> Iterator[Mutant]:
    """All possible faults of a file. Docstrings, annotations, messages and imports get no faults."""
    text = (root / path).read_text(encoding="utf-8")
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    for mutant in faults_of(path, text):
        inside = [node for node in functions if node.body[0].lineno <= mutant.line <= (node.end_lineno or 0)]
        innermost = max(inside, key=lambda node: node.lineno, default=None)
        # For Python, a function begins at its first decorator.
        begins = [] if innermost is None else [innermost.lineno, *(one.lineno for one in innermost.decorator_list)]
        yield replace(mutant, function=min(begins, default=0))


def faults_of(path: str, text: str) -> Iterator[Mutant]:
    """The possible faults of a file's text; `function` is not set."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    raw = text.encode()

    def at(line: int, column: int) -> int:
        return starts[line - 1] + column

    def between(left: ast.expr, right: ast.expr, new: str) -> Iterator[Mutant]:
        """The fault that replaces the operator between two expressions by `new`."""
        begin, end = at(left.end_lineno or 0, left.end_col_offset or 0), at(right.lineno, right.col_offset)
        found = re.search(rb"(not\s+in|is\s+not|in|is|[<>=!]=|<<|>>|\*\*|//|[<>+\-*/%&|^])", raw[begin:end])
        if found:
            old = found[0].decode()
            yield Mutant(path, left.end_lineno or 0, begin + found.start(), begin + found.end(), old, new)

    def whole(node: ast.expr, new: str) -> Mutant:
        begin, end = at(node.lineno, node.col_offset), at(node.end_lineno or 0, node.end_col_offset or 0)
        return Mutant(path, node.lineno, begin, end, raw[begin:end].decode(), new)

    for node in code_of(ast.parse(text)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, operator, right in zip(sides, node.ops, node.comparators, strict=False):
                if type(operator) in COMPARISONS:
                    yield from between(left, right, COMPARISONS[type(operator)])
        elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            yield from between(node.left, node.right, ARITHMETIC[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            parts = [ast.get_source_segment(text, value) or "" for value in node.values]
            other = " or " if isinstance(node.op, ast.And) else " and "
            yield whole(node, f"({other.join(f'({part})' for part in parts)})")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield whole(node, f"bool({ast.get_source_segment(text, node.operand)})")
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield whole(node, str(not node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield whole(node, f"({node.value!r} + 1)")
        elif isinstance(node, ast.If | ast.While | ast.IfExp):
            yield whole(node.test, f"(not ({ast.get_source_segment(text, node.test)}))")
        elif isinstance(node, ast.Name) and node.id in CALLS:
            yield whole(node, CALLS[node.id])


def code_of(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree that have an effect when the program runs."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list") or isinstance(tree, ast.Raise | ast.Assert):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Import | ast.ImportFrom | ast.Raise | ast.JoinedStr):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            yield child
            yield from code_of(child)


def chosen(count: int, seed: int, targets: Sequence[str], root: Path) -> list[tuple[Mutant, list[str]]]:
    """A random sample of the faults of all targets together. Each fault comes with the folders of the tests that should notice it."""
    every: list[tuple[Mutant, list[str]]] = []
    for target in targets:
        paths = [root / target] if target.endswith(".py") else sorted((root / target).rglob("*.py"))
        every += [(mutant, TARGETS[target]) for path in paths for mutant in mutants_of(path.relative_to(root).as_posix(), root)]
    print(f"{len(every)} possible faults", flush=True)
    return random.Random(seed).sample(every, min(count, len(every)))


class Recorder:
    """A plugin of pytest. It records how long each test takes, and which functions of the package it calls."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seconds, self.calls = str(folder / PACKAGE), dict[str, float](), dict[str, list[str]]()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        reached: dict[int, CodeType] = {}

        def trace(frame: FrameType, _event: str, _given: object) -> None:
            reached[id(frame.f_code)] = frame.f_code

        before = time.monotonic()
        threading.settrace(trace)
        sys.settrace(trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            self.seconds[item.nodeid] = time.monotonic() - before
            ours = (code for code in reached.values() if code.co_filename.startswith(self.folder))
            self.calls[item.nodeid] = sorted(
                {f"{PACKAGE}{code.co_filename.removeprefix(self.folder)}:{code.co_firstlineno}" for code in ours}
            )


def recorded(folders: Sequence[str], root: Path) -> dict[str, Any]:
    """The seconds and the calls of every test in these folders. Ends the program if a test fails."""
    into = root / "recorded.json"

    def record() -> int:
        recorder = Recorder(root)
        status = int(pytest.main([*ARGUMENTS, *folders], plugins=[recorder]))
        into.write_text(json.dumps({"seconds": recorder.seconds, "calls": recorder.calls}), encoding="utf-8")
        return status

    if in_a_copy(record, root, 3 * 3600) != 0:
        sys.exit(f"{' '.join(folders)}: expected tests that pass on the unchanged package; correct them first")
    found: dict[str, Any] = json.loads(into.read_text(encoding="utf-8"))
    return found


def tests_for(mutant: Mutant, folders: Sequence[str], record: dict[str, Any]) -> list[list[str]]:
    """The tests to run on a fault, in two parts: first the tests that call its function, and then the other tests of their files.

    The other tests are needed because a result may be kept between tests: one test calls the function, and another one checks the result.
    """
    seconds: dict[str, float] = record["seconds"]
    known = [test for test in seconds if test.startswith(tuple(folders))]
    place = f"{mutant.path}:{mutant.function}" if mutant.function else f"{mutant.path}:"
    calling = [
        test
        for test in known
        if any(call == place or (not mutant.function and call.startswith(place)) for call in record["calls"][test])
    ]
    files = {test.split("::")[0] for test in calling}
    others = [test for test in known if test not in calling and (not calling or test.split("::")[0] in files)]
    return [sorted(part, key=seconds.__getitem__) for part in (calling, others) if part]


def verdict(mutant: Mutant, parts: Sequence[list[str]], root: Path, seconds: dict[str, float]) -> str:
    """The result of the tests for a fault: "caught", "hangs", or "survives"."""
    file = root / mutant.path
    original = file.read_bytes()
    file.write_bytes(original[: mutant.begin] + mutant.new.encode() + original[mutant.end :])
    try:
        for tests in parts:
            patience = PATIENCE * sum(seconds[test] for test in tests) + 30
            status = in_a_copy(partial(pytest.main, [*ARGUMENTS, *tests]), root, patience)
            if status != 0:
                return "hangs" if status is None else "caught"
        return "survives"
    finally:
        file.write_bytes(original)


def in_a_copy(call: Callable[[], int], root: Path, seconds: float) -> int | None:
    """The exit status of `call` in a fork of this process, which has already imported PyTorch; None if it hangs."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(root)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        sys.path.insert(0, str(root))
        os._exit(int(call()))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> None:
    """Try the faults, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no further fault after this time")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="only faults in this part; can be repeated")
    parser.add_argument(
        "--record", type=Path, help="a JSON file with the functions that tests call: it is read if it exists, and written otherwise"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the verdicts")
    options = parser.parse_args()
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    sys.dont_write_bytecode = True  # Python would use a stale cache for two faults of the same size within one second
    targets = options.target or list(TARGETS)
    began, verdicts = time.monotonic(), list[tuple[Mutant, str]]()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in (PACKAGE, "tests", "examples", "docs", "benchmarks"):
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("pyproject.toml", "nncomplexity_launch.py", "README.md"):
            shutil.copy(ROOT / part, root / part)
        sample = chosen(options.count, options.seed, targets, root)
        if options.record and options.record.exists():
            record = json.loads(options.record.read_text(encoding="utf-8"))
        else:
            record = recorded(sorted({test for target in targets for test in TARGETS[target]}), root)
            print(f"{len(record['seconds'])} tests, {sum(record['seconds'].values()):.0f} s", flush=True)
            if options.record:
                options.record.write_text(json.dumps(record), encoding="utf-8")
        for mutant, tests in sample:
            if time.monotonic() - began > 60 * options.minutes:
                break
            verdicts.append((mutant, verdict(mutant, tests_for(mutant, tests, record), root, record["seconds"])))
            print(f"{verdicts[-1][1]:9}{mutant.path}:{mutant.line}  {mutant.old!r} -> {mutant.new!r}", flush=True)
            if options.out:
                rows = [{**asdict(one), "verdict": word} for one, word in verdicts]
                options.out.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    counts = Counter(word for _, word in verdicts)
    caught = counts["caught"] + counts["hangs"]
    print(f"{caught} of {len(verdicts)} caught, {100 * caught / max(len(verdicts), 1):.1f} %; {counts['survives']} survive")


if __name__ == "__main__":
    # Imported once here, because the process of each fault begins as a fork of this one.
    import hypothesis  # noqa: F401
    import numpy  # noqa: F401
    import scipy.special  # noqa: F401
    import torch  # noqa: F401

    main()
