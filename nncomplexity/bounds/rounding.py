"""Bounds in print: rounded upwards, since a bound that is shown too small is none."""

import math
from decimal import ROUND_CEILING, Context, Decimal


def rounded_up(value: float, digits: int = 6) -> str:
    """The least number of so many significant digits that is not below the value, at most 15 of them.

    >>> rounded_up(0.98702001), rounded_up(0.9), rounded_up(0.99951, 3)
    ('0.987021', '0.9', '1')
    """
    if not math.isfinite(value):
        return f"{value}"
    # The shortest text that means this float: its exact value would make 0.9 a little more than 0.9.
    above = Context(prec=digits, rounding=ROUND_CEILING).plus(Decimal(repr(float(value))))
    return f"{float(above):.{digits}g}"


def rounded_up_below(value: float, limit: float, digits: int = 6) -> str:
    """The same in as many digits more as set it off from a limit that the value is below.

    >>> rounded_up_below(1000.9982, 1001.0, digits=4)
    '1000.999'
    """
    while digits < 15 and float(rounded_up(value, digits)) >= limit > value:
        digits += 1
    return rounded_up(value, digits)
