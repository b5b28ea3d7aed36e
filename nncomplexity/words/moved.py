"""Names of modules as they were before: they still import, with a DeprecationWarning, until version 1.0."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_WINGS = {
    "checkpoint": ("runs", "stepkeys", "stepnames", "steps"),
    "cli": ("basefile", "curve_table", "outputs", "table"),
    "file": ("bitstream", "coarse", "paper_bytes", "payload"),
    "linalg": ("basis", "fits", "lowrank", "quantize", "sizes", "sketch", "spectral"),
    "measure": ("arguments", "curve", "learning_coefficient", "lossless", "report", "verify"),
    "network": (*("distortion", "layout", "losses", "modulestate", "naming", "relative", "selection", "taskmodule", "weights"),),
    "show": ("html", "plots"),
    "training": ("regularizers", "spectral_gradient"),
    "words": ("durations", "paths", "progress"),
}
_RENAMED = {
    "checkpoint.beside": "checkpoint.training_state",
    "checkpoint.inert": "checkpoint.placeholders",
    "listing": "words.text",
    "plain": "words.numbers",
    "plots.chart": "show.plots.elements",
    "search.looks": "search.layouts",
    "words.listing": "words.text",
    "words.plain": "words.numbers",
}
_PACKAGE = __name__.partition(".")[0]
MOVED = {f"{_PACKAGE}.{name}": f"{_PACKAGE}.{wing}.{name}" for wing, names in _WINGS.items() for name in names}
MOVED |= {f"{_PACKAGE}.{old}": f"{_PACKAGE}.{new}" for old, new in _RENAMED.items()}
"""Old names of modules, and their present names."""


class _Finder(MetaPathFinder, Loader):
    """Finds a module by its old name. The result looks up every name in the present module."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:  # noqa: ARG002
        now = _now(fullname)
        return ModuleSpec(fullname, self, is_package=hasattr(importlib.import_module(now), "__path__")) if now else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:  # noqa: ARG002
        return None

    def exec_module(self, module: ModuleType) -> None:
        now = _now(module.__name__) or ""
        warnings.warn(f"{module.__name__} is now {now}; import from there", DeprecationWarning, stacklevel=2)
        target = importlib.import_module(now)
        vars(module).update({name: value for name, value in vars(target).items() if not name.startswith("__")})


def _now(name: str) -> str | None:
    """The present name of a module that was moved, alone or with its folder."""
    for old, new in sorted(MOVED.items(), reverse=True):  # the name of a module comes before the name of its folder
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return None


def serve_old_names() -> None:
    """Make the old names of modules importable. A second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
