"""Fixtures for tests of several files: random states, threads, and a current folder from which tasks are imported."""

import gc
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

# One thread for tests and for the programs that they start: two of them run at a time, and small operations gain nothing from more threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.threads import one_thread

# A shell makes its background programs ignore SIGINT, and programs that tests start would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The time of an example depends on what else the machine does.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

collect_ignore = ["elsewhere.py", "elsewhere_cases.py"]
"""Files that register a device, which PyTorch then has until the process ends."""


def pytest_collection_finish() -> None:
    """Exclude modules and tests from garbage collection, because they exist until the end anyway."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def generators_as_new() -> None:
    """The random generators of the process, from which layers draw their weights, are in the same state at the beginning of every test."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader takes a new damaged file for an unfinished one, and reads it again after a pause. Tests of damage don't wait for this."""
    monkeypatch.setattr("nncomplexity.file.reading.PAUSES", (0.0, 0.0))


@pytest.fixture(scope="module")
def computing_with_one_thread() -> Iterator[None]:
    """The tests of a module compute with one thread, and so do the fixtures of the module. A module asks for it by a mark."""
    with one_thread():
        yield


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder. Afterwards, modules from this folder are forgotten, and the modules that they replaced are back."""
    before = dict(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name, module in reversed(list(sys.modules.items())):  # modules before their package, because they ask it for their place
        if module is not before.get(name) and _is_in(tmp_path, module):
            del sys.modules[name]
            if name in before:
                sys.modules[name] = before[name]


def _is_in(folder: Path, module: ModuleType) -> bool:
    """Whether the module is a file of that folder, or a package of it."""
    known = vars(module)  # not getattr: some modules of PyTorch have every attribute that is asked for
    return any(Path(place).is_relative_to(folder) for place in (known.get("__file__"), *known.get("__path__", ())) if place)
