"""Modules can be imported by their names from before the package had wings. They are then the same objects as under their present names."""

import importlib
import sys

import pytest

import nncomplexity
from nncomplexity.words.moved import MOVED, serve_old_names


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_name_gives_the_module_of_today_and_says_so(old: str, new: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
        found = importlib.import_module(old)
    today = vars(importlib.import_module(new))
    public = {name: value for name, value in today.items() if not name.startswith("_")}
    assert public
    assert all(getattr(found, name) is value for name, value in public.items())


def test_a_module_inside_a_folder_that_moved_is_found_too() -> None:
    sys.modules.pop("nncomplexity.plots.chart", None)
    with pytest.warns(DeprecationWarning, match=r"nncomplexity\.show\.plots\.elements"):
        found = importlib.import_module("nncomplexity.plots.chart")
    assert found.Chart is importlib.import_module("nncomplexity.show.plots.elements").Chart


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("nncomplexity.nothing_of_the_kind")


def test_public_names_stay_what_they_are_when_an_old_module_is_imported() -> None:
    before = {name: getattr(nncomplexity, name) for name in nncomplexity.__all__}
    for old in MOVED:
        sys.modules.pop(old, None)
        with pytest.warns(DeprecationWarning, match="import from there"):
            importlib.import_module(old)
    assert {name: getattr(nncomplexity, name) for name in nncomplexity.__all__} == before


def test_old_names_are_served_once() -> None:
    count = len(sys.meta_path)
    serve_old_names()
    assert len(sys.meta_path) == count
