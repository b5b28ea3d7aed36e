"""The kinds of bound, with the formula of each.

For losses in [0, 1]:

==============  ========================================================  ===========================================
kind            true risk at most                                         for
==============  ========================================================  ===========================================
``kl``          sup{ p : kl(r̂‖p) ≤ (K·ln 2 + ln(1/δ)) / n }               the default: the tightest, whatever r̂
``hoeffding``   r̂ + √((K·ln 2 + ln(1/δ)) / 2n)                            a simple formula
``paper``       the same with K + 2·log₂ K instead of K                   comparison with published figures (Eq. 4)
``best``        the smaller of ``kl`` and ``hoeffding``, each with δ/2    a valid minimum over kinds
==============  ========================================================  ===========================================

At the same δ, ``kl`` is never above ``hoeffding``. So ``best`` always equals ``kl`` with δ/2, and is never smaller than ``kl`` with δ.
"""

import math
from typing import Literal, get_args

from nncomplexity.bounds.hoeffding import hoeffding_bound, paper_bits
from nncomplexity.bounds.kl import kl_inverse
from nncomplexity.bounds.prefix import prefix_free_bits
from nncomplexity.errors import InputError
from nncomplexity.words import shown

Kind = Literal["kl", "hoeffding", "paper", "best"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# The cost per example is computed with seven roundings. Multiplied by this factor, it is not below the exact value.
_ROUND_UP = 1 + 8 * 2.0**-53


def check_kind(kind: Kind) -> Kind:
    """``kind`` itself. Raises InputError, which lists the kinds, if it is none of them."""
    if kind not in KINDS:
        raise InputError(f"kind: expected one of {', '.join(KINDS)}, got {shown(kind)}")
    return kind


def paid_bits(kind: Kind, bits: float, *, side_bits: float = 0.0, self_delimiting: bool = False) -> float:
    """The bits that enter the bound: the payload, its length, and choices made outside the file (``side_bits``).

    The paper's kind always pays 2·log₂ K for the length, whether or not the payload needs it.

    >>> paid_bits("kl", 1024.0, side_bits=6.0)
    1044.0
    >>> paid_bits("kl", 1024.0, side_bits=6.0, self_delimiting=True)
    1030.0
    >>> paid_bits("paper", 1024.0)
    1044.0
    """
    if kind == "paper":
        return paper_bits(bits) + side_bits
    return prefix_free_bits(bits, self_delimiting=self_delimiting) + side_bits


def bound_in_range(kind: Kind, *, risk: float, low: float, high: float, cost: float, n: int, delta: float) -> float:
    """Upper bound on the true risk, for losses in [low, high], of a predictor that takes ``cost`` bits to describe.

    >>> round(bound_in_range("hoeffding", risk=1.0, low=0.0, high=10.0, cost=100.0, n=10_000, delta=0.05), 3)
    1.601
    """
    share = _unit_bound(kind, (risk - low) / (high - low), cost, n, delta)
    return high if share == 1 else min(high, low + (high - low) * share)


def _unit_bound(kind: Kind, risk: float, cost: float, n: int, delta: float) -> float:
    if kind == "best":
        # Half of δ costs the same as one more bit: ln(2/δ) = ln 2 + ln(1/δ).
        return min(_unit_bound("kl", risk, cost + 1, n, delta), _unit_bound("hoeffding", risk, cost + 1, n, delta))
    nats = (cost * math.log(2) - math.log(delta)) / n * _ROUND_UP
    return kl_inverse(risk, nats) if kind == "kl" else hoeffding_bound(risk, nats)
