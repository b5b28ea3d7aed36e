"""The operating points of a tensor: the forms in which it may be coded, each with its bits and its squared error.

The bits of all forms are estimated by the entropy of their symbols. For forms that may be on the lower convex hull, the coder counts the
bits. It is more exact: for example, dead rows cost fewer bits than the entropy says.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nncomplexity.file import CoarseTensor
from nncomplexity.linalg import lower_hull, matrix_view
from nncomplexity.network import Layout, TensorSpec, pieces_of
from nncomplexity.search.forms import Form, InPieces, Zero, coded
from nncomplexity.search.scans import PARTS, Floats, Scan, dense_scan, low_rank_scan, pruned_scans

_HEADER = 5.0
"""About the bits that a form and the exponent of a step size take in a file."""
_RATIOS = (0.5, 4.0, 32.0, 256.0)
"""The ratios of costs to consider: that of an error along the tensor over that of an error across it."""
_PRICES, _CLOSE = 240, 1.1
"""The number of prices of error at which forms are compared by estimates, and how near the best form the second must be to be counted, too."""
FEW, _WEIGHINGS = 4, 64
"""The least number of counted forms from which estimates are corrected, and the most for a scan."""
_NARROW = 4
"""Matrices with fewer rows or columns are not tried with a low rank."""


@dataclass(frozen=True)
class OperatingPoints:
    """The operating points of one tensor, from few bits to many: its rate–distortion curve. The first point is the tensor of zeros.

    Attributes:
        spec: the tensor's.
        weight: the numbers to code, in the tensor's shape.
        forms: the form of each point.
        bits: (points,).
        errors: (points, 3) the parts of the squared errors (`nncomplexity.search.scans.PARTS`).
    """

    spec: TensorSpec
    weight: Tensor
    forms: Sequence[Form]
    bits: Floats
    errors: Floats

    def best(self, prices: Floats) -> NDArray[np.int64]:
        """(n,) the point with the least bits + price · error for prices (n, 3) of the parts."""
        found: NDArray[np.int64] = np.argmin(self.bits + prices @ self.errors.T, axis=1)
        return found

    def piece(self, point: int, precision: int) -> CoarseTensor:
        """The coarse tensor of a point, with this number of mantissa bits in its step sizes."""
        return self.forms[point].piece(self.weight, precision)

    @property
    def energy(self) -> float:
        """The squared error of the tensor of zeros. All of it is along the tensor."""
        return float(self.errors[0, 1])


def curve_of(spec: TensorSpec, weight: Tensor, weighings: float, layout: Layout | None = None) -> OperatingPoints:
    """The operating points of a tensor. The coder counts the bits of about `weighed` of them; the others are estimated.

    If the tensor has a layout, points in pieces are among them.
    """
    matrix = weight.reshape(matrix_view(spec.shape) or (spec.count, 1))
    whole = dense_scan(matrix, grids=weighings >= FEW)
    points = [(Zero(), 1.0, (0.0, float(matrix.double().square().sum()), 0.0)), *_weighed(whole, matrix, weighings)]
    if min(matrix.shape) >= _NARROW and weighings >= FEW:
        for scan in (*pruned_scans(matrix), low_rank_scan(matrix, whole)):
            points += _weighed(scan, matrix, weighings)
    if layout is not None:
        pieces = zip(pieces_of(spec, layout), layout.apart(weight), strict=True)
        points += _in_pieces(layout, [curve_of(one, piece, weighings) for one, piece in pieces])
    forms, bits, errors = zip(*_on_hulls(points), strict=True)
    return OperatingPoints(spec, weight, forms, np.array(bits), np.array(errors))


Points = Sequence[tuple[Form, float, Sequence[float]]]
"""Forms with their bits and the parts of their errors."""


def _weighed(scan: Scan, matrix: Tensor, most: float) -> Points:
    """The forms that may be on the hull. The coder counts the bits of the likeliest; the others' estimates are corrected by these counts."""
    wins = _wins(scan)
    likely = np.flatnonzero(wins)
    if not len(likely):
        return []
    widest = likely[np.argsort(-wins[likely], kind="stable")]
    shown = np.sort(widest[: min(int(most), _WEIGHINGS)]) if most >= FEW else likely[:0]
    exact = np.array(coded([scan.forms[index] for index in shown.tolist()], matrix))
    # The ratio of counted to estimated bits changes slowly with the step size, so a few counts correct all estimates.
    corrected = scan.bits * (np.interp(np.arange(len(wins)), shown, (exact + 1) / (scan.bits[shown] + 1)) if len(shown) else 1.0)
    corrected[shown] = exact
    return [(scan.forms[index], _HEADER + float(corrected[index]), scan.errors[index].tolist()) for index in likely.tolist()]


