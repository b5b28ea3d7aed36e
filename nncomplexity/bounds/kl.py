"""The binary Kullback–Leibler divergence, and its inverse, which gives the tightest of the bounds.

For n independent losses in [0, 1] with mean R, Chernoff's argument gives P[R̂ ≤ q] ≤ exp(−n·kl(q‖R)) for every q ≤ R. It applies directly to
losses that are 0 or 1, and by convexity to losses between 0 and 1 (Hoeffding 1963, Theorem 1). In the union bound, each file of a prefix
code has the weight 2^(−K). So with probability 1 − δ, each file satisfies R ≤ R̂ or

    kl(R̂‖R) ≤ (K·ln 2 + ln(1/δ)) / n.
"""

import math

from nncomplexity.bounds.hoeffding import hoeffding_bound
from nncomplexity.errors import InputError
from nncomplexity.words import checked_number, shown

# The inverse grows with the risk. So a risk below this one may be replaced by it: the bound stays valid, and every ratio is finite.
_LEAST_RISK = 1e-300
# The relative error of each term of the divergence is less than 11 roundings (2^-53), and their sum adds one rounding.
_TERM_ERROR = 16 * 2.0**-53


def binary_kl(q: float, p: float) -> float:
    """Binary Kullback–Leibler divergence kl(q‖p) = q·ln(q/p) + (1−q)·ln((1−q)/(1−p)), in nats, with 0·ln 0 = 0.

    It is infinite if p is 0 or 1 and q is not equal to p.

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
    """Invert the kl bound: the largest true risk p with kl(r̂‖p) ≤ c.

    At the ends there is a closed form: 1 − exp(−c) for r̂ = 0, and 1 for r̂ = 1. Between the ends, bisection continues down to two
    neighbouring floats. It returns the upper one, for which kl(r̂‖p) ≥ c even with the largest rounding error. So the result is an upper
    bound in floating point too. It never exceeds Hoeffding's bound (Pinsker's inequality: kl(r̂‖p) ≥ 2·(p − r̂)²), and it never
    falls when c grows.

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
        raise InputError(f"nats: expected a number of nats per example >= 0, got {shown(nats)}")
    # kl(0‖p) = −ln(1 − p), so this case has a closed form. One step upwards covers the rounding of expm1.
    if risk == 0:
        return min(1.0, math.nextafter(-math.expm1(-nats), math.inf))
    if risk == 1:
        return 1.0
    # A subnormal risk would lose precision in the quotients below. A larger risk only makes the bound larger.
    q = max(float(risk), _LEAST_RISK)
    # The bracket depends on the risk alone, so the bisection for every c uses the same points. This makes the result monotone in c.
    low, high = q, 1.0
    while low < (middle := low + (high - low) / 2) < high:
        first, second = _terms(q, middle)
        if first + second - _TERM_ERROR * (abs(first) + abs(second)) >= nats:
            high = middle
        else:
            low = middle
    # By Pinsker's inequality, 2(p − q)² ≤ kl(q‖p), the kl bound is never above Hoeffding's. Without this minimum, rounding could break
    # the order.
    return min(high, hoeffding_bound(risk, nats))


def _terms(q: float, p: float) -> tuple[float, float]:
    """q·ln(q/p) and (1−q)·ln((1−q)/(1−p)), each to nearly full relative precision, also where q and p are close."""
    return _weighted_log_ratio(q, p, p - q), _weighted_log_ratio(1 - q, 1 - p, q - p)


def _weighted_log_ratio(a: float, b: float, difference: float) -> float:
    """a·ln(a/b). The caller passes ``difference`` = b − a, because it knows it more exactly than a subtraction of b and a."""
    if a == 0:
        return 0.0
    if b == 0:
        return math.inf
    # log1p keeps the digits that the quotient a/b would lose if a and b are close.
    if abs(difference) < a / 2:
        return -a * math.log1p(difference / a)
    # a/b overflows only for b below 1e-308, where the difference of the logarithms is exact enough.
    return a * (math.log(a / b) if b >= _LEAST_RISK else math.log(a) - math.log(b))
