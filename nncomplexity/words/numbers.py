"""Numbers as arguments: one check for all callers, and conversion of NumPy's and PyTorch's numbers to Python numbers.

A number may be an `int`, a `float`, a NumPy scalar, or a tensor or array with one element. A `bool` or a text is a mistake of the caller.
Every message has one form: "NAME: expected WHAT, got VALUE".
"""

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from nncomplexity.errors import InputError

if TYPE_CHECKING:  # this wing is loaded by the command line, which must not wait for PyTorch
    from torch import Tensor

_LONGEST = 60
"""The largest number of characters of a value in a message."""


def python_number(value: Any) -> Any:
    """A NumPy number as a Python number. A whole number beyond the range of floats becomes an infinity. Anything else does not change.

    >>> python_number(np.float32(0.5)), python_number(-(10**400)), python_number("8")
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


def python_numbers(values: "Tensor") -> list[Any]:
    """A row of numbers as Python numbers.

    On another device than the CPU, each number is read separately, like the other single numbers of a search. So only symbols are copied
    from the device as whole tensors.

    >>> import torch
    >>> python_numbers(torch.tensor([1, 2]))
    [1, 2]
    """
    return values.tolist() if values.device.type == "cpu" else [value.item() for value in values]


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a Python number, finite or infinite. A truth value and a NaN are no numbers.

    >>> [is_number(value) for value in (3, math.inf, True, math.nan, "3")]
    [True, True, False, False, False]
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # only NaN differs from itself


def number_of_text(text: str) -> float:
    """The number that a text stands for; NaN if it is no number.

    >>> number_of_text("1e-3"), number_of_text("much")
    (0.001, nan)
    """
    try:
        return float(text)
    except ValueError:
        return math.nan


def checked_number(name: str, value: object, expected: str, fits: Callable[[float], bool] | None = None) -> float:
    """The value as a finite float.

    Args:
        name: the name of the argument, for the message.
        value: the value that the caller gave.
        expected: a description of correct values, for the message.
        fits: whether a finite number is correct; None accepts all finite numbers.

    Returns:
        The number.

    Raises:
        InputError: the value is no finite number, or doesn't fit.

    >>> checked_number("delta", np.float32(0.5), "a number below 1", lambda delta: delta < 1)
    0.5
    """
    number = _float(value)
    if not math.isfinite(number) or not (fits is None or fits(number)):
        raise InputError(f"{name}: expected {expected}, got {shown(value)}")
    return number


def _float(value: Any) -> float:
    """The value as a float; NaN if it is no number."""
    if isinstance(value, bool | str | bytes | complex):  # NumPy drops the imaginary part, with a warning
        return math.nan
    try:
        # float() accepts only arrays without dimensions, and item() accepts all arrays and tensors with one element.
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return math.nan


def checked_count(name: str, value: object, least: int, most: int | None = None, expected: str | None = None) -> int:
    """The value as a whole number.

    Args:
        name: the name of the argument, for the message.
        value: the value that the caller gave.
        least: the smallest correct number.
        most: the largest correct number; None sets no limit.
        expected: a description of correct values, for the message; None describes them by `least` and `most`.

    Returns:
        The number.

    Raises:
        InputError: the value is no whole number, or it is too small or too large.

    >>> checked_count("jobs", np.int64(2), 1)
    2
    """
    count = _index(value)
    if count is None or count < least or (most is not None and count > most):
        said = expected or (f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}")
        raise InputError(f"{name}: expected {said}, got {shown(value)}")
    return count


def _index(value: Any) -> int | None:
    """The value as an int; None if it is no whole number."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def shown(value: object) -> str:
    """A value as text for a message: its `repr` in one line, shortened if it is long. Numbers of NumPy are written as Python's.

    >>> shown(np.float64(0.5)), shown(np.complex64(1)), shown([0] * 100)[-6:]
    ('0.5', '(1+0j)', ' 0,...')
    """
    try:
        # item() doesn't convert long doubles.
        text = str(value) if isinstance(value, np.inexact) else repr(value.item() if isinstance(value, np.generic) else value)
        text = " ".join(text.split())
    except ValueError:  # Python refuses to print an integer of many thousand digits
        text = f"{type(value).__name__} too long to print"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
