"""The table of the settings of `tight`: the effect of each, beside the spread over seeds."""

import math
from collections.abc import Sequence
from statistics import mean, stdev

from benchmarks.cases.record import Content, Row
from benchmarks.reporting.markdown import table

UNCHANGED = "none"
"""The setting of the rows in which none is changed."""


def settings(content: Content) -> str:
    """For each setting, halved and doubled: the geometric mean of the sizes and the mean of the evaluations, relative to the unchanged ones.

    If the setting has a value that switches its part off, the size without it is told, too. The spread is the standard deviation of
    ln(bits) over seeds, in the mean over networks. An effect is above the spread if the mean of the logarithms of the ratios is, in
    either direction: one search then tells the setting from its neighbour.
    """
    rows = content["rows"]
    base = [row for row in rows if row["setting"] == UNCHANGED]
    lines = []
    for name in dict.fromkeys(row["setting"] for row in rows if row["setting"] != UNCHANGED):
        halved, doubled, off = (
            [row for row in rows if (row["setting"], row["factor"]) == (name, factor)] for factor in (0.5, 2.0, 0.0)
        )
        if not halved or not doubled:
            continue
        effects = [_effect(some, base) for some in (halved, doubled)]
        spreads = [spread(some) for some in (base, halved, doubled)]
        costs = [mean(row["evaluations"] for row in some) / mean(row["evaluations"] for row in base) for some in (halved, doubled)]
        numbers = [f"{value:.2f}" for value in (*map(math.exp, effects), *costs)]
        above = "yes" if max(map(abs, effects)) > max(spreads) else "no"
        without = f"{math.exp(_effect(off, base)):.2f}" if off else "–"
        lines.append([name, *numbers[:2], without, *numbers[2:], *(f"{value:.3f}" for value in spreads[1:]), above])
    lines.append([UNCHANGED, "1.00", "1.00", "–", "1.00", "1.00", *[f"{spread(base):.3f}"] * 2, ""])
    sizes = [
        f"{what}, {how}"
        for what, hows in (("size", ("halved", "doubled", "off")), ("evaluations", ("halved", "doubled")))
        for how in hows
    ]
    return table(["setting", *sizes, "sd of ln, halved", "sd of ln, doubled", "effect above the spread"], lines)


def spread(rows: Sequence[Row]) -> float:
    """The standard deviation of ln(bits) over seeds, in the mean over networks; 0 for a single seed."""
    logs = [
        [math.log(row["bits"]) for row in rows if row["network"] == number]
        for number in dict.fromkeys(row["network"] for row in rows)
    ]
    return mean(stdev(some) if len(some) > 1 else 0.0 for some in logs)


def _effect(rows: Sequence[Row], base: Sequence[Row]) -> float:
    """The mean of ln(bits), beyond that of the searches without a change for the same networks and seeds."""
    alike = {(row["network"], row["seed"]): row["bits"] for row in base}
    return mean(math.log(row["bits"] / alike[row["network"], row["seed"]]) for row in rows)
