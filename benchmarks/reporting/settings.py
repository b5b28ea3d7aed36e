"""The table of the settings of `tight`: the effect of each, beside the spread over seeds."""

import math
from collections.abc import Sequence
from statistics import mean, stdev

from benchmarks.cases.record import Content, Row
from benchmarks.reporting.markdown import table

UNCHANGED = "none"
"""The setting of the rows in which none is changed."""


def settings(content: Content) -> str:
    """For each setting, halved and doubled: the geometric mean of the sizes and the mean of the times, relative to those without a change.

    The spread is the standard deviation of ln(bits) over seeds, in the mean over networks. An effect on the size is called clear if the
    mean of ln of the ratios exceeds that spread, in either direction; below it one search can't tell the setting from its neighbour.
    """
    rows = content["rows"]
    base = [row for row in rows if row["setting"] == UNCHANGED]
    lines = []
    for name in dict.fromkeys(row["setting"] for row in rows if row["setting"] != UNCHANGED):
        own = {factor: [row for row in rows if (row["setting"], row["factor"]) == (name, factor)] for factor in (0.5, 2.0)}
        effects = [_logs(some) - _logs(base) for some in own.values()]
        spreads = [spread(base), *(spread(some) for some in own.values())]
        clear = max(map(abs, effects)) > max(spreads)
        times = [mean(row["cpu_seconds"] for row in some) / mean(row["cpu_seconds"] for row in base) for some in own.values()]
        numbers = [f"{value:.2f}" for value in (*map(math.exp, effects), *times)]
        lines.append([name, *numbers, *(f"{value:.3f}" for value in spreads[1:]), "yes" if clear else "no"])
    lines.append([UNCHANGED, "1.00", "1.00", "1.00", "1.00", *[f"{spread(base):.3f}"] * 2, ""])
    head = ["setting", "size, halved", "size, doubled", "time, halved", "time, doubled", "sd of ln, halved", "sd of ln, doubled"]
    return table([*head, "effect on the size above the spread"], lines)


def spread(rows: Sequence[Row]) -> float:
    """The standard deviation of ln(bits) over seeds, in the mean over networks; 0 for a single seed."""
    logs = [
        [math.log(row["bits"]) for row in rows if row["network"] == number]
        for number in dict.fromkeys(row["network"] for row in rows)
    ]
    return mean(stdev(some) if len(some) > 1 else 0.0 for some in logs)


def _logs(rows: Sequence[Row]) -> float:
    return mean(math.log(row["bits"]) for row in rows)
