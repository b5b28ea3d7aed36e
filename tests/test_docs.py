"""The documentation agrees with the program: its examples run and print the shown output, and its links and names exist."""

import doctest
import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import torch

import nncomplexity
from nncomplexity import bounds, cli
from nncomplexity.measure import Layer, Report

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]
WITH_EXAMPLES = [page for page in PAGES if re.search(r"^>>> ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)]
NEEDED = {"docs/distributed.md": "distributed"}
"""The package of an extra that a page's examples need. `make test` has it, and the environment of the oldest versions hasn't."""
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

# A search depends on floating-point rounding: on another processor, its bits may differ a little.
BITS_TOLERANCE = 0.25


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A writable folder from which the examples are found as from the repository's root."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    importlib.import_module("examples.digits.task")  # imported from the repository: the link is gone when the test ends
    monkeypatch.setattr(sys, "path", sys.path.copy())  # as the command line does with the current folder
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=page_id)
def test_examples_print_what_the_page_shows(page: Path) -> None:
    if page_id(page) in NEEDED:
        pytest.importorskip(NEEDED[page_id(page)])
    failed = doctest.testfile(str(page), module_relative=False, optionflags=OPTIONS, encoding="utf-8").failed
    assert failed == 0, f"{failed} examples of {page_id(page)} print something else; see standard output"


@dataclass(frozen=True)
class Measured:
    """The page that `measure` prints, without times and without decimals that depend on floating-point rounding."""

    head: str
    bits: dict[str, int]
    layers: list[tuple[str, str]]
    matrix_forms: list[str]

    @classmethod
    def read(cls, page: str) -> "Measured":
        rows = re.findall(r"^(\S+) +([\d×]+) +(zero|constant|dense|low rank|lossless) .* [\d,]+$", page, flags=re.MULTILINE)
        sizes = re.findall(r"^([\d.e-]+) +([\d,]+) +[\d,]+ +[\d.]+ % ", page, flags=re.MULTILINE)
        return cls(
            head=" ".join(page.split("\n\n")[0].split()),
            bits={eps: int(bits.replace(",", "")) for eps, bits in sizes},
            layers=[(name, shape) for name, shape, _ in rows],
            matrix_forms=[form for _, shape, form in rows if "×" in shape],
        )


@pytest.mark.usefixtures("repository")
def test_the_readme_shows_what_measure_prints(capsys: pytest.CaptureFixture[str]) -> None:
    block = re.search(
        r"^```console\n\$ nncomplexity (.*?[^\\])\n(.*?)^```", PAGES[0].read_text(encoding="utf-8"), flags=re.M | re.S
    )
    assert block
    command, shown = block.groups()
    assert cli.main(shlex.split(command.replace("\\\n", " "))) == 0
    printed = capsys.readouterr().out
    expected, found = Measured.read(shown), Measured.read(printed)
    advice = f"README.md shows another measurement; paste this one:\n{printed}"
    assert len(expected.bits) == 1, "the README's block has no row of sizes"
    assert (found.head, found.layers, found.matrix_forms) == (expected.head, expected.layers, expected.matrix_forms), advice
    assert found.bits == pytest.approx(expected.bits, rel=BITS_TOLERANCE), advice
    shown_too = sizes_of_the_picture()["mlp"]
    for eps, bits in found.bits.items():
        drawn = shown_too["tight"][shown_too["eps"].index(float(eps))]
        assert bits / 8 == pytest.approx(drawn, rel=BITS_TOLERANCE), "the picture is another's; python docs/images/make.py sizes"


def test_the_readme_repeats_its_table_rightly() -> None:
    text = " ".join(PAGES[0].read_text(encoding="utf-8").split())
    (bits,) = Measured.read(PAGES[0].read_text(encoding="utf-8")).bits.values()
    assert f"A payload of {bits // 8:,} bytes holds" in text
    found = re.search(r"at most (0\.\d+), below chance \(0\.9\)", text)
    assert found
    assert f"as the table above shows: {found[1]}," in text
    assert float(found[1]) < 0.9, "the README says that the bound is better than guessing one of ten digits"


def sizes_of_the_picture() -> dict[str, dict[str, list[float]]]:
    """Bytes by method at each ε, of each network of docs/images/sizes.svg."""
    content = json.loads((ROOT / "docs" / "images" / "sizes.json").read_text(encoding="utf-8"))
    networks: dict[str, dict[str, list[float]]] = content["networks"]
    return networks


def test_the_picture_shows_tight_below_the_others() -> None:
    networks = sizes_of_the_picture()
    assert networks
    for sizes in networks.values():
        others = zip(sizes["bayes"], sizes["quantize"], strict=True)
        assert all(tight < min(pair) for tight, pair in zip(sizes["tight"], others, strict=True))
        assert max(sizes["bayes"] + sizes["quantize"]) <= sizes["lossless"]


def anchors(page: Path) -> set[str]:
    """The anchors of the headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:", target)]
    dead = []
    for target in targets:
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("page", DOCS, ids=page_id)
def test_the_map_leads_to_every_page(page: Path) -> None:
    path = page.relative_to(ROOT / "docs").as_posix()
    assert path == "index.md" or f"({path})" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_names_of_the_package_exist(page: Path) -> None:
    missing = []
    for name in set(re.findall(r"`(nncomplexity(?:\.\w+)+)", page.read_text(encoding="utf-8"))):
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            if not hasattr(importlib.import_module(module), attribute):
                missing.append(name)
    assert missing == []


def test_the_version_is_one_everywhere() -> None:
    citation, changes = ((ROOT / name).read_text(encoding="utf-8") for name in ("CITATION.cff", "CHANGELOG.md"))
    assert re.search(r"^version: (.+)$", citation, flags=re.M).group(1) == nncomplexity.__version__
    assert re.search(r"^## (\S+)", changes, flags=re.M).group(1) == nncomplexity.__version__


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    wanted = {*nncomplexity.__all__, *bounds.__all__}
    wanted |= {field.name for kind in (Report, Layer, bounds.Bound) for field in fields(kind)}
    assert sorted(name for name in wanted if not re.search(rf"`[^`]*\b{name}\b[^`]*`", text)) == []
