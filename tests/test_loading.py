"""When packages are loaded: only code that measures loads PyTorch, and code that only describes doesn't."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import nncomplexity
from nncomplexity.cli import main
from nncomplexity.file import DEFAULT_LIMIT
from nncomplexity.show import KINDS
from tests.rows import row, write_rows

ROOT = Path(__file__).parents[1]
HEAVY = ["torch", "scipy", "optuna", "matplotlib", "sklearn", "pandas", "polars"]
ON_DEMAND = ["bounds", "checkpoint", "file", "linalg"]
"""Wings whose names are loaded when they are first used."""


def loaded_by(program: str) -> list[str]:
    """The heavy packages that a new program has loaded at its end."""
    told = f"{program}\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=ROOT)
    return list(ast.literal_eval(done.stdout.splitlines()[-1]))


def test_help_version_and_completion_load_nothing_heavy() -> None:
    calls = [["--version"], ["--help"], ["measure", "--help"], ["track", "--help"], ["verify", "--help"], ["plot", "--help"]]
    completing = (
        'os.environ |= {"_NNCOMPLEXITY_COMPLETE": "complete_bash", "COMP_WORDS": "nncomplexity measure --", "COMP_CWORD": "2"}'
    )
    program = f"""
import os, sys
from nncomplexity.cli import main
for arguments in {calls}:
    assert main(arguments) == 0
{completing}
"""
    assert loaded_by(program) == []


@pytest.mark.parametrize("command", ["plot {0} --out {1}.svg", "report {0} --out {1}.html", "compare {0} --out {1}.svg"])
def test_showing_results_loads_no_pytorch(command: str, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "results.jsonl", [row(step, run=run) for run in ("runs/a", "runs/b") for step in (1, 10, 100)])
    arguments = command.format(rows, tmp_path / "made").split()
    loaded = loaded_by(f"import sys; from nncomplexity.cli import main; assert main({arguments}) == 0; print()")
    assert set(loaded) <= {"matplotlib"}


@pytest.mark.parametrize("wing", ON_DEMAND)
def test_names_on_demand_are_those_that_type_checkers_find(wing: str) -> None:
    package = importlib.import_module(f"nncomplexity.{wing}")
    tree = ast.parse(Path(package.__file__ or "").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    stated = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert stated == package._places
    assert set(stated) == set(package.__all__) <= set(dir(package))
    for name, place in stated.items():
        assert getattr(package, name) is getattr(importlib.import_module(place or ""), name)
    with pytest.raises(AttributeError, match=f"module 'nncomplexity.{wing}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_a_function_keeps_its_name_when_the_module_of_that_name_is_loaded() -> None:
    program = """
import sys
import nncomplexity.linalg.quantize, nncomplexity.file.paper_bytes
from nncomplexity.linalg import quantize
from nncomplexity.file import paper_bytes
assert callable(quantize) and callable(paper_bytes)
from nncomplexity.linalg.quantize import quantize as same
assert quantize is same and nncomplexity.linalg.quantize is same
"""
    assert set(loaded_by(program)) <= {"torch", "scipy"}


def test_the_package_alone_loads_nothing_heavy() -> None:
    assert loaded_by("import sys, nncomplexity; dir(nncomplexity); nncomplexity.InputError, nncomplexity.Relative") == []


def test_measuring_loads_neither_optuna_nor_a_package_of_an_extra() -> None:
    assert set(loaded_by("import sys; from nncomplexity import estimate, track, Tracker")) <= {"torch", "scipy"}


def test_every_public_name_is_where_type_checkers_find_it() -> None:
    tree = ast.parse(Path(nncomplexity.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    stated = {
        alias.name: node.module.removeprefix("nncomplexity").removeprefix(".")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    wings = {name for name, module in stated.items() if not module}
    assert wings == nncomplexity._WINGS
    assert {name: f"nncomplexity.{module}" for name, module in stated.items() if module} == nncomplexity._places
    assert {*nncomplexity._places, "__version__"} == set(nncomplexity.__all__)


def test_public_names_and_wings_are_there_and_are_offered() -> None:
    for name in (*nncomplexity.__all__, *nncomplexity._WINGS):
        assert getattr(nncomplexity, name) is not None
        assert name in dir(nncomplexity)
    assert nncomplexity.estimate is nncomplexity.measure.estimate


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'nncomplexity' has no attribute 'measures'"):
        nncomplexity.measures  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'measures'"):
        exec("from nncomplexity import measures")


def test_the_help_states_what_is_defined_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decompress", "--help"]) == 0
    assert str(DEFAULT_LIMIT) in capsys.readouterr().out
    assert main(["plot", "--help"]) == 0
    assert ", ".join(KINDS) in " ".join(capsys.readouterr().out.split())
