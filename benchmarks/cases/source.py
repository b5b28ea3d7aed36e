"""The source that measured a figure: a digest of the code that searches, encodes and decodes.

The digest is computed from the parsed code. Comments, layout, docstrings, imports, exported names and the place of a module don't
change it.
"""

import ast
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

from nncomplexity.version import __version__

ROOT = "nncomplexity.search"
"""The searches. With their imports they include the file format, the codecs and the arithmetic."""
DIGITS = 12


@cache
def source_digest(root: str = ROOT) -> str:
    """The first hexadecimal digits of the digest of a module, or of a package with its modules, and of all modules of ours that they import."""
    names = {found for module in _with_modules(root) for found in modules_of(module)}
    modules = sorted({code_digest(_path(name).read_text(encoding="utf-8")) for name in names})
    return hashlib.sha256("".join(modules).encode()).hexdigest()[:DIGITS]


def made_by(root: str = ROOT) -> dict[str, str]:
    """The version and the source, as records have them."""
    return {"nncomplexity": __version__, "source": source_digest(root)}


def code_digest(text: str) -> str:
    """The digest of a module's code.

    >>> code_digest("import math\\nx = 1  # one") == code_digest('\"\"\"About x.\"\"\"\\nx  =  1')
    True
    >>> code_digest("x = 1") == code_digest("x = 2")
    False
    """
    return hashlib.sha256(ast.dump(_Bare().visit(ast.parse(text))).encode()).hexdigest()


@cache
def modules_of(root: str) -> frozenset[str]:
    """A module or package of ours, and the modules of ours that it imports, directly or not."""
    found: set[str] = set()
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported(name)
    return frozenset(found)


@cache
def _imported(name: str) -> tuple[str, ...]:
    """The modules of ours that a module imports directly."""
    found: list[str] = []
    package = name.partition(".")[0]
    for node in ast.walk(ast.parse(_path(name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [node.module, *(one for one in inner if _is_module(one))]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] == package]
    return tuple(found)


def _with_modules(root: str) -> list[str]:
    """The module, or the package and each of its modules."""
    path = _path(root)
    inner = iter_modules([str(path.parent)]) if path.name == "__init__.py" else []
    return [root, *(f"{root}.{module.name}" for module in inner)]


class _Bare(ast.NodeTransformer):
    """Removes docstrings, imports and `__all__`, which don't change what is computed. An empty body becomes `pass`."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        body = getattr(node, "body", None)
        if isinstance(body, list):
            first = body[0] if body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                body = body[1:]
            node.body = [one for one in body if not _names_alone(one)] or [ast.Pass()]  # type: ignore[attr-defined]
        return super().generic_visit(node)


def _names_alone(node: ast.stmt) -> bool:
    exported = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
    return exported or isinstance(node, ast.Import | ast.ImportFrom)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _path(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None, name
    assert spec.origin is not None, name
    return Path(spec.origin)
