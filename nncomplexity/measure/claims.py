"""One claim and whether it holds, and how far two measurements of one number may be apart.

Decoded weights are the same bits everywhere, so what differs between two machines, devices or versions of PyTorch is the arithmetic of
the user's loss alone. A sum of n float32 terms in another order is off by about √n·2⁻²⁴ of itself, 2·10⁻⁵ for n = 10⁵, and a forward pass
adds a few units of 2⁻²⁴ for each layer: 10⁻⁴ leaves room for both. Near 0 a loss is a difference of numbers about 1, known to some 2⁻²⁴:
there the absolute 10⁻⁶ counts. docs/reliability.md has what was measured. Numbers that follow from others by float64 alone, as a bound
does, are compared to 10⁻⁹.
"""

import math
from dataclasses import dataclass

RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-6
"""How far a loss or risk may be from the one reported."""
DERIVED_TOLERANCE = 1e-9
"""The same of what follows by float64 arithmetic from numbers that are given."""
_SHOWN = 30


@dataclass(frozen=True)
class Claim:
    """Something said of a file, and whether it holds."""

    name: str
    holds: bool
    figures: str
    """What was found, and what was claimed."""


def close(name: str, found: float, claimed: float, *, of: float = 0.0) -> Claim:
    """The claim that two measurements are of one number, up to the rounding of what is as large as they are or as `of`.

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
    """The claim that two values are one: numbers up to float64 arithmetic, lists and objects entry by entry, all else exactly.

    >>> same("bits", 800, 800).holds, same("shape", [3, 4], (3, 4)).holds, same("rank", None, 3).figures
    (True, True, 'none, 3 claimed')
    """
    return Claim(name, alike(found, claimed), f"{_told(found)}, {_told(claimed)} claimed")


def alike(one: object, other: object) -> bool:
    """Whether two JSON values are the same in this sense."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, bool) or isinstance(other, bool) or not isinstance(one, int | float) or not isinstance(other, int | float):
        return type(one) is type(other) and one == other
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    try:
        return math.isclose(one, other, rel_tol=DERIVED_TOLERANCE)
    except OverflowError:
        return False


def _told(value: object) -> str:
    if value is None:
        return "none"
    try:
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"
    except ValueError:  # Python prints no number of many thousand digits
        text = "thousands of digits"
    text = f"{value:.9g}" if isinstance(value, float) else text
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
