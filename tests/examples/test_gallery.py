"""The gallery: each page shows its program and the output. With a smaller budget, the program still runs and prints the same words."""

import ast
import json
import re
import runpy
from functools import partial
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

import nncomplexity
from nncomplexity import estimate

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "gallery"
NAMES = sorted(path.stem for path in (ROOT / "examples" / "gallery").glob("[!_]*.py"))
MOST_LINES = 60
BUDGETS = {"bound": 100}
"""Programs for which a smaller budget changes more than numbers: the bound would become vacuous, and the text would say so."""
SMALL_BUDGET = 10
METHODS = dict.fromkeys(("fine_tuning", "grokking", "pruning", "shuffled_labels", "simplest"), "quantize")
"""Programs with many or large networks, for which the default search takes seconds before its first evaluation."""
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def code(name: str) -> str:
    return (ROOT / "examples" / "gallery" / f"{name}.py").read_text(encoding="utf-8")


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def block(name: str, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", page(name), flags=re.M | re.S)
    return found


def without_numbers(printed: str) -> list[str]:
    """The lines of an output without their numbers, which depend on the budget and on the machine."""
    return [NUMBER.sub("#", line) for line in printed.splitlines()]


def test_every_program_has_a_page_a_picture_and_a_place_in_the_list() -> None:
    assert len(NAMES) >= 8
    for kind in ("md", "svg", "json"):
        assert sorted(path.stem for path in PAGES.glob(f"*.{kind}") if path.stem != "index") == NAMES
    assert sorted(re.findall(r"^\| \[[^\]]+\]\((\w+)\.md\)", page("index"), flags=re.MULTILINE)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_program_its_output_and_its_picture(name: str) -> None:
    assert block(name, "python") == code(name)
    assert len(code(name).splitlines()) <= MOST_LINES
    assert ast.get_docstring(ast.parse(code(name)))
    assert block(name, "text") == json.loads((PAGES / f"{name}.json").read_text(encoding="utf-8"))["printed"]
    assert f"]({name}.svg)" in page(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_program_prints_what_the_page_shows_and_draws(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GALLERY_BUDGET", str(BUDGETS.get(name, SMALL_BUDGET)))
    monkeypatch.setattr(nncomplexity, "estimate", partial(estimate, method=METHODS.get(name, "tight")))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with mpl.rc_context({"svg.fonttype": "none"}):
            runpy.run_path(str(ROOT / "examples" / "gallery" / f"{name}.py"), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    assert without_numbers(capsys.readouterr().out) == without_numbers(block(name, "text"))
    drawn, shown = ((folder / f"{name}.svg").read_text(encoding="utf-8") for folder in (tmp_path, PAGES))
    assert words(drawn) == words(shown)


def words(picture: str) -> set[str]:
    """The texts of an SVG picture without numbers."""
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", picture)
    return {text for text in texts if text.strip() and not re.fullmatch(r"[-−\d.,\s]+", text)}
