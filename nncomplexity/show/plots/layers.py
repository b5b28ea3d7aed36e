"""The bits of each tensor, stacked, over training or over ε."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nncomplexity.errors import InputError
from nncomplexity.show.plots.elements import NEUTRAL, Axis, Chart, Line, Panel, heights, values_axis
from nncomplexity.show.plots.results import Measurement, Network, Results
from nncomplexity.show.plots.runs import Run, averaged_note, networks_at, runs_of, steps_of
from nncomplexity.show.plots.seeds import standard_error
from nncomplexity.words import UNITS

MOST = 6
"""The number of layers with their own colour. The smaller ones are added up."""
SHARED = "shared"
Parts = Mapping[str, float]


@dataclass(frozen=True)
class Stack:
    """Bits by layer, and the standard error of their sum if they are means."""

    parts: Parts
    error: float = 0.0


Table = Mapping[float, Stack]
"""Stacks by step or by ε."""


def layers(
    results: Results, *, eps: Sequence[float] = (), mean: bool = False, unit: str = "bytes", run: str | None = None
) -> Chart:
    """Bits by layer, stacked, against training steps; for networks without steps, against ε.

    There is a panel for each run, or for each network without a step. With `mean`, there is one panel, of the mean over runs at the steps
    that they share. `run` chooses one run. Over training, the largest of `eps` is drawn; without `eps`, the smallest that was measured. Means
    over seeds or runs have the standard error of their sum.

    Raises:
        InputError: the file has no layers.
    """
    chosen = results.chosen_eps(tuple(eps))
    usual = results.chosen_eps(tuple(eps), over_training=True)
    runs = [one for one in runs_of(results) if run in (None, one.label)]
    over_steps = any(one.trained for one in runs)
    one_eps = usual[0] if eps else usual[-1]
    if over_steps:
        tables = [(one.label, _by_step(one, one_eps)) for one in runs]
    else:
        own = replace(results, networks=tuple(network for one in runs for network in one.networks))
        tables = [(label, _by_eps(seeds, chosen)) for label, seeds in networks_at(own)]
    # A run with one step has no area. It is left out if other runs have several steps.
    longest = max((len(table) for _, table in tables), default=0)
    tables = [(label, table) for label, table in tables if len(table) > (1 if over_steps and longest > 1 else 0)]
    if not tables:
        raise InputError("layers: the files have no layers at the chosen ε")
    several = f"{len(tables)} {'runs' if over_steps else 'networks'}" if len(tables) > 1 else ""
    if mean and several:
        tables = [("", _mean([table for _, table in tables]))]
    totals: dict[str, float] = {}
    for _, table in tables:
        for stack in table.values():
            for name, bits in stack.parts.items():
                totals[name] = max(totals.get(name, 0.0), bits)
    # One order for all panels, the largest layers at the bottom, so that a layer has the same place and colour everywhere.
    names = sorted(totals, key=lambda name: -totals[name])
    stacks = [_stack(table, names, unit) for _, table in tables]
    axis = values_axis("complexity", [0.0, *heights(line for stack in stacks for line in stack)], log=False, unit=unit)
    notes = [f"At ε = {one_eps:g}."] if over_steps else []
    if any(stack.error for _, table in tables for stack in table.values()):
        # The first half of that note says what is averaged.
        over = f"Mean of {several}; the" if mean and several else f"{averaged_note(results).split(';')[0]}; the"
        notes.append(f"{over} {'grey band' if over_steps else 'bar'} is ± one standard error of the sum.")
    if over_steps:
        panels = [Panel(axis, stack, title=_title(label, tables)) for (label, _), stack in zip(tables, stacks, strict=True)]
        x = steps_of(panels, results.step_name)
        return Chart("layers", "Bits by layer over training", x, tuple(panels), tuple(notes), stepped=True)
    columns = list(dict.fromkeys(at for _, table in tables for at in table))
    columns.sort(reverse=True)
    panels = [
        Panel(
            axis,
            _stack({columns.index(at): stack for at, stack in table.items()}, names, unit),
            title=_title(label, tables),
            bars=True,
        )
        for label, table in tables
    ]
    x = Axis("ε", limits=(-0.6, len(columns) - 0.4), names=tuple(f"{at:g}" for at in columns))
    return Chart("layers", "Bits by layer", x, tuple(panels), tuple(notes))


def _title(label: str, tables: Sequence[object]) -> str:
    return label if len(tables) > 1 else ""


def parts_of(point: Measurement) -> dict[str, float]:
    """Bits by layer. Bits that belong to no layer have a name of their own."""
    parts = {layer.name: layer.bits for layer in point.layers}
    if parts and point.shared_bits:
        parts[SHARED] = point.shared_bits
    return parts


def _by_step(run: Run, eps: float) -> Table:
    found: dict[float, list[Parts]] = {}
    for network in run.networks:
        point = network.at(eps)
        if network.step is not None and point is not None and point.layers:
            found.setdefault(network.step, []).append(parts_of(point))
    return {step: _average(found[step]) for step in sorted(found)}


def _by_eps(seeds: Sequence[Network], chosen: Sequence[float]) -> Table:
    found = ((eps, [parts_of(point) for one in seeds if (point := one.at(eps)) and point.layers]) for eps in chosen)
    return {eps: _average(several) for eps, several in found if several}


def _mean(tables: Sequence[Table]) -> Table:
    shared = sorted(set.intersection(*(set(table) for table in tables)))
    if not shared:
        raise InputError("mean: the runs have no step in common; measure them at the same steps, or draw them without --mean")
    return {at: _average([table[at].parts for table in tables]) for at in shared}


def _average(several: Sequence[Parts]) -> Stack:
    names = dict.fromkeys(name for parts in several for name in parts)
    means = {name: statistics.fmean(parts.get(name, 0.0) for parts in several) for name in names}
    return Stack(means, standard_error([sum(parts.values()) for parts in several]))


def _stack(table: Table, names: Sequence[str], unit: str) -> tuple[Line, ...]:
    """Areas, from the largest layer at the bottom to the rest at the top."""
    # A single further layer takes as much room in the legend as "1 others", so it is named.
    own = names if len(names) <= MOST + 1 else names[:MOST]
    x = tuple(sorted(table))
    base = (0.0,) * len(x)
    lines = []
    for index, name in enumerate(own):
        top = tuple(low + table[at].parts.get(name, 0.0) / UNITS[unit] for low, at in zip(base, x, strict=True))
        lines.append(Line(name, x, top, base=base, colour=index))
        base = top
    rest = [name for name in names if name not in own]
    if rest:
        top = tuple(
            low + sum(table[at].parts.get(name, 0.0) for name in rest) / UNITS[unit] for low, at in zip(base, x, strict=True)
        )
        lines.append(replace(Line(f"{len(rest)} others", x, top, base=base), colour=NEUTRAL))
    errors = tuple(table[at].error / UNITS[unit] for at in x)
    if lines and any(errors):
        lines[-1] = replace(lines[-1], error=errors)
    return tuple(lines)
