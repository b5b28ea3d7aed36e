"""Names of runs and checkpoints in pictures: the shortest ends of their paths that are meaningful and different."""

import re
from collections.abc import Sequence
from pathlib import PurePath

_NO_NAME = re.compile(r"[./\\-]*|/(dev|proc)(/.*)?")
"""Parts of paths that are not names: the current folder, folders above it, the root, and streams."""
_USUAL = {
    "checkpoint", "checkpoints", "ckpt", "ckpts", "weights", "models", "snapshots", "out", "output", "outputs", "model",
    "pytorch_model", "adapter_model", "last", "best", "final", "ema",
}  # fmt: skip
"""Names of folders and files that are common to all projects, so that the folder above is used too."""


def nameless(path: str) -> bool:
    """Whether a path means nothing on another machine.

    >>> [nameless(path) for path in ("", ".", "../..", "/", "-", "/dev/stdin", "runs/a", "../a")]
    [True, True, True, True, True, True, False, False]
    """
    return _NO_NAME.fullmatch(path) is not None


def name_of_path(path: str) -> str:
    """The end of a path that is a name; "" if there is none.

    >>> [name_of_path(path) for path in ("nets/mlp.pt", "gpt2/model.safetensors", "runs/quick/checkpoints", "./last.pt", ".")]
    ['mlp.pt', 'gpt2/model.safetensors', 'quick/checkpoints', 'last.pt', '']
    """
    parts = _parts(path)
    several = len(parts) > 1 and parts[-1].split(".")[0].lower() in _USUAL
    return "/".join(parts[-2:] if several else parts[-1:])


def short_names(paths: Sequence[str]) -> list[str]:
    """A name for each of several paths: the shortest ends that differ. "" for a path without a name.

    >>> short_names(["runs/a/checkpoints", "runs/b/checkpoints"]), short_names(["/data/runs/a", "."])
    (['a/checkpoints', 'b/checkpoints'], ['a', ''])
    """
    parts = [_parts(path) for path in paths]
    ways = [[name_of_path(path) for path in paths]]
    ways += [["/".join(one[-length:]) for one in parts] for length in range(1, max(map(len, parts), default=0) + 1)]
    return next((ends for ends in ways if len(set(ends)) == len(ends)), list(paths))


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path that are names."""
    return () if nameless(path) else tuple(part for part in PurePath(path).parts if not nameless(part))
