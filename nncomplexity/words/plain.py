"""Numbers as Python's, whosever they are when they come as an argument."""

import math
from typing import Any, TypeGuard

import numpy as np
from torch import Tensor


def plain_number(value: Any) -> Any:
    """A whole or real number of NumPy's as Python's, and a whole one beyond the range of floats as an infinity; the rest as it is.

    >>> plain_number(np.float32(0.5)), plain_number(-(10**400)), plain_number("8")
    (0.5, -inf, '8')
    """
    if isinstance(value, np.integer | np.floating):
        value = int(value) if isinstance(value, np.integer) else float(value)  # item() leaves long doubles as they are
    if isinstance(value, int):
        try:
            float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number of Python's, an infinity at most: no truth value, and not NaN.

    >>> [is_number(value) for value in (3, math.inf, True, math.nan, "3")]
    [True, True, False, False, False]
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # NaN alone differs from itself


def plain_numbers(values: Tensor) -> list[Any]:
    """A row of numbers as Python's. Off the CPU each is read by itself, as single numbers of a search are: nothing but its symbols is moved.

    >>> import torch
    >>> plain_numbers(torch.tensor([1, 2]))
    [1, 2]
    """
    return values.tolist() if values.device.type == "cpu" else [value.item() for value in values]
