"""The command `doctor`: says what is installed here, and what is missing."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nncomplexity
from nncomplexity.cli.options import DONE, FAILED
from nncomplexity.cli.outputs import page_width
from nncomplexity.cli.table import page_of, text_table
from nncomplexity.version import __version__
from nncomplexity.words import printable

if TYPE_CHECKING:
    from rich.table import Table

_DEVELOPMENT = ("dev", "test", "docs", "demo")
"""Extras for work on the package."""


@dataclass(frozen=True)
class Needed:
    """A package that nncomplexity or one of its extras needs.

    Attributes:
        name: the name of the distribution.
        floor: the oldest version that is new enough; "" for any.
        extra: the extra that needs it; None if it is always needed.
        found: the installed version; None if it isn't installed.
    """

    name: str
    floor: str
    extra: str | None
    found: str | None

    @property
    def fits(self) -> bool:
        """Whether it is installed, and not too old."""
        return self.found is not None and _numbers(self.found) >= _numbers(self.floor)


def doctor() -> int:
    """Say which versions, devices and extras are installed, for a report of a problem. The exit code is 1 if a needed package is missing.

    \b
      nncomplexity doctor
    """
    needed = list(needed_here())
    devices, fault = _devices()
    parts: list[str | Table] = [
        f"nncomplexity {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"at {printable(str(Path(__file__).parents[1]))}",
        "",
        versions([one for one in needed if one.extra is None]),
        "",
        f"Devices: {', '.join(devices)}." if fault is None else f"PyTorch can't be loaded: {fault}",
        "",
        *extras(needed),
    ]
    if not needed:
        parts.append("nncomplexity is not installed as a package, so its requirements aren't known; install it with pip.")
    missing = [one for one in needed if one.extra is None and not one.fits]
    for one in missing:
        parts.append(f"{one.name} is {one.found or 'missing'}: pip install '{one.name}>={one.floor}'")
    print(page_of(parts, page_width()), flush=True)
    # pip refuses an older Python, but a source tree on the path can be run without pip.
    return FAILED if missing or fault is not None or sys.version_info < (3, 11) else DONE


def needed_here() -> Iterator[Needed]:
    """The requirements of the installed package; none if it isn't installed as a package."""
    try:
        requirements = importlib.metadata.requires("nncomplexity") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for text in requirements:
        if needed := needed_from(text):
            yield needed


def needed_from(requirement: str) -> Needed | None:
    """The requirement in a line of the package's metadata, with its installed version; None for the package's own extras.

    >>> needed_from('matplotlib>=3.8; extra == "plots"').extra, needed_from("no-such-package>=1").fits
    ('plots', False)
    """
    # These patterns are enough for the package's own requirements, and need no library, which might be missing here.
    name = re.match(r"[\w.-]+", requirement)
    if name is None or name[0] == "nncomplexity":
        return None
    floor, extra = re.search(r">=\s*([\w.]+)", requirement), re.search(r"""extra\s*==\s*['"]([\w-]+)""", requirement)
    try:
        found: str | None = importlib.metadata.version(name[0])
    except importlib.metadata.PackageNotFoundError:
        found = None
    return Needed(name[0], floor[1] if floor else "", extra[1] if extra else None, found)


def versions(needed: Sequence[Needed]) -> Table:
    """The packages that are always needed."""
    table = text_table("package", "version", "needed", left=("package",))
    for one in needed:
        table.add_row(one.name, one.found or "missing", f">= {one.floor}" if one.floor else "any")
    return table


def extras(needed: Sequence[Needed]) -> list[str]:
    """A line for each extra for users: installed, or which packages are missing and how to get them."""
    names = dict.fromkeys(one.extra for one in needed if one.extra is not None and one.extra not in _DEVELOPMENT)
    lines = []
    for name in names:
        lacking = [one.name for one in needed if one.extra == name and not one.fits]
        state = f"lacks {', '.join(lacking)}; pip install 'nncomplexity[{name}]'" if lacking else "installed"
        lines.append(f"Extra {name}: {state}.")
    return lines


def _devices() -> tuple[list[str], str | None]:
    """The devices, or the reason why PyTorch can't be loaded."""
    try:
        return nncomplexity.network.devices_here(), None
    except (ImportError, OSError) as error:  # a library of PyTorch is missing, or is for another kind of machine
        return [], printable(" ".join(str(error).split()))


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, without a suffix such as +cpu.

    >>> _numbers("2.13.0+cpu") >= _numbers("2.4"), _numbers("0.9") >= _numbers("0.10")
    (True, False)
    """
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))
