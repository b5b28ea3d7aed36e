"""Bits against distortion, with the lower convex hull and the best fit (Fig. 4 of DeMoss et al. 2025)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nncomplexity.errors import InputError
from nncomplexity.linalg import Fit, along_hull, best_of, fitted, lower_hull
from nncomplexity.show.plots.elements import Axis, Chart, Key, Line, Panel, heights, values_axis
from nncomplexity.show.plots.results import Measurement, Network, Results
from nncomplexity.show.plots.runs import networks_at, styled
from nncomplexity.show.plots.seeds import mean_over
from nncomplexity.words import UNITS

MOST_FITS = 6
"""Up to this number, fits are also given in words. More fits are only drawn."""


def rate_distortion(
    results: Results, *, eps: Sequence[float] = (), steps: Sequence[float] = (), unit: str = "bytes", fits: bool = True
) -> Chart:
    """Bits of the smallest file against its distortion, for each run's last network or for those at `steps`.

    Filled marks are on the lower convex hull, and hollow marks are above it. The line follows the hull. Its pieces would be straight on
    linear axes, and are curves on this logarithmic axis. The dotted line is the better of the two fits. If there are several seeds, their
    means are drawn, with a band of ± one standard error of the bits. Points with a distortion of 0, such as lossless files, have no place
    on a logarithmic axis, and are left out.

    Raises:
        InputError: nothing is left.
    """
    chosen = results.chosen_eps(tuple(eps))
    networks = networks_at(results, steps)
    lines: list[Line] = []
    notes: list[str] = []
    for index, (label, seeds) in enumerate(networks):
        network = mean_over(seeds)
        # A distortion of 0 has no logarithm.
        points = sorted((point for point in network.points if point.eps in chosen and point.distortion), key=_distortion)
        if not points:
            continue
        marks, hull = _marks(label, network, points, UNITS[unit])
        fit = best_fit(network)
        fitted = _fit_line(fit, marks.x, marks.y, UNITS[unit]) if fits and fit and len(points) > 1 else []
        lines += [styled(line, index) for line in (marks, *hull)]
        lines += [replace(styled(line, index), dash="dotted") for line in fitted]
        if fitted and fit:
            notes.append(f"{label}: {fit.sentence()}" if len(networks) > 1 else f"Fit: {fit.sentence()}")
    if not lines:
        raise InputError("rate-distortion: no chosen network has a file with a distortion above 0; choose another step or eps")
    # Margins in proportion, because the axis is logarithmic.
    x_values = [value for line in lines for value in line.x]
    low, high = min(x_values), max(x_values)
    x_axis = Axis("distortion (loss units)", log=True, limits=(low / 1.3, high * 1.3))
    y_axis = values_axis("complexity", heights(line for line in lines if line.marks), unit=unit)
    notes = notes if len(notes) <= MOST_FITS else []
    if any(len(seeds) > 1 for _, seeds in networks):
        notes.append("Several seeds of one checkpoint are averaged; the band is ± one standard error.")
    return Chart("rate-distortion", "Rate and distortion", x_axis, (Panel(y_axis, tuple(lines)),), tuple(notes), _keys(lines))


def _marks(label: str, network: Network, points: Sequence[Measurement], size: float) -> tuple[Line, list[Line]]:
    """The points with their band, and the hull below them. There is no hull if none of the points is a corner."""
    on_hull = hull_of(network)
    x = tuple(_distortion(point) for point in points)
    y = tuple(point.bits / size for point in points)
    error = tuple(point.bits_error / size for point in points)
    hollow = tuple(point.eps not in on_hull for point in points)
    marks = Line(label, x, y, error=error if any(error) else (), marks=True, hollow=hollow, drawn=False)
    # Several ε may have the same file. `along_hull` needs different corners.
    corners = dict.fromkeys((at, bits) for at, bits, above in zip(x, y, hollow, strict=True) if not above)
    if not corners:
        return marks, []
    along, height = zip(*along_hull(list(corners)), strict=True)
    return marks, [Line("", along, height)]


def _fit_line(fit: Fit, x: Sequence[float], y: Sequence[float], size: float) -> list[Line]:
    """The formula between the points, as far as its value is between 0 and a little above the largest number of bits."""
    along = [float(at) for at in np.geomspace(x[0], x[-1], 60)]
    found = [(at, value / size) for at, value in zip(along, fit(along), strict=True) if 0 < value / size <= 1.2 * max(y)]
    if len(found) < 2:
        return []
    return [Line("", tuple(at for at, _ in found), tuple(value for _, value in found), faint=True)]


def _keys(lines: Sequence[Line]) -> tuple[Key, ...]:
    marks = [hollow for line in lines for hollow in line.hollow]
    keys = [Key("on the lower convex hull", "filled")] if not all(marks) else []
    keys += [Key("above it" if keys else "above the lower convex hull", "hollow")] if any(marks) else []
    return (*keys, Key("fit", "dotted")) if any(line.faint for line in lines) else tuple(keys)


def _distortion(point: Measurement) -> float:
    return float(point.distortion or 0.0)


def hull_of(network: Network) -> tuple[float, ...]:
    """The ε whose points (distortion, bits) are on the lower convex hull, from a curve.json or else computed here.

    The point of ε = 0 is the unchanged network under bzip2, if its size is known.
    """
    if network.curve:
        return network.curve.hull
    points = [(point.distortion or 0.0, point.bits) for point in network.points]
    eps = [point.eps for point in network.points]
    if network.bzip2_bits is not None and 0.0 not in eps:
        points.append((0.0, network.bzip2_bits))
        eps.append(0.0)
    # Compared as points, because several ε may have the same file, of which `lower_hull` names only one.
    corners = {points[index] for index in lower_hull(points)}
    return tuple(value for value, point in zip(eps, points, strict=True) if point in corners)


def best_fit(network: Network) -> Fit | None:
    """The fit with the larger R²; None if no fit has an R² of at least 0."""
    return best_of(network.curve.fits if network.curve else fits_of(network.points))


def fits_of(points: Sequence[Measurement]) -> tuple[Fit, ...]:
    """The formulas, fitted to the same points as in curve.json; none with fewer than three different distortions."""
    return fitted(list(dict.fromkeys((point.distortion or 0.0, point.bits) for point in points if point.within)))
