"""The processes that measure: this process, new processes, or an executor of the caller.

All give the same rows. If a process dies, no other row is lost: the rows that were being measured are measured again, one at a
time. Only a row whose process dies alone has failed.
"""

import multiprocessing
import pickle
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import torch

from nncomplexity.dynamics.functions import check_picklable
from nncomplexity.dynamics.job import Job, Surroundings, measure, pickled, run_pickled, start_of
from nncomplexity.dynamics.rows import failed_row
from nncomplexity.dynamics.settings import Row, TrackSettings
from nncomplexity_launch import begin_worker

_DIED = "the process that measured it died, perhaps because memory ran out; use fewer --jobs, or a smaller loss"

FinishedJobs = list[tuple[Job, Row]]


class Workers(Protocol):
    """Measures jobs, one or several at a time."""

    @property
    def free(self) -> bool:
        """Whether another job may be submitted."""
        ...

    @property
    def running(self) -> int:
        """Jobs that were submitted and are not finished."""
        ...

    def submit(self, job: Job) -> None:
        """Begin a job; only while `free`."""
        ...

    def finished(self, timeout: float | None) -> FinishedJobs:
        """Finished jobs with their rows. Waits at most `timeout` seconds for the first."""
        ...

    def close(self) -> None:
        """End. Running jobs are lost."""
        ...


class InProcess:
    """This process. `search(job, done, total, what)` is called with the progress of the running search."""

    def __init__(
        self, settings: TrackSettings, surroundings: Surroundings, search: Callable[[Job, float, float, str], None]
    ) -> None:
        self._settings, self._surroundings, self._search = settings, surroundings, search
        self._next: Job | None = None

    @property
    def free(self) -> bool:
        """Whether another job may be submitted."""
        return self._next is None

    @property
    def running(self) -> int:
        """How many jobs were submitted and not yet given back."""
        return int(self._next is not None)

    def submit(self, job: Job) -> None:
        """Begin a job."""
        self._next = job

    def finished(self, timeout: float | None) -> FinishedJobs:  # noqa: ARG002 -- this process waits for nobody
        """The jobs that are done, with their rows."""
        job, self._next = self._next, None
        if job is None:
            return []
        told = lambda done, total, what: self._search(job, done, total, what)  # noqa: E731
        return [(job, measure(job, self._settings, self._surroundings, told))]

    def close(self) -> None:
        """End. Running jobs are lost."""
        self._next = None


class Executed:
    """Any executor of `concurrent.futures`. The caller shuts it down."""

    def __init__(self, executor: Executor, settings: TrackSettings, surroundings: Surroundings) -> None:
        self._executor, self._settings, self._surroundings = executor, settings, surroundings
        self._jobs: dict[Future[Row], Job] = {}
        self._lost: FinishedJobs = []

    @property
    def free(self) -> bool:
        """Whether another job may be submitted."""
        return True

    @property
    def running(self) -> int:
        """How many jobs were submitted and not yet given back."""
        return len(self._jobs) + len(self._lost)

    def submit(self, job: Job) -> None:
        """Begin a job."""
        try:
            if isinstance(self._executor, ThreadPoolExecutor):
                future = self._executor.submit(measure, job, self._settings, self._surroundings)
            else:
                future = self._executor.submit(run_pickled, pickled(job, self._settings, self._surroundings))
        except (BrokenExecutor, RuntimeError) as error:  # a dead executor, or one that was shut down, accepts no more jobs
            self._lost.append((job, self._failed(job, error)))
        else:
            self._jobs[future] = job

    def finished(self, timeout: float | None) -> FinishedJobs:
        """The jobs that are done, with their rows."""
        lost, self._lost = self._lost, []
        done = wait(self._jobs, 0 if lost else timeout, FIRST_COMPLETED).done
        return [*lost, *((job, self._row(job, future)) for future in done for job in [self._jobs.pop(future)])]

    def close(self) -> None:
        """End. Running jobs are lost."""
        for future in self._jobs:
            future.cancel()

    def _row(self, job: Job, future: Future[Row]) -> Row:
        try:
            return future.result()
        except Exception as error:
            return self._failed(job, error)

    def _failed(self, job: Job, error: Exception) -> Row:
        return failed_row(start_of(job, self._settings), _DIED if isinstance(error, BrokenExecutor) else error)


