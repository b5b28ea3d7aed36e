"""What a rate-distortion curve is made of: its lower convex hull, and formulas fitted to it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nncomplexity.switches import usual_switches

LEAST_POINTS = 3
"""Points of different distortion that a fit takes."""


@dataclass(frozen=True)
class Fit:
    """A formula for bits in terms of the distortion D > 0, in the loss's unit.

    Attributes:
        kind: "log", bits = a·ln D + b (DeMoss et al. 2025, Fig. 4), or "power", bits = b·D^a.
        a, b: its numbers.
        r2: the share 1 − Σ(bits − fitted)² / Σ(bits − mean)² of the variance of the *bits* that it explains, for both kinds.
        points: how many points it was fitted to.
    """

    kind: str
    a: float
    b: float
    r2: float
    points: int = 0

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
            return f"bits = {_told(self.b)} {sign} {_told(abs(self.a))}·ln D, R² = {self.r2:.3f}"
        return f"bits = {_told(self.b)}·D^{self.a:.3g}, R² = {self.r2:.3f}".replace("^-", "^−")


@usual_switches()
def fitted(points: Sequence[tuple[float, float]]) -> tuple[Fit, ...]:
    """Both formulas for points (distortion, bits), the power law by least squares of the logarithms; points at 0, of
    distortion or bits, are left out.

    None with fewer than three different distortions.

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
    for kind, a, b in (("log", slope, level), ("power", power, math.exp(scale))):
        error = float(((y - Fit(kind, a, b, 0.0)(np.exp(x))) ** 2).sum())
        found.append(Fit(kind, a, b, 1 - error / spread if spread else 1.0, len(used)))
    return tuple(found)


def best_of(fits: Sequence[Fit]) -> Fit | None:
    """The fit with the largest R²; None without any."""
    return max(fits, key=lambda fit: fit.r2, default=None)


def lower_hull(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (distortion, bits) on the lower convex hull, from small to large distortion.

    It ends at the fewest bits: what costs more at a larger distortion is no use. Of points of one distortion the smallest counts.

    >>> lower_hull([(0.0, 10.0), (1.0, 9.0), (2.0, 2.0), (3.0, 3.0)])
    [0, 2]
    """
    hull: list[int] = []
    for index in sorted(range(len(points)), key=points.__getitem__):
        if hull and points[index][0] == points[hull[-1]][0]:
            continue
        while len(hull) > 1 and _turn(*(points[at] for at in (hull[-2], hull[-1], index))) <= 0:
            hull.pop()
        hull.append(index)
    while len(hull) > 1 and points[hull[-1]][1] >= points[hull[-2]][1]:
        hull.pop()
    return hull


def _told(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    """Positive where a, b, c bend upwards."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
