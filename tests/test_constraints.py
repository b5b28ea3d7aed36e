"""constraints.txt pins the requirements of pyproject.toml, and all requirements of these packages."""

import importlib.metadata as metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
PINS = {canonicalize_name(line.partition("==")[0]): Version(line.partition("==")[2]) for line in LINES}
OWN = {canonicalize_name(PROJECT["name"]), "nncomplexity"}


def asked_for() -> Iterator[Requirement]:
    """Every requirement in pyproject.toml, except those of the project itself."""
    for text in (*PROJECT["dependencies"], *(text for several in PROJECT["optional-dependencies"].values() for text in several)):
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) not in OWN:
            yield requirement


def test_every_line_pins_one_version_of_one_package() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []
    assert len(PINS) == len(LINES)


@pytest.mark.parametrize("requirement", list(asked_for()), ids=str)
def test_what_the_project_asks_for_is_pinned_to_a_version_that_it_takes(requirement: Requirement) -> None:
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_what_these_packages_ask_for_is_pinned_too() -> None:
    missing, seen, wanted = set(), set(), list(asked_for())
    while wanted:
        one = wanted.pop()
        name = canonicalize_name(one.name)
        if (name, *sorted(one.extras)) in seen:
            continue
        seen.add((name, *sorted(one.extras)))
        if name not in PINS:
            missing.add(name)
        try:
            # Another version, as in the environment of the oldest ones, requires other packages.
            pinned = name in PINS and Version(metadata.version(name)).public == PINS[name].public
            requirements = (metadata.requires(name) or []) if pinned else []
        except metadata.PackageNotFoundError:  # an extra that isn't installed here
            continue
        for needed in map(Requirement, requirements):
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                wanted.append(needed)
    # Packages that every environment has, and parts of PyTorch that are needed only on one kind of machine.
    assert {name for name in missing if not re.match(r"nvidia-|triton|cuda-|setuptools$|pip$", name)} == set()


def test_the_oldest_versions_are_exactly_the_floors() -> None:
    """`make test-oldest` installs the package and the extra `test` with the versions of constraints-oldest.txt, and runs the tests."""
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    oldest = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert {canonicalize_name(name): Version(version) for name, version in oldest} == dict(floors("test"))
    assert len(oldest) == len(dict(floors("test")))


def floors(extra: str) -> Iterator[tuple[str, Version]]:
    """The oldest version of each package that the project and an extra ask for. An extra may ask for other extras of the project."""
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]
    for requirement in map(Requirement, wanted):
        if canonicalize_name(requirement.name) in OWN:
            for other in requirement.extras:
                yield from floors(other)
        else:
            [version] = [part.version for part in requirement.specifier if part.operator == ">="]
            yield canonicalize_name(requirement.name), Version(version)


def test_every_requirement_has_one_floor() -> None:
    every = [floor for extra in PROJECT["optional-dependencies"] for floor in floors(extra)]
    assert len(set(every)) == len({name for name, _ in every})
