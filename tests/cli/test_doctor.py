"""`doctor` says what is installed. Completion suggests how a line can continue."""

import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nncomplexity
import nncomplexity_launch as launch
from nncomplexity.cli import main
from nncomplexity.cli.doctor import Needed, needed_from, needed_here
from nncomplexity.cli.loading import needing
from nncomplexity.cli.options import CODECS as OFFERED_CODECS
from nncomplexity.cli.options import DIVERGENCES, METHODS
from nncomplexity.cli.show import CHART_KINDS
from nncomplexity.codecs import CODECS
from nncomplexity.errors import InputError
from nncomplexity.network.divergence.kinds import _KINDS
from nncomplexity.search.methods import _METHODS
from nncomplexity.show import KINDS

ROOT = Path(__file__).parents[2]
REQUIRED = [
    "torch>=2.4",
    "no-such-package>=1.5",
    'matplotlib>=3.8; extra == "plots"',
    'absent>=2; extra == "llc"',
    'ruff; extra == "dev"',
]


def test_versions_devices_and_extras_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: REQUIRED)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    words = " ".join(out.split())
    assert f"nncomplexity {nncomplexity.__version__}, Python {sys.version.split()[0]}" in words
    assert f"torch {importlib.metadata.version('torch')} >= 2.4" in words
    assert "no-such-package is missing: pip install 'no-such-package>=1.5'" in words
    assert "Devices: cpu (" in words
    assert "Extra plots: installed." in words
    assert "Extra llc: lacks absent; pip install 'nncomplexity[llc]'." in words
    assert "dev" not in words.split("Devices")[1]


def test_with_all_that_is_needed_it_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["torch>=2.4", "numpy"])
    assert main(["doctor"]) == 0


def test_without_a_package_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert list(needed_here()) == []
    assert main(["doctor"]) == 0
    assert "nncomplexity is not installed as a package" in capsys.readouterr().out


def test_a_pytorch_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def devices() -> list[str]:
        raise OSError("libtorch_cpu.so: cannot open shared object file")

    monkeypatch.setattr("nncomplexity.network.devices_here", devices)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["torch>=2.4"])
    assert main(["doctor"]) == 1
    assert "PyTorch can't be loaded: libtorch_cpu.so: cannot open shared object file" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("text", "floor", "extra"),
    [("torch>=2.4", "2.4", None), ('scipy[test]>=1.2; extra == "dask"', "1.2", "dask"), ("rich", "", None)],
)
def test_a_line_of_the_metadata_is_read(text: str, floor: str, extra: str | None) -> None:
    found = needed_from(text)
    assert found is not None
    assert (found.floor, found.extra, found.fits) == (floor, extra, True)
    assert needed_from('nncomplexity[plots]; extra == "dev"') is None


def test_versions_compare_by_their_numbers() -> None:
    assert [Needed("a", "2.10", None, found).fits for found in ("2.9", "2.10.1", "2.10.0+cpu", "3.0rc1", None)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_what_completion_offers_is_what_there_is() -> None:
    assert tuple(_METHODS) == METHODS
    assert tuple(codec.name for codec in CODECS) == OFFERED_CODECS
    assert tuple(_KINDS) == DIVERGENCES
    assert CHART_KINDS == KINDS


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nncomplexity me", ["measure"]),
        ("nncomplexity measure --loss-", ["--loss-fn", "--loss-unit"]),
        ("nncomplexity measure a.pt --method a", ["allocate"]),
        ("nncomplexity plot a.jsonl --kind d", ["dynamics", "description-length"]),
    ],
)
def test_a_line_is_completed(line: str, words: list[str]) -> None:
    asked = {"_NNCOMPLEXITY_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    program = [sys.executable, "-c", "import sys, nncomplexity_launch; sys.exit(nncomplexity_launch.main())"]
    done = subprocess.run(program, env={**os.environ, **asked}, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, words, "")


def lacking(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def load(_: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", load)


def test_a_needed_package_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lacking(monkeypatch, "rich.console")
    assert launch.main() == 2
    words = "the package 'rich' is missing, which nncomplexity needs; install it with pip, and see nncomplexity doctor"
    assert capsys.readouterr().err == f"nncomplexity: {words}\n"
    with pytest.raises(InputError, match=f"^{words}$"):
        needing("measure", print)()


def test_a_module_of_the_package_that_is_missing_is_a_fault_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "nncomplexity.gone")
    with pytest.raises(ModuleNotFoundError, match=r"nncomplexity\.gone"):
        launch.main()
