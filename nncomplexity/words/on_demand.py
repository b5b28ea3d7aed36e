"""Names of a package that are loaded when they are first used, so that reading results does not wait for PyTorch."""

import importlib
import sys
from collections.abc import Collection, Mapping, Sequence
from types import ModuleType
from typing import Any


class _OnDemand(ModuleType):
    """A package that looks up some of its names in its modules, when they are asked for."""

    _places: Mapping[str, str]
    _modules: Collection[str]

    def __getattr__(self, name: str) -> Any:
        known = vars(self)
        if name in known.get("_places", {}):
            found = getattr(importlib.import_module(self._places[name]), name)
        elif name in known.get("_modules", ()):
            found = importlib.import_module(f"{self.__name__}.{name}")
        else:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        known[name] = found
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        # When a module is loaded, Python sets the package's attribute of that name. If a function has this name, the attribute stays the
        # function.
        if not (isinstance(value, ModuleType) and name in self._places):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *self._places, *self._modules})


def load_on_demand(package: str, names: Mapping[str, Sequence[str]], modules: Collection[str] = ()) -> None:
    """Let a package load names when they are first used.

    Args:
        package: its `__name__`.
        names: the names in each of its modules, by the module's name in the package.
        modules: modules of the package that are loaded in the same way.
    """
    module = sys.modules[package]
    vars(module)["_places"] = {name: f"{package}.{place}" for place, several in names.items() for name in several}
    vars(module)["_modules"] = modules
    module.__class__ = _OnDemand
