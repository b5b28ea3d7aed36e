"""Algorithm 1 by several processes: the points that each has measured, in an Optuna storage that all of them can open."""

import hashlib
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from nncomplexity.errors import InputError
from nncomplexity.network import base_of
from nncomplexity.search.constrained import load_optuna, quiet
from nncomplexity.search.points import Point
from nncomplexity.search.problem import Problem
from nncomplexity.words import error_line

Measure = Callable[[float, float], Point]
"""measure(step, tau) -> the point, with its measured loss."""
START = "start"
"""The part of a search that belongs to no single ε."""

_OPENINGS = 8
"""Attempts to open a storage: if processes make its tables at the same moment, one of them fails."""
_PART, _CLAIM = "part", "claim"


class Alone:
    """The points of a search by one process. Every turn is its own, and there are no points of others.

    Args:
        measure: measures a point.
    """

    joined = 0

    def __init__(self, measure: Measure) -> None:
        self._measure = measure

    def of(self, part: str, points: int) -> Iterable[int]:  # noqa: ARG002 -- as `SharedPoints` has them
        """The turns of this process: all turns."""
        return range(points)

    def measure(self, part: str, points: int, step: float, tau: float) -> Point | None:  # noqa: ARG002
        """Measure a point."""
        return self._measure(step, tau)

    def news(self) -> list[tuple[str, Point]]:
        """The points that others have measured: none."""
        return []


class SharedPoints:
    """The points of one search that several processes measure and share.

    A search is identified by its weights, its loss at them, its bin sizes and its seed: processes that make the same call share it. Each point
    is a trial of one study, whose two values are the logarithm of the size in bytes and the distortion. A process claims a point before it
    measures it, so the budget is that of all processes together. If a process dies, its claimed point is not measured again.

    Args:
        storage: a URL as SQLAlchemy takes it, such as sqlite:///search.db, the name of a file for a journal, or a storage of Optuna's.
        problem: the network and its loss.
        steps: the smallest and the largest bin size.
        measure: measures a point.

    Attributes:
        joined: how many points were measured or claimed before this process's first.

    Raises:
        InputError: the storage can't be opened.
    """

    def __init__(self, storage: Any, problem: Problem, steps: tuple[float, float], measure: Measure) -> None:
        self._optuna = load_optuna()
        self._distributions = {
            "tau": self._optuna.distributions.FloatDistribution(0, 1),
            "step": self._optuna.distributions.FloatDistribution(*steps, log=True),
        }
        self._study = _opened(self._optuna, storage, _name(problem, steps))
        with self._at_work():
            self.joined = len(self._trials())
        self._measure, self._joins = measure, True
        self._known: set[int] = set()

    def of(self, part: str, points: int) -> Iterator[int]:
        """The turns of this process in a part of the search, until all processes together have made this number of points in it."""
        while (done := self._count(part)) < points:
            yield done

    def measure(self, part: str, points: int, step: float, tau: float) -> Point | None:
        """Claim a point, measure it, and store the result; None if another process was faster.

        Args:
            part: the part of the search.
            points: the number of points in the part.
            step: the bin size Δ.
            tau: the share τ.
        """
        number = self._claimed(part, points, {"tau": tau, "step": step})
        if number is None:
            return None
        try:
            point = self._measure(step, tau)
            sizes = [math.log(point.paper_bytes), point.distortion]
        except BaseException:  # At the end of a search, too: another process may take over the claimed point.
            with self._at_work():
                self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)
            raise
        with self._at_work():
            self._study.tell(number, sizes)
        return point

    def _claimed(self, part: str, points: int, params: dict[str, float]) -> int | None:
        """The number of a trial that this process has claimed; None if another process was faster."""
        with self._at_work():
            if part == START and any(one.params == params for one in self._of(part)):
                return None
            states, mine = self._optuna.trial.TrialState, uuid.uuid4().hex
            told = {_PART: part, _CLAIM: mine}
            self._study.add_trial(
                self._optuna.create_trial(state=states.RUNNING, params=params, distributions=self._distributions, user_attrs=told)
            )
            # A storage numbers its trials in order, so all processes agree which was first.
            number: int = next(one.number for one in self._trials() if one.user_attrs.get(_CLAIM) == mine)
            earlier = [one for one in self._of(part) if one.number < number]
            if any(one.params == params for one in earlier) if part == START else len(earlier) >= points:
                self._study.tell(number, state=states.FAIL)
                return None
        if self._joins:
            self._joins, self.joined = False, number
        self._known.add(number)
        return number

    def news(self) -> list[tuple[str, Point]]:
        """Points that other processes have measured since the last call, each with its part of the search."""
        found = []
        with self._at_work():
            for one in self._trials():
                if one.number in self._known or one.state != self._optuna.trial.TrialState.COMPLETE:
                    continue
                self._known.add(one.number)
                size, distortion = round(math.exp(one.values[0])), one.values[1]
                found.append(
                    (str(one.user_attrs[_PART]), Point(one.params["step"], one.params["tau"], distortion, partial(int, size)))
                )
        return found

    def _count(self, part: str) -> int:
        with self._at_work():
            return len(self._of(part))

    def _of(self, part: str) -> Sequence[Any]:
        """The trials of a part of the search that are done or running."""
        failed = self._optuna.trial.TrialState.FAIL
        return [one for one in self._trials() if one.user_attrs.get(_PART) == part and one.state != failed]

    def _trials(self) -> Sequence[Any]:
        found: Sequence[Any] = self._study.get_trials(deepcopy=False)
        return found

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        try:
            with quiet():
                yield
        except Exception as error:  # of a database, or of a file that is gone
            raise InputError(f"storage: {error_line(error)[:300]}; points that were measured are kept in it") from error


def _opened(optuna: Any, storage: Any, name: str) -> Any:
    for attempt in range(_OPENINGS):
        try:
            with quiet():
                return optuna.create_study(
                    storage=_storage(optuna, storage), study_name=name, directions=["minimize"] * 2, load_if_exists=True
                )
        except Exception as error:  # of a database, of a driver that isn't installed, or of a folder that doesn't exist
            if attempt == _OPENINGS - 1 or not _may_pass(error):
                raise InputError(
                    f"storage: expected a URL such as sqlite:///search.db, or the name of a file, got {storage!r} ({error_line(error)[:300]})"
                ) from error
        time.sleep(0.1 * 2**attempt)
    raise AssertionError


def _storage(optuna: Any, given: Any) -> Any:
    if not isinstance(given, str):
        return given
    if "://" not in given:
        return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(given))
    # SQLite reports at once that another process has locked the file.
    patient = {"connect_args": {"timeout": 60}} if given.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(given, engine_kwargs=patient)


def _may_pass(error: Exception) -> bool:
    """Whether the error comes from another process that makes the same tables or the same study at this moment."""
    return any(word in str(error) for word in ("already exists", "UNIQUE", "locked", "DuplicatedStudy", "alembic"))


def _name(problem: Problem, steps: tuple[float, float]) -> str:
    """The name of the study of a search."""
    divergence = problem.distortion.divergence
    # Another machine may compute the loss with another last digit.
    loss = f"{problem.distortion.original:.5g}" if divergence is None else divergence.kind
    about = f"{base_of(problem.weights).sha256} {sorted(problem.kept)} {loss} {steps}"
    return f"nncomplexity {hashlib.sha256(about.encode()).hexdigest()[:16]} seed {problem.seed}"
