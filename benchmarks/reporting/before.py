"""The table of sizes before `tight` was made again, and today."""

from collections.abc import Sequence
from statistics import geometric_mean, mean

from benchmarks.cases.record import Content, Row
from benchmarks.reporting.markdown import table

BUDGET = 400
"""Evaluations of the earlier default, with which today's search is measured, too."""


def before(content: Content, *others: Content) -> str:
    """For each network the geometric means over seeds, and today's sizes relative to those before; then means and the worst.

    Args:
        content: the record of this benchmark.
        others: records of today's search, with an `effort` in each row.
    """
    rows = [
        *content["rows"],
        *(row for other in others for row in map(_of_today, other["rows"]) if row["budget"] in (BUDGET, None)),
    ]
    relative: dict[float | None, list[float]] = {BUDGET: [], None: []}
    lines = []
    for case in dict.fromkeys(map(_case, rows)):
        own = [row for row in rows if _case(row) == case]
        earlier = [row for row in own if row["search"] == "before"]
        today = {budget: [row for row in own if row["search"] == "today" and row["budget"] == budget] for budget in relative}
        if not earlier or not today[None]:
            continue
        sizes, ratios = [f"{_size(earlier):,.0f}"], []
        for budget, some in today.items():
            sizes.append(f"{_size(some):,.0f}" if some else "–")
            ratios.append(f"{_size(some) / _size(earlier):.2f}" if some else "–")
            relative[budget] += [_size(some) / _size(earlier)] if some else []
        seconds = [f"{mean(row['cpu_seconds'] for row in some):.0f}" for some in (earlier, today[None])]
        lines.append([case[0], case[1], f"{case[2]:g}", *sizes, *ratios, *seconds])
    if lines:
        for name, end in (("geometric mean", geometric_mean), ("worst", max)):
            ends = [f"{end(ratios):.2f}" if ratios else "–" for ratios in relative.values()]
            lines.append([name, *[""] * 5, *ends, "", ""])
    head = ["network", "distortion", "ε", "before, bits", "today, 400 evaluations", "today, default"]
    return table([*head, "400 / before", "default / before", "seconds before", "seconds today"], lines)


def _case(row: Row) -> tuple[str, str, float]:
    return row["network"], row["distortion"], row["eps"]


def _of_today(row: Row) -> Row:
    """A row of another record in the form of this one. Other efforts than the default and 400 get the budget 0."""
    return {**row, "search": "today", "budget": {"default": None, f"{BUDGET}": BUDGET}.get(row["effort"], 0)}


def _size(rows: Sequence[Row]) -> float:
    """Geometric mean of the bits; a file of no bits counts as one byte."""
    return geometric_mean(max(row["bits"], 8) for row in rows)
