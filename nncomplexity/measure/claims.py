"""One claim with its verdict, and the tolerance between two measurements of one number.

Decoded weights are the same bits everywhere. So two machines, devices or versions of PyTorch can differ only in the arithmetic of the user's
loss. A sum of n float32 terms in another order differs by a relative error of about √n·2⁻²⁴, which is 2·10⁻⁵ for n = 10⁵. A forward pass
adds a few units of 2⁻²⁴ for each layer. A relative tolerance of 10⁻⁴ covers both. A loss near 0 is a difference of numbers near 1, whose
rounding errors are about 2⁻²⁴. There the absolute tolerance of 10⁻⁶ applies. docs/reliability.md has measured differences. Numbers that are
computed from other numbers in float64, such as a bound, are compared with a relative tolerance of 10⁻⁹.
"""

import math
from dataclasses import dataclass

RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-6
"""The tolerances between a measured loss or risk and the reported one."""
DERIVED_TOLERANCE = 1e-9
"""The relative tolerance of numbers that are computed in float64 from reported numbers."""
_SHOWN = 30
"""The longest value, in characters, that a message quotes: a report may contain anything."""


@dataclass(frozen=True)
class Claim:
    """A statement about a file, and whether it is true."""

    name: str
    holds: bool
    figures: str
    """The value that was found, and the value that was claimed, as text."""


def close(name: str, found: float, claimed: float, *, of: float = 0.0) -> Claim:
    """The claim that two measurements agree within the tolerance of a measured number.

    `of` is a magnitude: if the number is a small difference of two large losses, the error is that of the losses.

    >>> close("loss", 1.00001, 1.0).holds, close("loss", 1.001, 1.0).holds
    (True, False)
    """
    floor = max(ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE * of)
    try:
        holds = math.isclose(found, claimed, rel_tol=RELATIVE_TOLERANCE, abs_tol=floor)
        return Claim(name, holds, f"{found:.6g}, {claimed:.6g} claimed")
    except OverflowError:  # a whole number beyond all floats
        return Claim(name, False, f"{found:.6g}, a number beyond all floats claimed")


def same(name: str, found: object, claimed: object) -> Claim:
    """The claim that two values are equal: numbers within the float64 tolerance, lists entry by entry, all else exactly.

    >>> same("bits", 800, 800).holds, same("shape", [3, 4], (3, 4)).holds, same("rank", None, 3).figures
    (True, True, 'none, 3 claimed')
    """
    return Claim(name, alike(found, claimed), f"{_as_text(found)}, {_as_text(claimed)} claimed")


def alike(one: object, other: object) -> bool:
    """Whether two JSON values are equal in the sense of `same`."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    # In Python True == 1, but in JSON a truth value is not a number.
    if isinstance(one, bool) or isinstance(other, bool) or not isinstance(one, int | float) or not isinstance(other, int | float):
        return type(one) is type(other) and one == other
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    try:
        return math.isclose(one, other, rel_tol=DERIVED_TOLERANCE)
    except OverflowError:  # a whole number beyond all floats
        return False


def _as_text(value: object) -> str:
    if value is None:
        return "none"
    try:
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"
    except ValueError:  # Python refuses to print a whole number of more than 4,300 digits
        text = "thousands of digits"
    text = f"{value:.9g}" if isinstance(value, float) else text
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
