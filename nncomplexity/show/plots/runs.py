"""Networks as runs, and quantities of runs over training: one line for each run, or the mean with its standard error."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import PurePath

from nncomplexity.checkpoint import labels, path_parts, place_of_step
from nncomplexity.errors import InputError
from nncomplexity.show.plots.elements import DASHES, NEUTRAL, Axis, Key, Level, Line, Panel, heights, steps_axis, values_axis
from nncomplexity.show.plots.names import name_of_path, short_names
from nncomplexity.show.plots.palette import LIGHT
from nncomplexity.show.plots.results import Measurement, Network, Results
from nncomplexity.show.plots.seeds import by_checkpoint, standard_error

Quantity = Callable[[Network], float | None]


@dataclass(frozen=True)
class Run:
    """The networks of one training run, under a short name."""

    label: str
    networks: tuple[Network, ...]

    @cached_property
    def last(self) -> Network:
        """The network with the last step. If none has a step, the last measured one."""
        stepped = [network for network in self.networks if network.step is not None]
        return max(stepped, key=lambda network: network.step or 0.0) if stepped else self.networks[-1]

    @property
    def trained(self) -> bool:
        """Whether the run has networks at several steps."""
        return len({network.step for network in self.networks} - {None}) > 1


@lru_cache(maxsize=8)  # a page calls this for each of its networks
def runs_of(results: Results) -> tuple[Run, ...]:
    """The runs in the order of the files. Their names are the shortest different ends of their folders' names.

    For a folder without a name, such as ".", the name of the results file is used. If two networks in a folder have the same step,
    such as a network and its average, the rest of their names makes different runs.
    """
    groups: dict[tuple[str, str | None], list[Network]] = {}
    # The method is in a run's name only if there are several methods.
    methods = {network.method for network in results.networks}
    apart = _apart(results.networks)
    for network in results.networks:
        run = apart.get((network.run, network.checkpoint), network.run)
        groups.setdefault((run, network.method if len(methods) > 1 else None), []).append(network)
    sources = {run: networks[0].source for (run, _), networks in groups.items()}
    folders = list(dict.fromkeys(run for run, _ in groups))
    names = dict(zip(folders, short_names(folders), strict=True))
    found = []
    for (folder, method), networks in groups.items():
        told = ", ".join(part for part in (names[folder], method) if part)
        found.append(Run(told or name_of_path(sources[folder]) or "run", tuple(networks)))
    return tuple(found)


def _apart(networks: Iterable[Network]) -> dict[tuple[str, str], str]:
    """The names of separate runs for different networks with the same folder and step, by folder and checkpoint.

    A copy of a network is in the same run as the first copy.
    """
    folders: dict[str, dict[tuple[float, str], list[str]]] = {}
    for network in networks:
        if network.checkpoint and network.step is not None:
            same = (network.step, network.sha256 or network.checkpoint)
            folders.setdefault(network.run, {}).setdefault(same, []).append(network.checkpoint)
    found: dict[tuple[str, str], str] = {}
    for run, copies in folders.items():
        parts = {path: path_parts(PurePath(path), place_of_step(PurePath(path), step)) for (step, _), (path, *_) in copies.items()}
        named = labels(parts, [(path, step) for (step, _), (path, *_) in copies.items()])
        found |= {
            (run, path): str(PurePath(run, named[first]))
            for first, *more in copies.values()
            if named[first]
            for path in (first, *more)
        }
    return found


def trained(results: Results) -> bool:
    """Whether some run has networks at several steps."""
    return any(run.trained for run in runs_of(results))


def line_of(run: Run, value: Quantity) -> Line:
    """A quantity by step. Several seeds at one step are averaged, with their standard error (0 for one seed)."""
    found: dict[float, list[float]] = {}
    for network in run.networks:
        here = value(network)
        if network.step is not None and here is not None:
            found.setdefault(network.step, []).append(here)
    steps = sorted(found)
    return _line(run.label, steps, [found[step] for step in steps])


def mean_of(lines: Sequence[Line], label: str, what: str = "step") -> Line:
    """The mean over lines at the steps (or other x) that all of them have, with its standard error."""
    by_step = [dict(zip(line.x, line.y, strict=True)) for line in lines if line.x]
    steps = sorted(set.intersection(*(set(one) for one in by_step))) if by_step else []
    if by_step and not steps:
        raise InputError(f"mean: the runs have no {what} in common; measure them at the same {what}, or draw them without --mean")
    return _line(label, steps, [[one[step] for one in by_step] for step in steps])


def lines_of(results: Results, value: Quantity, *, mean: bool) -> list[Line]:
    """A line for each run with the quantity, coloured by run; or the mean of the runs."""
    runs = runs_of(results)
    lines = [line for line in (line_of(run, value) for run in runs) if line.x]
    if mean and len(lines) > 1:
        return [mean_of(lines, f"mean of {len(lines)} runs")]
    places = {run.label: index for index, run in enumerate(runs)}
    return [styled(line, places[line.label]) for line in lines]


def styled(line: Line, index: int) -> Line:
    """The line in the style of the run or ε with this index: when all colours are used, they are used again with other dashes."""
    return replace(line, colour=index % len(LIGHT), dash=DASHES[index // len(LIGHT) % len(DASHES)])


def levels_of(results: Results, value: Quantity) -> list[Level]:
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
    unit: str = "",
) -> list[Panel]:
    """A quantity at each ε over training. One run has all ε in one panel. Several runs have a panel for each ε.

    Calibrations are levels. If several ε share a panel, the levels are those of the smallest ε.
    """

    def at(one: float) -> Quantity:
        def found(network: Network) -> float | None:
            point = network.at(one)
            return None if point is None else value(point)

        return found

    found = [(one, _with_lossless(lines_of(results, at(one), mean=mean), results, one)) for one in eps]
    found = [(one, lines) for one, lines in found if lines]
    single = all(len(lines) == 1 for _, lines in found)
    several = len(found) > 1
    levels = [levels_of(results, at(one)) for one, _ in found]
    if single and several:  # levels for every ε would hide the curves
        levels[:-1] = [[] for _ in levels[:-1]]
    every = [line for _, lines in found for line in lines]
    axis = values_axis(label, heights(every, [level for some in levels for level in some]), log=log, unit=unit)
    if single:
        lines = [styled(replace(lines[0], label=f"ε = {one:g}"), index) for index, (one, lines) in enumerate(found)]
        return [Panel(axis, tuple(lines), tuple(level for some in levels for level in some))] if lines else []
    return [
        Panel(axis, tuple(lines), tuple(some), title=f"ε = {one:g}" if several else "")
        for (one, lines), some in zip(found, levels, strict=True)
    ]


def over_eps(results: Results, value: Callable[[Measurement], float | None], *, eps: Sequence[float], mean: bool) -> list[Line]:
    """A quantity against ε, for networks without several steps: one line for each, or their mean.

    Calibrations are dashed and grey.
    """

    def line(label: str, networks: Sequence[Network]) -> Line:
        found: dict[float, list[float]] = {}
        lossless: set[float] = set()
        for network in networks:
            for point in network.points:
                here = value(point)
                if point.eps in eps and here is not None:
                    found.setdefault(point.eps, []).append(here)
                    lossless |= set() if point.within else {point.eps}
        at = sorted(found)
        hollow = tuple(one in lossless for one in at) if lossless else ()
        return replace(_line(label, at, [found[one] for one in at]), marks=True, hollow=hollow)

    lines = [styled(line(label, seeds), index) for index, (label, seeds) in enumerate(networks_at(results))]
    lines = [one for one in lines if one.x]
    if mean and len(lines) > 1:
        lines = [replace(mean_of(lines, f"mean of {len(lines)} runs", "ε"), marks=True)]
    kinds = dict.fromkeys(network.kind for network in results.calibrations)
    levels = [line(kind, [network for network in results.calibrations if network.kind == kind]) for kind in kinds]
    return lines and [*lines, *(replace(one, colour=NEUTRAL, dash="dashed", marks=False) for one in levels if one.x)]


def networks_at(results: Results, steps: Sequence[float] = ()) -> list[tuple[str, tuple[Network, ...]]]:
    """Each run's networks at these steps, with different names.

    A network comes with all its seeds.

    Raises:
        InputError: no network has a step that is asked for.
    """
    runs = runs_of(results)
    word = results.step_name
    found: list[tuple[str, tuple[Network, ...]]] = []
    for run in runs:
        groups = by_checkpoint(run.networks)
        if steps:
            for step in steps:
                at = [seeds for seeds in groups if seeds[0].step == step]
                name = f"{word} {step:g}" if len(runs) == 1 else f"{run.label}, {word} {step:g}"
                found += [(name, at[-1])] if at else []
            continue
        alone = [seeds for seeds in groups if seeds[0].step is None]
        if len(alone) > 1:
            found += zip(short_names([seeds[0].checkpoint for seeds in alone]), alone, strict=True)
        else:
            found.append((run.label, next(seeds for seeds in groups if any(one is run.last for one in seeds))))
    if not found:
        raise InputError(f"step: nothing was measured at {word} {', '.join(f'{step:g}' for step in steps)}; choose another")
    if len(found) == 1 and not steps:
        network = found[0][1][0]
        return [(f"{word} {network.step:g}" if network.step is not None else network_name(network), found[0][1])]
    return found


def network_name(network: Network) -> str:
    """A name for a single network: that of its checkpoint, or else that of the results file."""
    return name_of_path(network.checkpoint) or name_of_path(network.run) or name_of_path(network.source) or "network"


def keys_of(panels: Iterable[Panel]) -> tuple[Key, ...]:
    """The meaning of hollow marks on lines of a quantity, if there are any."""
    hollow = any(any(line.hollow) for panel in panels for line in panel.lines)
    return (Key("nothing smaller than the lossless file found", "hollow"),) if hollow else ()


def steps_of(panels: Iterable[Panel], step_name: str = "step") -> Axis:
    """The axis of training steps, with the name of a step, for all panels."""
    label = "training step" if step_name == "step" else step_name
    return steps_axis((line for panel in panels for line in panel.lines), label)


def eps_of(panels: Iterable[Panel]) -> Axis:
    """The logarithmic axis of ε for all panels. ε = 0, the lossless file, is left of the smallest ε."""
    return steps_axis((line for panel in panels for line in panel.lines), "ε")


def runs_note(results: Results, eps: Sequence[float] = (), *, mean: bool) -> tuple[str, ...]:
    """The meaning of bands and levels, if there are any."""
    runs = runs_of(results)
    levels = (
        (f"Dashed levels: calibrations at ε = {eps[-1]:g}.",)
        if results.calibrations and len(eps) > 1 and (mean or len(runs) == 1)
        else ()
    )
    if mean and len(runs) > 1:
        return (*levels, f"Mean of {len(runs)} runs at the steps they share; the band is ± one standard error.")
    note = averaged_note(results)
    return (*levels, note) if note else levels


def averaged_note(results: Results) -> str:
    """A sentence on averages, if several networks make one point; otherwise ""."""
    for run in runs_of(results):
        groups = by_checkpoint(run.networks)
        steps = [seeds[0].step for seeds in groups if seeds[0].step is not None]
        if len(set(steps)) < len(steps):
            return f"Several checkpoints of one {results.step_name} are averaged; the band is ± one standard error."
    if any(len(seeds) > 1 for seeds in by_checkpoint(results.networks)):
        return "Several seeds of one checkpoint are averaged; the band is ± one standard error."
    return ""


def _with_lossless(lines: Sequence[Line], results: Results, eps: float) -> list[Line]:
    """The lines of ε, with hollow marks where the lossless file is the answer for some network."""
    lossless: dict[str, set[float | None]] = {}
    for run in runs_of(results):
        points = ((network.step, network.at(eps)) for network in run.networks)
        lossless[run.label] = {step for step, point in points if point is not None and not point.within}
    of_all = set().union(*lossless.values())
    return [
        # The label of a mean is the name of no run. It is hollow if any of its runs is.
        replace(line, hollow=tuple(step in there for step in line.x)) if (there := lossless.get(line.label, of_all)) else line
        for line in lines
    ]


def _line(label: str, steps: Sequence[float], values: Sequence[Sequence[float]]) -> Line:
    errors = [standard_error(some) for some in values]
    means = tuple(statistics.fmean(some) for some in values)
    return Line(label, tuple(steps), means, tuple(errors) if any(errors) else (), marks=len(steps) == 1)
