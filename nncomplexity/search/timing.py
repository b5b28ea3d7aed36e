"""A limit on the time of a search. When the time is over, the progress callback raises `StopSearch`, which keeps the best file so far."""

import time
from collections.abc import Callable

from nncomplexity.search.stopping import Progress, StopSearch
from nncomplexity.words import checked_number


class TimeLimit:
    """The seconds for all ε of a run. The time begins when this object is made.

    Args:
        seconds: the limit, above 0.
        clock: gives the time in seconds.

    Attributes:
        reached: whether the limit ended a search.

    Raises:
        InputError: `seconds` is not a finite number above 0.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = checked_number("time_limit", seconds, "a finite number of seconds above 0", lambda number: number > 0)
        self.reached = False
        self._clock = clock
        self._end = self._part_end = clock() + self.seconds

    def share(self, count: int) -> None:
        """Give the search that begins now 1/`count` of the time left. `count` is the number of searches left, with this one."""
        now = self._clock()
        self._part_end = now + max(0.0, self._end - now) / count

    def watching(self, progress: Progress) -> Progress:
        """A progress callback that calls `progress`, and raises `StopSearch` when the present search's time is over."""

        def watched(done: float, total: float, what: str) -> None:
            progress(done, total, what)
            if self._clock() >= self._part_end:
                self.reached = True
                raise StopSearch

        return watched
