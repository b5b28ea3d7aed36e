"""How well a measure follows the known sizes of networks: a line through the logarithms, and the order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import covariance, linear_regression, variance

from scipy.stats import kendalltau, spearmanr


@dataclass(frozen=True)
class Calibration:
    """A measure m against the known bits b of several networks.

    Attributes:
        slope: of the line ln m = slope · ln b + c by least squares. It is 1 where m is proportional to b.
        r_squared: the share of the variance of ln m that the line explains. It is the same for the line of ln b against ln m.
        largest: the largest factor between b and the value that the second line reads from m.
        spearman: the correlation of the ranks.
        kendall: τ-b, the share of pairs in the right order minus that of pairs in the wrong order, with ties counted.
    """

    slope: float
    r_squared: float
    largest: float
    spearman: float
    kendall: float

    @classmethod
    def of(cls, measured: Sequence[float], known: Sequence[float]) -> "Calibration":
        """Raises ValueError where there are fewer than three networks, or where a value isn't positive."""
        if len(measured) < 3 or min(*measured, *known) <= 0:
            raise ValueError(f"expected at least three networks with positive values, got {len(measured)}: {measured}, {known}")
        x, y = [math.log(value) for value in known], [math.log(value) for value in measured]
        if variance(y) == 0:
            return cls(0.0, 0.0, math.exp(max(abs(value - sum(x) / len(x)) for value in x)), 0.0, 0.0)
        line, back = linear_regression(x, y), linear_regression(y, x)
        errors = [abs(true - back.slope * value - back.intercept) for true, value in zip(x, y, strict=True)]
        return cls(
            slope=line.slope,
            r_squared=covariance(x, y) ** 2 / (variance(x) * variance(y)),
            largest=math.exp(max(errors)),
            spearman=float(spearmanr(x, y).statistic),
            kendall=float(kendalltau(x, y).statistic),
        )
