"""The examples of docs/extending: each page shows the program and its output, and the program still prints this output."""

import re
import runpy
from pathlib import Path

import pytest

from nncomplexity.codecs import registry

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "docs" / "extending").glob("*.md"))
MOST_LINES = 60


def shown(name: str, language: str) -> str:
    page = (ROOT / "docs" / "extending" / f"{name}.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.M | re.S)
    return block


def test_the_four_extensions_have_pages() -> None:
    assert NAMES == ["bound", "codec", "distortion", "search"]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_example(name: str) -> None:
    code = (ROOT / "examples" / "extending" / f"{name}.py").read_text(encoding="utf-8")
    assert shown(name, "python") == code
    assert len(code.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", NAMES)
def test_the_example_prints_what_the_page_shows(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(registry, "_registered", {})
    runpy.run_module(f"examples.extending.{name}", run_name="__main__")
    assert capsys.readouterr().out == shown(name, "text")
