"""How well a measure follows the known sizes of networks: a line through the logarithms, and the order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import correlation, covariance, linear_regression, variance


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
            spearman=correlation(ranks(x), ranks(y)),
            kendall=kendall(x, y),
        )


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value from 1 on. Equal values share the mean of their ranks.

    >>> ranks([5.0, 1.0, 5.0])
    [2.5, 1.0, 2.5]
    """
    return [sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values]


def kendall(x: Sequence[float], y: Sequence[float]) -> float:
    """τ-b of two lists.

    >>> kendall([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    0.3333333333333333
    """
    pairs = list(combinations(range(len(x)), 2))
    signs = [(_sign(x[i] - x[j]), _sign(y[i] - y[j])) for i, j in pairs]
    untied = [sum(pair[side] != 0 for pair in signs) for side in (0, 1)]
    return sum(a * b for a, b in signs) / math.sqrt(untied[0] * untied[1])


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
