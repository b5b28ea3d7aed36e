"""Numbers as arguments: one check for all callers, and numbers of NumPy and PyTorch as Python's own.

A number may come as an `int`, a `float`, a NumPy scalar, or a tensor or array of one element. A `bool` or a text is a mistake of the
caller's. Every message has one form: "NAME: expected WHAT, got VALUE".
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
"""Characters of a value in a message."""


def python_number(value: Any) -> Any:
    """A NumPy number as Python's own, and a whole number beyond the range of floats as an infinity; anything else as it is.

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
    """A row of numbers as Python's own.

    Off the CPU each is read by itself, as single numbers of a search are: nothing but its symbols is moved.

    >>> import torch
    >>> python_numbers(torch.tensor([1, 2]))
    [1, 2]
    """
    return values.tolist() if values.device.type == "cpu" else [value.item() for value in values]


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a Python number, an infinity at most: no truth value, and not NaN.

    >>> [is_number(value) for value in (3, math.inf, True, math.nan, "3")]
    [True, True, False, False, False]
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # only NaN differs from itself


def number_of_text(text: str) -> float:
    """The number that a text is, NaN where it is none.

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
        name: of the argument, for the message.
        value: what the caller gave.
        expected: what a right value is, for the message.
        fits: whether a finite number is one of them; None takes all.

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
    """The value as a float, NaN where it is no number."""
    if isinstance(value, bool | str | bytes | complex):  # NumPy drops the imaginary part, with a warning
        return math.nan
    try:
        # Arrays and tensors of one element have item(), whatever their number of dimensions.
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return math.nan


def checked_count(name: str, value: object, least: int, most: int | None = None, expected: str | None = None) -> int:
    """The value as a whole number.

    Args:
        name: of the argument, for the message.
        value: what the caller gave.
        least: the smallest number that is right.
        most: the largest; None takes all.
        expected: what a right value is, for the message; None says it by the two.

    Returns:
        The number.

    Raises:
        InputError: the value is no whole number, or too small or too large.

    >>> checked_count("jobs", np.int64(2), 1)
    2
    """
    count = _index(value)
    if count is None or count < least or (most is not None and count > most):
        said = expected or (f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}")
        raise InputError(f"{name}: expected {said}, got {shown(value)}")
    return count


def _index(value: Any) -> int | None:
    """The value as an int, None where it is no whole number."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def shown(value: object) -> str:
    """A value in a message: `repr` on one line, cut where it is long. Numbers of NumPy are written as Python's, with every NumPy.

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
