"""The choice of an operating point for each tensor, with the fewest bits at a distortion, by the Lagrangian.

Points with bits R_t and squared errors E_t have about the distortion Σ_t c_t·E_t. For each λ, the points that minimise

    Σ_t R_t + c_t · E_t / λ

take the fewest bits of all that have at most their distortion. The sum is separable, so each tensor's point is found by itself (Everett 1963;
Shoham and Gersho 1988).
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from nncomplexity.search.operating_points import OperatingPoints
from nncomplexity.search.scans import Floats

_MULTIPLIERS, _FINEST, _COARSEST = 600, 1e-12, 1e3
"""The number of λ to compare, and their range, relative to the λ at which all bits are worth as much as all distortion."""
_PRECISIONS = (1, 30)
"""The least and the largest number of mantissa bits of a step size."""


@dataclass(frozen=True)
class Choice:
    """An operating point for each tensor, and the mantissa bits of all step sizes.

    Attributes:
        points: (tensors,) the index of each tensor's point.
        precision: mantissa bits.
        multiplier: the λ of these points, in distortion for each bit.
        scale: None where errors are rounded to the nearest; otherwise they are compensated, and step sizes are larger by this factor
            where they can be (`nncomplexity.search.compensated`).
    """

    points: NDArray[np.int64]
    precision: int
    multiplier: float
    scale: float | None = None

    @property
    def key(self) -> bytes:
        """Bytes that are equal for equal choices, and only for them."""
        return self.points.tobytes() + bytes([self.precision]) + (b"" if self.scale is None else struct.pack("<d", self.scale))


class Lagrangian:
    """The choices among the operating points of some tensors.

    Methods take c (tensors, 3): the distortion for each unit of the three parts of a squared error (`nncomplexity.search.scans.PARTS`).

    Args:
        curves: the tensors' operating points.
    """

    def __init__(self, curves: Sequence[OperatingPoints]) -> None:
        self.curves = curves
        self._energies = np.array([curve.energy for curve in curves])

    def path(self, c: Floats) -> "Path":
        """The choices for all λ."""
        # Relative to the λ at which all bits are worth the whole distortion, one range serves every loss and every unit of it.
        balance = max(float((c[:, 1] * self._energies).sum()), 1e-300) / sum(float(curve.bits.max()) for curve in self.curves)
        return Path(self, c, balance * np.geomspace(_FINEST, _COARSEST, _MULTIPLIERS))

    def choice(self, c: Floats, multiplier: float) -> Choice:
        """The choice for one λ."""
        points = np.array([int(curve.best(one[None] / multiplier)[0]) for curve, one in zip(self.curves, c, strict=True)])
        return Choice(points, self._precision(c, points, multiplier), multiplier)

    def of_low_rank(self, c: Floats, multiplier: float) -> dict[int, int]:
        """The best point with a low rank or in pieces for each tensor that has one, for one λ. Keys are indices of tensors."""
        found = {}
        for index, (one, curve) in enumerate(zip(c, self.curves, strict=True)):
            # Only these points have an error of the third part.
            cut = np.flatnonzero(curve.errors[:, 2])
            if len(cut):
                found[index] = int(cut[np.argmin((curve.bits + curve.errors @ one / multiplier)[cut])])
        return found

    def bits(self, choice: Choice) -> float:
        """The bits of a choice, by the operating points' estimates."""
        bits = sum(float(curve.bits[point]) for curve, point in zip(self.curves, choice.points.tolist(), strict=True))
        return bits + choice.precision * int((choice.points > 0).sum())

    def _precision(self, c: Floats, points: NDArray[np.int64], multiplier: float) -> int:
        """The best number p of mantissa bits of the step sizes.

        Rounding a step size to p bits gives it a uniform relative error, and all elements of its tensor the same one. This adds about 4⁻ᵖ/24
        of the tensor's energy to its squared error. p·T + Σ c·energy·4⁻ᵖ/(24·λ) over T tensors is least at 4ᵖ = ln 4·Σ c·energy/(24·λ·T).
        """
        left = points > 0
        worth = float((c[:, 0] * self._energies)[left].sum())
        # All tensors are zero, so there is no step whose precision could matter.
        if not worth:
            return _PRECISIONS[0]
        exact = 0.5 * math.log2(max(math.log(4) * worth / (24 * multiplier * int(left.sum())), 1.0))
        return min(max(round(exact), _PRECISIONS[0]), _PRECISIONS[1])


class Path(Sequence[Choice]):
    """The choices for ascending λ, from fine to coarse, each once. A choice is computed when it is used.

    Attributes:
        distortions: (choices,) Σ c·E of each.
    """

    def __init__(self, lagrangian: Lagrangian, c: Floats, multipliers: Floats) -> None:
        curves = lagrangian.curves
        points = np.stack([curve.best(one / multipliers[:, None]) for curve, one in zip(curves, c, strict=True)], axis=1)
        starts = np.flatnonzero(np.append(True, (points[1:] != points[:-1]).any(1)))
        ends = np.append(starts[1:], len(points)) - 1
        # The middle of the range of λ for which the choice is best, in logarithms, is the least sensitive to rounding.
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
