"""Decides which checkpoints of a folder belong to one run.

A network and its average (EMA) are two runs. So are two networks of one training, such as a generator and a discriminator.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from nncomplexity.checkpoint.stepnames import Clear, Count
from nncomplexity.checkpoint.steps import Place, place_of, stem_of

_SEPARATORS = "-_=. "


@dataclass(frozen=True)
class PathParts:
    """The parts of a checkpoint's path.

    Attributes:
        folder: the folder of the run, above the part of the path that has the step.
        name: the rest of the path.
        without_word: the rest of the path without the number and its word: "ema" for `step_100_ema.pt`.
        without_number: the rest without the number: "step_ema".
    """

    folder: str
    name: str
    without_word: str
    without_number: str


def place_of_step(path: PurePath, step: float) -> Place | None:
    """Where a known step is in a path: by the usual rule, or otherwise where the file's name has this number; None if it is nowhere.

    >>> place_of_step(PurePath("run/G_100.pt"), 100).count.said
    '100'
    """
    place = place_of(path)
    if place is not None and place.count.value == step:
        return place
    same = [match for match in re.finditer("[0-9]+", stem_of(path.name)) if int(match[0]) == step]
    return Place(Count(step, Clear.BARE, *same[-1].span(), same[-1][0]), 0) if same else place


def path_parts(path: PurePath, place: Place | None) -> PathParts:
    """The parts of a path whose step is at `place`.

    >>> paths = map(PurePath, ("run/ema_0.9999_000100.pt", "out/step-5/unet/model.safetensors"))
    >>> [(one.folder, one.without_word) for one in (path_parts(path, place_of(path)) for path in paths)]
    [('run', 'ema_0.9999'), ('out', 'unet/model')]
    """
    part = 0 if place is None else place.part
    folder, parts = str(PurePath(*path.parts[: len(path.parts) - part - 1])), list(path.parts[len(path.parts) - part - 1 :])
    name = "/".join(parts)
    parts[-1] = stem_of(parts[-1])
    if place is None:
        return PathParts(folder, name, "/".join(parts), "/".join(parts))
    count, whole = place.count, parts[0]
    bare = f"{whole[: count.start]}{whole[count.end :]}" if count.end <= len(whole) else whole
    worded = whole.replace(count.said, "", 1) if count.said in whole else bare
    return PathParts(folder, name, _joined([worded, *parts[1:]]), _joined([bare, *parts[1:]]))


def labels(parts: Mapping[str, PathParts], steps: Iterable[tuple[str, float]]) -> dict[str, str]:
    """Labels that distinguish the networks of one folder, by path. All are empty if no two networks have the same step.

    Args:
        parts: the parts of each path.
        steps: the paths with their steps. A path without a step has no label.

    Returns:
        The text to add to the folder's name, for each path.

    >>> steps = {"model100.pt": 100, "model200.pt": 200, "ema_100.pt": 100}
    >>> labels({path: path_parts(PurePath(path), place_of(PurePath(path))) for path in steps}, steps.items())
    {'model100.pt': '', 'model200.pt': '', 'ema_100.pt': 'ema'}
    """
    given = set(steps)
    stepped = {path for path, _ in given}
    nothing = dict.fromkeys(parts, "")
    # From short labels to long ones. The first that distinguishes all networks of the same step is taken.
    ways = [
        nothing,
        nothing | {path: parts[path].without_word for path in stepped},
        nothing | {path: parts[path].without_number for path in stepped},
        nothing | {path: parts[path].name for path in stepped},
    ]
    return _shortened(next((way for way in ways if len({(step, way[path]) for path, step in given}) == len(given)), ways[-1]))


def _shortened(named: dict[str, str]) -> dict[str, str]:
    """The names without the end that all of them share: "unet" and "vae" for "unet/model" and "vae/model"."""
    parts = {path: name.split("/") for path, name in named.items()}
    while parts and all(len(some) > 1 for some in parts.values()) and len({some[-1] for some in parts.values()}) == 1:
        parts = {path: some[:-1] for path, some in parts.items()}
    return {path: "/".join(some) for path, some in parts.items()}


def _joined(parts: list[str]) -> str:
    kept = [re.sub(r"([-_=. ])[-_=. ]+", r"\1", part).strip(_SEPARATORS) for part in parts]
    return "/".join(part for part in kept if part)
