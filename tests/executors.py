"""Executors that make calls in this process, when a test asks for it."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class Later(Executor):
    """Makes its calls only when `work` is called, in any order."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, function: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: function(*given, **named)))
        return future

    def work(self, *places: int) -> None:
        """Make the calls at these places of the list, or all of them."""
        chosen = [self.waiting[place] for place in places or range(len(self.waiting))]
        self.waiting = [one for one in self.waiting if one not in chosen]
        for future, call in chosen:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:
                    future.set_exception(error)


class AtOnce(Executor):
    """Makes each call when it is submitted."""

    def submit(self, function: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        later = Later()
        future = later.submit(function, *given, **named)
        later.work()
        return future
