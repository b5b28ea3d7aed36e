"""A bound on cross-entropy.

Cross-entropy has no largest value, and a bound needs one. So the predictions are mixed with the uniform distribution:

    p_α(y) = (1 − α)·p(y) + α/C,      −ln p_α(y) in [−ln(1 − α + α/C), ln(C/α)].

The interval has the width ln(1 + (1 − α)·C/α). A small α makes the interval wider, and a large α makes the loss larger. The
best α depends on the data and is not in the file. So log₂ G bits are added for the choice of one of G values of a
fixed grid.

Source: Lotfi, Finzi, Kuang, Rudner, Goldblum, Wilson, "Non-vacuous generalization bounds for large language models"
(arXiv 2312.17173, 2023; ICML 2024). Their bound is the kind "paper". The smoothing works with the other kinds too.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, SupportsFloat, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray

from nncomplexity.bounds import arguments
from nncomplexity.bounds.chance import MARGIN, vacuous_from
from nncomplexity.bounds.kinds import Kind, bound_in_range, check_kind, paid_bits
from nncomplexity.bounds.occam import Bound, most_bits_below
from nncomplexity.errors import InputError
from nncomplexity.words import checked_number, shown

# 80 values, evenly spaced in log-odds. The smallest, 2^-24, is for millions of examples; the largest, 1 − 2^-16, for models that are
# hardly better than a guess.
DEFAULT_ALPHAS: tuple[float, ...] = tuple(1 / (1 + 2 ** (j / 2)) for j in range(-32, 48))

# Outside these limits, rounding destroys the smoothed probability or the width of the range.
_ALPHA_LEAST, _ALPHA_MOST = 1e-300, 1 - 1e-9

# By rounding, a softmax in float32 may exceed 1 by at most this much.
_ABOVE_ONE = 1e-6


@dataclass(frozen=True, kw_only=True, repr=False)
class SmoothedBound(Bound):
    """A :class:`Bound` on the cross-entropy of the smoothed predictions, in nats per example; chance is ln C.

    It is vacuous if no α of the grid gives a bound that is better than chance by a thousandth of its range and of a nat. A constant
    answer is the uniform distribution, with the loss ln C for every example.

    Attributes:
        alpha: the share α of the uniform distribution in the mixture.
        n_classes: number of classes C.
    """

    alpha: float
    n_classes: int

    _quantity: ClassVar[str] = "smoothed cross-entropy (nats per example)"

    @property
    def vacuous(self) -> bool:
        """Whether the bound is no better than chance, for every α."""
        return self.bits_needed is None or self.bits > self.bits_needed

    @property
    def value_bits(self) -> float:
        """The bound in bits per example; chance is log₂ C."""
        return self.value / math.log(2)


def smoothed_loss(probabilities: Any, *, alpha: SupportsFloat, n_classes: SupportsIndex) -> float:
    """Mean of −ln((1 − α)·p + α/C) over the examples, in nats per example.

    Args:
        probabilities: (n,), each example's probability of the right class; a tensor, an array or a sequence.
        alpha: α, from 1e-300 to 1 − 1e-9.
        n_classes: C ≥ 2.

    Returns:
        The mean loss, in nats per example.

    Raises:
        InputError: an argument is out of its range.

    >>> round(smoothed_loss([1.0, 0.0], alpha=0.5, n_classes=2), 6)
    0.836988
    """
    return _mean_loss(_check_probabilities(probabilities), _check_alpha(alpha), _check_classes(n_classes))


def smoothed_bound(
    bits: SupportsFloat,
    *,
    probabilities: Any,
    n_classes: SupportsIndex,
    delta: SupportsFloat = 0.05,
    alpha: SupportsFloat | None = None,
    alphas: Sequence[SupportsFloat] = DEFAULT_ALPHAS,
    kind: Kind = "kl",
    self_delimiting: bool = False,
) -> SmoothedBound:
    """Bound the cross-entropy on unseen data of the smoothed predictions, in nats per example.

    This is :func:`nncomplexity.bounds.bound` with the mean of −ln p_α as risk, (−ln(1 − α + α/C), ln(C/α)) as range,
    ln C as chance, and log₂ G side bits. α is the one of a grid of G values that gives the smallest bound. For kind "hoeffding":

        R ≤ mean(−ln p_α) + ln(1 + (1 − α)·C/α)·√(((K + log₂ G)·ln 2 + ln(1/δ)) / 2n)

    ``bits_needed`` is the largest K at which some α of the grid gives a bound that is not vacuous.

    Args:
        bits: length K of the payload, ≥ 0.
        probabilities: (n,), the probability that the *decoded* weights give to the right class of each example; a
            tensor, an array or a sequence.
        n_classes: number of classes C ≥ 2.
        delta: failure probability δ, strictly between 0 and 1.
        alpha: α, if it was fixed before the data were seen. It then costs no bits.
        alphas: the grid of α, fixed before the data were seen. It is used if `alpha` is not given.
        kind: ``"kl"``, ``"hoeffding"``, ``"paper"`` or ``"best"``.
        self_delimiting: whether the payload marks its own end. A `.coarse` payload doesn't. If False, the bits of its length in the Elias
            delta code are added.

    Returns:
        The bound in nats per example, the α that gives it, and whether it is vacuous.

    Raises:
        InputError: an argument is out of its range.

    >>> result = smoothed_bound(500, probabilities=[0.9] * 9_000 + [0.1] * 1_000, n_classes=10)
    >>> round(result.value, 4), round(result.alpha, 4), result.vacuous
    (0.8085, 0.0812, False)
    """
    kind = check_kind(kind)
    payload, failure = arguments.check_bits(bits), arguments.check_delta(delta)
    right, classes = _check_probabilities(probabilities), _check_classes(n_classes)
    grid = _check_grid(alphas) if alpha is None else (_check_alpha(alpha),)
    chance = math.log(classes)

    def cost(k: float) -> float:
        return paid_bits(kind, k, side_bits=math.log2(len(grid)), self_delimiting=self_delimiting)

    def bound_on(risk: float, low: float, high: float) -> Callable[[float], float]:
        return lambda k: bound_in_range(kind, risk=risk, low=low, high=high, cost=cost(k), n=right.size, delta=failure)

    ranges = [(-math.log1p(-a + a / classes), chance - math.log(a)) for a in grid]
    # Rounding may put the mean of losses slightly outside their range.
    risks = [min(max(_mean_loss(right, a, classes), r[0]), r[1]) for a, r in zip(grid, ranges, strict=True)]
    bounds = [bound_on(risk, low, high) for risk, (low, high) in zip(risks, ranges, strict=True)]
    limits = [min(vacuous_from(chance, low, high), chance - MARGIN) for low, high in ranges]
    values = [value_at(payload) for value_at in bounds]
    best = values.index(min(values))
    return SmoothedBound(
        value=values[best],
        kind=kind,
        risk=risks[best],
        n=right.size,
        delta=failure,
        bits=payload,
        paid_bits=cost(payload),
        range=ranges[best],
        chance=chance,
        bits_needed=_most_bits_below(bounds, limits),
        constant_risk=chance,
        constant_bound=chance,
        alpha=grid[best],
        n_classes=classes,
    )


def _most_bits_below(bounds: list[Callable[[float], float]], limits: list[float]) -> float | None:
    """The largest K at which at least one of several bounds is below its limit."""
    # The reported bound is the smallest over the grid, so one α below its limit is enough. A later α is searched only if it is still
    # below its limit at the best K so far.
    most: float | None = None
    for value_at, limit in zip(bounds, limits, strict=True):
        if value_at(most or 0.0) < limit:
            most = most_bits_below(value_at, limit)
    return most


def _mean_loss(right: NDArray[np.float64], alpha: float, classes: int) -> float:
    return float(-np.log((1 - alpha) * right + alpha / classes).mean())


def _check_probabilities(probabilities: Any) -> NDArray[np.float64]:
    expected = "a non-empty list of shape (n,), each example's probability of the right class"
    try:
        if isinstance(probabilities, torch.Tensor):
            probabilities = probabilities.detach().to("cpu", torch.float64).numpy()
        # In float64, because α may be far smaller than the rounding error of a float32.
        right = np.asarray(probabilities, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"probabilities: expected {expected}, got {shown(probabilities)}") from None
    if right.ndim != 1 or right.size == 0:
        raise InputError(f"probabilities: expected {expected}, got shape {right.shape}")
    outside = ~((right >= 0) & (right <= 1 + _ABOVE_ONE))
    if outside.any():
        i = int(outside.argmax())
        raise InputError(f"probabilities: expected values in [0, 1], not logits or log-probabilities, got {right[i]} at {i}")
    return np.minimum(right, 1.0)


def _check_classes(n_classes: SupportsIndex) -> int:
    return arguments.check_count("n_classes", n_classes, 2, "classes")


def _check_alpha(alpha: SupportsFloat) -> float:
    expected = "the share of the uniform distribution, from 1e-300 to 1 - 1e-9, such as 0.05"
    return checked_number("alpha", alpha, expected, lambda share: _ALPHA_LEAST <= share <= _ALPHA_MOST)


def _check_grid(alphas: Sequence[SupportsFloat]) -> tuple[float, ...]:
    try:
        values = tuple(alphas)
    except TypeError:
        values = ()
    if not values:
        raise InputError(f"alphas: expected a non-empty sequence of values of alpha, got {shown(alphas)}")
    return tuple(_check_alpha(alpha) for alpha in values)
