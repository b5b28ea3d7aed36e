"""The package agrees with docs/architecture.md: the order of the wings, imports in one direction, and names imported from the wing itself."""

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
WINGS = re.findall(r"^\| `(\w+)/` \|", PAGE, flags=re.MULTILINE)
"""The wings from the top to the bottom. A wing imports only from those below it."""
BELOW_ALL = {"errors", "version"}
"""Modules at the top of the package that every wing may import."""
OPTIONAL = {
    *("matplotlib", "sklearn", "devinterp", "optuna", "distributed", "cloudpickle"),
    *("lightning", "transformers", "wandb", "mlflow", "tensorboard"),
}
"""Optional packages, and the packages of one method. Only a call that needs them may load them."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMMAND_LINE_ONLY = {"typer", "rich"}
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "common", "misc"}
MOST_ENTRIES = 20


@dataclass(frozen=True)
class Import:
    """One imported module, and the place of the statement."""

    name: str
    line: int
    in_function: bool


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def exported(package: str) -> set[str]:
    """The names in `__all__` of a package of ours; none for anything else."""
    path = FILES.get(package)
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path else ():
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def imports_of(source: str) -> Iterator[Import]:
    tree = ast.parse(source)
    inside = {id(node) for function in ast.walk(tree) if isinstance(function, FUNCTIONS) for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name != PACKAGE]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == PACKAGE:
            # `nncomplexity.measure.estimate` loads the wing when the function runs.
            yield Import(f"{PACKAGE}.{node.attr}", node.lineno, in_function=False)
            continue
        elif isinstance(node, ast.ImportFrom):
            # `from package import name` imports the module package.name if it exists, unless the package exports that name.
            base = "." * node.level + (node.module or "")
            public = exported(base)
            submodules = [
                f"{base}.{alias.name}" for alias in node.names if alias.name not in public and f"{base}.{alias.name}" in FILES
            ]
            names = submodules if len(submodules) == len(node.names) else [base, *submodules]
        else:
            continue
        yield from (Import(name, node.lineno, id(node) in inside) for name in names)


IMPORTS = {name: list(imports_of(path.read_text(encoding="utf-8"))) for name, path in FILES.items()}


def wing_of(module: str) -> str | None:
    """The wing of a module; None for the modules at the top of the package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in WINGS else None


def internal(name: str) -> list[Import]:
    return [found for found in IMPORTS[name] if found.name.split(".")[0] == PACKAGE]


IN_WINGS = [name for name in FILES if wing_of(name)]


def test_the_page_names_every_wing_once() -> None:
    folders = {path.name for path in (ROOT / PACKAGE).iterdir() if (path / "__init__.py").is_file()}
    assert sorted(WINGS) == sorted(folders)


