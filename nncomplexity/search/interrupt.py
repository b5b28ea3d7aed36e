"""Ctrl-C as the end of a search: a first one lets it end with the best file so far, a second one ends the program at once."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from nncomplexity.search.contract import Progress, StopSearch, unseen

FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM)
"""What Ctrl-C sends, and what batch systems send some time before they kill."""


class Interrupt:
    """While it is entered, the first signal ends the search whose progress it watches, at the next evaluation.

    Before a search has reported any progress nothing would be lost, and a signal does what it does otherwise; so does a second one.
    Outside the main thread, which alone may handle signals, and where they are ignored, nothing changes.

    Args:
        signals: which; by default Ctrl-C's alone.

    Attributes:
        caught: whether there was one.

    >>> with Interrupt() as interrupt:
    ...     watched = interrupt.watching()
    ...     watched(1, 10, "descending")
    ...     signal.raise_signal(signal.SIGINT)
    ...     watched(2, 10, "descending")
    Traceback (most recent call last):
        ...
    nncomplexity.search.contract.StopSearch
    """

    def __init__(self, signals: Sequence[signal.Signals] = (signal.SIGINT,)) -> None:
        self.caught = False
        self._signals, self._begun, self._process = signals, False, os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in self._signals}
            self._before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
            for number in self._before:
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def watching(self, progress: Progress | None = None) -> Progress:
        """The callback, which raises `StopSearch` once a signal was caught."""
        told = progress or unseen

        def watched(done: float, total: float, what: str) -> None:
            self._begun = True
            if self.caught:
                raise StopSearch
            told(done, total, what)

        return watched

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        forked = os.getpid() != self._process  # as a loader's workers are, which aren't to be kept from ending
        if self.caught or not self._begun or forked:
            self.__exit__()
            signal.raise_signal(number)
            return
        self.caught = True
        try:
            print(
                "\nnncomplexity: interrupted; ending with the best file so far, once more ends at once", file=sys.stderr, flush=True
            )
        except (RuntimeError, OSError, AttributeError):  # the stream was being written to, or there is none
            return
