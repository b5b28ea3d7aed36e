"""Networks as runs, and quantities of runs over training: a line each, or their mean with its standard error."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from nncomplexity.errors import InputError
from nncomplexity.plots.chart import DASHES, NEUTRAL, Axis, Level, Line, Panel, steps_axis, values_axis
from nncomplexity.plots.results import Measurement, Network, Results
from nncomplexity.runs import labels, place_of_step, told_by

Value = Callable[[Network], float | None]
PALETTE = 7
"""Colours that stay apart; runs beyond them differ by their dashes."""
UNITS = {"bytes": 8, "bits": 1}


@dataclass(frozen=True)
class Run:
    """The networks of one training run, under a short name."""

    label: str
    networks: tuple[Network, ...]

    @property
    def last(self) -> Network:
        """The network with the last step; where none has one, the last that was measured."""
        stepped = [network for network in self.networks if network.step is not None]
        return max(stepped, key=lambda network: network.step or 0.0) if stepped else self.networks[-1]


def runs_of(results: Results) -> list[Run]:
    """The runs in the order of the files. Their names are the shortest ends of their folders' names that tell them apart.

    Where two networks of one folder are of one step, as a network and its average are, what their names say besides makes runs of their
    own.
    """
    groups: dict[tuple[str, str | None], list[Network]] = {}
    methods = {network.method for network in results.networks}
    apart = _apart(results.networks)
    for network in results.networks:
        run = apart.get((network.run, network.checkpoint), network.run)
        groups.setdefault((run, network.method if len(methods) > 1 else None), []).append(network)
    names = dict(
        zip(dict.fromkeys(run for run, _ in groups), _short_names(list(dict.fromkeys(run for run, _ in groups))), strict=True)
    )
    return [
        Run(", ".join(part for part in (names[run], method) if part), tuple(networks)) for (run, method), networks in groups.items()
    ]


def _apart(networks: Iterable[Network]) -> dict[tuple[str, str], str]:
    """The runs of networks that others of their folder and step must be told from, by folder and checkpoint. A copy stays with the first
    of its kind."""
    folders: dict[str, dict[tuple[float, str], list[str]]] = {}
    for network in networks:
        if network.checkpoint and network.step is not None:
            same = (network.step, network.sha256 or network.checkpoint)
            folders.setdefault(network.run, {}).setdefault(same, []).append(network.checkpoint)
    found: dict[tuple[str, str], str] = {}
    for run, copies in folders.items():
        told = {path: told_by(PurePath(path), place_of_step(PurePath(path), step)) for (step, _), (path, *_) in copies.items()}
        named = labels(told, [(path, step) for (step, _), (path, *_) in copies.items()])
        found |= {
            (run, path): str(PurePath(run, named[first]))
            for first, *more in copies.values()
            if named[first]
            for path in (first, *more)
        }
    return found


def trained(results: Results) -> bool:
    """Whether some run has networks at several steps."""
    return any(len({network.step for network in run.networks if network.step is not None}) > 1 for run in runs_of(results))


def line_of(run: Run, value: Value) -> Line:
    """A quantity by step; several seeds at one step are averaged, with their standard error (0 for one seed)."""
    found: dict[float, list[float]] = {}
    for network in run.networks:
        here = value(network)
        if network.step is not None and here is not None:
            found.setdefault(network.step, []).append(here)
    steps = sorted(found)
    return _line(run.label, steps, [found[step] for step in steps])


def mean_of(lines: Sequence[Line], label: str, what: str = "step") -> Line:
    """The mean over lines at the steps, or whatever their x is, that all of them have, with its standard error."""
    by_step = [dict(zip(line.x, line.y, strict=True)) for line in lines if line.x]
    steps = sorted(set.intersection(*(set(one) for one in by_step))) if by_step else []
    if by_step and not steps:
        raise InputError(f"mean: the runs have no {what} in common; measure them at the same, or draw them without the mean")
    return _line(label, steps, [[one[step] for one in by_step] for step in steps])


def lines_of(results: Results, value: Value, *, mean: bool) -> list[Line]:
    """A line for each run that has the quantity, coloured by run; or the one mean of them."""
    runs = runs_of(results)
    lines = [line for line in (line_of(run, value) for run in runs) if line.x]
    if mean and len(lines) > 1:
        return [mean_of(lines, f"mean of {len(lines)} runs")]
    places = {run.label: index for index, run in enumerate(runs)}
    return [styled(line, places[line.label]) for line in lines]


def styled(line: Line, index: int) -> Line:
    """The line in the look of the run or ε with that index."""
    return replace(line, colour=index % PALETTE, dash=DASHES[index // PALETTE % len(DASHES)])


def levels_of(results: Results, value: Value) -> list[Level]:
    """The calibrations' values, averaged over seeds."""
    found: dict[str, list[float]] = {}
    for network in results.calibrations:
        here = value(network)
        if here is not None:
            found.setdefault(network.kind, []).append(here)
    return [Level(statistics.fmean(values), kind) for kind, values in found.items()]


