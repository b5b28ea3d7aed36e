"""The site of docs/ builds without a warning, its links lead somewhere, and its search and reference cover the package."""

import html
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from types import ModuleType
from urllib.parse import unquote

import pytest

import nncomplexity

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/mkdocs.yml", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return folder


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Links(HTMLParser):
    """The targets of a page's links and pictures, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.add(given.get("id") or "")
        self.targets += [value for name in ("href", "src") if (value := given.get(name))]


def dead(site: Path, pages: dict[Path, Links]) -> Iterator[str]:
    for path, page in pages.items():
        for target in page.targets:
            place, _, anchor = target.partition("#")
            if re.match(r"(https?|data|mailto|javascript):", target) or path.name == "404.html":
                continue
            file = (path.parent / unquote(place)).resolve() if place else path
            file = file / "index.html" if file.is_dir() else file
            if (
                not file.is_relative_to(site)
                or not file.is_file()
                or (anchor and file in pages and unquote(anchor) not in pages[file].anchors)
            ):
                yield f"{path.relative_to(site)}: {target}"


def test_links_of_the_site_lead_somewhere_on_it(site: Path) -> None:
    pages = {path.resolve(): Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > 40
    assert list(dead(site.resolve(), pages)) == []


def test_a_link_out_of_the_docs_leads_to_a_copy(site: Path) -> None:
    targets = Links((site / "index.html").read_text(encoding="utf-8")).targets
    assert "repository/examples/digits/index.html" in targets
    assert "Handwritten digits" in (site / "repository/examples/digits/index.html").read_text(encoding="utf-8")


def test_search_knows_the_pages_and_the_docstrings(site: Path) -> None:
    places = {one["location"]: one["text"] for one in json.loads((site / "search/search_index.json").read_text("utf-8"))["docs"]}
    assert {"quickstart.html#i-have-a-checkpoint", "quickstart.html#i-train", "quickstart.html#i-want-a-bound"} <= set(places)
    assert "reference/nncomplexity.html#nncomplexity.measure.estimate.estimate" in places
    assert "gallery/grokking.html" in places


@pytest.mark.parametrize("name", sorted(set(nncomplexity.__all__) - {"__version__"}))
def test_the_reference_has_every_name_with_the_first_line_of_its_docstring(site: Path, name: str) -> None:
    found = getattr(nncomplexity, name)
    page = (site / "reference" / "nncomplexity.html").read_text(encoding="utf-8")
    assert f'id="{found.__module__}.{name}"' in page
    assert plain((inspect.getdoc(found) or "").splitlines()[0].replace("`", "")) in plain(
        re.sub(r"<[^>]+>", "", html.unescape(page))
    )


def plain(text: str) -> str:
    return " ".join(text.split())


def test_examples_lists_and_tables_are_what_they_are_on_github(site: Path) -> None:
    """If another dialect of Markdown reads the text differently, its marks appear in the page."""
    left = []
    for path in site.rglob("*.html"):
        text = re.sub(r"<(pre|code|script|style)[ >].*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        left += [
            f"{path.relative_to(site)}: {mark[0]}"
            for mark in re.finditer(r"^(<p>)?([-*|]|&gt;&gt;&gt;) .*|\| ?--|\*\*\w", text, re.MULTILINE)
        ]
    assert left == []


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("docs/index.md", "[a](../README.md#how-to-read-this)", "[a](repository/README.md#how-to-read-this)"),
        ("docs/extending/codec.md", "[a](../cli.md)", "[a](../cli.md)"),
        ("README.md", "![a](docs/images/sizes.svg)", "![a](../images/sizes.svg)"),
        ("README.md", "[`a`](examples/digits)", "`a`"),
        ("README.md", "[a](https://example.org/a.md)", "[a](https://example.org/a.md)"),
        ("README.md", "[a](gone.md)", "[a](gone.md)"),
    ],
)
def test_a_link_is_moved_to_where_its_target_is_on_the_site(page: str, link: str, expected: str) -> None:
    outside = hook("outside")
    assert outside.LINK.sub(lambda found: outside.moved(found, PurePosixPath(page)), link) == expected


def test_a_function_named_like_its_module_is_found() -> None:
    reference = hook("reference")
    assert reference.origin_of("nncomplexity", "estimate") == "nncomplexity.measure.estimate"
    assert reference.origin_of("nncomplexity.measure", "DEFAULT_EPS") is None
    assert set(reference.names_of("nncomplexity")) == set(nncomplexity.__all__) - {"__version__"}


def test_a_fence_stands_around_the_lines_of_an_example() -> None:
    text = "Twice.\n\n>>> for x in (1, 2):\n...     2 * x\n2\n4\n\nNo more."
    fenced = "Twice.\n\n```pycon\n>>> for x in (1, 2):\n...     2 * x\n2\n4\n```\n\nNo more."
    assert hook("examples").fenced(text) == fenced
