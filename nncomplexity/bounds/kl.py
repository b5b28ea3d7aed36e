"""The binary Kullback–Leibler divergence and its inverse, which gives the tightest of the bounds.

For n independent losses in [0, 1] of mean R, Chernoff's argument gives P[R̂ ≤ q] ≤ exp(−n·kl(q‖R)) for every q ≤ R:
for losses that are 0 or 1 directly, for those between by convexity (Hoeffding 1963, Theorem 1). With the weight 2^(−K)
for each file of a prefix code, the union over all files gives, with probability 1 − δ and for each of them, R ≤ R̂ or

    kl(R̂‖R) ≤ (K·ln 2 + ln(1/δ)) / n.
"""

import math

from nncomplexity.bounds.hoeffding import hoeffding_bound
from nncomplexity.errors import InputError
from nncomplexity.words import checked_number

# The inverse grows with the risk, so a smaller risk may be raised to this one, which keeps every ratio finite.
_LEAST_RISK = 1e-300
# Each term of the divergence is off by fewer than 11 rounding errors (2^-53) of its own size, their sum by one more.
_TERM_ERROR = 16 * 2.0**-53


def binary_kl(q: float, p: float) -> float:
    """Binary Kullback–Leibler divergence kl(q‖p) = q·ln(q/p) + (1−q)·ln((1−q)/(1−p)), in nats, with 0·ln 0 = 0.

    Infinite where p is 0 or 1 and q is not the same.

    Raises:
        InputError: an argument is not in [0, 1].

    >>> round(binary_kl(0.1, 0.3), 6)
    0.116322
    >>> binary_kl(0.5, 1.0)
    inf
    """
    for name, value in (("q", q), ("p", p)):
        checked_number(name, value, "a probability in [0, 1]", lambda probability: 0 <= probability <= 1)
    return max(0.0, sum(_terms(float(q), float(p))))


def kl_inverse(risk: float, nats: float) -> float:
    """The largest true risk that the divergence leaves: sup{ p : kl(r̂‖p) ≤ c }.

    In closed form at the ends: 1 − exp(−c) for r̂ = 0, and 1 for r̂ = 1. Between them, bisection down to neighbouring
    floats, which returns the end where kl(r̂‖p) ≥ c whatever the rounding: an upper bound in floating point too. It
    never exceeds Hoeffding's (Pinsker's inequality: kl(r̂‖p) ≥ 2·(p − r̂)²) and never falls as c grows.

    Args:
        risk: empirical risk r̂ in [0, 1].
        nats: c = (K·ln 2 + ln(1/δ)) / n ≥ 0, in nats per example; may be infinite.

    Returns:
        The largest true risk, in [0, 1].

    Raises:
        InputError: ``risk`` is not in [0, 1], or ``nats`` is negative or NaN.

    >>> round(kl_inverse(0.0, 0.5), 6)
    0.393469
    >>> round(kl_inverse(0.1, 0.05), 6)
    0.220079
    """
    checked_number("risk", risk, "a number in [0, 1], the scale of the divergence", lambda share: 0 <= share <= 1)
    if not nats >= 0:
        raise InputError(f"nats: expected a number of nats per example >= 0, got {nats!r}")
    # kl(0‖p) = −ln(1 − p), so this case has a closed form. One step upwards covers the rounding of expm1.
    if risk == 0:
        return min(1.0, math.nextafter(-math.expm1(-nats), math.inf))
    if risk == 1:
        return 1.0
    # A subnormal risk would lose precision in the quotients below. A larger risk only makes the bound larger.
    q = max(float(risk), _LEAST_RISK)
    # The bracket depends on the risk alone, so every c tries the same points: that makes the result monotone in c.
    low, high = q, 1.0
    while low < (middle := low + (high - low) / 2) < high:
        first, second = _terms(q, middle)
        if first + second - _TERM_ERROR * (abs(first) + abs(second)) >= nats:
            high = middle
        else:
            low = middle
    # Pinsker's inequality, 2(p − q)² ≤ kl(q‖p), says that the kl bound is never above Hoeffding's. Rounding may not change this
    # order.
    return min(high, hoeffding_bound(risk, nats))


def _terms(q: float, p: float) -> tuple[float, float]:
    """q·ln(q/p) and (1−q)·ln((1−q)/(1−p)), each to nearly full relative precision, also where q and p are close."""
    return _weighted_log_ratio(q, p, p - q), _weighted_log_ratio(1 - q, 1 - p, q - p)


def _weighted_log_ratio(a: float, b: float, difference: float) -> float:
    """a·ln(a/b), where the caller knows ``difference`` = b − a more exactly than subtracting here would give it."""
    if a == 0:
        return 0.0
    if b == 0:
        return math.inf
    # log1p keeps the digits that the quotient a/b would lose if a and b are close.
    if abs(difference) < a / 2:
        return -a * math.log1p(difference / a)
    # a/b overflows only for b below 1e-308, where the difference of the logarithms is exact enough.
    return a * (math.log(a / b) if b >= _LEAST_RISK else math.log(a) - math.log(b))
