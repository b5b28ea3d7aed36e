"""Bounds as text, rounded up, because a value that is too small is not a bound."""

import math
from decimal import ROUND_CEILING, Context, Decimal


def rounded_up(value: float, digits: int = 6) -> str:
    """The smallest number with this many significant digits (at most 15) that is not below the value.

    >>> rounded_up(0.98702001), rounded_up(0.9), rounded_up(0.99951, 3)
    ('0.987021', '0.9', '1')
    """
    if not math.isfinite(value):
        return f"{value}"
    # The shortest text for this float, not its exact value: the float 0.9 is slightly more than 0.9, and would round up to 0.900001.
    above = Context(prec=digits, rounding=ROUND_CEILING).plus(Decimal(repr(float(value))))
    return f"{float(above):.{digits}g}"


def rounded_up_below(value: float, limit: float, digits: int = 6) -> str:
    """`rounded_up`, with more digits if the rounded value would reach a limit that the value itself is below.

    >>> rounded_up_below(1000.9982, 1001.0, digits=4)
    '1000.999'
    """
    while digits < 15 and float(rounded_up(value, digits)) >= limit > value:
        digits += 1
    return rounded_up(value, digits)
