"""The numbers of a row under names that TensorBoard, W&B and MLflow all accept."""

import re
from collections.abc import Iterator
from typing import Any

from nncomplexity.dynamics.settings import Row
from nncomplexity.errors import InputError
from nncomplexity.words import is_number

PREFIX = "complexity/"
AT = "_at_"
_NO_NUMBERS = {"schema", "seed", "step"}
"""Keys that identify the row. They are no metrics: a logger has its own axis, and would take a value named `step` for it."""
_REFUSED = re.compile(r"[^A-Za-z0-9_.-]")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_.-]+/)*[A-Za-z0-9_.-]*")
_SEPARATOR = re.compile(r"[A-Za-z0-9_.@-]+")


def numbers(row: Row | None, prefix: str = PREFIX, at: str = AT) -> dict[str, float]:
    """The numbers of a row under names for experiment trackers, such as `complexity/bits_at_0.1` or `complexity/agreement_at_1pct`.

    The names have letters, digits, "_", "-", "." and "/". MLflow refuses other characters, such as the "@" and "%" of rows. Numbers of
    the network itself have no ε in their names: `complexity/loss`, `complexity/effective_rank`. Each matrix has its effective rank too:
    `complexity/effective_rank_of_emb.weight`. A row that failed, or None, has no numbers.

    Args:
        row: a row of `track` or of a `Tracker`, or None.
        prefix: the beginning of all names; trackers group names by the part before "/".
        at: the text before ε, instead of "@".

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
    """The name for a key of a row. The key of a tensor's rank is replaced as a whole, because a tensor's name may have an "@"."""
    if key.startswith("effective_rank_of_"):
        return _REFUSED.sub("_", key)
    name, separator, eps = key.partition("@")
    # The characters of ε are removed and not replaced: 1e+06 becomes 1e06.
    return _REFUSED.sub("_", name) + (at + _REFUSED.sub("", eps.replace("%", "pct")) if separator else "")
