"""Sizes on axes, with one unit for each axis. 1 kB is 1,000 bytes, as in SI, never 1,024."""

UNITS = {"bytes": 8, "bits": 1}
"""The units of sizes, and the bits of each."""
_MULTIPLES = {
    "bytes": (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1.0)),
    "bits": (("Gbit", 1e9), ("Mbit", 1e6), ("kbit", 1e3), ("bits", 1.0)),
}


def unit_for(unit: str, top: float) -> tuple[str, float]:
    """The unit for an axis that ends at `top`, and its size in bytes or bits. It is the largest unit of which the axis has at least ten.

    >>> unit_for("bytes", 9_999), unit_for("bytes", 21_896), unit_for("bits", 3e7)
    (('bytes', 1.0), ('kB', 1000.0), ('Mbit', 1000000.0))
    """
    return next((name, size) for name, size in _MULTIPLES[unit] if top >= 10 * size or size == 1)


def number_in(value: float) -> str:
    """The number of units as text, without the unit.

    >>> [number_in(value) for value in (0, 0.25, 7.5, 2_500, 40_000)]
    ['0', '0.25', '7.5', '2,500', '40,000']
    """
    return f"{value:,.0f}" if 1000 <= value < 1e6 else f"{value:.4g}"
