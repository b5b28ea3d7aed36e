"""The small faults that `mutation.py` puts into copies of the package: one changed operator, constant, condition or call each."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

COMPARISONS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.In: "not in"}
COMPARISONS |= {ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is"}
ARITHMETIC = {ast.Add: "-", ast.Sub: "+", ast.Mult: "//", ast.FloorDiv: "*", ast.Div: "*", ast.Mod: "+", ast.Pow: "*"}
ARITHMETIC |= {ast.LShift: ">>", ast.RShift: "<<", ast.BitOr: "&", ast.BitAnd: "|", ast.BitXor: "|"}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "floor": "ceil", "ceil": "floor"}


@dataclass(frozen=True)
class Mutant:
    """One fault: a piece of a file, and what stands in its place."""

    path: str
    line: int
    begin: int
    end: int
    old: str
    new: str
    text: str = ""
    """The line that it is in, without the spaces around it."""
    function: str = ""
    """The qualified name of the function that it is in; empty for code that runs when the module is imported."""


def mutants_of(path: str, root: Path) -> Iterator[Mutant]:
    """Every fault that a file may be given. Docstrings, annotations, messages and imports have none."""
    text = (root / path).read_text(encoding="utf-8")
    functions = list(functions_of(ast.parse(text)))
    for mutant in faults_of(path, text):
        inside = [(node.lineno, name) for name, node in functions if node.body[0].lineno <= mutant.line <= (node.end_lineno or 0)]
        _, innermost = max(inside, default=(0, ""))
        yield replace(mutant, text=text.splitlines()[mutant.line - 1].strip(), function=innermost)


def functions_of(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions of a tree, with the qualified names that Python gives them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield within + node.name, node
            yield from functions_of(node, f"{within}{node.name}.<locals>.")
        else:
            yield from functions_of(node, f"{within}{node.name}." if isinstance(node, ast.ClassDef) else within)


def faults_of(path: str, text: str) -> Iterator[Mutant]:
    """The faults of a file's text, without the functions that they are in."""
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
            # None of these changes a result: NumPy takes any negative number for the -1 of a reshape, `strict` of `zip` is a check.
            if isinstance(tree, ast.Call) and ast.unparse(tree.func).endswith(".reshape") and isinstance(child, ast.UnaryOp):
                continue
            if isinstance(child, ast.keyword) and child.arg in ("copy", "strict"):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            yield child
            yield from code_of(child)
