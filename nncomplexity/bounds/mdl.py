"""Two-part description length: bits for the model, then bits for the data given the model."""

import math
from dataclasses import dataclass
from typing import SupportsFloat, SupportsIndex

from nncomplexity.bounds import arguments
from nncomplexity.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DescriptionLength:
    """The two parts of a description of the data, in bits for all n examples together.

    Attributes:
        model_bits: C(M), the length of the payload.
        data_bits: H(D∣M) = n·loss / ln 2, the length of the labels in the code that the model's predictions define.
    """

    model_bits: float
    data_bits: float

    @property
    def total_bits(self) -> float:
        """C(M) + H(D∣M)."""
        return self.model_bits + self.data_bits


def description_length(bits: SupportsFloat, *, loss: SupportsFloat, n: SupportsIndex) -> DescriptionLength:
    """Bits to describe the model, and then the n labels with its help: K and n·loss / ln 2.

    Of the files for several ε, the one with the least ``total_bits`` is the MDL choice, and its ε is ε*.

    Args:
        bits: length K of the payload, ≥ 0.
        loss: mean cross-entropy of the *decoded* weights, in nats per example, ≥ 0.
        n: number of examples.

    Raises:
        InputError: an argument is out of its range.

    Source: DeMoss et al. 2025, Eqs. 1 and 8.

    >>> length = description_length(20_000, loss=0.1, n=2553)
    >>> round(length.data_bits, 1), round(length.total_bits, 1)
    (368.3, 20368.3)
    """
    model_bits, examples = arguments.check_bits(bits), arguments.check_n(n)
    expected = "a mean cross-entropy in nats per example, finite and >= 0"
    mean_loss = arguments.number("loss", loss, expected)
    if mean_loss < 0:
        raise InputError(f"loss must be {expected}; got {mean_loss}")
    return DescriptionLength(model_bits=model_bits, data_bits=examples * mean_loss / math.log(2))