def test_few_entries_stand_at_the_top_of_the_package() -> None:
    entries = [path.name for path in (ROOT / PACKAGE).iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES, entries


@pytest.mark.parametrize("name", IN_WINGS)
def test_a_wing_imports_only_from_those_below_it(name: str) -> None:
    at = WINGS.index(wing_of(name) or "")
    allowed = {wing_of(name), *WINGS[at + 1 :]}
    upward = [
        f"line {found.line}: {found.name}"
        for found in internal(name)
        if wing_of(found.name) not in allowed and found.name.removeprefix(f"{PACKAGE}.") not in BELOW_ALL
    ]
    assert not upward, f"{name} imports what doesn't stand below its wing in docs/architecture.md: {upward}"


@pytest.mark.parametrize("name", FILES)
def test_names_of_another_wing_come_from_its_face(name: str) -> None:
    inside = [
        f"line {found.line}: {found.name}"
        for found in internal(name)
        if (wing := wing_of(found.name)) and wing != wing_of(name) and found.name != f"{PACKAGE}.{wing}"
    ]
    assert not inside, (
        f"{name} imports from a file in another wing; import from the wing, and add the name to its __init__: {inside}"
    )


def test_the_files_of_a_wing_import_each_other_without_a_cycle() -> None:
    for wing in WINGS:
        names = [name for name in FILES if wing_of(name) == wing and name != f"{PACKAGE}.{wing}"]
        left = {name: {found.name for found in internal(name)} & set(names) for name in names}
        while ready := [name for name, needed in left.items() if not needed & set(left)]:
            for name in ready:
                del left[name]
        assert not left, f"{wing}/ has a cycle of imports among {sorted(left)}"


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_says_what_its_files_do(wing: str) -> None:
    folder = ROOT / PACKAGE / wing
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    listed = {name for line in text.splitlines() if line.startswith("- ") for name in re.findall(r"`(\w+)`", line.split(":")[0])}
    there = {
        path.stem
        for path in folder.iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()
    }
    assert listed == there


def test_nothing_imports_the_integrations() -> None:
    """These packages take seconds to import, and are not installed everywhere."""
    integrations = f"{PACKAGE}.integrations"
    importing = [
        name for name in FILES if wing_of(name) != "integrations" for found in internal(name) if integrations in found.name
    ]
    assert importing == [PACKAGE]  # this tells type checkers that the wing exists, and loads it at its first use
    assert {found.name.split(".")[0] for name in FILES if wing_of(name) != "integrations" for found in IMPORTS[name]}.isdisjoint(
        {"lightning", "transformers", "wandb", "mlflow", "tensorboard"}
    )


def test_imports_inside_functions_are_of_optional_packages() -> None:
    hidden = {f"{name}:{found.line}": found.name for name, imports in IMPORTS.items() for found in imports if found.in_function}
    assert {place: module for place, module in hidden.items() if module.split(".")[0] not in OPTIONAL} == {}


def test_only_the_command_line_names_wings_by_the_package() -> None:
    """Everywhere else, an import at the top shows what a file needs."""
    by_package = [name for name, path in FILES.items() if re.search(rf"^import {PACKAGE}$", path.read_text("utf-8"), re.MULTILINE)]
    assert {wing_of(name) for name in by_package} == {"cli"}


def test_imports_are_absolute() -> None:
    assert [name for name, imports in IMPORTS.items() for found in imports if found.name.startswith(".")] == []


def test_a_module_is_named_for_what_it_holds() -> None:
    assert [name for name in FILES if NAMES_THAT_SAY_NOTHING & set(name.split("."))] == []


@pytest.mark.parametrize("folder", ["examples", "benchmarks"])
def test_examples_and_benchmarks_import_public_names_from_the_top_or_a_wing(folder: str) -> None:
    inside = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for found in imports_of(path.read_text(encoding="utf-8")):
            wing, _, file = found.name.removeprefix(f"{PACKAGE}.").partition(".")
            names = exported(f"{PACKAGE}.{wing}") if found.name.startswith(f"{PACKAGE}.") and file else set()
            if names & _imported(path, found):
                inside.append(f"{path.relative_to(ROOT)}:{found.line}")
    assert not inside, f"these import a public name from a file in a wing: {inside}"


def _imported(path: Path, found: Import) -> set[str]:
    return {
        alias.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.lineno == found.line and node.module == found.name
        for alias in node.names
    }


ROOMS = ["measuring", "reporting", "peers", "cases"]
"""The parts of the benchmarks from the top to the bottom."""


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_the_benchmarks_imports_only_from_those_below_it(room: str) -> None:
    allowed = set(ROOMS[ROOMS.index(room) :])
    upward = [
        f"{path.name}:{found.line}: {found.name}"
        for path in sorted((ROOT / "benchmarks" / room).glob("*.py"))
        for found in imports_of(path.read_text(encoding="utf-8"))
        if found.name.startswith("benchmarks.") and found.name.split(".")[1] not in allowed
    ]
    assert not upward
    assert [path.name for path in (ROOT / "benchmarks").glob("*.py")] == []


def test_tests_mirror_the_wings() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders & set(WINGS) == set(WINGS)


def definitions(name: str) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Every function, method and class of a module, those inside functions too."""
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node


def is_overload(function: ast.FunctionDef) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "overload" for one in function.decorator_list)


FRONT_DOORS = exported(PACKAGE).union(*(exported(f"{PACKAGE}.{wing}") for wing in WINGS))
"""The exports of the package and its wings: only these may take more arguments."""
COMMANDS = {(f"{PACKAGE}.cli.{file}", name) for file, name in [("show", "plot")]}
"""Commands whose parameters are the single options of the command line."""
MOST_PARAMETERS = 8
MOST_LINES = 80


def test_few_functions_take_many_arguments() -> None:
    found = []
    for module in FILES:
        for node in definitions(module):
            if isinstance(node, ast.FunctionDef) and node.name not in FRONT_DOORS and (module, node.name) not in COMMANDS:
                given = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                if len([one for one in given if one not in ("self", "cls")]) > MOST_PARAMETERS:
                    found.append(f"{module}.{node.name}")
    assert not found, f"these take more than {MOST_PARAMETERS} arguments; make a settings object of them, or two functions: {found}"


def test_no_function_is_long() -> None:
    found = []
    for module in FILES:
        for node in definitions(module):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                if body and (body[-1].end_lineno or 0) - body[0].lineno >= MOST_LINES:
                    found.append(f"{module}.{node.name}")
    assert not found, f"these have more than {MOST_LINES} lines without signature and docstring: {found}"


def test_a_class_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = {}
    for module in FILES:
        for node in definitions(module):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_no_call_hides_its_arguments_in_a_tuple() -> None:
    """The arguments of a call such as `f(*(a, b), c=c)`, in which what is given must be counted."""
    found = []
    for module in FILES:
        for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                hidden = [one for one in node.args if isinstance(one, ast.Starred) and isinstance(one.value, ast.Tuple | ast.List)]
                found += [f"{module}:{node.lineno}" for _ in hidden]
    assert not found


def public_functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions that a wing exports, in the files that define them."""
    for module in FILES:
        names = exported(f"{PACKAGE}.{wing_of(module)}")
        for node in ast.parse(FILES[module].read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name in names and not is_overload(node):
                yield module, node


def test_a_public_function_that_explains_its_arguments_says_what_it_returns() -> None:
    """A short docstring says it in its first line. ruff checks that the sections `Args`, if there are any, and `Raises` are complete."""
    found = [
        f"{module}.{node.name}"
        for module, node in public_functions()
        if "Args:" in (text := ast.get_docstring(node) or "")
        and not re.search("^(Returns|Yields):$", text, flags=re.MULTILINE)
        and not (isinstance(node.returns, ast.Constant) and node.returns.value is None)
        and not any(isinstance(one, ast.Name) and one.id == "contextmanager" for one in node.decorator_list)
    ]
    assert not found, f"add a section `Returns` to the docstrings of {found}"


def test_functions_of_the_package_explain_arguments_result_and_errors() -> None:
    names = exported(PACKAGE)
    lacking = {
        node.name: missing
        for _, node in public_functions()
        if node.name in names
        and (missing := [part for part in ("Args:", "Returns:", "Raises:") if part not in (ast.get_docstring(node) or "")])
    }
    assert not lacking


def test_importing_the_package_loads_nothing_optional() -> None:
    unwanted = sorted(OPTIONAL | COMMAND_LINE_ONLY)
    program = f"import sys, {PACKAGE}.integrations; print([name for name in {unwanted} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_the_rules_above_see_what_they_forbid() -> None:
    source = f"""
from . import weights
from {PACKAGE} import cli
from {PACKAGE}.bounds import arguments, Bound

def late():
    import json
    {PACKAGE}.file.load
"""
    found = [(entry.name, entry.in_function) for entry in imports_of(source)]
    assert found == [
        (".", False),
        (f"{PACKAGE}.cli", False),
        (f"{PACKAGE}.bounds", False),
        (f"{PACKAGE}.bounds.arguments", False),
        ("json", True),
        (f"{PACKAGE}.file", False),
    ]
