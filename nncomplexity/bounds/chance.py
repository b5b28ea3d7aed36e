"""Chance, the risk of a guess, and the smallest value at which a bound is no better than chance."""

from typing import SupportsFloat, SupportsIndex

from nncomplexity.bounds.arguments import check_count
from nncomplexity.errors import InputError
from nncomplexity.words import checked_number

MARGIN = 1e-3
"""A bound that is better than chance by at most this share of the risk's range counts as vacuous."""
_LARGEST_SHARE = 0.1
"""The largest margin as a share of chance. It applies if chance is below 0.01, where a thousandth of the range would be too much."""


def vacuous_from(chance: float, low: float = 0.0, high: float = 1.0) -> float:
    """The smallest value of a vacuous bound: chance − min((high − low)/1000, (chance − low)/10).

    >>> vacuous_from(0.9), vacuous_from(1.0), vacuous_from(10.0, 0.0, 10.0)
    (0.899, 0.999, 9.99)
    """
    return chance - min(MARGIN * (high - low), _LARGEST_SHARE * (chance - low))


def chance_from(chance: SupportsFloat | None, classes: SupportsIndex | None, names: tuple[str, str]) -> float | None:
    """The risk of a guess: `chance` itself, or 1 − 1/K for K equally frequent classes; None if neither is given.

    Raises:
        InputError: both are given, or one isn't usable; the message names them.

    >>> chance_from(None, 10, ("chance", "classes"))
    0.9
    """
    if classes is None:
        return None if chance is None else checked_number(names[0], chance, "the risk of a guess, such as 0.9")
    if chance is not None:
        raise InputError(f"{names[1]}: expected only this or {names[0]}, got both; leave one out")
    return 1 - 1 / check_count(names[1], classes, 2, "classes")
