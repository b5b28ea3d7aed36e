"""How a search tells its progress, and how it is ended early: by an exception that the progress callback raises."""

from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from nncomplexity.errors import InputError

Progress = Callable[[float, float, str], None]
"""progress(evaluations done, evaluations in all, what is going on); it may raise `StopSearch`."""


class StopSearch(Exception):  # noqa: N818 - it is no error
    """Raised by a progress callback to end a search. The best file so far is then measured once more, and is the answer."""


def unseen(done: float, total: float, what: str) -> None:
    """A progress callback that does nothing."""


class Deadline(Protocol):
    """A limit on time. After it, the progress callback raises `StopSearch`."""

    def share(self, count: int) -> None:
        """Give the search that begins now its part of the time left: 1/`count`. A method calls this before the search for each ε."""


class UntilStopped:
    """A context in which a `StopSearch` ends a search, or a part of one.

    If the loss fails, the context asks `progress` whether to stop, and if so also ends. The reason is Ctrl-C: it reaches processes that the
    loss has started before it reaches the search, and the loss then fails first.

    Args:
        progress: the callback of the search.

    Attributes:
        stopped: whether the search was ended in this way.
    """

    def __init__(self, progress: Progress) -> None:
        self.stopped, self._progress = False, progress

    def __enter__(self) -> "UntilStopped":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        ended = isinstance(error, StopSearch) or (isinstance(error, InputError) and self._to_end())
        self.stopped |= ended
        return ended

    def _to_end(self) -> bool:
        try:
            self._progress(0, 1, "stopping")
        except StopSearch:
            return True
        return False
