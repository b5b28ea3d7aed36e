"""Searches with several seeds, in this process or on an executor. A seed gives the same file in both cases."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from nncomplexity.errors import InputError
from nncomplexity.measure.report import Report
from nncomplexity.network import preserved_random_state
from nncomplexity.search import Progress, StopSearch
from nncomplexity.words import error_line
from nncomplexity.workers import CannotPackError, Crew, Surroundings, ThisProcess

SeedSearch = Callable[[int, Progress | None], Sequence[Report]]
"""search(seed, progress) -> a report for each ε."""

_SECONDS_BETWEEN_REPORTS = 0.5
"""Seconds between two calls of the progress callback. Each call may end the searches, so Ctrl-C takes at most this long to act."""


@dataclass(frozen=True)
class FailedSearch:
    """The exception of a search that failed."""

    error: Exception

    def __reduce__(self) -> tuple[Any, ...]:
        # Some exceptions can't be unpickled, for example if their constructor takes two arguments. Their text can.
        known = isinstance(self.error, InputError)
        text = str(self.error) if known else error_line(self.error)
        return FailedSearch, (InputError(text) if known else RuntimeError(text),)


@dataclass(frozen=True)
class SearchOfSeed:
    """A callable that searches with one seed, in any process."""

    search: SeedSearch
    surroundings: Surroundings
    progress: Callable[[int], Progress | None] | None = None
    """progress(seed) -> the progress callback of the seed's search; None in another process."""

    def __call__(self, seed: int) -> Sequence[Report] | FailedSearch:
        """The reports of the seed, or the failure of its search."""
        try:
            if self.progress is not None:
                return self.search(seed, self.progress(seed))
            with preserved_random_state(), self.surroundings.around():
                self.surroundings.set_start_method()
                return self.search(seed, None)
        except Exception as error:
            return FailedSearch(error)

    def lost(self, seed: int, reason: str) -> FailedSearch:
        """The failure of a search whose worker died."""
        return FailedSearch(InputError(f"seed {seed}: {reason}"))


def searches(search: SeedSearch, seeds: range, executor: Executor | None, progress: Progress | None) -> list[Sequence[Report]]:
    """The reports of the searches with these seeds, in the order of the seeds. After a search that was ended early, no other one starts.

    Args:
        search: the search of one seed; it is sent to other processes.
        seeds: the seeds.
        executor: it runs the searches; None runs them in this process.
        progress: it is called with the number of evaluations in this process, or with the number of finished searches on an executor.

    Returns:
        The reports of each search.

    Raises:
        InputError: a search failed, or the network or a function can't be sent to other processes.
    """
    here = executor is None
    # A progress callback can't be sent to other processes.
    of_seed = (lambda seed: _part(progress, seed - seeds[0], len(seeds))) if here else None
    work = SearchOfSeed(search, Surroundings.here(), of_seed)
    try:
        crew = Crew(executor or ThisProcess(), work, work.lost)
    except CannotPackError as error:
        raise InputError(f"executor: expected a network and functions that can be sent to other processes ({error})") from None
    found: dict[int, Sequence[Report]] = {}
    try:
        _search_all(crew, seeds, found, None if here else progress)
    except StopSearch:
        if not found:
            # The callback raises again, so this search ends at once, with the lossless file as the answer.
            return [search(seeds[0], progress)]
    finally:
        crew.close()
    return [found[seed] for seed in sorted(found)]


def _search_all(
    crew: Crew[int, Sequence[Report] | FailedSearch], seeds: range, found: dict[int, Sequence[Report]], progress: Progress | None
) -> None:
    waiting = deque(seeds)
    while waiting or crew.running:
        if progress:
            progress(len(found), len(seeds), f"{len(found)} of {len(seeds)} searches done")
        while waiting and crew.free:
            crew.submit(waiting.popleft())
        for seed, result in crew.finished(_SECONDS_BETWEEN_REPORTS):
            if isinstance(result, FailedSearch):
                raise result.error
            found[seed] = result
            if any(report.interrupted for report in result):
                waiting.clear()


def _part(progress: Progress | None, done: int, count: int) -> Progress | None:
    """The progress of one of several searches, as a part of the progress of all."""
    if progress is None or count == 1:
        return progress
    return lambda spent, total, what: progress(spent + done * total, count * total, f"search {done + 1} of {count}, {what}")
