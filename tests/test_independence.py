"""No test depends on another one: no test file has a random generator that its tests share."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parent.rglob("*.py"))
MAKERS = {"Generator", "default_rng", "RandomState", "Random"}
SEEDING = {"manual_seed", "seed"}


def shared_generators(text: str) -> Iterator[int]:
    """The lines of a file that make a generator, or seed that of the process, when the file is imported.

    One that is used up in the same expression is shared by nobody: `torch.randn(3, generator=torch.Generator().manual_seed(0))`.
    """
    tree = ast.parse(text)
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in at_import(tree):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        if name in MAKERS:
            if not used_up(node, parents):
                yield node.lineno
        elif name in SEEDING and isinstance(parents[id(node)], ast.Expr):
            yield node.lineno


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """All that is evaluated when a file is imported: not the bodies of functions, but their decorators and defaults."""
    for child in ast.iter_child_nodes(node):
        yield child
        if isinstance(child, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef):
            for part in (child.args, *getattr(child, "decorator_list", ())):
                yield from at_import(ast.Expr(part))
        else:
            yield from at_import(child)


def called(node: ast.Call) -> str | None:
    return getattr(node.func, "attr", None) or getattr(node.func, "id", None)


def used_up(node: ast.AST, parents: dict[int, ast.AST]) -> bool:
    """Whether the generator that an expression makes is an argument of a function, or draws there and then."""
    parent = parents[id(node)]
    if isinstance(parent, ast.Attribute):
        return parent.attr not in SEEDING or used_up(parents[id(parent)], parents)
    return isinstance(parent, ast.keyword) and parent.arg == "generator"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_imports_a_file_of_tests(path: Path) -> None:
    """What several suites need stands in modules without tests, such as `tests.cases`: importing tests would run them twice."""
    imported = [
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
    ]
    assert not [name for name in imported if name.startswith("test_") or ".test_" in name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_of_tests_shares_no_generator(path: Path) -> None:
    lines = list(shared_generators(path.read_text(encoding="utf-8")))
    assert not lines, f"{path.name}: lines {lines} make or seed a generator for all tests; each test makes its own"


@pytest.mark.parametrize(
    "text",
    [
        "G = torch.Generator()",
        "G = torch.Generator().manual_seed(0)",
        "rng: Any = np.random.default_rng(0)",
        "A, B = 1, np.random.RandomState(0)",
        "ALL = {'a': random.Random(0)}",
        "if True:\n    generator = Generator()",
        "class Case:\n    generator = torch.Generator()",
        "def draw(generator=torch.Generator()):\n    return generator",
        "@pytest.mark.parametrize('rng', [np.random.default_rng(0)])\ndef test_it(rng):\n    pass",
        "torch.manual_seed(0)",
        "np.random.seed(0)",
    ],
)
def test_a_shared_generator_is_found(text: str) -> None:
    assert list(shared_generators(text))


@pytest.mark.parametrize(
    "text",
    [
        "def test_it():\n    generator = torch.Generator().manual_seed(0)",
        "X = torch.randn(3, generator=torch.Generator().manual_seed(0))",
        "X = np.random.default_rng(0).normal(size=3)",
        "make = lambda: torch.Generator()",
        "MAKERS = [torch.Generator]",
        "def test_it():\n    torch.manual_seed(0)",
    ],
)
def test_what_a_test_makes_itself_is_not(text: str) -> None:
    assert not list(shared_generators(text))
