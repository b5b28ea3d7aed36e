"""Whether tests notice when the code is wrong: small faults are put into copies of the package, one at a time, and its tests run on each.

    python tests/mutation.py --count 200 --seed 0

A fault (a mutant) is one changed operator, constant, condition or call. It is caught where a test of the mirrored folder fails or takes far
too long. What survives is listed with its line, to be looked at by a person: a fault that changes nothing that anybody could see is none.
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
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "nncomplexity"
TARGETS = {
    f"{PACKAGE}/codecs": ["tests/codecs", "tests/file"],
    f"{PACKAGE}/bounds": ["tests/bounds"],
    f"{PACKAGE}/file": ["tests/file", "tests/codecs"],
    f"{PACKAGE}/network/distortion.py": ["tests/network/test_distortion.py", "tests/network/test_soundness.py"],
    f"{PACKAGE}/dynamics": ["tests/dynamics"],
}
"""What is changed, and the tests that should notice: the later ones run where the first ones didn't."""
COMPARISONS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.In: "not in"}
COMPARISONS |= {ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is"}
ARITHMETIC = {ast.Add: "-", ast.Sub: "+", ast.Mult: "//", ast.FloorDiv: "*", ast.Div: "*", ast.Mod: "+", ast.Pow: "*"}
ARITHMETIC |= {ast.LShift: ">>", ast.RShift: "<<", ast.BitOr: "&", ast.BitAnd: "|", ast.BitXor: "|"}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "floor": "ceil", "ceil": "floor"}
PATIENCE = 5.0
"""Tests are taken to hang after so many times the time that they took before anything was changed, and a minute."""
LONGEST = 30.0
"""What is taken for that time where it wasn't measured."""


@dataclass(frozen=True)
class Mutant:
    """One fault: a piece of a file, and what stands in its place."""

    path: str
    line: int
    begin: int
    end: int
    old: str
    new: str


def mutants_of(path: str, root: Path = ROOT) -> Iterator[Mutant]:
    """Every fault that a file may be given. Docstrings, annotations, messages and imports have none."""
    text = (root / path).read_text(encoding="utf-8")
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    raw = text.encode()

    def at(line: int, column: int) -> int:
        return starts[line - 1] + column

    def between(left: ast.expr, right: ast.expr, new: str) -> Iterator[Mutant]:
        """The operator between two expressions, in whose place `new` is put."""
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
    """The nodes of a tree that do something when the program runs."""
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


def chosen(count: int, seed: int, root: Path) -> list[tuple[Mutant, list[str]]]:
    """A random sample of the faults of all targets together, with the tests to run on each."""
    every: list[tuple[Mutant, list[str]]] = []
    for target, tests in TARGETS.items():
        paths = [root / target] if target.endswith(".py") else sorted((root / target).rglob("*.py"))
        every += [(mutant, tests) for path in paths for mutant in mutants_of(path.relative_to(root).as_posix(), root)]
    print(f"{len(every)} possible faults", flush=True)
    return random.Random(seed).sample(every, min(count, len(every)))


def verdict(mutant: Mutant, tests: Sequence[str], folder: Path, usual: dict[str, float]) -> str:
    """What becomes of a fault: "caught", "hangs", or "survives"; `usual` is the time that tests take without one."""
    file = folder / mutant.path
    original = file.read_bytes()
    file.write_bytes(original[: mutant.begin] + mutant.new.encode() + original[mutant.end :])
    try:
        for one in [*nearest(mutant.path, tests, folder), *tests]:
            status = run(one, folder, PATIENCE * usual.get(one, LONGEST) + 60)
            if status != 0:
                return "hangs" if status is None else "caught"
        return "survives"
    finally:
        file.write_bytes(original)


def nearest(path: str, tests: Sequence[str], folder: Path) -> list[str]:
    """The test files that are named after a module, as test_payload.py is: they run before the others of their folder, and mostly suffice."""
    stem = Path(path).stem
    return [str(file.relative_to(folder)) for one in tests for file in sorted((folder / one).glob(f"test_*{stem}*.py"))]


def run(tests: str, folder: Path, seconds: float) -> int | None:
    """The exit status of the tests in a process of their own, which has PyTorch already; None where they hang."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(folder)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        sys.path.insert(0, str(folder))
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:random_order", tests])))
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
    """Run the mutants, and say what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no further mutant after so long")
    parser.add_argument("--passing", action="store_true", help="don't look first whether the tests pass; they are known to")
    parser.add_argument("--out", type=Path, help="a JSON file for the verdicts")
    options = parser.parse_args()
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    sys.dont_write_bytecode = True  # two mutants of one size and second would have one cached file
    began, verdicts = time.monotonic(), list[tuple[Mutant, str]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in (PACKAGE, "tests", "examples", "docs", "benchmarks"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("pyproject.toml", "nncomplexity_launch.py", "README.md"):
            shutil.copy(ROOT / part, folder / part)
        sample = chosen(options.count, options.seed, folder)
        usual: dict[str, float] = {}
        for one in [] if options.passing else sorted({one for _, tests in sample for one in tests}):
            before = time.monotonic()
            if run(one, folder, 3600) != 0:
                sys.exit(f"{one}: expected tests that pass before anything is changed; mend them first")
            usual[one] = time.monotonic() - before
            print(f"{one}: {usual[one]:.0f} s", flush=True)
        for mutant, tests in sample:
            if time.monotonic() - began > 60 * options.minutes:
                break
            verdicts.append((mutant, verdict(mutant, tests, folder, usual)))
            print(f"{verdicts[-1][1]:9}{mutant.path}:{mutant.line}  {mutant.old!r} -> {mutant.new!r}", flush=True)
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
    import pytest
    import scipy.special  # noqa: F401
    import torch  # noqa: F401

    main()
