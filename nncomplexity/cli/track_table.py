"""Tables of rows: a line for each checkpoint, with all of its seeds together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from rich.table import Table

import nncomplexity
from nncomplexity.cli.table import BOUND_ON_BASE, WIDTH, page_of, text_table, warned
from nncomplexity.words import counted, listed, names_in, printable

if TYPE_CHECKING:
    from nncomplexity.dynamics import Row

_MOST_WARNINGS = 3
"""The largest number of warnings below a table. The rows have all of them."""


def tracked(rows: Sequence[Row], *, width: int = WIDTH) -> str:
    """For each run, a table of its checkpoints: loss, bytes at each ε and metrics, with the standard deviation over several seeds.

    Below the tables are the sources of the steps, notes on how checkpoints were read, and the failed rows with their errors.
    """
    measured = [row for row in rows if row["status"] == "measured"]
    failed = [row for row in rows if row["status"] != "measured"]
    parts: list[str | Table] = []
    for run in dict.fromkeys(row["run"] for row in measured):
        parts += [
            *([""] if parts else []),
            f"{run or 'To compare with'}:",
            "",
            _table(_columns([row for row in measured if row["run"] == run]), width),
        ]
    if any(not row[f"within@{eps}"] for row in measured for eps in names_in(row)):
        parts.append("* nothing within this ε was smaller than the lossless file; raise eps or the budget")
    below = [*_sources_of_steps(measured), *_notes(measured)]
    parts += [*([""] if parts and below else []), *below, *_warnings(measured), *_constant(measured)]
    if failed:
        parts += [*([""] if parts else []), f"Failed: {len(failed)} of {len(rows)}."]
        parts += [f"  {line}" for line in _failures(failed)]
    return page_of(parts, width)


def _warnings(measured: Sequence[Row]) -> list[str]:
    """The first warnings, each only once and with its checkpoints, and the number of the others."""
    found: dict[str, dict[str, None]] = {}
    for row in measured:
        for text in row.get("warnings") or ():
            found.setdefault(text, {})[_name(row)] = None
    everyone = {_name(row) for row in measured}
    shown = list(found.items())[:_MOST_WARNINGS]
    rest = len(found) - len(shown)
    about = {text: "" if names.keys() == everyone else listed(names, most=2) for text, names in shown}
    return [*warned(about), *([f"The rows have {counted(rest, 'more warning')}."] if rest > 0 else [])]


def _constant(measured: Sequence[Row]) -> list[str]:
    """The risk of a constant answer, the bound on it, and the condition on a base."""
    constants = [row for row in measured if row.get("constant_bound") is not None]
    if not constants:
        return []
    risks = [row["constant_risk"] for row in constants if row.get("constant_risk") is not None]
    known = f": risk {fmean(risks):.4g} on the examples," if risks else ", and has"
    value = nncomplexity.bounds.rounded_up(fmean(row["constant_bound"] for row in constants), 4)
    on_base = [BOUND_ON_BASE] if constants[0]["settings"].get("relative_to") else []
    return [f"A constant answer takes 0 bits{known} a bound of {value}.", *on_base]


def row_in_words(row: Row) -> str:
    """A row in one line: the network, its loss and its bytes, or its error.

    >>> row_in_words({"kind": "checkpoint", "checkpoint": "step_9.pt", "seed": 0, "status": "failed", "error": "it is damaged"})
    'step_9.pt, seed 0: failed, it is damaged'
    """
    who = f"{_name(row)}, seed {row['seed']}"
    if row["status"] != "measured":
        return f"{who}: failed, {row.get('error')}"
    sizes = ", ".join(f"{_bytes([row], eps)} bytes at ε = {eps}" for eps in names_in(row))
    return f"{who}: loss {row['loss']:.4g}, {sizes}, {row.get('seconds') or 0:.1f} s"


Column = tuple[str, list[str]]
"""A title, and one cell for each checkpoint."""


def _table(columns: Sequence[Column], width: int) -> Table:
    table = text_table(*(title for title, _ in columns), left=(columns[0][0],))
    # Steps stay on one line. Names of checkpoints without a step can be long and are folded.
    longest = max(map(len, columns[0][1]))
    table.columns[0].min_width = table.columns[0].max_width = max(len(columns[0][0]), min(longest, width // 2))
    for cells in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*cells)
    return table


def _columns(rows: Sequence[Row]) -> list[Column]:
    first = rows[0]
    eps = names_in(first)
    places: dict[tuple[str, object], list[Row]] = {}
    for row in rows:
        places.setdefault((row["kind"], row["checkpoint"]), []).append(row)
    groups = sorted(places.values(), key=_order)
    steps = Counter(group[0]["step"] for group in groups if group[0]["kind"] == "checkpoint")
    # All rows of a file have the same settings, so the first row tells which columns there are.
    bounds = [f"bound@{one}" for one in eps if f"bound@{one}" in first]
    llc = [name for name in ("prequential_bits", "llc") if name in first]
    critical = [f"critical_bits@{one}" for one in eps if f"critical_bits@{one}" in first]
    columns = [
        ("step", [_step(group[0], alone=steps[group[0]["step"]] < 2) for group in groups]),
        ("loss", [_mean((row["loss"] for row in group), ".4g") for group in groups]),
        *((f"bytes,\nε = {one}", [_bytes(group, one) for group in groups]) for one in eps),
        *((name.replace("@", ",\nε = "), [_bound(group, name) for group in groups]) for name in bounds),
        *(
            (printable(name).replace("@", ",\nε = "), [_mean((row.get(name) for row in group), ".4g") for group in groups])
            for name in (*llc, *critical, *first["settings"]["metrics"])
        ),
    ]
    # If each checkpoint has one seed, the column would say nothing.
    if any(len(group) > 1 for group in groups):
        columns.append(("seeds", [str(len(group)) for group in groups]))
    return columns


def _step(row: Row, *, alone: bool) -> str:
    """The step. The name is added if another checkpoint of the run has the same step, and replaces a missing step."""
    if row["kind"] != "checkpoint":
        return str(row["kind"])
    if row["step"] is None:
        return printable(_name(row))
    return (
        f"{row['step']:,}" if alone or not row["checkpoint"] else printable(f"{row['step']:,} {PurePath(row['checkpoint']).name}")
    )


def _sources_of_steps(rows: Sequence[Row]) -> list[str]:
    """The sources of the steps, in one line, and the checkpoints without a step. Empty if the rows don't have the sources."""
    asked = [row for row in rows if row["kind"] == "checkpoint" and "step_from" in row]
    sources: dict[str, str] = {}
    for row in asked:
        if row["step_from"]:
            name, colon, said = str(row["step_from"]).partition(": ")
            sources.setdefault(name, f"their names, as {printable(said)}" if colon else printable(name))
    without = list(dict.fromkeys(PurePath(row["checkpoint"]).name for row in asked if row["step"] is None and row["checkpoint"]))
    lines = [f"Steps are from {'; '.join(sources.values())}."] if sources else []
    if without:
        lines.append(f"No step was found for {listed(without)}; --step-pattern or --step-key can name it.")
    return lines


