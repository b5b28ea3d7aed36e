"""Checks of the arguments of `estimate` and similar functions. Each check returns the value in a standard form, or raises."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nncomplexity.errors import InputError
from nncomplexity.search import Method, method_named
from nncomplexity.words import Eps, Relative, checked_count, is_number, python_number, shown

LARGEST_SEED = 2**32 - 1
"""The largest seed of NumPy's generators."""
SeveralEps = Sequence[float | Relative] | NDArray[Any] | Tensor
_METHOD_PARTS = ("name", "codec", "budget", "search")


def python_eps(eps: object) -> object:
    """ε as Python numbers, if it is a NumPy array or a tensor."""
    return eps.tolist() if isinstance(eps, np.ndarray | Tensor) else eps


def checked_eps(eps: object) -> list[Eps]:
    """One ε or several, as a list. Raises InputError if one of them is neither a number of at least 0 nor a share."""
    given = python_eps(eps)
    values = list(given) if isinstance(given, Sequence) and not isinstance(given, str | bytes | bytearray) else [given]
    if not values:
        raise InputError("eps: expected at least one value, got none")
    checked = list[Eps]()
    for value in map(python_number, values):
        if isinstance(value, Relative):
            checked.append(value)
            continue
        if not is_number(value) or not 0 <= value < math.inf:
            share = "; a share is Relative(0.01)" if isinstance(value, str) and value.strip().endswith("%") else ""
            raise InputError(f"eps: expected a finite number of at least 0, in the loss's unit, got {shown(value)}{share}")
        checked.append(float(value))
    return checked


def checked_method(method: str | Method, budget: float | None) -> Method:
    """The method of that name and budget, or the object that was given.

    Raises:
        InputError: it is neither a method's name nor a method object, or a budget is given with a method object.

    >>> checked_method("quantize", 20)
    Quantize(budget=20, steps=(0.001, 1.0))
    """
    if isinstance(method, str):
        return method_named(method, python_number(budget))
    # A class has the same attributes as its objects, and `Tight` for `Tight()` is an easy mistake.
    if isinstance(method, type) or not all(hasattr(method, part) for part in _METHOD_PARTS):
        came = f"the class {method.__name__}; call it" if isinstance(method, type) else repr(method)
        raise InputError(
            f"method: expected 'tight', 'allocate', 'bayes', 'quantize' or a method object such as Tight(), got {came}"
        )
    if budget is not None:
        raise InputError("budget: a method object carries its own; set it there")
    return method


def checked_seed(seed: object) -> int:
    """The seed. Raises InputError unless it is a whole number that every random generator accepts."""
    return checked_count("seed", seed, 0, LARGEST_SEED)


def checked_seeds(seed: object, seeds: object) -> range:
    """`seeds` successive seeds from `seed` on. Raises InputError if a random generator would not accept one of them."""
    first, count = checked_seed(seed), checked_count("seeds", seeds, 1)
    if first + count - 1 > LARGEST_SEED:
        raise InputError(f"seeds: expected at most {LARGEST_SEED - first + 1} from seed {first} on, got {count}")
    return range(first, first + count)


def check_function(name: str, given: object) -> None:
    """Raises InputError if the argument is neither None nor callable."""
    if given is not None and not callable(given):
        raise InputError(f"{name}: expected a function, or None, got {given!r}")
