"""Rows as a table for people: a line for each checkpoint, seeds taken together."""

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from statistics import fmean, stdev

from rich.table import Table

from nncomplexity.table import WIDTH, page_of, plain_table
from nncomplexity.track.settings import Row


def tracked(rows: Sequence[Row], *, width: int = WIDTH) -> str:
    """For each run a table of its checkpoints: loss, bytes at each ε and metrics, with the standard deviation over several seeds.

    Failed rows are named below, and why they failed.
    """
    measured = [row for row in rows if row["status"] == "measured"]
    failed = [row for row in rows if row["status"] != "measured"]
    parts: list[str | Table] = []
    for run in dict.fromkeys(row["run"] for row in measured):
        parts += [
            *([""] if parts else []),
            f"{run or 'To compare with'}:",
            "",
            _table([row for row in measured if row["run"] == run]),
        ]
    if any(not row[f"within@{eps:g}"] for row in measured for eps in row["eps"]):
        parts.append("* nothing within this ε was smaller than the lossless file; raise eps or the budget")
    if failed:
        parts += [*([""] if parts else []), f"Failed: {len(failed)} of {len(rows)}."]
        parts += [f"  {_name(row)}, seed {row['seed']}: {row['error']}" for row in failed]
    return page_of(parts, width)


def _table(rows: Sequence[Row]) -> Table:
    first = rows[0]
    metrics, eps = list(first["settings"]["metrics"]), first["eps"]
    bounds = [f"bound@{one:g}" for one in eps if f"bound@{one:g}" in first]
    places: dict[tuple[str, object], list[Row]] = {}
    for row in rows:
        places.setdefault((row["kind"], row["checkpoint"]), []).append(row)
    several = any(len(group) > 1 for group in places.values())
    titles = [
        "step",
        "loss",
        *(f"bytes,\nε = {one:g}" for one in eps),
        *(name.replace("@", ",\nε = ") for name in bounds),
        *metrics,
    ]
    table = plain_table(*titles, *(["seeds"] if several else []), left=("step",))
    for group in sorted(places.values(), key=_order):
        row = group[0]
        step = row["kind"] if row["kind"] != "checkpoint" else _name(row) if row["step"] is None else f"{row['step']:,}"
        table.add_row(
            step,
            _mean((row["loss"] for row in group), ".4g"),
            *(_bytes(group, one) for one in eps),
            *(_mean((row.get(name) for row in group), ".4g") for name in (*bounds, *metrics)),
            *([str(len(group))] if several else []),
        )
    return table


def _order(group: Sequence[Row]) -> tuple[bool, float]:
    step = group[0]["step"]
    return step is None, step or 0.0


def _bytes(group: Sequence[Row], eps: float) -> str:
    text = _mean((row[f"bits@{eps:g}"] / 8 for row in group), ",.0f")
    return text if all(row[f"within@{eps:g}"] for row in group) else f"{text} *"


def _mean(values: Iterable[float | None], form: str) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return "-"
    spread = stdev(found) if len(found) > 1 else 0.0
    return format(fmean(found), form) + (f" ± {format(spread, '.2g' if form == '.4g' else form)}" if spread else "")


def _name(row: Row) -> str:
    return str(PurePath(row["checkpoint"])) if row["kind"] == "checkpoint" and row["checkpoint"] else str(row["kind"])
