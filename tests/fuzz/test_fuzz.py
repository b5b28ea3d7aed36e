"""Every damaged file gives a result or one of the package's own exceptions. A few are tried here; `make fuzz` tries more."""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nncomplexity.errors import FormatError
from nncomplexity.file import read
from nncomplexity.network import DIMENSIONS
from tests.fuzz import mutations, seeds
from tests.fuzz.readers import READERS, Reader, outcome
from tests.fuzz.run import Run
from tests.fuzz.seeds import CORPUS

ROOT = Path(__file__).parents[2]
INPUTS = {"report": 40, "curve": 20, "results": 40}
"""The numbers of inputs for readers that make a picture and a page from each input, which takes longer."""


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_honest_files_are_read(reader: Reader, tmp_path: Path) -> None:
    for content in reader.seeds():
        reader.read(content, tmp_path)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damaged_files_end_in_our_own_exceptions(reader: Reader, tmp_path: Path) -> None:
    chance, run = random.Random(7), Run(tmp_path / "corpus")
    for _ in range(INPUTS.get(reader.name, 150)):
        run.one(reader, reader.inputs(chance), tmp_path, seconds_a_byte=1000.0)  # no timed assertions here
    assert not run.faults


@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda file: file.name)
def test_what_once_fell_stands(file: Path, tmp_path: Path) -> None:
    reader = next(one for one in READERS if one.name == file.name.rpartition("-")[0])
    error = outcome(reader, file.read_bytes(), tmp_path)
    assert error is None, error


def test_a_complex_tensor_of_too_many_dimensions_is_refused() -> None:
    content = seeds.honest_file()
    magic, version, _, length = mutations._HEAD.unpack_from(content)
    names = json.dumps([[["w"], "complex64", [1] * DIMENSIONS]], separators=(",", ":")).encode()
    body = mutations._HEAD.pack(magic, version, len(names), length) + names + content[-32 - length : -32]
    words = f"skeleton is not what a writer makes .ValueError: a complex tensor has {DIMENSIONS} dimensions"
    with pytest.raises(FormatError, match=words):
        read(body + hashlib.sha256(body).digest())


def test_an_exception_of_another_kind_is_seen_and_its_input_kept(tmp_path: Path) -> None:
    def fall(content: bytes, folder: Path) -> None:
        raise KeyError("absent")

    run = Run(tmp_path / "corpus")
    run.one(Reader("falling", lambda: [b""], lambda content, other, chance: content, fall), b"input", tmp_path, 0.0)
    assert [re.sub("[0-9]+", "N", fault) for fault in run.faults] == ["falling: KeyError in test_fuzz.py:N: 'absent'"]
    assert [file.read_bytes() for file in (tmp_path / "corpus").iterdir()] == [b"input"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_results_outlive_a_few_kills() -> None:
    command = [sys.executable, "-m", "tests.fuzz.kills", "--kills", "5", "--only", "measure", "--only", "curve"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