def by_eps(
    results: Results,
    value: Callable[[Measurement], float | None],
    label: str,
    *,
    eps: Sequence[float],
    mean: bool,
    log: bool | None = None,
) -> list[Panel]:
    """A quantity of each ε over training: one run's ε in one panel, several runs in a panel for each ε.

    Calibrations are levels; where several ε share a panel, those of the smallest ε.
    """

    def at(one: float) -> Value:
        def found(network: Network) -> float | None:
            point = network.at(one)
            return None if point is None else value(point)

        return found

    found = [(one, lines_of(results, at(one), mean=mean)) for one in eps]
    found = [(one, lines) for one, lines in found if lines]
    single = all(len(lines) == 1 for _, lines in found)
    several = len(found) > 1
    levels = [levels_of(results, at(one)) for one, _ in found]
    if single and several:  # the levels of every ε would hide the curves
        levels[:-1] = [[] for _ in levels[:-1]]
    axis = values_axis(
        label, [y for _, lines in found for line in lines for y in line.y] + [x.value for some in levels for x in some], log=log
    )
    if single:
        lines = [styled(replace(lines[0], label=f"ε = {one:g}"), index) for index, (one, lines) in enumerate(found)]
        return [Panel(axis, tuple(lines), tuple(level for some in levels for level in some))] if lines else []
    return [
        Panel(axis, tuple(lines), tuple(some), title=f"ε = {one:g}" if several else "")
        for (one, lines), some in zip(found, levels, strict=True)
    ]


def over_eps(results: Results, value: Callable[[Measurement], float | None], *, eps: Sequence[float], mean: bool) -> list[Line]:
    """A quantity against ε, for networks without a training to follow: a line for each, or their mean; calibrations dashed and grey."""

    def line(label: str, networks: Sequence[Network]) -> Line:
        found: dict[float, list[float]] = {}
        for network in networks:
            for point in network.points:
                here = value(point)
                if point.eps in eps and here is not None:
                    found.setdefault(point.eps, []).append(here)
        at = sorted(found)
        return replace(_line(label, at, [found[one] for one in at]), marks=True)

    groups: dict[object, tuple[str, list[Network]]] = {}
    for label, last in networks_at(results):  # with the other seeds of the same checkpoint
        groups.setdefault(_place(last), (label, [one for one in results.networks if _place(one) == _place(last)]))
    lines = [styled(line(*group), index) for index, group in enumerate(groups.values())]
    lines = [one for one in lines if one.x]
    if mean and len(lines) > 1:
        lines = [replace(mean_of(lines, f"mean of {len(lines)} runs", "ε"), marks=True)]
    kinds = dict.fromkeys(network.kind for network in results.calibrations)
    levels = [line(kind, [network for network in results.calibrations if network.kind == kind]) for kind in kinds]
    return lines and [*lines, *(replace(one, colour=NEUTRAL, dash="dashed", marks=False) for one in levels if one.x)]


def networks_at(results: Results, steps: Sequence[float] = ()) -> list[tuple[str, Network]]:
    """Each run's networks at these steps under names that tell them apart; unless steps are given its last, or all that have none."""
    runs = runs_of(results)
    found: list[tuple[str, Network]] = []
    for run in runs:
        if not steps:
            several = [one for one in run.networks if one.step is None]
            chosen = several if len(several) > 1 else [run.last]
            found += [(one.checkpoint if len(several) > 1 else run.label, one) for one in chosen]
        for step in steps:
            at = [one for one in run.networks if one.step == step]
            name = f"step {step:g}" if len(runs) == 1 else f"{run.label}, step {step:g}"
            found += [(name, at[-1])] if at else []
    if not found:
        raise InputError(f"step: nothing was measured at step {', '.join(f'{step:g}' for step in steps)}; choose another")
    if len(found) == 1 and not steps:
        network = found[0][1]
        name = f"step {network.step:g}" if network.step is not None else network.checkpoint
        return [(name.rsplit("/", 1)[-1], network)]
    return found


def steps_of(panels: Iterable[Panel]) -> Axis:
    """The axis of training steps that panels share."""
    return steps_axis(line for panel in panels for line in panel.lines)


def eps_of(panels: Iterable[Panel]) -> Axis:
    """The logarithmic axis of ε that panels share; ε = 0, the lossless file, stands left of the smallest."""
    return steps_axis((line for panel in panels for line in panel.lines), "ε")


def runs_note(results: Results, eps: Sequence[float] = (), *, mean: bool) -> tuple[str, ...]:
    """What bands and levels stand for, where there are any."""
    runs = runs_of(results)
    levels = (
        (f"Dashed levels: calibrations at ε = {eps[-1]:g}.",)
        if results.calibrations and len(eps) > 1 and (mean or len(runs) == 1)
        else ()
    )
    if mean and len(runs) > 1:
        return (*levels, f"Mean of {len(runs)} runs at the steps they share; the band is ± one standard error.")
    at_steps = [
        [network.checkpoint for network in run.networks if network.step == step]
        for run in runs
        for step in {network.step for network in run.networks if network.step is not None}
    ]
    if any(len(here) > 1 for here in at_steps):
        return (*levels, "Several seeds of one checkpoint are averaged; the band is ± one standard error.")
    return levels


def _place(network: Network) -> object:
    return network.run, network.method, network.step, network.checkpoint


def _line(label: str, steps: Sequence[float], values: Sequence[Sequence[float]]) -> Line:
    errors = [statistics.stdev(some) / math.sqrt(len(some)) if len(some) > 1 else 0.0 for some in values]
    means = tuple(statistics.fmean(some) for some in values)
    return Line(label, tuple(steps), means, tuple(errors) if any(errors) else (), marks=len(steps) == 1)


def _short_names(paths: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that differ.

    >>> _short_names(["runs/a/checkpoints", "runs/b/checkpoints"])
    ['a/checkpoints', 'b/checkpoints']
    """
    parts = [PurePath(path).parts or (path,) for path in paths]
    for length in range(1, max(map(len, parts), default=1)):
        ends = ["/".join(one[-length:]) for one in parts]
        if len(set(ends)) == len(ends):
            return ends
    return ["/".join(one) for one in parts]
