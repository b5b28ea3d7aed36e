"""Progress as one line of text, for terminals and notebooks."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from nncomplexity.words.durations import duration_in_words

BAR = 24
"""The number of characters of the bar."""
EACH_SECONDS = 0.2
"""The seconds between two updates of the line."""


class TimeLeft:
    """An estimate of the remaining time of a search, from its evaluations so far.

    Args:
        time_limit: seconds from now after which it ends in any case; None if there is no limit.
        clock: gives the time in seconds.
    """

    def __init__(self, time_limit: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._first = clock()
        self._end = None if time_limit is None else self._began + time_limit
        self._done = 0.0

    def in_words(self, done: float, total: float) -> str:
        """A text such as "3 min left". It is empty if there is no estimate yet."""
        now = self._clock()
        if done < self._done:  # the next ε begins
            self._first = now
        self._done = done
        # The search ends when its evaluations or its time are used up, whichever comes first.
        times = [(now - self._first) * (total - done) / done] if done > 0 and now > self._first else []
        times += [] if self._end is None else [max(0.0, self._end - now)]
        return f"{duration_in_words(min(times))} left" if times else ""


def show_progress(stream: TextIO | None = None) -> Callable[[float, float, str], None]:
    """A callback for `estimate(…, progress=show_progress())`: one line that is updated during the search.

    Args:
        stream: where to write. None is standard error, or in a notebook the output of the cell, because a notebook shows standard error
            like an error.

    Returns:
        The callback.

    >>> shown = show_progress(sys.stdout)
    >>> shown(3, 12, "moves")  # doctest: +SKIP
    ██████░░░░░░░░░░░░░░░░░░   3 of 12 evaluations, moves, 0 s
    """
    began, last, width, left = time.monotonic(), -1.0, 0, TimeLeft()

    def shown(done: float, total: float, what: str) -> None:
        nonlocal last, width
        now = time.monotonic()
        # A notebook keeps every line that is written to it.
        if now - last < EACH_SECONDS and done < total:
            return
        last = now
        full = round(BAR * min(done / total, 1.0)) if total else 0
        line = f"{'█' * full}{'░' * (BAR - full)} {done:3.0f} of {total:.0f} evaluations, {what}, {now - began:.0f} s"
        line += f", {left.in_words(done, total)}" if 0 < done < total else ""
        target = _stream() if stream is None else stream
        target.write(f"\r{line:<{width}}" + ("\n" if done >= total else ""))
        target.flush()
        width = 0 if done >= total else len(line)

    return shown


def _stream() -> TextIO:
    """The stream for progress. The kernel of a notebook replaces the standard streams."""
    return sys.stdout if type(sys.stderr).__module__.startswith("ipykernel") else sys.stderr
