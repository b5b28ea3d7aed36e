"""Finds the training step of a checkpoint (`find_step`), in its metadata or its name. Also: the order of numbered names.

docs/results.md has the rule in words.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath

from nncomplexity.checkpoint.stepkeys import EPOCHS, STEPS, counted, number_in
from nncomplexity.checkpoint.stepnames import Clear, Count, counts_in
from nncomplexity.errors import InputError

TRAINER_STATE = "trainer_state.json"
"""The file of the transformers library with the state of training, in the folder of the weights."""
_ENDINGS = re.compile(
    r"(\.index\.json|\.safetensors|\.pt|\.pth|\.tar|\.bin|\.ckpt|\.npz|\.pkl|\.pickle|\.h5|\.msgpack|\.weights)+$|\.[a-z]+$",
    re.IGNORECASE,
)
# model-00001-of-00003 is a shard, but the number in epoch-00001-of-00010 is an epoch.
_SHARD = re.compile(r"(?<!epoch)(?<!step)(?<!iter)-[0-9]{5}-of-[0-9]{5}$", re.IGNORECASE)
_STANDARD = re.compile(
    r"((diffusion_pytorch_|pytorch_|adapter_|flax_)?model|pytorch_lora_weights|weights|params|state|network|consolidated(\.[0-9]+)?|ema"
    r"|model_optim_rng|mp_rank_[0-9]+(_[0-9]+)*(_model_states)?)(\.(fp16|bf16|fp32|non_ema))?",
    re.IGNORECASE,
)
"""Names that are the same in every folder. Only the folder's name then distinguishes checkpoints."""
_PART = re.compile(
    r"unet|unet_ema|ema|vae|transformer|text_encoder(_[0-9])?|encoder|decoder|prior|controlnet|lora|adapter|weights|params|model|network"
    r"|state|default|pytorch|hf|(mp|tp|pp)_rank_[0-9]+(_[0-9]+)*",
    re.IGNORECASE,
)
"""Folders for a part of a checkpoint. The step is in the name of the folder above."""
_MOMENT = re.compile(r"best|last|latest|final|init|initial|pretrained|base", re.IGNORECASE)
"""Words for a file from a certain moment of training. The name of its folder then says nothing about its step."""
_LEVELS = 4
"""The largest number of folders above a file that may have the step."""
_EXAMPLE = r"such as 'step(\d+)'"


@dataclass(frozen=True)
class StepRule:
    """A rule that finds the step, instead of the usual rule.

    Attributes:
        pattern: a regular expression whose first group is the number. It is searched for in the path, and the last match is used.
        key: the dotted path of the number in the checkpoint's dictionary or metadata.
        varying: the number in which the file's name differs from those of its neighbours. It is the step if no word points to another number.

    Raises:
        InputError: pattern or key is not usable, or both are given.

    >>> StepRule(pattern="step")
    Traceback (most recent call last):
        ...
    nncomplexity.errors.InputError: step_pattern: expected a regular expression with a group for the number, such as 'step(\\d+)', got 'step'
    """

    pattern: str | None = None
    key: str | None = None
    varying: Count | None = None

    def __post_init__(self) -> None:
        if self.pattern is not None:
            try:
                groups = re.compile(self.pattern).groups
            except (re.error, TypeError) as error:
                raise InputError(
                    f"step_pattern: expected a regular expression, {_EXAMPLE}, got {self.pattern!r} ({error})"
                ) from error
            if not groups:
                raise InputError(
                    f"step_pattern: expected a regular expression with a group for the number, {_EXAMPLE}, got {self.pattern!r}"
                )
        if self.key is not None and (not isinstance(self.key, str) or not self.key):
            raise InputError(f"step_key: expected a dotted path, such as 'meta.iter', got {self.key!r}")
        if self.pattern is not None and self.key is not None:
            raise InputError("step_key: expected only this or step_pattern, got both; leave one out")


USUAL = StepRule()


@dataclass(frozen=True)
class Step:
    """A training step, and its source: "metadata iter_num", "name: checkpoint-500"."""

    value: int | float
    said_by: str


@dataclass(frozen=True)
class Place:
    """Where the step is in a path."""

    count: Count
    part: int
    """The part of the path: 0 is the file, and 1 is its folder."""


def find_step(
    path: PurePath, numbers: Mapping[str, int | float], rule: StepRule = USUAL, *, trainer: Mapping[str, int | float] | None = None
) -> Step | None:
    """The training step of a checkpoint.

    Args:
        path: the file, or the index of its shards.
        numbers: the numbers in the checkpoint that are not weights, by dotted paths.
        rule: the rule to use instead of the usual one.
        trainer: the numbers of the trainer_state.json in its folder.

    Returns:
        The step and its source; None if there is no step.

    Raises:
        InputError: the rule's pattern matches something that is not a number.

    >>> from pathlib import Path
    >>> find_step(Path("run/ckpt.pt"), {"iter_num": 5000})
    Step(value=5000, said_by='metadata iter_num')
    >>> find_step(Path("run/net_v2_at_70.pt"), {}, StepRule(pattern=r"at_(\\d+)"))
    Step(value=70, said_by='name: at_70')
    """
    # A rule that the caller gives is never mixed with the usual one. If it finds no step, a step from another source would be misleading.
    if rule.key is not None:
        return None if rule.key not in numbers else Step(numbers[rule.key], f"metadata {rule.key}")
    place = place_of(path, rule)
    named = None if place is None else Step(place.count.value, f"name: {place.count.said}")
    if rule.pattern is not None:
        return named
    # Counts of updates are tried before names: a file may be renamed or copied, but the count in it stays right.
    if found := counted(numbers, STEPS):
        return Step(found[1], f"metadata {found[0]}")
    if found := counted(trainer or {}, STEPS):
        return Step(found[1], f"{TRAINER_STATE} {found[0]}")
    # An epoch is coarser than a step, so a clear step in the name comes before it.
    if (place is None or place.count.clear < Clear.STEP) and (found := counted(numbers, EPOCHS)):
        return Step(found[1], f"metadata {found[0]}")
    return named


