"""Where the bits are: the bits of each tensor, stacked, over training or over ε."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nncomplexity.errors import InputError
from nncomplexity.plots.chart import NEUTRAL, Axis, Chart, Line, Panel, values_axis
from nncomplexity.plots.results import Measurement, Results
from nncomplexity.plots.runs import UNITS, Run, runs_of, steps_of

MOST = 6
"""Layers with a colour of their own; the smaller ones are summed up."""
SHARED = "shared"
Parts = Mapping[str, float]


def layers(
    results: Results, *, eps: Sequence[float] = (), mean: bool = False, unit: str = "bytes", run: str | None = None
) -> Chart:
    """Bits by layer, stacked, against training steps; for a run without steps, against ε.

    A panel for each run, or with `mean` one of the mean over runs at the steps they share. `run` chooses one. Over training, the first
    of `eps` is drawn, by default the smallest. Raises InputError where the file has no layers.
    """
    chosen = results.chosen_eps(tuple(eps))
    usual = results.chosen_eps(tuple(eps), over_training=True)
    runs = [one for one in runs_of(results) if run in (None, one.label)]
    over_steps = any(len({network.step for network in one.networks if network.step is not None}) > 1 for one in runs)
    one_eps = usual[0] if eps else usual[-1]
    tables = [(one.label, _by_step(one, one_eps) if over_steps else _by_eps(one, chosen)) for one in runs]
    longest = max((len(table) for _, table in tables), default=0)
    tables = [(label, table) for label, table in tables if len(table) > (1 if over_steps and longest > 1 else 0)]
    if not tables:
        raise InputError("layers: nothing is said of layers there at the chosen ε")
    if mean and len(tables) > 1:
        tables = [("", _mean([table for _, table in tables]))]
    totals: dict[str, float] = {}
    for _, table in tables:
        for parts in table.values():
            for name, bits in parts.items():
                totals[name] = max(totals.get(name, 0.0), bits)
    names = sorted(totals, key=lambda name: -totals[name])
    tops = [max((sum(parts.values()) for parts in table.values()), default=0.0) / UNITS[unit] for _, table in tables]
    axis = values_axis(f"complexity ({unit})", [0.0, *tops], log=False)
    if over_steps:
        panels = [Panel(axis, _stack(table, names, unit), title=label if len(tables) > 1 else "") for label, table in tables]
        note = f"At ε = {one_eps:g}."
        return Chart("layers", "Bits by layer over training", steps_of(panels), tuple(panels), (note,))
    columns = list(dict.fromkeys(at for _, table in tables for at in table))
    columns.sort(reverse=True)
    panels = [
        Panel(
            axis,
            _stack({columns.index(at): parts for at, parts in table.items()}, names, unit),
            title=_title(label, tables),
            bars=True,
        )
        for label, table in tables
    ]
    x = Axis("ε", limits=(-0.6, len(columns) - 0.4), names=tuple(f"{at:g}" for at in columns))
    return Chart("layers", "Bits by layer", x, tuple(panels))


def _title(label: str, tables: Sequence[object]) -> str:
    return label if len(tables) > 1 else ""


def parts_of(point: Measurement) -> dict[str, float]:
    """Bits by layer, what belongs to none under its own name."""
    parts = {layer.name: layer.bits for layer in point.layers}
    if parts and point.shared_bits:
        parts[SHARED] = point.shared_bits
    return parts


def _by_step(run: Run, eps: float) -> dict[float, Parts]:
    found: dict[float, list[Parts]] = {}
    for network in run.networks:
        point = network.at(eps)
        if network.step is not None and point is not None and point.layers:
            found.setdefault(network.step, []).append(parts_of(point))
    return {step: _average(found[step]) for step in sorted(found)}


def _by_eps(run: Run, chosen: Sequence[float]) -> dict[float, Parts]:
    points = ((eps, run.last.at(eps)) for eps in chosen)
    return {eps: parts_of(point) for eps, point in points if point is not None and point.layers}


def _mean(tables: Sequence[Mapping[float, Parts]]) -> dict[float, Parts]:
    shared = sorted(set.intersection(*(set(table) for table in tables)))
    if not shared:
        raise InputError("mean: the runs have no step in common; measure them at the same steps, or draw them without the mean")
    return {at: _average([table[at] for table in tables]) for at in shared}


def _average(several: Sequence[Parts]) -> Parts:
    names = dict.fromkeys(name for parts in several for name in parts)
    return {name: statistics.fmean(parts.get(name, 0.0) for parts in several) for name in names}


def _stack(table: Mapping[float, Parts], names: Sequence[str], unit: str) -> tuple[Line, ...]:
    """Areas from the largest layer at the bottom to the rest at the top."""
    own = names if len(names) <= MOST + 1 else names[:MOST]
    x = tuple(sorted(table))
    base = (0.0,) * len(x)
    lines = []
    for index, name in enumerate(own):
        top = tuple(low + table[at].get(name, 0.0) / UNITS[unit] for low, at in zip(base, x, strict=True))
        lines.append(Line(name, x, top, base=base, colour=index))
        base = top
    rest = [name for name in names if name not in own]
    if rest:
        top = tuple(low + sum(table[at].get(name, 0.0) for name in rest) / UNITS[unit] for low, at in zip(base, x, strict=True))
        lines.append(replace(Line(f"{len(rest)} others", x, top, base=base), colour=NEUTRAL))
    return tuple(lines)
