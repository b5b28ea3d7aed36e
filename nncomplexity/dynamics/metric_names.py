"""The numbers of a row under names that TensorBoard, W&B and MLflow all take."""

import re
from collections.abc import Iterator
from typing import Any

from nncomplexity.dynamics.settings import Row
from nncomplexity.errors import InputError
from nncomplexity.words import is_number

PREFIX = "complexity/"
AT = "_at_"
_NO_NUMBERS = {"schema", "seed", "step"}
"""Keys that say which row it is. A logger has its own axis, and takes a value named `step` for it."""
_REFUSED = re.compile(r"[^A-Za-z0-9_.-]")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_.-]+/)*[A-Za-z0-9_.-]*")
_SEPARATOR = re.compile(r"[A-Za-z0-9_.@-]+")


def numbers(row: Row | None, prefix: str = PREFIX, at: str = AT) -> dict[str, float]:
    """The numbers of a row by names for trackers of experiments: `complexity/bits_at_0.1`, `complexity/agreement_at_1pct`.

    The names are of letters, digits, "_", "-", "." and "/". MLflow refuses other characters, such as the "@" and "%" of rows. Numbers of
    the network itself have no ε in their names: `complexity/loss`, `complexity/effective_rank`. Each matrix has its effective rank too:
    `complexity/effective_rank_of_emb.weight`. A row that failed, or None, has no numbers.

    Args:
        row: a row of `track` or of a `Tracker`, or None.
        prefix: what all names begin with; trackers make a group of what comes before "/".
        at: what stands before ε in place of "@".

    Returns:
        The numbers by name. Values that are missing or null are left out, and so are step, seed and schema.

    Raises:
        InputError: `prefix` or `at` has a character that a tracker refuses ("@" is allowed in `at`, where MLflow isn't used).

    >>> numbers({"status": "measured", "step": 7, "eps": [0.1], "loss": 0.5, "bits@0.1": 800, "bound@0.1": None})
    {'complexity/loss': 0.5, 'complexity/bits_at_0.1': 800}
    """
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise InputError(f"prefix: expected letters, digits, '_', '-', '.' and '/', such as 'complexity/', got {prefix!r}")
    if not isinstance(at, str) or not _SEPARATOR.fullmatch(at):
        raise InputError(f"at: expected letters, digits, '_', '-', '.' or '@', such as '_at_', got {at!r}")
    if not row or row.get("status") == "failed":
        return {}
    return {f"{prefix}{_named(key, at)}": value for key, value in _values(row) if is_number(value)}


def _values(row: Row) -> Iterator[tuple[str, Any]]:
    yield from ((key, value) for key, value in row.items() if key not in _NO_NUMBERS)
    # The effective rank is that of the original matrix, so it is the same for every ε.
    layers = next((value for key, value in row.items() if key.startswith("layers@")), None) or ()
    yield from ((f"effective_rank_of_{layer['name']}", layer.get("layer_effective_rank")) for layer in layers)


def _named(key: str, at: str) -> str:
    """The key of a row as a name. A tensor may have any name, with "@" in it too."""
    if key.startswith("effective_rank_of_"):
        return _REFUSED.sub("_", key)
    name, separator, eps = key.partition("@")
    # 1e+06 is 1e06 too
    return _REFUSED.sub("_", name) + (at + _REFUSED.sub("", eps.replace("%", "pct")) if separator else "")
