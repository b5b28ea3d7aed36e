"""What tests of several files need: a folder to call from, and from which tasks are imported."""

import gc
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

# One thread each, for tests and the programs that they start: two at a time have a core each, and small operations gain nothing by more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.threads import one_thread

# A shell has SIGINT ignored in what it starts in the background, and programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's affair, which has others to serve.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

collect_ignore = ["elsewhere.py", "elsewhere_cases.py"]
"""What makes a device that PyTorch then has for as long as the process runs."""


def pytest_collection_finish() -> None:
    """Modules and tests stay until the end: the garbage collector needn't go through them each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def generators_as_new() -> None:
    """Every test finds the generators of the process, from which layers draw their weights, in one state, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is damaged and new is taken to be unfinished, and read again a little later: tests of damage don't wait for it."""
    monkeypatch.setattr("nncomplexity.file.reading.PAUSES", (0.0, 0.0))


@pytest.fixture(scope="module")
def computing_with_one_thread() -> Iterator[None]:
    """The tests of a module compute with one thread, and so do the fixtures of the module. A module asks for it by a mark."""
    with one_thread():
        yield


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder. Afterwards imports are as they were: modules of its own are forgotten, those that they hid are back."""
    before = dict(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name, module in reversed(list(sys.modules.items())):  # those within a package first, which ask it where they are
        if module is not before.get(name) and _is_in(tmp_path, module):
            del sys.modules[name]
            if name in before:
                sys.modules[name] = before[name]


def _is_in(folder: Path, module: ModuleType) -> bool:
    """Whether the module is a file of that folder, or a package of it."""
    known = vars(module)  # some modules of PyTorch's answer to any other attribute
    return any(Path(place).is_relative_to(folder) for place in (known.get("__file__"), *known.get("__path__", ())) if place)
