"""Bits against distortion, with the lower convex hull and the best fit (Fig. 4 of DeMoss et al. 2025)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nncomplexity.errors import InputError
from nncomplexity.fits import Fit, best_of, fitted, lower_hull
from nncomplexity.plots.chart import Axis, Chart, Line, Panel, values_axis
from nncomplexity.plots.results import Measurement, Network, Results
from nncomplexity.plots.runs import UNITS, networks_at, styled

MOST_FITS = 6
"""Fits that are also told in words; more of them are only drawn."""


def rate_distortion(
    results: Results, *, eps: Sequence[float] = (), steps: Sequence[float] = (), unit: str = "bytes", fits: bool = True
) -> Chart:
    """Bits of the smallest file found against its distortion, for each run's last network or for those at `steps`.

    Filled marks stand on the lower convex hull, hollow ones above it; the dotted line is the better of the two fits. Points without a
    distortion, such as lossless files, have no place on the logarithmic axis and are left out. Raises InputError where nothing is left.
    """
    chosen = results.chosen_eps(tuple(eps))
    networks = networks_at(results, steps)
    lines: list[Line] = []
    notes: list[str] = []
    for index, (label, network) in enumerate(networks):
        points = sorted(
            (point for point in network.points if point.eps in chosen and point.distortion),
            key=lambda point: point.distortion or 0.0,
        )
        if not points:
            continue
        on_hull = hull_of(network)
        x = tuple(float(point.distortion or 0.0) for point in points)
        y = tuple(point.bits / UNITS[unit] for point in points)
        hollow = tuple(point.eps not in on_hull for point in points)
        hull = [at for at, above in enumerate(hollow) if not above]
        lines.append(styled(Line("" if hull else label, x, y, marks=True, hollow=hollow, drawn=False), index))
        if hull:
            lines.append(styled(Line(label, tuple(x[at] for at in hull), tuple(y[at] for at in hull)), index))
        fit = best_fit(network)
        if fits and fit and len(points) > 1:
            along = np.geomspace(x[0], x[-1], 60)
            fitted = tuple(max(value, 0.0) / UNITS[unit] for value in fit(along))
            lines.append(replace(styled(Line("", tuple(along.tolist()), fitted, faint=True), index), dash="dotted"))
            notes.append(f"{label}: {fit.sentence()}" if len(networks) > 1 else f"Fit: {fit.sentence()}")
    if not lines:
        raise InputError("rate-distortion: no chosen network has a file with a distortion above 0; choose other --step or --eps")
    x_values = [value for line in lines for value in line.x]
    low, high = min(x_values), max(x_values)
    x_axis = Axis("distortion (loss units)", log=True, limits=(low / 1.3, high * 1.3))
    y_axis = values_axis(f"complexity ({unit})", [value for line in lines for value in line.y])
    return Chart(
        "rate-distortion",
        "Rate and distortion",
        x_axis,
        (Panel(y_axis, tuple(lines)),),
        tuple(notes) if len(notes) <= MOST_FITS else (),
    )


def hull_of(network: Network) -> tuple[float, ...]:
    """The ε whose points (distortion, bits) stand on the lower convex hull, from a curve.json or else found here.

    The unchanged network under bzip2, where it is known, stands for ε = 0.
    """
    if network.curve:
        return network.curve.hull
    points = [(point.distortion or 0.0, point.bits) for point in network.points]
    eps = [point.eps for point in network.points]
    if network.bzip2_bits is not None and 0.0 not in eps:
        points.append((0.0, network.bzip2_bits))
        eps.append(0.0)
    corners = {points[index] for index in lower_hull(points)}
    return tuple(value for value, point in zip(eps, points, strict=True) if point in corners)


def best_fit(network: Network) -> Fit | None:
    """The fit with the larger R²; None without any."""
    return best_of(network.curve.fits if network.curve else fits_of(network.points))


def fits_of(points: Sequence[Measurement]) -> tuple[Fit, ...]:
    """The formulas fitted to the points that curve.json has them fitted to; None with fewer than three of different distortion."""
    return fitted(list(dict.fromkeys((point.distortion or 0.0, point.bits) for point in points if point.within)))
