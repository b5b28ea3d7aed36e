"""The state of the calling process, which workers take over, so that their results are the same as those of the calling process."""

import contextlib
import multiprocessing
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from nncomplexity.linalg import Switches
from nncomplexity.network import RandomState, random_state, set_random_state
from nncomplexity.words import current_folder, in_folder

_THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Surroundings:
    """The state of the calling process. Other processes use it, so that their results are the same.

    Attributes:
        folder: the current folder, to which paths and modules refer. A worker that doesn't have the folder stays in its own.
        random: the state of the random generators.
        switches: the settings of the program that are not the usual ones.
        start_method: how a loss starts processes, for example for a DataLoader; None is the default of the system.
    """

    folder: str
    random: RandomState
    switches: Switches
    start_method: str | None

    @classmethod
    def here(cls) -> "Surroundings":
        """The state of this process."""
        start_method = multiprocessing.get_start_method(allow_none=True)
        return cls(current_folder(), random_state(), Switches.now(), start_method)

    @property
    def lacking(self) -> str:
        """What this process lacks of the state, as the end of a message; empty if it has all."""
        return (
            ""
            if not self.folder or Path(self.folder).is_dir()
            else f" (the worker on {platform.node()} has no folder {self.folder})"
        )

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """A context manager in which this process has this state."""
        # Most tasks need nothing from the folder: functions sent by value, networks that are sent, checkpoints with an absolute path.
        with in_folder(self.folder if Path(self.folder).is_dir() else None), self.switches.on():
            self.set_random()
            yield

    def set_random(self) -> None:
        """Set the state of the generators. A worker may have fewer accelerators."""
        torchs, cuda, numpys, pythons = self.random
        set_random_state((torchs, cuda[: torch.cuda.device_count()] if torch.cuda.is_available() else [], numpys, pythons))

    def set_start_method(self) -> None:
        """Set how a loss starts processes. Call it after the user's modules are imported, because one may set it, and only once."""
        if self.start_method and not multiprocessing.get_start_method(allow_none=True):
            multiprocessing.set_start_method(self.start_method)


def module_folders() -> tuple[str, ...]:
    """The folders from which this process imports modules, without those of Python and of installed packages."""
    installed = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    here = current_folder()
    return tuple(dict.fromkeys(path or here for path in sys.path if (path or here) and not path.startswith(installed)))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """A context manager in which PyTorch computes with one thread, unless OMP_NUM_THREADS gives another number.

    Workers of one machine that each use all its cores slow each other down: they took four times as long.
    """
    before = torch.get_num_threads()
    if os.environ.get(_THREADS):
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
