"""A comparison of runs: the last network of each, with all its seeds, and the ratios of the sizes to those of the first run."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nncomplexity.errors import InputError
from nncomplexity.show.plots.dynamics import dynamics
from nncomplexity.show.plots.elements import Chart
from nncomplexity.show.plots.rate_distortion import rate_distortion
from nncomplexity.show.plots.results import Measurement, Network, Results
from nncomplexity.show.plots.runs import networks_at, runs_of

_ALIKE = ("method", "codec", "budget", "loss_fn", "n", "relative_to")
"""Settings that must be the same, or sizes can't be compared."""


@dataclass(frozen=True)
class Size:
    """The size of a network's file at one ε, over the seeds of its search.

    Attributes:
        mean: mean of ln(bits).
        sd: standard deviation of ln(bits), with n − 1; 0 for one search.
        searches: their number, n.
        within: False if the lossless file is some seed's answer.
    """

    mean: float
    sd: float
    searches: int
    within: bool = True

    @property
    def bits(self) -> float:
        """The geometric mean."""
        return math.exp(self.mean)

    def relative_to(self, first: "Size") -> tuple[float, float]:
        """The ratio of the geometric means, and its standard error, to first order in the spreads.

        >>> ratio, error = Size(math.log(800), 0.1, 4).relative_to(Size(math.log(1000), 0.0, 1))
        >>> round(ratio, 3), round(error, 3)
        (0.8, 0.04)
        """
        ratio = math.exp(self.mean - first.mean)
        return ratio, ratio * math.hypot(self.sd / math.sqrt(self.searches), first.sd / math.sqrt(first.searches))


@dataclass(frozen=True)
class Side:
    """A network in the comparison, from one run: one entry for each seed, all of one checkpoint."""

    label: str
    seeds: tuple[Network, ...]

    def points(self, eps: float) -> list[Measurement]:
        """The seeds' results at ε."""
        return [point for network in self.seeds if (point := network.at(eps)) is not None]

    def size(self, eps: float) -> Size | None:
        """The size at ε; None if it was not measured. Several searches in a report count as its seeds."""
        points = self.points(eps)
        if not points:
            return None
        within = all(point.within for point in points)
        if len(points) == 1 and points[0].spread and points[0].searches:
            mean, sd = points[0].spread
            return Size(mean, sd, points[0].searches, within)
        # An empty file has 0 bits, which have no logarithm.
        logs = [math.log(max(point.bits, 1)) for point in points]
        return Size(statistics.fmean(logs), statistics.stdev(logs) if len(logs) > 1 else 0.0, len(logs), within)


def side_by_side(several: Sequence[Results]) -> Results:
    """The results of several files as one. The runs of each file are named after the file, so that names are unique."""
    networks: list[Network] = []
    for results in several:
        runs = runs_of(results)
        for run in runs:
            source = run.networks[0].source
            name = source if len(runs) == 1 else f"{source}/{run.label}"
            networks += [replace(network, run=name, points=tuple(map(_averaged, network.points))) for network in run.networks]
    failures = tuple(failure for results in several for failure in results.failures)
    return Results(tuple(networks), (), failures, tuple(source for results in several for source in results.sources))


def _averaged(point: Measurement) -> Measurement:
    """The point with the mean size of its searches, in the same way as seeds with their own rows are averaged."""
    if not point.spread or not point.searches:
        return point
    mean, sd = point.spread
    return replace(point, bits=math.exp(mean), bits_error=math.exp(mean) * sd / math.sqrt(point.searches))


def sides_of(results: Results, steps: Sequence[float] = ()) -> list[Side]:
    """The networks to compare: each run's last network, or those at `steps`.

    Raises:
        InputError: there is only one, or nothing was measured at a step.
    """
    found = [Side(label, seeds) for label, seeds in networks_at(results, steps)]
    if len(found) < 2:
        raise InputError("results: expected at least two runs to compare, got one; name another results file")
    return found


def common_eps(sides: Sequence[Side], eps: Sequence[float]) -> list[float]:
    """Those of these ε that were measured for at least two of the networks. Raises InputError if there is none."""
    found = [one for one in eps if sum(bool(side.points(one)) for side in sides) > 1]
    if not found:
        raise InputError("eps: no ε was measured for two of the networks; measure them at the same ε")
    return found


def differing_settings(sides: Sequence[Side]) -> dict[str, list[str]]:
    """The settings that differ, each with its values in the order of the sides."""
    found = {key: [str(side.seeds[0].settings.get(key, "none")) for side in sides] for key in _ALIKE}
    return {key: values for key, values in found.items() if len(set(values)) > 1}


def comparison(results: Results, *, eps: Sequence[float] = (), steps: Sequence[float] = (), unit: str = "bytes") -> Chart:
    """The picture: complexity over training if all runs have several steps, otherwise bits against distortion.

    Bands are ± one standard error over seeds, or over the searches of a report.
    """
    if all(run.trained for run in runs_of(results)) and not steps:
        return dynamics(results, eps=eps, unit=unit)
    found = rate_distortion(results, eps=eps, steps=steps, unit=unit, fits=False)
    averaged = any(point.searches for network in results.networks for point in network.points)
    note = ("Several searches of one network are averaged; the band is ± one standard error.",) if averaged else ()
    return replace(found, notes=(*found.notes, *note))
