"""The table of sizes before `tight` was made again, and today."""

from collections.abc import Sequence
from statistics import geometric_mean, mean

from benchmarks.cases.record import Content, Row
from benchmarks.reporting.markdown import table

BUDGET = 400
"""Evaluations of the earlier default, with which today's search is measured, too."""


def before(content: Content) -> str:
    """For each network the geometric means over seeds, and today's sizes relative to those before; then means and the worst."""
    rows, lines = content["rows"], []
    relative: list[tuple[float, float]] = []
    for case in dict.fromkeys((row["network"], row["distortion"], row["eps"]) for row in rows):
        own = [row for row in rows if (row["network"], row["distortion"], row["eps"]) == case]
        earlier = [row for row in own if row["search"] == "before"]
        few, default = ([row for row in own if row["search"] == "today" and row["budget"] == budget] for budget in (BUDGET, None))
        if earlier and few and default:
            sizes = [_size(some) for some in (earlier, few, default)]
            relative.append((sizes[1] / sizes[0], sizes[2] / sizes[0]))
            seconds = [f"{mean(row['cpu_seconds'] for row in some):.0f}" for some in (earlier, default)]
            bits, ratios = [f"{size:,.0f}" for size in sizes], [f"{ratio:.2f}" for ratio in relative[-1]]
            lines.append([case[0], case[1], f"{case[2]:g}", *bits, *ratios, *seconds])
    for name, end in (("geometric mean", geometric_mean), ("worst", max)):
        lines += [[name, *[""] * 5, *(f"{end(ratios):.2f}" for ratios in zip(*relative, strict=True)), "", ""]] if relative else []
    head = ["network", "distortion", "ε", "before, bits", "today, 400 evaluations", "today, default"]
    return table([*head, "400 / before", "default / before", "seconds before", "seconds today"], lines)


def _size(rows: Sequence[Row]) -> float:
    """Geometric mean of the bits; a file of no bits counts as one byte."""
    return geometric_mean(max(row["bits"], 8) for row in rows)
