"""Who measures the jobs of `track`: this process, new processes, or an executor of the caller. All give the same rows."""

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
    """The work for a job, in any process.

    Attributes:
        settings: how each is measured.
        surroundings: the state of the process that called.
        search: called with the progress of the running search, if that is in this process.
    """

    settings: TrackSettings
    surroundings: Surroundings
    search: JobProgress | None = None

    def __call__(self, job: Job) -> Row:
        """The row of the job."""
        search = self.search
        told = None if search is None else lambda done, total, what: search(job, done, total, what)
        return measure(job, self.settings, self.surroundings, told)

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
    """A context manager with who measures: this process if one job at a time is asked for. At the end, running jobs are given up.

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
