"""Checks that an object in a results.jsonl is a valid row: it has the required keys, and each value is of the right type.

Rows may be edited by hand, or come from other people. A fault is reported when the file is opened, before anything is measured.
"""

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from nncomplexity.errors import InputError
from nncomplexity.words import is_number, names_in, python_number

_SHOWN = 60


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_path(value: object) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
        return False
    return True


def _is_finite(value: object) -> bool:
    number = python_number(value)
    return is_number(number) and math.isfinite(number)


def _is_seed(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_numbers(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(one is None or (_is_finite(one) and one >= 0) for one in value)


def _or_null(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


_Checks = Mapping[str, tuple[Callable[[object], bool], str]]
_TEXT, _NUMBER = (_or_null(_is_text), "a text or null"), (_or_null(_is_finite), "a number or null")
_EVERY: _Checks = {
    "kind": (_is_text, "a text"),
    "status": (_is_text, "a text"),
    "run": _TEXT,
    "checkpoint": (_or_null(_is_path), "the name of a file or null"),
    "step": _NUMBER,
    "seed": (_is_seed, "a whole number"),
}
"""Keys of every row."""
_MEASURED: _Checks = {
    "eps": (_is_numbers, "a list of numbers"),
    "settings": (_is_object, "an object"),
    "loss": (_is_finite, "a number"),
}
_AT: _Checks = {"bits": (_is_finite, "a number"), "within": (_is_switch, "true or false")}
"""Keys of a measured row for each ε, without the ε in their names."""
_ALSO: _Checks = {
    **dict.fromkeys(("sha256", "trainer", "step_from", "step_name", "error"), _TEXT),
    **dict.fromkeys(
        ("seconds", "cpu_seconds", "evaluations", "constant_risk", "constant_bound", "llc", "prequential_bits"), _NUMBER
    ),
    **dict.fromkeys(("warnings", "notes"), (_or_null(_is_texts), "a list of texts")),
    "eps_relative": (_or_null(_is_numbers), "a list of numbers"),
}
"""Keys that may be missing."""
_ALSO_AT: _Checks = {
    "layers": (_or_null(_is_list), "a list"),
    "warnings": (_or_null(_is_texts), "a list of texts"),
    "origin": _TEXT,
    "vacuous": (_or_null(_is_switch), "true or false"),
}
"""Keys for each ε that may be missing. All keys that are not listed are numbers or null."""


def fault_of(row: Mapping[str, Any]) -> str | None:
    """The fault of a row, as "expected KEY to be …, got …"; None for a valid row.

    >>> row = {"kind": "checkpoint", "status": "failed", "run": "a", "checkpoint": "a/7.pt", "step": 7, "seed": 0, "error": "it is cut"}
    >>> fault_of(row), fault_of(row | {"step": "7"})
    (None, "expected step to be a number or null, got '7'")
    """
    measured = row.get("status") == "measured"
    return _first(row, {**_EVERY, **(_MEASURED if measured else {})}, _ALSO) or (_of_measured(row) if measured else None)


def _of_measured(row: Mapping[str, Any]) -> str | None:
    shares, count = row.get("eps_relative"), len(row["eps"])
    if shares is not None and len(shares) != count:
        return f"expected eps_relative to have {count} entries, as eps has, got {len(shares)}"
    if any(eps is None for eps, share in zip(row["eps"], shares or [None] * count, strict=True) if share is None):
        return "expected eps to be a list of numbers, got null"
    metrics = row["settings"].get("metrics") or {}
    if not isinstance(metrics, Mapping):
        return f"expected settings.metrics to be an object, got {metrics!r:.{_SHOWN}}"
    try:
        names = names_in(row)
    except InputError as error:
        return f"expected eps_relative to be shares, got {error}"
    needed = {f"{key}@{name}": check for name in names for key, check in _AT.items()}
    known = {f"{key}@{name}": check for name in names for key, check in _ALSO_AT.items()}
    numbers = {key: _NUMBER for key in row if key in metrics or ("@" in key and key not in needed and key not in known)}
    return _first(row, needed, {**known, **numbers})


def _first(row: Mapping[str, Any], needed: _Checks, known: _Checks) -> str | None:
    for key, (check, expected) in {**known, **needed}.items():
        if key not in row:
            if key in needed:
                return f"expected {key}, which is {expected}, got a row without it"
        elif not check(row[key]):
            return f"expected {key} to be {expected}, got {row[key]!r:.{_SHOWN}}"
    return None
