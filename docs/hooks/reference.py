"""The reference of the site: a page for the names of the package itself and one for each wing, made from the docstrings.

The sources are read and not imported, so that the pages of integrations need none of the packages that these work with.
"""

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "nncomplexity"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WINGS = dict(re.findall(r"^\| `(\w+)/` \| (.+) \|$", ARCHITECTURE, flags=re.MULTILINE))
"""Each wing with the question that it answers, from the table of docs/architecture.md."""
PAGES = {PACKAGE: "What users need first.", **{f"{PACKAGE}.{wing}": question for wing, question in WINGS.items()}}
"""A page for each module, with a sentence on it."""


def on_config(config: Any) -> Any:
    """Put the pages into the navigation, at the entry `Reference`."""
    for entry in config["nav"]:
        if "Reference" in entry:
            entry["Reference"] = [{module.removeprefix(f"{PACKAGE}."): place_of(module)} for module in PAGES if names_of(module)]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages: one entry for each function and class, on the first page that has it."""
    entries: dict[str, str] = {}
    for module, about in PAGES.items():
        names = {name: origin for name in names_of(module) if (origin := origin_of(module, name))}
        new = [f"::: {origin}.{name}" for name, origin in names.items() if f"{origin}.{name}" not in entries]
        elsewhere = [f"[{name}][{origin}.{name}]" for name, origin in names.items() if f"{origin}.{name}" in entries]
        entries |= {f"{origin}.{name}": module for name, origin in names.items()}
        if names:
            more = [f"{', '.join(elsewhere)}: see [{PACKAGE}]({PACKAGE}.md)."] if elsewhere else []
            content = "\n\n".join([f"# {module}", about, *more, *new, ""])
            files.append(File.generated(config, place_of(module), content=content))
    return files


def place_of(module: str) -> str:
    """The page of a module."""
    return f"reference/{module.removeprefix(f'{PACKAGE}.')}.md"


def names_of(module: str) -> list[str]:
    """The functions and classes that a module exports. Constants and types are explained where they are used."""
    public = {
        name
        for node in ast.parse(source_of(module)).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
        for name in ast.literal_eval(node.value)
    }
    return sorted((name for name in public if origin_of(module, name)), key=str.lower)


def origin_of(module: str, name: str) -> str | None:
    """The module that defines a function or class, which this module has or imports; None for anything else.

    The place of the definition is the only name without two meanings: `nncomplexity.measure.estimate` is a function and also its module.
    """
    tree = ast.parse(source_of(module))
    if any(isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name for node in tree.body):
        return module
    origins = [
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names)
    ]
    return next((found for origin in origins if (found := origin_of(origin, name))), None)


def source_of(module: str) -> str:
    """The source of a module of ours; nothing for any other."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text(encoding="utf-8") if file.is_file() else ""
