"""Which operating point each tensor takes, for the fewest bits at a distortion: the Lagrangian of a separable problem.

A choice of points with bits R_t and squared errors E_t has about the distortion Σ_t c_t·E_t. Whatever the λ, the choice of least

    Σ_t R_t + c_t · E_t / λ

takes the fewest bits among all choices of its own distortion, and is found tensor by tensor (Everett 1963; Shoham and Gersho 1988).
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from nncomplexity.search.operating_points import Curve
from nncomplexity.search.scans import Floats

_MULTIPLIERS, _FINEST, _COARSEST = 600, 1e-12, 1e3
"""How many λ are compared, and from where to where, as shares of the one at which all bits and all distortion are worth the same."""
_PRECISIONS = (1, 30)
"""The fewest and the most mantissa bits of a step."""


@dataclass(frozen=True)
class Choice:
    """One operating point for each tensor, and mantissa bits for the steps of all.

    Attributes:
        points: (tensors,) the index of the point that each takes.
        precision: mantissa bits.
        multiplier: the λ that gives these points, in distortion for each bit.
        scale: None where errors are rounded to the nearest; otherwise they are compensated, and steps are larger by so much where they
            can be (`nncomplexity.search.compensated`).
    """

    points: NDArray[np.int64]
    precision: int
    multiplier: float
    scale: float | None = None

    @property
    def key(self) -> bytes:
        """The same for equal choices, and for no others."""
        return self.points.tobytes() + bytes([self.precision]) + (b"" if self.scale is None else struct.pack("<d", self.scale))


class Lagrangian:
    """The choices among the operating points of some tensors. Sensitivities c (tensors, 3) are of the errors' parts.

    Args:
        curves: the tensors' operating points.
    """

    def __init__(self, curves: Sequence[Curve]) -> None:
        self.curves = curves
        self._energies = np.array([curve.energy for curve in curves])

    def path(self, c: Floats) -> "Path":
        """The choices under all λ."""
        balance = max(float((c[:, 1] * self._energies).sum()), 1e-300) / sum(float(curve.bits.max()) for curve in self.curves)
        return Path(self, c, balance * np.geomspace(_FINEST, _COARSEST, _MULTIPLIERS))

    def choice(self, c: Floats, multiplier: float) -> Choice:
        """The choice under a λ."""
        points = np.array([int(curve.best(one[None] / multiplier)[0]) for curve, one in zip(self.curves, c, strict=True)])
        return Choice(points, self._precision(c, points, multiplier), multiplier)

    def of_low_rank(self, c: Floats, multiplier: float) -> dict[int, int]:
        """The points of the tensors that have a low rank or pieces among theirs, of these the best under a λ."""
        found = {}
        for index, (one, curve) in enumerate(zip(c, self.curves, strict=True)):
            cut = np.flatnonzero(curve.errors[:, 2])
            if len(cut):
                found[index] = int(cut[np.argmin((curve.bits + curve.errors @ one / multiplier)[cut])])
        return found

    def bits(self, choice: Choice) -> float:
        """What the choice takes, as the curves know it."""
        bits = sum(float(curve.bits[point]) for curve, point in zip(self.curves, choice.points.tolist(), strict=True))
        return bits + choice.precision * int((choice.points > 0).sum())

    def _precision(self, c: Floats, points: NDArray[np.int64], multiplier: float) -> int:
        """The mantissa bits p that steps are worth.

        A step that is rounded to p bits is off by a uniform error, which makes all elements wrong in proportion: it adds about 4⁻ᵖ/24 of a
        tensor's energy to its squared error. The least of p·T + Σ c·energy·4⁻ᵖ/(24·λ) over T tensors has 4ᵖ = ln 4·Σ c·energy/(24·λ·T).
        """
        left = points > 0
        worth = float((c[:, 0] * self._energies)[left].sum())
        if not worth:
            return _PRECISIONS[0]
        exact = 0.5 * math.log2(max(math.log(4) * worth / (24 * multiplier * int(left.sum())), 1.0))
        return min(max(round(exact), _PRECISIONS[0]), _PRECISIONS[1])


class Path(Sequence[Choice]):
    """The choices under ascending λ from fine to coarse, each once; they are made when they are asked for.

    Attributes:
        distortions: (choices,) Σ c·E of each.
    """

    def __init__(self, lagrangian: Lagrangian, c: Floats, multipliers: Floats) -> None:
        curves = lagrangian.curves
        points = np.stack([curve.best(one / multipliers[:, None]) for curve, one in zip(curves, c, strict=True)], axis=1)
        starts = np.flatnonzero(np.append(True, (points[1:] != points[:-1]).any(1)))
        ends = np.append(starts[1:], len(points)) - 1
        self._multipliers = np.sqrt(multipliers[starts] * multipliers[ends])
        self._lagrangian, self._c = lagrangian, c
        costs = [(curve.errors @ one)[points[starts, index]] for index, (curve, one) in enumerate(zip(curves, c, strict=True))]
        self.distortions: Floats = np.sum(costs, axis=0)

    def __len__(self) -> int:
        return len(self._multipliers)

    @overload
    def __getitem__(self, place: int) -> Choice: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Choice]: ...

    def __getitem__(self, place: int | slice) -> Choice | Sequence[Choice]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        return self._lagrangian.choice(self._c, float(self._multipliers[place]))
