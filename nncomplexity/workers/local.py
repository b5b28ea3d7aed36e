"""This process, and new processes of this machine, as executors of `concurrent.futures`."""

import multiprocessing
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

import torch

from nncomplexity.words import checked_count
from nncomplexity.workers.packing import main_is_a_file
from nncomplexity_launch import begin_worker

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ThisProcess(Executor):
    """This process. A call runs when it is submitted."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """The result of the call, which runs now. Ctrl-C raises KeyboardInterrupt."""
        done: Future[_T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


class LocalPool(Executor):
    """New processes of this machine, a fixed number, each with its share of the threads.

    If one of them dies, calls that were running or waiting fail with a BrokenExecutor, as for every executor; but the next call starts new
    processes. The processes end when this process ends in any way: each of them waits for the end of a pipe that only this process has open.

    Args:
        jobs: the number of processes.
        threads: the number of threads with which each of them computes; None divides the threads of this process evenly.

    Raises:
        InputError: `jobs` is not a whole number of at least 1.
    """

    def __init__(self, jobs: int, threads: int | None = None) -> None:
        self.jobs = checked_count("jobs", jobs, 1)
        # Processes that each use all cores would slow each other down.
        self._threads = threads or max(1, torch.get_num_threads() // self.jobs)
        self._running: set[Future[Any]] = set()
        self._start()

    def __exit__(self, *_: object) -> None:
        self.end()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Run the call in one of the processes."""
        with start_method_kept(), _main_hidden():
            try:
                future = self._executor.submit(fn, *args, **kwargs)
            except BrokenExecutor:
                self.end()
                self._start()
                future = self._executor.submit(fn, *args, **kwargs)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes when their calls are done. Waiting calls are done too, unless they are cancelled."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self._leash.close()
            self._end.close()

    def end(self) -> None:
        """End the processes now, as at the end of a `with` statement. Running calls are lost."""
        if self._running:  # shutdown would wait for the calls
            self._leash.close()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._leash.close()
        self._end.close()

    def _start(self) -> None:
        # A fork would copy locks of threads, and a process with CUDA can't be forked.
        context = multiprocessing.get_context("spawn")
        self._end, self._leash = context.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(
            self.jobs, context, begin_worker, (self._end, self._threads, pickle.dumps(warning_filters()))
        )


@contextmanager
def start_method_kept() -> Iterator[None]:
    """Restore the start method afterwards. Otherwise the program could no longer choose its own."""
    before = multiprocessing.get_start_method(allow_none=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Hide the path of a program that has no file, such as "<stdin>", so that new processes don't try to open it."""
    held = vars(sys.modules["__main__"])
    file = None if main_is_a_file() else held.pop("__file__", None)
    try:
        yield
    finally:
        if file is not None:
            held["__file__"] = file


Filter = tuple[Any, str, type[Warning], str, int]


def warning_filters() -> list[Filter]:
    """The filters of warnings that can be sent to another process, in reverse order."""
    found = []
    for action, message, category, module, line in reversed(warnings.filters):
        one = (action, _pattern(message), category, _pattern(module), line)
        with suppress(Exception):  # the category was defined inside a function
            found.append(pickle.loads(pickle.dumps(one)))
    return found


def _pattern(given: str | re.Pattern[str] | None) -> str:
    return given.pattern if isinstance(given, re.Pattern) else given or ""


def begin(threads: int, filters: bytes) -> None:
    """The beginning of a worker process, after it is set to end with this process (`nncomplexity_launch.begin_worker`).

    The filters are pickled, because their categories are from packages that would be imported too early.
    """
    # The start method is "spawn" here. With it, a loss that starts processes, as a DataLoader does, would start an interpreter for
    # each of them, and import the user's module again.
    multiprocessing.set_start_method(None, force=True)
    torch.set_num_threads(threads)
    warnings.resetwarnings()
    for action, message, category, module, line in pickle.loads(filters):
        warnings.filterwarnings(action, message, category, module, line)
