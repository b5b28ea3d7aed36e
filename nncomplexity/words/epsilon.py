"""ε as users give it: a number in the loss's own unit, or a share of the distance to the network with all weights zero."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from nncomplexity.errors import InputError
from nncomplexity.words.numbers import checked_number, is_number, number_of_text

GRID = (2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005)
"""The default ε of a curve, for a loss in nats per example. The largest keeps little of what was learned, the smallest nearly all."""
_SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)
"""The default ε of a curve as shares, for a loss on another scale."""
_MOST_ON_GRID = 10.0
"""The default ε in nats are used if the distance to all weights zero is at most this many times the largest of them. A guess among e^20
classes has this distance."""


@dataclass(frozen=True)
class Relative:
    """ε as a share of |L(0) − L(θ)|, the distance from the loss to that of the network with all weights zero.

    Attributes:
        share: for example 0.01 for a hundredth. At least 0, and 0 is lossless.

    Raises:
        InputError: the share is no finite number of at least 0.

    >>> Relative(0.01).of(loss=0.5, zero_loss=2.5), f"{Relative(0.005)}"
    (0.02, '0.5%')
    """

    share: float

    def __post_init__(self) -> None:
        expected = "a share of at least 0, such as 0.01 for 1%"
        object.__setattr__(self, "share", checked_number("Relative", self.share, expected, lambda share: share >= 0))

    def __str__(self) -> str:
        return f"{100 * self.share:.6g}%"

    def of(self, *, loss: float, zero_loss: float | None) -> float:
        """ε in the loss's unit. Raises InputError if the distance is zero or not finite."""
        if zero_loss is None or zero_loss == loss:
            came = "that loss isn't finite" if zero_loss is None else f"both are {loss:.6g}"
            raise InputError(
                f"eps: {self} is a share of the distance between the loss and that of the network with all weights zero, and {came}; "
                "give eps as a number in the loss's unit"
            )
        return self.share * abs(zero_loss - loss)


Eps = float | Relative
"""One ε as it was asked for."""


class Share(float):
    """ε of results that was given as a share. It sorts by the share, is written as a percentage, and is never equal to a number.

    >>> f"{Share(0.01):g}", Share(0.01) == Share(0.01), Share(0.01) == 0.01
    ('1%', True, False)
    """

    def __format__(self, form: str) -> str:
        return str(Relative(float(self)))

    # 0.01 nats and 1 % are two different ε, although both numbers are 0.01. A table of one file may have both as keys.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Share) and float(self) == float(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((Share, float(self)))


def of_results(eps: Eps) -> float:
    """ε in results files: a number, or a `Share`."""
    return Share(eps.share) if isinstance(eps, Relative) else eps


def eps_named(text: str, argument: str, unit: str = "") -> Eps:
    """ε as it is typed: a number, or one with a percent sign.

    Args:
        text: the typed text.
        argument: the name of the argument, for messages.
        unit: the end of "expected a finite number of at least 0" in messages.

    Returns:
        The number, or the share.

    Raises:
        InputError: the value is anything else; the message names the argument.

    >>> eps_named("0.1", "--eps"), eps_named("1%", "--eps")
    (0.1, Relative(share=0.01))
    """
    value, percent = number_of_text(text.strip().removesuffix("%")), text.strip().endswith("%")
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{argument}: expected a finite number of at least 0{unit}, got {text!r}; or a share, such as 1%")
    return Relative(value / 100) if percent else value


def name_of(eps: Eps) -> str:
    """ε as a text for keys and tables, with six digits.

    >>> name_of(1e-5), name_of(Relative(0.01))
    ('1e-05', '1%')
    """
    return str(eps) if isinstance(eps, Relative) else f"{eps:g}"


def names_in(entry: Mapping[str, Any]) -> list[str]:
    """The names of the ε of a row, with which its keys end.

    >>> names_in({"eps": [0.1, 0.02], "eps_relative": [None, 0.01]}), names_in({"eps": [0.1]})
    (['0.1', '1%'], ['0.1'])
    """
    values, shares = entry.get("eps") or (), entry.get("eps_relative") or ()
    return [
        f"{value:g}" if share is None and is_number(value) else str(value if share is None else Relative(share))
        for value, share in zip_longest(values, shares)
    ]


def default_grid(loss: float, zero_loss: float | None) -> Sequence[Eps]:
    """Twelve ε for a curve: `GRID`, or shares of the distance to all weights zero if the loss is on another scale.

    >>> [name_of(eps) for eps in default_grid(0.01, 2.3)][:3], [name_of(eps) for eps in default_grid(1e4, 3e4)][:3]
    (['2', '1', '0.5'], ['50%', '20%', '10%'])
    """
    if zero_loss is None or zero_loss == loss or GRID[0] <= abs(zero_loss - loss) <= _MOST_ON_GRID * GRID[0]:
        return GRID
    return [Relative(share) for share in _SHARES]