def _wins(scan: Scan) -> NDArray[np.int64]:
    """(n,) the number of prices for which each form is the best, or the second of the local minima and close to it.

    A form that is the best for many prices is a dip, where the tensor lies on a grid. Its bits are counted first.
    """
    count = np.zeros(len(scan.bits), dtype=np.int64)
    for ratio in _RATIOS if len(count) else ():
        errors = scan.errors @ np.array([1.0, ratio, 1.0])
        highest = max(float(errors.max()), 1e-300)
        lowest = max(float(errors[errors > 0].min(initial=highest)), 1e-300)
        # From a price at which zeros are the best to one at which the finest step size is.
        prices = np.geomspace(0.1 / highest, 10 * (1 + float(scan.bits.max())) / lowest, _PRICES)
        cost = scan.bits + prices[:, None] * errors
        falls = cost[:, 1:] <= cost[:, :-1]
        rises = cost[:, :-1] <= cost[:, 1:]
        minima = cost.copy()
        minima[:, 1:][~falls] = math.inf
        minima[:, :-1][~rises] = math.inf
        best = cost.argmin(1)
        least = cost[np.arange(_PRICES), best]
        minima[np.arange(_PRICES), minima.argmin(1)] = math.inf
        second = minima.argmin(1)
        close = minima[np.arange(_PRICES), second] <= _CLOSE * least
        count += np.bincount(best, minlength=len(count)) + np.bincount(second[close], minlength=len(count))
    return count


def _on_hulls(points: Points) -> Points:
    """The points on a lower convex hull of bits over error, from few bits to many.

    Dense forms have a hull for each ratio of costs in `_RATIOS`. Low ranks and pieces have a hull of their own, because the cost of their
    part of the error is not known yet.
    """
    kept: set[int] = {0}
    dense = [index for index, (_, _, (*_, cut)) in enumerate(points) if not cut]
    others = [index for index, (_, _, (*_, cut)) in enumerate(points) if cut]
    for ratio in _RATIOS:
        hull = lower_hull([(points[index][2][0] + ratio * points[index][2][1], points[index][1]) for index in dense])
        kept.update(dense[place] for place in hull)
    kept.update(others[place] for place in lower_hull([(points[index][2][2], points[index][1]) for index in others]))
    return [points[index] for index in sorted(kept, key=lambda index: points[index][1])]


def _in_pieces(layout: Layout, curves: Sequence[OperatingPoints]) -> Points:
    """The points of a tensor in pieces, from the points of the pieces. Errors in all pieces cost the same."""
    highest = max(float(curve.errors.sum(1).max()) for curve in curves) or 1.0
    prices = np.geomspace(0.1, 1e9, _PRICES)[:, None] / highest * np.ones(PARTS)
    found = []
    # Only combinations that are the best for some price. All combinations would be far too many.
    for chosen in np.unique(np.stack([curve.best(prices) for curve in curves], axis=1), axis=0).tolist():
        points = list(zip(curves, chosen, strict=True))
        error = float(sum(curve.errors[point].sum() for curve, point in points))
        form = InPieces(layout, tuple(curve.forms[point] for curve, point in points))
        found.append((form, _HEADER + sum(float(curve.bits[point]) for curve, point in points), (0.0, 0.0, error)))
    return found
