"""The training step of a checkpoint, from its metadata or its name, and the order in which numbered names are meant."""

import math
import re
from collections.abc import Mapping
from pathlib import PurePath

_STEP_KEYS, _EPOCH_KEY = ("global_step", "step", "iteration"), "epoch"
"""Metadata that says the step, the finest count first."""
_STEPS = (r"steps?", r"iter(?:ation)?s?")
_WORDS = (*_STEPS, r"epochs?")
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_THOUSANDS = r"[0-9]{1,3}(?:_[0-9]{3})+"
_UNITS = {"k": 1_000, "m": 1_000_000}
_NO_STEP = re.compile(r"(?<![a-z])(seed|rank|fold)[-_=.]*[0-9]+", re.IGNORECASE)
_SUFFIXES = re.compile(r"(\.index\.json|\.safetensors|\.pt|\.pth|\.bin|\.ckpt)+$", re.IGNORECASE)
_SHARD = re.compile(r"-[0-9]+-of-[0-9]+$")
_STANDARD = re.compile(
    r"(diffusion_pytorch_|pytorch_|adapter_)?model|weights|consolidated(\.[0-9]+)?|ema|mp_rank_[0-9]+_model_states", re.IGNORECASE
)
"""Stems that are the same in every folder, so that the folder's name tells checkpoints apart."""


def step_of(metadata: Mapping[str, str], path: PurePath) -> int | float | None:
    """The training step that a checkpoint is of, None where nothing says it.

    The metadata comes first: `global_step`, `step` or `iteration`, in this order; its `epoch`, a coarser count, only where the name tells
    no step. Then the stem of the file's name: the number beside "step", "iter" or "epoch", which may be written `10_000` or `10k`, else the
    last number, but for those of a seed, a rank or a fold. A file of a standard name, such as `model.safetensors`, `ema.pt` or
    `mp_rank_00_model_states.pt`, has the number of its folder, where that is called `checkpoint-500`, `step_500`, `epoch=3` or just
    `500`: other numbers are names of models, as in `gpt-2`. For the same reason a number within a word, as of a hash, is none.

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
    >>> step_of({"epoch": "3"}, Path("step_1000.pt")), step_of({"epoch": "3"}, Path("net-7.pt"))
    (1000, 3)
    """
    for key in _STEP_KEYS:
        if (value := _number(metadata.get(key, ""))) is not None:
            return value
    stem = _SHARD.sub("", _SUFFIXES.sub("", path.name))
    by_folder = _STANDARD.fullmatch(stem) is not None
    name = path.parent.name if by_folder else stem
    for value in (_beside_word(name, _STEPS), _number(metadata.get(_EPOCH_KEY, "")), _beside_word(name, _WORDS)):
        if value is not None:
            return value
    if by_folder:
        return _number(name) if name.isdecimal() else _beside_word(name, (r"checkpoint", r"ckpt"))
    tokens = re.split(r"[^A-Za-z0-9.]+|(?<=[A-Za-z])\.", _NO_STEP.sub("", name))
    numbers = [match[1] for token in tokens if (match := re.fullmatch(rf"[A-Za-z]*?({_NUMBER})", token))]
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


def _beside_word(name: str, words: tuple[str, ...]) -> int | float | None:
    """The number after the first of the words that has one, the last of several; or the one right before it, as in `500steps`."""
    for word in words:
        after = rf"(?<![a-z]){word}[-_=.]*({_THOUSANDS}|{_NUMBER})([km]?)(?![a-z0-9])"
        before = rf"(?<![a-z0-9.])({_NUMBER})([km]?){word}(?![a-z0-9])"
        if found := re.findall(after, name.lower()) or re.findall(before, name.lower()):
            digits, unit = found[-1]
            value = _number(digits.replace("_", ""))
            return value if value is None or not unit else round(value * _UNITS[unit])
    return None


def _number(text: str) -> int | float | None:
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
