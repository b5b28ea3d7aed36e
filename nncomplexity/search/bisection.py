"""Bisection over indices at which something is false at first, and then true."""

from collections.abc import Callable


def first_that(holds: Callable[[int], bool], count: int) -> int:
    """The least index in [0, count) for which `holds` is true, by bisection; the last index if there is none.

    This assumes that `holds` is true for all indices after the first such one.

    >>> first_that(lambda index: index * index >= 10, 8), first_that(lambda index: False, 8)
    (4, 7)
    """
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
