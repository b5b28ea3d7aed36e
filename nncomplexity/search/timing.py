"""A limit on the time of a search, which ends it as a progress callback may: by `StopSearch`, with the best file so far."""

import math
import time
from collections.abc import Callable

from nncomplexity.errors import InputError
from nncomplexity.search.contract import Progress, StopSearch
from nncomplexity.words import is_number, plain_number


class TimeLimit:
    """Seconds that all ε of a run share, counted from when this is made.

    Args:
        seconds: the limit, above 0.
        clock: gives the time in seconds.

    Attributes:
        reached: whether a search was ended by it.

    Raises InputError where `seconds` is no finite number above 0.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        plain = plain_number(seconds)
        if not is_number(plain) or not 0 < plain < math.inf:
            raise InputError(f"time_limit: expected a finite number of seconds above 0, got {plain!r}")
        self.seconds, self.reached = float(plain), False
        self._clock = clock
        self._end = self._part_end = clock() + self.seconds

    def share(self, count: int) -> None:
        """Give what comes next its even part of what is left for `count` searches, itself among them."""
        now = self._clock()
        self._part_end = now + max(0.0, self._end - now) / count

    def watching(self, progress: Progress) -> Progress:
        """The callback, which raises `StopSearch` once the time of the search in progress is over."""

        def watched(done: float, total: float, what: str) -> None:
            progress(done, total, what)
            if self._clock() >= self._part_end:
                self.reached = True
                raise StopSearch

        return watched
