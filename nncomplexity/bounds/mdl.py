"""Two-part description length: bits for the model, then bits for the data given the model."""

import math
from dataclasses import dataclass
from typing import Literal, SupportsFloat, SupportsIndex, get_args

from nncomplexity.bounds import arguments
from nncomplexity.errors import InputError
from nncomplexity.words import checked_number, shown

LossUnit = Literal["nats", "other"]
"""Whether a loss is a code length of the labels, in nats per example, or something else."""
_LOSS_UNITS: tuple[LossUnit, ...] = get_args(LossUnit)
_MOST_CLASSES = 1024
"""The largest number of classes. With more classes, the logarithms are so close together that other losses would often match one."""
_ROUNDING = 1e-6
"""The relative tolerance for a mean in float32."""


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
    """Bits of the model, and of the n labels given the model: K and n·loss / ln 2.

    Among the files for several ε, MDL chooses the one with the smallest ``total_bits``. Its ε is ε*.

    Args:
        bits: length K of the payload, ≥ 0.
        loss: mean cross-entropy of the *decoded* weights, in nats per example, ≥ 0.
        n: number of examples.

    Returns:
        The bits of both parts, and their sum.

    Raises:
        InputError: an argument is out of its range.

    Source: DeMoss et al. 2025, Eqs. 1 and 8.

    >>> length = description_length(20_000, loss=0.1, n=2553)
    >>> round(length.data_bits, 1), round(length.total_bits, 1)
    (368.3, 20368.3)
    """
    model_bits, examples = arguments.check_bits(bits), arguments.check_n(n)
    expected = "a mean cross-entropy in nats per example, finite and >= 0"
    mean_loss = checked_number("loss", loss, expected, lambda nats: nats >= 0)
    return DescriptionLength(model_bits=model_bits, data_bits=examples * mean_loss / math.log(2))


def check_loss_unit(unit: object) -> LossUnit | None:
    """The unit itself, or None if the loss decides it. Raises InputError for anything else."""
    found = next((one for one in _LOSS_UNITS if one == unit), None)
    if found is None and unit is not None:
        raise InputError(f"loss_unit: expected 'nats', 'other', or None to find it from the loss, got {shown(unit)}")
    return found


def is_code_length(unit: LossUnit | None, *, loss: float, zero_loss: float | None) -> bool:
    """Whether n·loss/ln 2 bits describe n labels: the loss is a cross-entropy in nats per example.

    A negative loss is no code length. If the unit isn't given, the loss of the network with all weights zero decides. The predictions of
    this network are uniform, so a cross-entropy with C classes is ln C. Another loss has such a value only by coincidence. C may be from 2
    to 1,024.

    Args:
        unit: "nats", "other", or None if it isn't known.
        loss: the loss of the original weights.
        zero_loss: the loss of all weights zero; None if it isn't finite.

    Returns:
        Whether the loss is a code length.

    >>> is_code_length(None, loss=0.1, zero_loss=math.log(10)), is_code_length(None, loss=0.1, zero_loss=1.0)
    (True, False)
    """
    if loss < 0 or unit is not None:
        return loss >= 0 and unit == "nats"
    # 0.5 more, so that the logarithm of the largest number itself is accepted in spite of rounding.
    if zero_loss is None or zero_loss >= math.log(_MOST_CLASSES + 0.5):
        return False
    classes = round(math.exp(zero_loss))
    return classes >= 2 and math.isclose(zero_loss, math.log(classes), rel_tol=_ROUNDING)


def why_no_code_length(unit: LossUnit | None, *, loss: float, zero_loss: float | None) -> str:
    """The reason why the loss does not count as a code length, and what to do if it is one.

    >>> why_no_code_length(None, loss=-1.0, zero_loss=2.0)
    'the loss is negative, so it is not a code length; use a cross-entropy'
    """
    if loss < 0:
        return "the loss is negative, so it is not a code length; use a cross-entropy"
    if unit == "other":
        return "the loss unit says that the loss is not a cross-entropy in nats per example"
    found = "not finite" if zero_loss is None else f"{zero_loss:.6g}, not the logarithm of a number of classes"
    return (
        f"the loss is not known to be a cross-entropy in nats per example: the loss of all weights zero is {found}; "
        "if it is one, use --loss-unit nats"
    )
