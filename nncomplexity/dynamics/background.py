"""Measures networks in another process while this one trains. A short queue keeps the rows in the order of their steps."""

import contextlib
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass, field
from functools import partial

from nncomplexity.dynamics.live_row import CopiedNetwork, row_of_copy
from nncomplexity.dynamics.rows import failed_row
from nncomplexity.dynamics.settings import Row
from nncomplexity.errors import InputError
from nncomplexity.workers import (
    LocalPool,
    checked_executor,
    in_this_process,
    module_folders,
    packed,
    run,
    start_method_kept,
    unpacked,
)

_DIED = (
    "the process that measures died, because memory ran out, or because it imported a program that trains when it is imported; put the "
    "training below `if __name__ == '__main__':`, or give a smaller loss"
)
_ENDED = "it was not measured, because the executor lost it or was shut down"
_NICE = 10
"""The priority of the measuring process. Higher numbers are lower priorities: training has 0, and 19 is the lowest."""


@dataclass
class _Pending:
    """A network that waits for its row."""

    start: Row
    future: Future[bytes] = field(default_factory=Future)


class Background:
    """Measures one network after another in another process. An error there is never raised here: it gives a failed row.

    Args:
        executor: its processes measure. None starts a new process with the first network, which ends when this process ends.
        room: the largest number of networks that wait or are being measured.
        take: called with each row, in the order of `submit`, from a thread of the executor.
    """

    def __init__(self, executor: Executor | None, room: int, take: Callable[[Row], None]) -> None:
        self._given, self._room, self._take = executor, room, take
        self._own: LocalPool | None = None
        self._died, self._proved = False, False
        self._pending: deque[_Pending] = deque()
        self._changed, self._taking = threading.Condition(), threading.Lock()

    @property
    def full(self) -> bool:
        """Whether there is no room for another network."""
        return len(self._pending) >= self._room

    def submit(self, start: Row, content: bytes) -> None:
        """Add a network, packed by `packed_network`, to the queue. `start` has the first keys of its row. The queue must not be `full`."""
        one = _Pending(start)
        with self._changed:
            self._pending.append(one)
        try:
            with start_method_kept():  # the program can still choose its own
                one.future = self._begun(start, content)
        except Exception as error:  # an executor that has ended, or whose scheduler can't be reached
            one.future.set_exception(error)
        one.future.add_done_callback(self._finished)

    def close(self, wait: bool = True) -> None:
        """End the measuring process. Waiting networks are measured first. With `wait=False` they are dropped and have no rows."""
        given_up: deque[_Pending] = deque()
        with self._changed:
            if not wait:
                given_up, self._pending = self._pending, deque()
            self._changed.wait_for(lambda: not self._pending)
        for one in given_up:
            one.future.cancel()
        if self._own and wait:
            self._own.shutdown()
        elif self._own:
            self._own.end()
        self._own = None

    def _begun(self, start: Row, content: bytes) -> Future[bytes]:
        ours = self._given is None
        work = partial(row_behind_training if ours else row_of_copy, start)
        return (self._given or self._process()).submit(run, packed(work), content, module_folders(), ours)

    def _process(self) -> LocalPool:
        """The measuring process. It is started again if it died."""
        # If a process died before its first row, the next one would die too, and each start takes seconds.
        if self._died and not self._proved:
            raise BrokenExecutor
        self._died = False
        self._own = self._own or own_process()
        return self._own

    def _finished(self, _: Future[bytes]) -> None:
        """Pass on the finished rows at the head of the queue."""
        with self._taking:  # an executor may finish several at a time, in threads of its own
            while (one := self._head()) and one.future.done():
                self._take(self._row(one))
                with self._changed:
                    # `close` may have emptied the queue meanwhile.
                    if self._pending and self._pending[0] is one:
                        self._pending.popleft()
                    self._changed.notify_all()

    def _head(self) -> _Pending | None:
        with self._changed:
            return self._pending[0] if self._pending else None

    def _row(self, one: _Pending) -> Row:
        try:
            row: Row = unpacked(one.future.result())
        except BrokenExecutor:
            self._died = self._given is None
            return failed_row(one.start, _DIED)
        except CancelledError:
            return failed_row(one.start, _ENDED)
        except BaseException as error:
            return failed_row(one.start, error)
        self._proved = True
        return row


def own_process() -> LocalPool:
    """One new process with one thread. It ends when this process ends, also when this process is killed."""
    return LocalPool(1, threads=1)


def row_behind_training(start: Row, copied: CopiedNetwork) -> Row:
    """`row_of_copy` in the measuring process, with a low priority, so that the training gets the processors first."""
    with contextlib.suppress(AttributeError, OSError):  # Windows has no such call
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    return row_of_copy(start, copied)


def check_imported_by_no_process() -> None:
    """Raises InputError in the measuring process. It imports the user's program, which must not begin another training there."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise InputError(
            "background: expected a program that other processes can import, got one that trains when it is imported; "
            "put the training below `if __name__ == '__main__':`"
        )


def executor_elsewhere(given: object) -> Executor | None:
    """The executor that was given. Raises InputError if it is no executor, or if it works in threads of this process."""
    executor = checked_executor(given)
    if executor is not None and in_this_process(executor):
        raise InputError(
            f"executor: expected one that works in other processes, got a {type(executor).__name__}, whose work would share the random "
            "numbers of the training; use background=True, or a ProcessPoolExecutor"
        )
    return executor
