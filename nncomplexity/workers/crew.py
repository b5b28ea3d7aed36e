"""Tasks on an executor of `concurrent.futures`. All executors give the same results.

If a worker dies, no task is lost: all tasks that it was running are repeated, one at a time. A task is given up only if its worker dies
while it runs alone. If the executor itself is gone, such as the scheduler of a cluster, the error is one clear line.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import chdir, nullcontext, suppress
from typing import Any, Generic, TypeVar

from nncomplexity.errors import InputError
from nncomplexity.network import preserved_random_state
from nncomplexity.words import error_line
from nncomplexity.workers.cluster import executor_of
from nncomplexity.workers.local import LocalPool, ThisProcess
from nncomplexity.workers.packing import main_is_a_file, packed, unpacked
from nncomplexity.workers.surroundings import module_folders, one_thread

DIED = "the process that measured it died, perhaps because memory ran out; use fewer processes at a time, or a smaller loss"

_POLL = 0.2
"""Seconds between two checks of futures that can't be waited for."""

Task = TypeVar("Task")
Result = TypeVar("Result")


class Crew(Generic[Task, Result]):
    """Runs tasks on an executor, several at a time.

    Processes get the work and each task as bytes (`packed`), and threads get the objects. A worker takes over the folders from which this
    program imports modules, so a function that is sent by its name is found if the worker has access to these folders.

    Args:
        executor: runs the tasks; the caller shuts it down.
        work: `work(task)` -> result. An exception counts as the death of its worker, so it should raise nothing.
        lost: `lost(task, reason)` -> the result of a task that was given up.
        advice: what to do if the executor is gone, for the message.

    Raises:
        CannotPackError: the work can't be sent to other processes.
    """

    def __init__(
        self,
        executor: Executor,
        work: Callable[[Task], Result],
        lost: Callable[[Task, str], Result],
        advice: str = "call again with an executor that works",
    ) -> None:
        self._executor, self._work, self._lost, self._advice = executor, work, lost, advice
        self._most = 1 if isinstance(executor, ThisProcess) else executor.jobs if isinstance(executor, LocalPool) else None
        self._shared = in_this_process(executor)
        self._content = b"" if self._shared else sent(work, executor)
        self._running: dict[Future[Any], Task] = {}
        self._again: deque[tuple[Task, BaseException]] = deque()
        self._alone: BaseException | None = None
        """The reason why the task that runs alone is repeated."""
        self._results: list[tuple[Task, Result]] = []
        self._gone = ""

    @property
    def free(self) -> bool:
        """Whether another task may be submitted."""
        if self._again or self._alone or self._gone:
            return False
        return self._most is None or self.running < self._most

    @property
    def running(self) -> int:
        """The number of tasks that were submitted and not yet returned."""
        return len(self._running) + len(self._again) + len(self._results)

    def submit(self, task: Task) -> None:
        """Submit a task. Allowed only while `free`."""
        try:
            self._running[self._begun(task)] = task
        except InputError:
            raise
        except Exception as error:
            self._again.append((task, error))
            self._gone = f"executor: it takes no more work ({error_line(error)}); {self._advice}"

    def finished(self, timeout: float | None) -> list[tuple[Task, Result]]:
        """Finished tasks with their results. Waits at most `timeout` seconds for the first.

        Raises:
            InputError: the executor is gone. Results that were available before were returned.
        """
        if self._again and not self._running and not self._gone:
            self._try_alone()
        for future in _done(self._running, 0 if self._results or self._gone else timeout):
            self._take(future)
        if self._gone and not self._results:
            raise InputError(self._gone)
        results, self._results = self._results, []
        return results

    def close(self) -> None:
        """Cancel the tasks that are not finished."""
        for future in self._running:
            with suppress(Exception):  # some futures can't be cancelled
                future.cancel()
        self._running.clear()

    def _begun(self, task: Task) -> Future[Any]:
        if self._shared:
            return self._executor.submit(self._work, task)
        threads = isinstance(self._executor, LocalPool)  # its processes have their threads already
        future = self._executor.submit(run, self._content, sent(task, self._executor), module_folders(), threads)
        if not all(hasattr(future, name) for name in ("done", "result")):
            raise InputError(
                f"executor: expected submit() to return a future with done() and result(), got {type(future).__name__}; give a "
                "concurrent.futures.Executor"
            )
        return future

    def _take(self, future: Future[Any]) -> None:
        """The result of a future, or the consequence of its failure."""
        task, again = self._running.pop(future), self._alone
        self._alone = None
        try:
            result = future.result()
            self._results.append((task, result if self._shared else unpacked(result)))
        except CancelledError as error:  # not by this program: if a scheduler is gone, all its futures are cancelled
            self._again.append((task, error))
            self._gone = self._gone or (
                "executor: it withdrew the work that it was given, perhaps because its scheduler ended or the connection to it broke; "
                f"{self._advice}"
            )
        except Exception as error:
            if again is None:
                self._again.append((task, error))
            else:
                self._results.append((task, self._lost(task, _reason(error))))

    def _try_alone(self) -> None:
        """Repeat a task alone. If several tasks ran when a worker died, it isn't known which one killed it."""
        task, self._alone = self._again.popleft()
        try:
            self._running[self._begun(task)] = task
        except Exception as error:
            first, self._alone = self._alone, None
            if self._again:
                self._gone = f"executor: its workers died ({error_line(first or error)}) and it takes no more work; {self._advice}"
            else:  # the task ran alone, so it killed its worker
                self._results.append((task, self._lost(task, _reason(first or error))))


