"""The package is what docs/architecture.md says: every module in its tables, and imports that run one way, from below to above."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "nncomplexity"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
OPTIONAL = {"matplotlib", "sklearn", "devinterp"}
"""Packages of the extras, which only a call that needs them may load."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMMAND_LINE_ONLY = {"typer", "rich"}
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "common", "misc"}


@dataclass(frozen=True)
class Import:
    """One imported module, and where the statement stands."""

    name: str
    line: int
    in_function: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
TABLES = [
    (title, [f"{PACKAGE}.{name}" for name in re.findall(r"^\| `([\w.]+)` \|", section, flags=re.MULTILINE)])
    for title, section in re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
]
ORDER = [name for _, names in TABLES for name in names]


def imports_of(source: str) -> Iterator[Import]:
    tree = ast.parse(source)
    inside = {id(node) for function in ast.walk(tree) if isinstance(function, FUNCTIONS) for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from package import name` imports the module package.name where there is one, else package.
            base = "." * node.level + (node.module or "")
            submodules = [f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in FILES]
            names = submodules if len(submodules) == len(node.names) else [base, *submodules]
        else:
            continue
        yield from (Import(name, node.lineno, id(node) in inside) for name in names)


IMPORTS = {name: list(imports_of(path.read_text(encoding="utf-8"))) for name, path in FILES.items()}


def internal(name: str) -> list[Import]:
    return [found for found in IMPORTS[name] if found.name.split(".")[0] == PACKAGE]


def test_the_page_names_every_module_once() -> None:
    assert sorted(ORDER) == sorted(set(FILES) - {PACKAGE})


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_what_stands_above_it(name: str) -> None:
    above = set(ORDER[: ORDER.index(name)])
    upward = [f"line {found.line}: {found.name}" for found in internal(name) if found.name not in above]
    assert not upward, f"{name} imports modules that docs/architecture.md doesn't put above it: {upward}"


def test_the_arithmetic_imports_nothing_of_ours_but_itself() -> None:
    title, names = TABLES[0]
    assert title == "Arithmetic"
    assert {found.name for name in names for found in internal(name)} <= {
        f"{PACKAGE}.{name}" for name in ("errors", "sizes", "sketch", "switches")
    }


def test_imports_inside_functions_are_of_optional_packages() -> None:
    hidden = {f"{name}:{found.line}": found.name for name, imports in IMPORTS.items() for found in imports if found.in_function}
    assert {place: module for place, module in hidden.items() if module.split(".")[0] not in OPTIONAL} == {}


def test_imports_are_absolute() -> None:
    assert [name for name, imports in IMPORTS.items() for found in imports if found.name.startswith(".")] == []


def test_a_module_is_named_for_what_it_holds() -> None:
    assert [name for name in FILES if NAMES_THAT_SAY_NOTHING & set(name.split("."))] == []


def test_the_diagram_names_modules_that_exist() -> None:
    diagram = PAGE.split("```text\n")[1].split("```")[0]
    columns = [line[41:].split() for line in diagram.splitlines() if line[41:].strip()]
    named = [f"{PACKAGE}.{name.strip('/').replace('/', '.')}" for column in columns for name in column]
    assert named
    assert set(named) <= set(FILES)


def test_importing_the_package_loads_nothing_optional() -> None:
    unwanted = sorted(OPTIONAL | COMMAND_LINE_ONLY)
    program = f"import sys, {PACKAGE}; print([name for name in {unwanted} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_the_rules_above_see_what_they_forbid() -> None:
    source = f"""
from . import weights
from {PACKAGE} import table
from {PACKAGE}.bounds import arguments, Bound

def late():
    import json
"""
    found = [(entry.name, entry.in_function) for entry in imports_of(source)]
    assert found == [
        (".", False),
        (f"{PACKAGE}.table", False),
        (f"{PACKAGE}.bounds", False),
        (f"{PACKAGE}.bounds.arguments", False),
        ("json", True),
    ]
