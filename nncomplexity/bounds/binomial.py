"""The upper confidence limit of a probability from a count, by inversion of the binomial tail, and the test-set bound.

The limit is Clopper and Pearson's. It is the largest p for which k or fewer events in n trials still have probability δ:

    p̄ = sup{ p : P[Bin(n, p) ≤ k] ≥ δ }.

The true p is above p̄ with probability at most δ over the draw of the n examples. For a test set that took no part in choosing the predictor,
the bound on the error rate is p̄ of the errors on this set (J. Langford, "Tutorial on practical prediction theory for classification",
Journal of Machine Learning Research 6, 2005, section 3).
"""

import math
from dataclasses import dataclass
from typing import SupportsFloat, SupportsIndex

from scipy.special import bdtr, betainccinv

from nncomplexity.bounds import arguments
from nncomplexity.bounds.rounding import rounded_up
from nncomplexity.words import checked_count, counted

_SURE = 1 - 1e-12
"""The computed tail must be at most this factor times δ. The gap to 1 is larger than the tail's rounding error."""


def binomial_upper_limit(events: SupportsIndex, n: SupportsIndex, delta: SupportsFloat = 0.05) -> float:
    """The upper confidence limit of a probability, after `events` events in n independent trials, rounded up.

    Args:
        events: k, from 0 to n.
        n: number of trials, at least 1.
        delta: failure probability δ, strictly between 0 and 1.

    Returns:
        The limit, a probability in (0, 1].

    Raises:
        InputError: an argument is out of its range.

    For k = 0 it is 1 − δ^(1/n):

    >>> round(binomial_upper_limit(0, 100, 0.05), 6), round(binomial_upper_limit(10, 100, 0.05), 6)
    (0.029513, 0.163718)
    >>> binomial_upper_limit(100, 100)
    1.0
    """
    trials, failure = arguments.check_n(n), arguments.check_delta(delta)
    k = checked_count("events", events, 0, trials, f"a whole number of events from 0 to n = {trials}")
    if k == trials:
        return 1.0
    if k == 0:
        # Rounding up: the quotient and the difference have an error of a few units in the last place of a number below 1.
        return min(1.0, -math.expm1(math.log(failure) / trials) * (1 + 2.0**-50))
    limit, width = float(betainccinv(k + 1, trials - k, failure)), 2.0**-52
    # SciPy's inverse may be slightly too small, which would be no bound. It is raised until the tail itself is below δ.
    while limit < 1.0 and not float(bdtr(k, trials, limit)) <= failure * _SURE:
        limit, width = min(1.0, limit * (1 + width)), 2 * width
    return limit


@dataclass(frozen=True, kw_only=True)
class HoldoutBound:
    """An upper bound on the risk by a test set alone; holds with probability 1 − ``delta`` over the draw of its examples.

    Attributes:
        value: the bound on the error rate, p̄ of the observed errors.
        errors: the number of the n test examples on which the predictor is wrong.
        n: number of test examples.
        delta: failure probability δ.
    """

    value: float
    errors: int
    n: int
    delta: float

    @property
    def risk(self) -> float:
        """The error rate on the test examples."""
        return self.errors / self.n

    def sentence(self) -> str:
        """The bound in words.

        >>> print(holdout_bound(9, 360).sentence())
        With probability 0.95 the risk on unseen data is at most 0.0433, by 9 errors on 360 test examples that took no part in training.
        """
        return (
            f"With probability {1 - self.delta:.6g} the risk on unseen data is at most {rounded_up(self.value, 3)}, by "
            f"{counted(self.errors, 'error')} on {counted(self.n, 'test example')} that took no part in training."
        )

    def to_dict(self) -> dict[str, float | int]:
        """The values for a report, under the names of the attributes."""
        return {"value": self.value, "errors": self.errors, "n": self.n, "risk": self.risk, "delta": self.delta}


def holdout_bound(errors: SupportsIndex, n: SupportsIndex, delta: SupportsFloat = 0.05) -> HoldoutBound:
    """Bound the risk on unseen data of a predictor by its errors on n test examples that took no part in choosing the predictor.

    Raises:
        InputError: an argument is out of its range.

    >>> round(holdout_bound(0, 360).value, 5)
    0.00829
    """
    value = binomial_upper_limit(errors, n, delta)
    return HoldoutBound(value=value, errors=int(errors), n=int(n), delta=float(delta))
