"""The processes that measure the jobs of `track`: this one, new ones, or those of the caller's executor. All give the same rows."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

from nncomplexity.dynamics.functions import UserFunction, check_sendable
from nncomplexity.dynamics.job import Job, measure, start_of
from nncomplexity.dynamics.rows import failed_row
from nncomplexity.dynamics.settings import Row, TrackSettings
from nncomplexity.workers import Crew, LocalPool, Surroundings, ThisProcess, in_this_process

Workers = Crew[Job, Row]
_ADVICE = "rows that were measured are in the results file, if there is one, and the same call goes on from there"
JobProgress = Callable[[Job, float, float, str], None]


@dataclass(frozen=True)
class Measure:
    """A callable that measures a job, in any process.

    Attributes:
        settings: how each job is measured.
        surroundings: the state of the calling process.
        search: called with the progress of the running search, if it runs in this process.
    """

    settings: TrackSettings
    surroundings: Surroundings
    search: JobProgress | None = None

    def __call__(self, job: Job) -> Row:
        """The row of the job."""
        search = self.search
        progress = None if search is None else lambda done, total, what: search(job, done, total, what)
        return measure(job, self.settings, self.surroundings, progress)

    def lost(self, job: Job, reason: str) -> Row:
        """The row of a job whose worker died."""
        return failed_row(start_of(job, self.settings), reason)


@contextmanager
def workers_for(
    jobs: int,
    executor: Executor | None,
    functions: Sequence[UserFunction],
    settings: TrackSettings,
    surroundings: Surroundings,
    search: JobProgress,
) -> Iterator[Workers]:
    """The workers for jobs, within a block. With `jobs` = 1 and no executor, this process measures. At the end, running jobs are dropped.

    Yields:
        A crew for jobs.

    Raises:
        InputError: one of the functions can't be sent to other processes.
    """
    with contextlib.ExitStack() as stack:
        if executor is None:
            executor = stack.enter_context(ThisProcess() if jobs == 1 else LocalPool(jobs))
        if not in_this_process(executor):
            check_sendable(functions, executor)
        work = Measure(settings, surroundings, search if isinstance(executor, ThisProcess) else None)
        crew = Crew(executor, work, work.lost, _ADVICE)
        stack.callback(crew.close)
        yield crew