def run(content: bytes, task: bytes, folders: Iterable[str], threads_are_set: bool) -> bytes:
    """Run a task in a worker. The work, the task and the result are sent as bytes."""
    with preserved_random_state(), nullcontext() if threads_are_set else one_thread():
        sys.path.extend(folder for folder in folders if folder not in sys.path)
        arguments = sys.argv
        sys.argv = arguments[:1]
        try:
            with chdir("."):  # a module may change the folder, and parse its arguments, when it is imported
                work, given = unpacked(content), unpacked(task)
        finally:
            sys.argv = arguments
        return packed(work(given))


def in_this_process(executor: Executor) -> bool:
    """Whether the executor runs in this process, so that nothing is sent."""
    return isinstance(executor, ThisProcess | ThreadPoolExecutor)


def sent(given: object, executor: Executor | None) -> bytes:
    """An object as bytes for the workers of an executor; an executor of None is a `LocalPool`. Raises CannotPackError if it can't be sent."""
    # New processes of Python import the program's script, so they know its functions.
    knows_main = isinstance(executor, LocalPool | ProcessPoolExecutor | None) and main_is_a_file()
    return packed(given, main_is_known=knows_main)


def checked_executor(given: object) -> Executor | None:
    """The executor, or the executor of a Dask client. Raises InputError for any other object."""
    found: Executor | None = executor_of(given)
    if found is not None and not callable(getattr(found, "submit", None)):
        raise InputError(f"executor: expected a concurrent.futures.Executor, got {given!r}")
    return found


def _done(futures: Iterable[Future[Any]], timeout: float | None) -> list[Future[Any]]:
    """The finished futures. Waits at most `timeout` seconds for the first."""
    given = list(futures)
    if all(isinstance(future, Future) for future in given):
        finished = wait(given, timeout, FIRST_COMPLETED).done if given else set()
        return [future for future in given if future in finished]
    end = None if timeout is None else time.monotonic() + timeout
    while not (done := [future for future in given if future.done()]) and (end is None or time.monotonic() < end):
        time.sleep(_POLL)
    return done


def _reason(error: BaseException) -> str:
    # Dask's KilledWorker message says at length that several workers died while they ran one task.
    died = isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"
    return DIED if died else f"the executor gave no result: {error_line(error)}"
