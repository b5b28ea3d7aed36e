"""Ctrl-C during a search. The first one ends the search with the best file so far, and the second one ends the program."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from nncomplexity.search.stopping import Progress, StopSearch, unseen

FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM)
"""The signals that end a search from outside: Ctrl-C, and the one that batch systems send some time before they kill."""


class Interrupt:
    """A context in which the first signal ends the search at its next evaluation.

    `watching` connects it to the search. Before the search has reported progress, a signal has its usual effect, because there is nothing
    to save. So has a second signal. Nothing changes outside the main thread, because only that thread may handle signals, and for
    signals that are ignored.

    Args:
        signals: the signals; by default only that of Ctrl-C.

    Attributes:
        caught: whether a signal came.

    >>> with Interrupt() as interrupt:
    ...     watched = interrupt.watching()
    ...     watched(1, 10, "descending")
    ...     signal.raise_signal(signal.SIGINT)
    ...     watched(2, 10, "descending")
    Traceback (most recent call last):
        ...
    nncomplexity.search.stopping.StopSearch
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
        """A progress callback that calls `progress`, and raises `StopSearch` once a signal came."""
        told = progress or unseen

        def watched(done: float, total: float, what: str) -> None:
            self._begun = True
            if self.caught:
                raise StopSearch
            told(done, total, what)

        return watched

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        forked = os.getpid() != self._process  # such as a data loader's workers, which must end
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
