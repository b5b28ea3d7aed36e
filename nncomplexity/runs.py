"""Which checkpoints of a folder are one run: a network and its average, or two networks of one training, are not."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from nncomplexity.steps import Place, stem_of

_SEPARATORS = "-_=. "


@dataclass(frozen=True)
class Told:
    """What a checkpoint's path says of it.

    Attributes:
        folder: the folder of its run: the one above the part of the path that tells the step.
        name: the rest of the path.
        without_word: the rest of the path without the number and its word, of a file called `step_100_ema.pt` "ema".
        without_number: the rest without the number, "step_ema".
    """

    folder: str
    name: str
    without_word: str
    without_number: str


def told_by(path: PurePath, place: Place | None) -> Told:
    """What a path says, whose step stands at `place`.

    >>> from nncomplexity.steps import place_of
    >>> told = [told_by(path, place_of(path)) for path in map(PurePath, ("run/ema_0.9999_000100.pt", "out/step-5/unet/model.safetensors"))]
    >>> [(one.folder, one.without_word) for one in told]
    [('run', 'ema_0.9999'), ('out', 'unet/model')]
    """
    part = 0 if place is None else place.part
    folder, parts = str(PurePath(*path.parts[: len(path.parts) - part - 1])), list(path.parts[len(path.parts) - part - 1 :])
    name = "/".join(parts)
    parts[-1] = stem_of(parts[-1])
    if place is None:
        return Told(folder, name, "/".join(parts), "/".join(parts))
    count, whole = place.count, parts[0]
    bare = f"{whole[: count.start]}{whole[count.end :]}" if count.end <= len(whole) else whole
    worded = whole.replace(count.said, "", 1)
    return Told(folder, name, _joined([worded, *parts[1:]]), _joined([bare, *parts[1:]]))


def labels(told: Mapping[str, Told], steps: Mapping[str, float | None]) -> dict[str, str]:
    """What tells the networks of one folder apart, by path; empty for all where no two of them are of one step.

    Args:
        told: what each path says.
        steps: the step of each; None for one that has none, which is always told by nothing.

    >>> paths = {"model100.pt": 100, "model200.pt": 200, "ema_100.pt": 100}
    >>> from nncomplexity.steps import place_of
    >>> labels({path: told_by(PurePath(path), place_of(PurePath(path))) for path in paths}, paths)
    {'model100.pt': '', 'model200.pt': '', 'ema_100.pt': 'ema'}
    """
    stepped = [path for path in told if steps.get(path) is not None]
    nothing = dict.fromkeys(told, "")
    ways = [
        nothing,
        nothing | {path: told[path].without_word for path in stepped},
        nothing | {path: told[path].without_number for path in stepped},
        nothing | {path: told[path].name for path in stepped},
    ]
    return next((way for way in ways if len({(steps[path], way[path]) for path in stepped}) == len(stepped)), ways[-1])


def _joined(parts: list[str]) -> str:
    kept = [re.sub(r"([-_=. ])[-_=. ]+", r"\1", part).strip(_SEPARATORS) for part in parts]
    return "/".join(part for part in kept if part)