def step_of(metadata: Mapping[str, str], path: PurePath) -> int | float | None:
    """The training step alone, by the usual rule, from metadata that are texts.

    >>> from pathlib import Path
    >>> step_of({"epoch": "3", "global_step": "1200"}, Path("last.ckpt"))
    1200
    >>> [step_of({}, Path(name)) for name in ("step_000100.pt", "epoch=3-step=1200.ckpt", "epoch=3-val_loss=0.25.ckpt", "net-7.pt")]
    [100, 1200, 3, 7]
    >>> [step_of({}, Path(name)) for name in ("checkpoint-500/unet/model.safetensors", "gpt-2/model.safetensors", "best_acc_0.93.pt")]
    [500, None, None]
    >>> step_of({"epoch": "3"}, Path("step_1000.pt")), step_of({"epoch": "3"}, Path("net-7.pt"))
    (1000, 3)
    """
    found = find_step(path, {name: value for name, text in metadata.items() if (value := number_in(text)) is not None})
    return None if found is None else found.value


def place_of(path: PurePath, rule: StepRule = USUAL) -> Place | None:
    """Where the step is in a path; None if the path does not have it.

    Raises:
        InputError: the rule's pattern matches something that is not a number.
    """
    if rule.pattern is not None:
        return _matched(path, rule.pattern)
    # A standard name such as model.safetensors says nothing about the step. The folder's name may.
    stem = stem_of(path.name)
    standard = _STANDARD.fullmatch(stem) is not None
    if not standard:
        found = counts_in(stem)
        if found and (found[0].clear > Clear.BARE or rule.varying is None or found[0].start == rule.varying.start):
            return Place(found[0], 0)
        if rule.varying is not None:
            return Place(replace(rule.varying, said=f"{rule.varying.said} of {stem}, the number that varies"), 0)
        # The step of a folder is not that of a file with another number or with a word such as `best` in its name.
        if re.search("[0-9]", stem) or _MOMENT.search(stem):
            return None
    return _of_folder(path, numbers_alone=standard)


def stem_of(name: str) -> str:
    """A file's name without its ending, and without the number of a shard.

    >>> stem_of("checkpoint_0010.pth.tar"), stem_of("model-00001-of-00002.safetensors")
    ('checkpoint_0010', 'model')
    """
    return _SHARD.sub("", _ENDINGS.sub("", name))


def is_standard(path: PurePath) -> bool:
    """Whether a file's name is the same in every folder, such as `model.safetensors`."""
    return _STANDARD.fullmatch(stem_of(path.name)) is not None


def natural_key(path: PurePath) -> tuple[tuple[tuple[str, int], ...], ...]:
    """A key that sorts paths by their numbers, folder by folder: 9 before 10, with or without leading zeros.

    >>> from pathlib import Path
    >>> [str(path) for path in sorted(map(Path, ["epoch_10.pt", "epoch_9.pt", "best.pt", "epoch_010.pt"]), key=natural_key)]
    ['best.pt', 'epoch_9.pt', 'epoch_10.pt', 'epoch_010.pt']
    """
    return tuple(
        tuple((text, int(digits) if digits else -1) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", part)[:-1])
        for part in path.parts
    )


def _of_folder(path: PurePath, *, numbers_alone: bool) -> Place | None:
    """The step in the name of a file's folder, or of the folder above if that folder is for a part of a checkpoint."""
    for level, folder in enumerate(path.parent.parts[: -_LEVELS - 1 : -1], start=1):
        found = next(
            (count for count in counts_in(folder) if count.clear > Clear.BARE or (numbers_alone and folder.isdecimal())), None
        )
        if found is not None:
            return Place(found, level)
        if not _PART.fullmatch(folder):
            return None
    return None


def _matched(path: PurePath, pattern: str) -> Place | None:
    """The step in the last match of a pattern in a path."""
    text = path.as_posix()
    match = next(reversed(list(re.finditer(pattern, text))), None)
    if match is None or match[1] is None:
        return None
    # Python, and people, write 1_000 for 1000.
    value = number_in(match[1].replace("_", ""))
    if value is None or value < 0:
        raise InputError(f"step_pattern: expected the first group of {pattern!r} to be a number, got {match[1]!r} in {text!r}")
    before, _, _ = text[: match.start(1)].rpartition("/")
    start = match.start(1) - (len(before) + 1 if before or text.startswith("/") else 0)
    return Place(Count(value, Clear.STEP, start, start + len(match[1]), match[0]), text[match.start(1) :].count("/"))
