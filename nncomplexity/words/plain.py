"""Numbers of NumPy and PyTorch as Python's numbers."""

import math
from typing import Any, TypeGuard

import numpy as np
from torch import Tensor


def plain_number(value: Any) -> Any:
    """A NumPy number as Python's. A whole number beyond the range of floats becomes an infinity. Anything else is returned as it is.

    >>> plain_number(np.float32(0.5)), plain_number(-(10**400)), plain_number("8")
    (0.5, -inf, '8')
    """
    if isinstance(value, np.integer | np.floating):
        value = int(value) if isinstance(value, np.integer) else float(value)  # item() does not convert long doubles
    if isinstance(value, int):
        try:
            float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value


def is_number(value: object) -> TypeGuard[float]:
    """Whether the value is a Python number: not a truth value, and not NaN. Infinities are numbers.

    >>> [is_number(value) for value in (3, math.inf, True, math.nan, "3")]
    [True, True, False, False, False]
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # only NaN differs from itself


def plain_numbers(values: Tensor) -> list[Any]:
    """A row of numbers as Python's. On another device than the CPU, each is read alone.

    >>> import torch
    >>> plain_numbers(torch.tensor([1, 2]))
    [1, 2]
    """
    return values.tolist() if values.device.type == "cpu" else [value.item() for value in values]
