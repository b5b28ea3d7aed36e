"""A limit on the time of a search, which ends it as a progress callback may: by `StopSearch`, with the best file so far."""

import math
import time
from collections.abc import Callable

from nncomplexity.errors import InputError
from nncomplexity.search.contract import Progress, StopSearch
from nncomplexity.words import is_number, plain_number

_PLANNED = 0.9
"""The share of the time left that is planned for: the speed changes along a search."""


class TimeLimit:
    """Seconds that all ε of a run share, counted from when this is made.

    Args:
        seconds: the limit, above 0.
        clock: gives the time in seconds.

    Attributes:
        reached: whether a search was ended by it, or planned shorter for its sake.

    Raises InputError where `seconds` is no finite number above 0.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        plain = plain_number(seconds)
        if not is_number(plain) or not 0 < plain < math.inf:
            raise InputError(f"time_limit: expected a finite number of seconds above 0, got {plain!r}")
        self.seconds, self.reached = float(plain), False
        self._clock = clock
        self._part_begin = clock()
        self._end = self._part_end = self._part_begin + self.seconds

    def share(self, count: int) -> None:
        """Give what comes next its even part of what is left for `count` searches, itself among them."""
        self._part_begin = now = self._clock()
        self._part_end = now + max(0.0, self._end - now) / count

    def affords(self, budget: float, spent: float) -> float:
        """Of the budget of the search in progress, what there is time for at the speed of the evaluations spent so far."""
        now = self._clock()
        if not spent or now <= self._part_begin:
            return budget
        affordable = spent + _PLANNED * max(0.0, self._part_end - now) * spent / (now - self._part_begin)
        self.reached |= affordable < budget
        return min(budget, affordable)

    def watching(self, progress: Progress) -> Progress:
        """The callback, which raises `StopSearch` once the time of the search in progress is over."""

        def watched(done: float, total: float, what: str) -> None:
            progress(done, total, what)
            if self._clock() >= self._part_end:
                self.reached = True
                raise StopSearch

        return watched