def _notes(rows: Sequence[Row]) -> list[str]:
    """Notes on how checkpoints were read, each only once."""
    names: dict[str, dict[str, None]] = {}
    for row in rows:
        for note in row.get("notes") or ():
            names.setdefault(str(note), {})[PurePath(row["checkpoint"]).name] = None
    return [f"{listed(of)}: {printable(note)}." for note, of in names.items()]


def _failures(failed: Sequence[Row]) -> list[str]:
    """One line for each error, with all checkpoints that have it: a wrong loss function fails all of them in the same way."""
    by_error: dict[str, list[Row]] = {}
    for row in failed:
        by_error.setdefault(str(row.get("error")), []).append(row)
    lines = []
    for error, rows in by_error.items():
        names = list(dict.fromkeys(_name(row) for row in rows))
        seeds = sorted({row["seed"] for row in rows})
        who = names[0] if len(names) == 1 else f"{len(names)} checkpoints from {names[0]} to {names[-1]}"
        lines.append(f"{who}, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}: {error}")
    return lines


def _order(group: Sequence[Row]) -> tuple[bool, float]:
    # Networks without a step come last. They keep their order, because sorting is stable.
    step = group[0]["step"]
    return step is None, step or 0.0


def _bytes(group: Sequence[Row], eps: str) -> str:
    text = _mean((row[f"bits@{eps}"] / 8 for row in group), ",.0f")
    return text if all(row[f"within@{eps}"] for row in group) else f"{text} *"


def _bound(group: Sequence[Row], name: str) -> str:
    """The mean bound of a group as text. It is rounded up, so that no bound looks smaller than it is."""
    values = [row[name] for row in group if row.get(name) is not None]
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 and stdev(values) else ""
    return f"{nncomplexity.bounds.rounded_up(fmean(values), 4)}{spread}" if values else "-"


def _mean(values: Iterable[float | None], form: str) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return "-"
    spread = stdev(found) if len(found) > 1 else 0.0
    return format(fmean(found), form) + (f" ± {format(spread, '.2g' if form == '.4g' else form)}" if spread else "")


def _name(row: Row) -> str:
    return str(PurePath(row["checkpoint"])) if row["kind"] == "checkpoint" and row["checkpoint"] else str(row["kind"])
