"""Checks of the arguments of a bound. Each check returns a Python number for the arithmetic, or raises InputError."""

import math
from typing import Any, SupportsFloat, SupportsIndex

from nncomplexity.errors import InputError
from nncomplexity.words import checked_count, checked_number, shown

# Above 2^53, not every whole number is a float64.
LARGEST_COUNT = 2**53


def check_bits(value: SupportsFloat, name: str = "bits") -> float:
    """A length in bits: finite and not negative."""
    return checked_number(name, value, "a finite number of bits >= 0, such as report.bits", lambda bits: bits >= 0)


def check_count(name: str, value: SupportsIndex, least: int, what: str) -> int:
    """A number of examples, classes or the like: a whole number from `least` to 2^53."""
    return checked_count(name, value, least, LARGEST_COUNT, f"a whole number of {what} from {least} to 2**53")


def check_n(value: SupportsIndex) -> int:
    """A number of examples: a whole number from 1 to 2^53."""
    return check_count("n", value, 1, "examples")


def check_delta(value: SupportsFloat) -> float:
    """A failure probability: strictly between 0 and 1."""
    expected = "a failure probability strictly between 0 and 1, such as 0.05"
    return checked_number("delta", value, expected, lambda delta: 0 < delta < 1)


def check_range(value: Any) -> tuple[float, float]:
    """The interval [low, high] in which the loss of every example lies."""
    expected = "a pair (low, high) with low < high, an interval that holds every possible loss"
    try:
        low, high = value
    except (TypeError, ValueError):
        raise InputError(f"range: expected {expected}, got {shown(value)}") from None
    low, high = (checked_number(f"range[{place}]", end, "a finite number") for place, end in enumerate((low, high)))
    if not (low < high and math.isfinite(high - low)):
        raise InputError(f"range: expected {expected}, got ({low}, {high})")
    return low, high


def check_risk(value: SupportsFloat, low: float, high: float, name: str = "risk") -> float:
    """An empirical risk: the mean over the n examples of a loss in [low, high]."""
    expected = f"a mean loss within the range ({low:g}, {high:g}); for a loss on another scale, give its range="
    return checked_number(name, value, expected, lambda risk: low <= risk <= high)


def check_chance(value: SupportsFloat | None, low: float, high: float) -> float:
    """The risk of a guess. The default is 1, or the top of the range if 1 is not in the range."""
    if value is None:
        return 1.0 if low < 1.0 <= high else high
    expected = f"a risk above {low:g} and at most {high:g}, the ends of the range"
    return checked_number("chance", value, expected, lambda chance: low < chance <= high)
