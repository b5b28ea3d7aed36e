"""Hoeffding's form of the bound, and the paper's cost for the length of a file.

Losses are in [0, 1] here. :func:`nncomplexity.bounds.bound` scales other ranges to it and back.
"""

import math


def hoeffding_bound(risk: float, nats: float) -> float:
    """The largest true risk that Hoeffding's inequality allows: min(1, r̂ + √(c/2)), rounded up.

    Args:
        risk: empirical risk r̂ in [0, 1].
        nats: c = (K·ln 2 + ln(1/δ)) / n ≥ 0, in nats per example.

    Returns:
        The bound, in [0, 1].

    Source: DeMoss et al. 2025, Eq. 4; W. Hoeffding, "Probability inequalities for sums of bounded random variables",
    Journal of the American Statistical Association 58 (1963), Theorem 1.

    >>> round(hoeffding_bound(0.1, 0.02), 12)
    0.2
    """
    # The error of the sum is at most one unit in its last place: half from the root, half from the addition.
    return min(1.0, math.nextafter(risk + math.sqrt(nats / 2), math.inf))


def paper_bits(bits: float) -> float:
    """The bits that the paper's bound uses for a file of K bits: K + 2·log₂ K. The second term is for the length. An empty file costs 1 bit.

    Over all non-empty files of whole bytes, 2^(−K)·K^(−2) adds up to π²/384 < ½. The empty file adds ½, so the total is less than 1. Kraft's
    inequality therefore holds, although a payload doesn't mark its own end.
    Source: DeMoss et al. 2025, Eq. 4, with K in bits.

    >>> paper_bits(1024.0)
    1044.0
    """
    return max(bits, 1.0) + 2 * math.log2(max(bits, 1.0))