class Pool:
    """New processes, a fixed number at a time, each with its share of the threads.

    They end when this process ends, in any way: each of them waits for the end of a pipe that only this process has open.
    """

    def __init__(self, jobs: int, settings: TrackSettings, surroundings: Surroundings) -> None:
        self._count, self._settings, self._surroundings = jobs, settings, surroundings
        self._jobs: dict[Future[Row], Job] = {}
        self._suspects: deque[Job] = deque()
        self._alone = False
        self._start()

    @property
    def free(self) -> bool:
        """Whether another job may be submitted."""
        return not self._suspects and not self._alone and len(self._jobs) < self._count

    @property
    def running(self) -> int:
        """How many jobs were submitted and not yet given back."""
        return len(self._jobs) + len(self._suspects)

    def submit(self, job: Job) -> None:
        """Begin a job."""
        try:
            with start_method_kept():
                self._jobs[self._executor.submit(run_pickled, pickled(job, self._settings, self._surroundings))] = job
        except BrokenExecutor:  # a process died while nothing waited for a result
            self._suspects.append(job)

    def finished(self, timeout: float | None) -> FinishedJobs:
        """The jobs that are done, with their rows."""
        # Which of them killed its process isn't known: each is measured by itself, so that only the guilty one fails.
        if self._suspects and not self._jobs:
            self._restart()
            self._alone = True
            self.submit(self._suspects.popleft())
        done = wait(self._jobs, timeout, FIRST_COMPLETED).done
        if any(isinstance(future.exception(), BrokenExecutor) for future in done):
            done = wait(self._jobs).done  # all of them are lost, or are just finished
        rows: FinishedJobs = []
        for future in done:
            job, error = self._jobs.pop(future), future.exception()
            if not isinstance(error, BrokenExecutor):
                rows.append((job, future.result()))
            elif self._alone:
                rows.append((job, failed_row(start_of(job, self._settings), _DIED)))
                self._restart()
            else:
                self._suspects.append(job)
        self._alone = self._alone and bool(self._jobs)
        return rows

    def close(self) -> None:
        """End. Running jobs are lost."""
        if self._jobs:  # they are running, and shutdown would wait for them
            self._leash.close()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._leash.close()
        self._end.close()

    def _restart(self) -> None:
        self.close()
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks of threads, and CUDA can't be forked
        self._end, self._leash = context.Pipe(duplex=False)
        # Processes that each used all cores would wait for one another.
        threads = max(1, torch.get_num_threads() // self._count)
        self._executor = ProcessPoolExecutor(
            self._count, context, begin_worker, (self._end, threads, pickle.dumps(warning_filters()))
        )


@contextmanager
def start_method_kept() -> Iterator[None]:
    """Restore the start method afterwards. Otherwise the program could no longer choose its own."""
    before = multiprocessing.get_start_method(allow_none=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


Filter = tuple[Any, str, type[Warning], str, int]


def warning_filters() -> list[Filter]:
    """The filters of warnings that can be sent to another process, in reverse order."""
    found = []
    for action, message, category, module, line in reversed(warnings.filters):
        one = (action, _pattern(message), category, _pattern(module), line)
        with suppress(Exception):  # the category was defined within a function
            found.append(pickle.loads(pickle.dumps(one)))
    return found


def _pattern(given: str | re.Pattern[str] | None) -> str:
    return given.pattern if isinstance(given, re.Pattern) else given or ""


def begin(threads: int, filters: bytes) -> None:
    """What a process of ours does once it is bound to end with this one (`nncomplexity_launch.begin_worker`).

    The filters come pickled, as their categories are of packages that would be imported before that.
    """
    # The start method is "spawn" here. With it, a loss that starts processes, as a DataLoader does, would start an interpreter for
    multiprocessing.set_start_method(None, force=True)
    torch.set_num_threads(threads)
    warnings.resetwarnings()
    for action, message, category, module, line in pickle.loads(filters):
        warnings.filterwarnings(action, message, category, module, line)


def workers_for(
    jobs: int,
    executor: Executor | None,
    settings: TrackSettings,
    surroundings: Surroundings,
    search: Callable[[Job, float, float, str], None],
) -> Workers:
    """This process if one job at a time is asked for. Raises InputError if a function can't be sent to other processes."""
    if executor is None and jobs == 1:
        return InProcess(settings, surroundings, search)
    if not isinstance(executor, ThreadPoolExecutor):
        check_picklable(settings.functions)
    return Pool(jobs, settings, surroundings) if executor is None else Executed(executor, settings, surroundings)
