"""Checks of the arguments of bounds. Each check returns a plain number for the arithmetic, or raises.

A number may come as an ``int``, a ``float``, a NumPy scalar or a 0-d tensor. A ``bool`` or a string is a mistake.
"""

import math
import operator
from typing import Any, SupportsFloat, SupportsIndex

from nncomplexity.errors import InputError

# Above 2^53 a float no longer counts one by one.
LARGEST_COUNT = 2**53


def number(name: str, value: SupportsFloat, expected: str) -> float:
    """``value`` as a finite float; ``expected`` is the rest of the sentence "``name`` must be …"."""
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        result = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise InputError(f"{name} must be {expected}; got {shown(value)}") from None
    if not math.isfinite(result):
        raise InputError(f"{name} must be {expected}; got {result}")
    return result


def count(name: str, value: SupportsIndex, least: int, expected: str) -> int:
    """``value`` as an int from ``least`` to 2^53."""
    try:
        if isinstance(value, bool):
            raise TypeError
        result = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be {expected}; got {shown(value)}") from None
    if not least <= result <= LARGEST_COUNT:
        raise InputError(f"{name} must be {expected}; got {shown(result)}")
    return result


def shown(value: object) -> str:
    """``repr`` on one line, short enough to stand in a message."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python refuses to print an integer of many thousand digits
        text = f"{type(value).__name__} too long to print"
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_bits(value: SupportsFloat, name: str = "bits") -> float:
    """A length in bits: finite and not negative."""
    expected = "a finite number of bits >= 0, such as report.bits"
    bits = number(name, value, expected)
    if bits < 0:
        raise InputError(f"{name} must be {expected}; got {bits}")
    return bits


def check_n(value: SupportsIndex) -> int:
    """A number of examples: a whole number from 1 to 2^53."""
    return count("n", value, 1, "a whole number of examples from 1 to 2**53")


def check_delta(value: SupportsFloat) -> float:
    """A failure probability: strictly between 0 and 1."""
    expected = "a failure probability strictly between 0 and 1, such as 0.05"
    delta = number("delta", value, expected)
    if not 0 < delta < 1:
        raise InputError(f"delta must be {expected}; got {delta}")
    return delta


def check_range(value: Any) -> tuple[float, float]:
    """The interval [low, high] in which the loss of every example lies."""
    expected = "a pair (low, high) with low < high, an interval that holds every possible loss"
    try:
        low, high = value
    except (TypeError, ValueError):
        raise InputError(f"range must be {expected}; got {shown(value)}") from None
    low, high = number("range[0]", low, "a finite number"), number("range[1]", high, "a finite number")
    if not (low < high and math.isfinite(high - low)):
        raise InputError(f"range must be {expected}; got ({low}, {high})")
    return low, high


def check_risk(value: SupportsFloat, low: float, high: float, name: str = "risk") -> float:
    """An empirical risk: the mean over the n examples of a loss in [low, high]."""
    expected = f"a mean loss within the range ({low:g}, {high:g}); for a loss on another scale, give its range="
    risk = number(name, value, expected)
    if not low <= risk <= high:
        raise InputError(f"{name} must be {expected}; got {risk}")
    return risk


def check_chance(value: SupportsFloat | None, low: float, high: float) -> float:
    """The risk that needs no learning; left out, it is 1, or the top of a range that 1 is not in."""
    if value is None:
        return 1.0 if low < 1.0 <= high else high
    expected = f"a risk above {low:g} and at most {high:g}, the ends of the range"
    chance = number("chance", value, expected)
    if not low < chance <= high:
        raise InputError(f"chance must be {expected}; got {chance}")
    return chance
