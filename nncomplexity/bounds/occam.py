"""The Occam bound on the risk on unseen data, from bits, risk, n and δ, as a number and in words."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import ClassVar, SupportsFloat, SupportsIndex

from nncomplexity.bounds import arguments
from nncomplexity.bounds.chance import vacuous_from
from nncomplexity.bounds.kinds import Kind, bound_in_range, check_kind, paid_bits
from nncomplexity.bounds.rounding import rounded_up, rounded_up_below


@dataclass(frozen=True, kw_only=True)
class Bound:
    """An upper bound on the risk on unseen data; holds with probability 1 − ``delta`` over the draw of the examples.

    Attributes:
        value: the bound, in the risk's unit, clipped at the top of the risk's range.
        kind: ``"kl"``, ``"hoeffding"``, ``"paper"`` or ``"best"``.
        risk: the empirical risk r̂ on the n examples, of the weights that the file decodes to.
        n: number of examples.
        delta: failure probability δ.
        bits: length K of the payload in bits.
        paid_bits: the bits in the formula: K, the bits of its length if the payload doesn't mark its end, and choices outside the file.
        range: the interval that contains every loss.
        chance: the risk of a guess.
        bits_needed: the largest K at which the bound is not vacuous, all else equal; ``None`` if it is vacuous even with 0 bits. Without a
            given chance, it only says where the bound reaches the worst possible risk.
        constant_risk: the empirical risk of a constant answer on the same n examples; ``None`` if it is not known.
        constant_bound: the bound on a constant answer, which takes a file of 0 bits; chance if its risk is not known.
    """

    value: float
    kind: Kind
    risk: float
    n: int
    delta: float
    bits: float
    paid_bits: float
    range: tuple[float, float]
    chance: float
    bits_needed: float | None
    constant_risk: float | None
    constant_bound: float

    _quantity: ClassVar[str] = "risk"

    def __repr__(self) -> str:
        """The bound and its terms in one line; `sentence` gives it in words."""
        about = f"bits={self.bits:.12g}, n={self.n}, risk={self.risk:.6g}, delta={self.delta:g}"
        return f"{type(self).__name__}(value={self.value:.6g}, kind={self.kind!r}, vacuous={self.vacuous}, {about})"

    def __str__(self) -> str:
        return self.sentence()

    def _repr_html_(self) -> str:
        """The sentence, for a notebook."""
        return f"<p>{escape(self.sentence())}</p>"

    @property
    def vacuous(self) -> bool:
        """Whether the bound is no better than chance, up to a thousandth of the range (:func:`vacuous_from`).

        If no chance was given, chance is the worst possible risk. The kl bound is below this risk for every K, up to rounding, so "not vacuous"
        then says nothing about whether the file is better than a guess.
        """
        return self.value >= vacuous_from(self.chance, *self.range)

    def sentence(self) -> str:
        """The bound in words: whether it is vacuous, up to how many bits it would not be, and the bound of a constant answer.

        >>> print(bound(16_000, risk=0.0, n=2553, chance=112 / 113, constant_risk=0.99).sentence())
        Not vacuous: with probability 0.95 the risk on unseen data is at most 0.987092, below chance (0.99115).
        It stays so up to 16,995 bits. A constant answer takes 0 bits: risk 0.99 on the examples, at most 0.994447 on unseen data.
        (kl bound: 16,000 bits, n = 2,553, risk 0 on the examples.)
        """
        if self.vacuous:
            verdict, relation, shown = "Vacuous", "no better than", rounded_up(self.value)
        else:
            verdict, relation, shown = "Not vacuous", "below", rounded_up_below(self.value, self.chance)
        reference = "chance" if self.chance < self.range[1] else "the worst possible"
        if self.bits_needed is None:
            remedy = "No number of bits would change that: more examples or a lower risk are needed."
        elif self.vacuous:
            remedy = f"With {math.floor(self.bits_needed):,} bits or fewer it would not be vacuous."
        else:
            remedy = f"It stays so up to {math.floor(self.bits_needed):,} bits."
        return (
            f"{verdict}: with probability {1 - self.delta:.6g} the {self._quantity} on unseen data is at most "
            f"{shown}, {relation} {reference} ({self.chance:.6g}). {remedy} {self.baseline()} "
            f"({self.kind} bound: {math.ceil(self.bits):,} bits, n = {self.n:,}, risk {self.risk:.6g} on the examples.)"
        )

    def baseline(self) -> str:
        """A sentence on the bound of a constant answer, which needs no bits. Without a chance, a sentence that asks for it.

        >>> bound(16_000, risk=0.0, n=2553, chance=0.9).baseline()
        'A constant answer takes 0 bits, and is at chance.'
        """
        if self.constant_risk is not None:
            worse = "; this file is no better" if self.value >= self.constant_bound else ""
            return (
                f"A constant answer takes 0 bits: risk {self.constant_risk:.6g} on the examples, at most "
                f"{rounded_up(self.constant_bound)} on unseen data{worse}."
            )
        if self.chance < self.range[1]:
            return "A constant answer takes 0 bits, and is at chance."
        return "This does not say whether the file is better than a guess; give the risk of a guess as chance."

    def to_dict(self) -> dict[str, float | int | str | bool | None]:
        """The values for a report, under the names of the attributes.

        >>> bound(16_000, risk=0.0, n=2553, delta=0.05).to_dict()["vacuous"]
        False
        """
        return {
            "risk": self.risk,
            "n": self.n,
            "delta": self.delta,
            "kind": self.kind,
            "value": self.value,
            "vacuous": self.vacuous,
            "chance": self.chance,
            "bits_needed": self.bits_needed,
            "constant_risk": self.constant_risk,
            "constant_bound": self.constant_bound,
        }


def bound(
    bits: SupportsFloat,
    *,
    risk: SupportsFloat,
    n: SupportsIndex,
    delta: SupportsFloat = 0.05,
    kind: Kind = "kl",
    range: tuple[SupportsFloat, SupportsFloat] = (0.0, 1.0),
    chance: SupportsFloat | None = None,
    self_delimiting: bool = False,
    side_bits: SupportsFloat = 0.0,
    constant_risk: SupportsFloat | None = None,
) -> Bound:
    """Bound the risk on unseen data of the predictor that a file of K = ``bits`` bits describes.

    Losses are in [a, b], B = b − a and r̂ = (risk − a)/B. With probability 1 − δ, and for all files of the code at once:

        kl:         R ≤ a + B·sup{ p : kl(r̂‖p) ≤ (K·ln 2 + ln(1/δ)) / n }
        hoeffding:  R ≤ risk + B·√((K·ln 2 + ln(1/δ)) / 2n)
        paper:      as hoeffding, with K + 2·log₂ K in place of K
        best:       the smaller of kl and hoeffding, each with δ/2

    This assumes that the examples are drawn independently from one distribution, and that architecture, code and range
    were fixed before the data were seen. ε, ranks and steps may be chosen afterwards, because they are in the file.

    Args:
        bits: length of the payload, ≥ 0.
        risk: mean loss of the *decoded* weights over the n examples, within ``range``.
        n: number of examples.
        delta: failure probability δ, strictly between 0 and 1.
        kind: one of the above.
        range: (a, b), an interval that contains the loss of every possible example; (0, 1) is that of an error rate.
        chance: the risk of a guess, such as 1 − 1/C for the error over C equally frequent classes. A bound that is not better than this by
            more than a thousandth of the range is vacuous. The default is 1 (or b, if 1 is not within the range). With the
            default, a bound that is not vacuous may still be worse than a guess.
        self_delimiting: whether the payload marks its own end. A `.coarse` payload doesn't. If False, the bits of its length in the Elias
            delta code are added.
        side_bits: log₂ of the number of possible choices, for choices that were made by looking at the data and are not in the file.
        constant_risk: mean loss over the n examples of a constant answer, such as the most frequent label, or the network with all
            weights zero. Such an answer needs 0 bits. Without it, a constant answer is taken to be at chance.

    Returns:
        The bound with its terms, and whether it is vacuous.

    Raises:
        InputError: an argument is out of its range.

    Source: DeMoss et al. 2025, Eq. 4; the kl form is the Occam's razor bound of J. Langford, "Tutorial on practical
    prediction theory for classification", Journal of Machine Learning Research 6 (2005).

    >>> result = bound(1_000, risk=0.02, n=2553, delta=0.05)
    >>> round(result.value, 4), result.vacuous
    (0.3001, False)
    >>> round(bound(1_000, risk=0.02, n=2553, kind="hoeffding").value, 4)
    0.3913
    """
    kind = check_kind(kind)
    payload, side = arguments.check_bits(bits), arguments.check_bits(side_bits, "side_bits")
    examples, failure = arguments.check_n(n), arguments.check_delta(delta)
    low, high = arguments.check_range(range)
    mean_loss, guess = arguments.check_risk(risk, low, high), arguments.check_chance(chance, low, high)
    # A network with all weights zero is a file of 0 bits of the same code. The bound holds for all files, so this one costs nothing.
    constant = None if constant_risk is None else arguments.check_risk(constant_risk, low, high, "constant_risk")

    def cost(k: float) -> float:
        return paid_bits(kind, k, side_bits=side, self_delimiting=self_delimiting)

    def bound_of(loss: float, k: float) -> float:
        return bound_in_range(kind, risk=loss, low=low, high=high, cost=cost(k), n=examples, delta=failure)

    return Bound(
        value=bound_of(mean_loss, payload),
        kind=kind,
        risk=mean_loss,
        n=examples,
        delta=failure,
        bits=payload,
        paid_bits=cost(payload),
        range=(low, high),
        chance=guess,
        bits_needed=most_bits_below(lambda k: bound_of(mean_loss, k), vacuous_from(guess, low, high)),
        constant_risk=constant,
        constant_bound=guess if constant is None else bound_of(constant, 0.0),
    )


def most_bits_below(value_at: Callable[[float], float], limit: float) -> float | None:
    """The largest K with ``value_at(K)`` < ``limit``, for a bound that reaches ``limit`` as K grows; ``None`` if there is no such K.

    The bisection uses the reported values, so a bound with this K is reported as not vacuous.

    >>> most_bits_below(lambda k: k / 4, 3.0) == math.nextafter(12.0, 0.0)
    True
    """
    # The formula is not inverted: the result must agree with the reported values, including their rounding and clipping.
    if value_at(0.0) >= limit:
        return None
    low, high = 0.0, 1.0
    while value_at(high) < limit:
        low, high = high, 2 * high
    # The loop ends when no float64 is between the two ends. So the result is exact, and needs no tolerance.
    while low < (middle := low + (high - low) / 2) < high:
        if value_at(middle) < limit:
            low = middle
        else:
            high = middle
    return low
