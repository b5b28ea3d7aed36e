"""Bisection over indices, to find where a condition changes."""

from collections.abc import Callable

_LEAP = 3
"""The factor by which steps from an expected place grow."""


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


def last_that(holds: Callable[[int], bool], count: int, place: int | None, enough: Callable[[int, int], bool]) -> int:
    """The last index in [0, count) for which `holds` is true; −1 if there is none.

    Growing steps lead from an expected place until the last index is between two known ones. Then a bisection finds it. This assumes that
    `holds` is false for all indices after the first for which it is false.

    Args:
        holds: the condition.
        count: the number of indices.
        place: where the last index is expected; None to bisect all of them.
        enough: whether to end already. It gets the last index that is known to hold, −1 for none, and the first that is known not to hold,
            `count` for none.

    Returns:
        The last index that is known to hold.

    >>> tried = []
    >>> last_that(lambda index: tried.append(index) or index <= 10, 100, 7, lambda within, beyond: False), tried
    (10, [7, 8, 11, 9, 10])
    """
    within, beyond, leap = -1, count, 1
    between = place is None  # whether the last index is known to be between two known ones
    place = count // 2 if place is None else place
    while beyond - within > 1 and not enough(within, beyond):
        place = min(max(place, within + 1), beyond - 1)
        if holds(place):
            within = place
            place = (within + beyond) // 2 if between or beyond < count else within + leap
        else:
            beyond = place
            place = (within + beyond) // 2 if between or within >= 0 else beyond - leap
        # Growing steps leave a wrong prediction behind in a few evaluations.
        leap *= _LEAP
    return within
