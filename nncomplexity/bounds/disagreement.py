"""A bound on the original network, from the bound on the decoded one and their disagreement.

When the original is wrong, the decoded network is wrong too, or the two disagree. So for an error rate

    risk(original) ≤ risk(decoded) + P[their answers differ].

The first term is bounded by the file's bits (`nncomplexity.bounds.occam`), the second by how often the two disagree on m fresh unlabelled
inputs (`nncomplexity.bounds.binomial`). They share δ: a tenth for the first term, which costs three bits, and the rest for the
second term, where it has more effect.

Source: Bazinet, Zantedeschi and Germain, "Bound to disagree" (arXiv 2602.23128, 2026).
"""

from dataclasses import dataclass
from typing import SupportsFloat, SupportsIndex

from nncomplexity.bounds import arguments
from nncomplexity.bounds.binomial import binomial_upper_limit
from nncomplexity.bounds.chance import vacuous_from
from nncomplexity.bounds.kinds import Kind
from nncomplexity.bounds.occam import Bound, bound

OCCAM_SHARE = 0.1
"""The share of δ that the decoded network's bound gets."""


@dataclass(frozen=True, kw_only=True)
class DisagreementBound:
    """An upper bound on the error rate of the original network; holds with probability 1 − ``delta`` over the draw of all examples.

    Attributes:
        value: the decoded network's bound plus the limit on their disagreement, clipped at 1.
        decoded: the bound on the decoded network, with a tenth of δ.
        limit: upper confidence limit of the rate of disagreement, with the rest of δ.
        disagreements: the number of the m inputs on which their answers differ.
        m: number of fresh unlabelled inputs.
        delta: failure probability δ of the whole bound.
        chance: the risk of a guess. A bound that is not clearly below it is vacuous.
    """

    value: float
    decoded: Bound
    limit: float
    disagreements: int
    m: int
    delta: float
    chance: float

    @property
    def vacuous(self) -> bool:
        """Whether the bound is no better than chance, up to a thousandth (`vacuous_from`)."""
        return self.value >= vacuous_from(self.chance)

    def to_dict(self) -> dict[str, float | int | bool]:
        """The values for a report, under the names of the attributes; `decoded` is the value of that bound."""
        return {
            "value": self.value,
            "decoded": self.decoded.value,
            "limit": self.limit,
            "disagreements": self.disagreements,
            "m": self.m,
            "delta": self.delta,
            "chance": self.chance,
            "vacuous": self.vacuous,
        }


def disagreement_bound(
    bits: SupportsFloat,
    *,
    risk: SupportsFloat,
    n: SupportsIndex,
    disagreements: SupportsIndex,
    m: SupportsIndex,
    delta: SupportsFloat = 0.05,
    kind: Kind = "kl",
    chance: SupportsFloat | None = None,
    self_delimiting: bool = False,
) -> DisagreementBound:
    """Bound the error rate on unseen data of the original network, from a file's bits and the disagreement of the two networks.

    The m inputs are drawn like the examples, and used only after the file is fixed. If several files are compared on them, divide δ by
    the number of files.

    Args:
        bits: length K of the file's payload, ≥ 0.
        risk: error rate of the *decoded* weights on the n training examples.
        n: number of training examples.
        disagreements: the number of the m inputs on which the two answers differ.
        m: number of fresh unlabelled inputs, at least 1.
        delta: failure probability δ of both parts together.
        kind: as in `nncomplexity.bounds.bound`.
        chance: as in `nncomplexity.bounds.bound`.
        self_delimiting: as in `nncomplexity.bounds.bound`.

    Returns:
        The bound on the original's error rate, and its two parts.

    Raises:
        InputError: an argument is out of its range.

    >>> result = disagreement_bound(880, risk=0.146, n=1437, disagreements=20, m=360)
    >>> round(result.decoded.value, 3), round(result.limit, 3), round(result.value, 3)
    (0.596, 0.08, 0.676)
    """
    failure = arguments.check_delta(delta)
    decoded = bound(bits, risk=risk, n=n, delta=OCCAM_SHARE * failure, kind=kind, chance=chance, self_delimiting=self_delimiting)
    inputs = arguments.check_count("m", m, 1, "unlabelled inputs")
    limit = binomial_upper_limit(disagreements, inputs, (1 - OCCAM_SHARE) * failure)
    return DisagreementBound(
        # The factor is more than the rounding error of the sum, so the value is never below the exact bound.
        value=min(1.0, (decoded.value + limit) * (1 + 2.0**-52)),
        decoded=decoded,
        limit=limit,
        disagreements=int(disagreements),
        m=inputs,
        delta=failure,
        chance=decoded.chance,
    )
