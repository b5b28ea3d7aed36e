"""The lower convex hull of a rate–distortion curve, and formulas that are fitted to it."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nncomplexity.linalg.switches import usual_switches

LEAST_POINTS = 3
"""The smallest number of points with different distortions for a fit."""


@dataclass(frozen=True)
class Fit:
    """A formula for bits in terms of the distortion D > 0, in the loss's unit.

    Attributes:
        kind: "log", bits = a·ln D + b (DeMoss et al. 2025, Fig. 4), or "power", bits = b·D^a.
        a, b: the two numbers of the formula.
        r2: the share 1 − Σ(bits − fitted)² / Σ(bits − mean)² of the variance of the *bits* that the formula explains, for both
            kinds.
        points: the number of points that it was fitted to.
    """

    kind: str
    a: float
    b: float
    r2: float
    points: int = 0

    @property
    def explains(self) -> bool:
        """Whether the formula is closer to the points than their mean, R² ≥ 0. Otherwise it is useless."""
        return self.r2 >= 0

    @usual_switches()
    def __call__(self, distortion: ArrayLike) -> list[float]:
        """Bits at each distortion."""
        x = np.atleast_1d(np.asarray(distortion, dtype=float))
        values = self.a * np.log(x) + self.b if self.kind == "log" else self.b * x**self.a
        return [float(value) for value in values]

    def sentence(self) -> str:
        """The formula.

        >>> Fit("log", -100.0, 1234.5, 0.98765).sentence()
        'bits = 1,234 − 100·ln D, R² = 0.988'
        """
        if self.kind == "log":
            sign = "−" if self.a < 0 else "+"
            return f"bits = {_as_text(self.b)} {sign} {_as_text(abs(self.a))}·ln D, R² = {self.r2:.3f}"
        return f"bits = {_as_text(self.b)}·D^{self.a:.3g}, R² = {self.r2:.3f}".replace("^-", "^−")


@usual_switches()
def fitted(points: Sequence[tuple[float, float]]) -> tuple[Fit, ...]:
    """Both formulas for points (distortion, bits).

    The power law is fitted by least squares of the logarithms. Points with a distortion or bits of 0 are left out. The result is empty with
    fewer than three different distortions. It lacks a formula whose numbers are beyond the range of floating point.

    >>> import math
    >>> log, power = fitted([(d, 1000 - 200 * math.log(d)) for d in (0.01, 0.1, 1.0)])
    >>> round(log.a), round(log.b), round(log.r2, 6), power.r2 < 1
    (-200, 1000, 1.0, True)
    """
    used = [(distortion, bits) for distortion, bits in points if distortion > 0 and bits > 0]
    if len({distortion for distortion, _ in used}) < LEAST_POINTS:
        return ()
    x, y = np.log([one for one, _ in used]), np.array([bits for _, bits in used], dtype=float)
    slope, level = (float(value) for value in np.polyfit(x, y, 1))
    power, scale = (float(value) for value in np.polyfit(x, np.log(y), 1))
    spread = float(((y - y.mean()) ** 2).sum())
    found = []
    with np.errstate(over="ignore", invalid="ignore"):
        for kind, a, b in (("log", slope, level), ("power", power, float(np.exp(scale)))):
            # R² is in bits for both formulas, although the power law is fitted to logarithms. So the two can be compared.
            error = float(((y - Fit(kind, a, b, 0.0)(np.exp(x))) ** 2).sum())
            found.append(Fit(kind, a, b, 1 - error / spread if spread else 1.0, len(used)))
    return tuple(fit for fit in found if all(map(math.isfinite, (fit.a, fit.b, fit.r2))))


def best_of(fits: Sequence[Fit]) -> Fit | None:
    """The fit with the largest R²; None if no fit has an R² of at least 0.

    >>> best_of([Fit("log", -1.0, 2.0, -0.5)]) is None
    True
    """
    return max((fit for fit in fits if fit.explains), key=lambda fit: fit.r2, default=None)


def lower_hull(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (distortion, bits) on the lower convex hull, from small to large distortion.

    It ends at the point with the fewest bits, because more bits at a larger distortion are useless. Of points with equal
    distortion, the smallest counts.

    >>> lower_hull([(0.0, 10.0), (1.0, 9.0), (2.0, 2.0), (3.0, 3.0)])
    [0, 2]
    """
    hull: list[int] = []
    for index in sorted(range(len(points)), key=points.__getitem__):
        if hull and points[index][0] == points[hull[-1]][0]:
            continue
        # Andrew's monotone chain (1979): a corner that is not convex is removed.
        while len(hull) > 1 and _turn(*(points[at] for at in (hull[-2], hull[-1], index))) <= 0:
            hull.pop()
        hull.append(index)
    while len(hull) > 1 and points[hull[-1]][1] >= points[hull[-2]][1]:
        hull.pop()
    return hull


def along_hull(corners: Sequence[tuple[float, float]], points: int = 24) -> list[tuple[float, float]]:
    """Points on the line segments between the corners of a hull. These segments are curved on a logarithmic axis, so a plot needs them.

    Args:
        corners: (distortion, bits), from small to large distortion, all above 0.
        points: the number of points of each segment, at equal ratios of the distortion.

    Returns:
        (distortion, bits) of each point, from small to large distortion, including the corners.

    >>> [(round(x), round(y)) for x, y in along_hull([(1.0, 100.0), (100.0, 1.0)], points=3)]
    [(1, 100), (10, 91), (100, 1)]
    """
    found = [*corners[:1]]
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        xs = np.geomspace(x0, x1, points)[1:]
        found += [(float(x), float(y0 + (x - x0) / (x1 - x0) * (y1 - y0))) for x in xs]
    return found


def _as_text(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    """Positive if the path from a over b to c bends upwards."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
