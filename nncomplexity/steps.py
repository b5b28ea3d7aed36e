"""The training step of a checkpoint, from its metadata or its name, and the order in which numbered names are meant."""

import math
import re
from collections.abc import Mapping
from pathlib import PurePath

_KEYS = ("global_step", "step", "iteration", "epoch")
"""Metadata that says the step, the finest count first."""
_WORDS = (r"steps?", r"iter(?:ation)?s?", r"epochs?")
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SUFFIXES = re.compile(r"(\.index\.json|\.safetensors|\.pt|\.pth|\.bin|\.ckpt)+$", re.IGNORECASE)
_SHARD = re.compile(r"-[0-9]+-of-[0-9]+$")
_STANDARD = re.compile(r"(diffusion_pytorch_|pytorch_|adapter_)?model|weights|consolidated", re.IGNORECASE)
"""Stems that are the same in every folder, so that the folder's name tells checkpoints apart."""


def step_of(metadata: Mapping[str, str], path: PurePath) -> int | float | None:
    """The training step that a checkpoint is of, None where nothing says it.

    The metadata comes first: `global_step`, `step`, `iteration` or `epoch`, in this order. Then the stem of the file's name: the number
    after "step", "iter" or "epoch", else the last number. A file of a standard name, such as `model.safetensors`, has the number of
    its folder, where that is called `checkpoint-500`, `step_500`, `epoch=3` or just `500`: other numbers are names of models, as in
    `gpt-2`. For the same reason a number within a word, as of a hash, is none.

    Args:
        metadata: texts by name; one that is no finite number of at least 0 says nothing.
        path: the file, or the index of its shards.

    >>> from pathlib import Path
    >>> step_of({"epoch": "3", "global_step": "1200"}, Path("last.ckpt"))
    1200
    >>> [step_of({}, Path(name)) for name in ("step_000100.pt", "epoch=3-step=1200.ckpt", "epoch=3-val_loss=0.25.ckpt", "net-7.pt")]
    [100, 1200, 3, 7]
    >>> [step_of({}, Path(name)) for name in ("checkpoint-500/model.safetensors", "gpt-2/model.safetensors", "last.pt")]
    [500, None, None]
    """
    for key in _KEYS:
        value = _number(metadata.get(key, ""))
        if value is not None:
            return value
    stem = _SHARD.sub("", _SUFFIXES.sub("", path.name))
    if _STANDARD.fullmatch(stem):
        parent = path.parent.name
        return _after_word(parent, (*_WORDS, r"checkpoint", r"ckpt")) if not parent.isdecimal() else _number(parent)
    found = _after_word(stem, _WORDS)
    if found is not None:
        return found
    numbers = [match[1] for token in re.split(r"[^A-Za-z0-9.]+", stem) if (match := re.fullmatch(rf"[A-Za-z]*?({_NUMBER})", token))]
    return _number(numbers[-1]) if numbers else None


def natural_key(path: PurePath) -> tuple[tuple[tuple[str, int], ...], ...]:
    """A key that sorts paths as people number them, folder by folder: 9 before 10, whatever the zeros in front.

    >>> from pathlib import Path
    >>> [str(path) for path in sorted(map(Path, ["epoch_10.pt", "epoch_9.pt", "best.pt", "epoch_010.pt"]), key=natural_key)]
    ['best.pt', 'epoch_9.pt', 'epoch_10.pt', 'epoch_010.pt']
    """
    return tuple(
        tuple((text, int(digits) if digits else -1) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", part)[:-1])
        for part in path.parts
    )


def _after_word(name: str, words: tuple[str, ...]) -> int | float | None:
    """The number that follows the first of the words that has one; of several the last."""
    for word in words:
        found = re.findall(rf"(?<![a-z]){word}[-_=]*({_NUMBER})(?![a-z0-9])", name.lower())
        if found:
            return _number(found[-1])
    return None


def _number(text: str) -> int | float | None:
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
