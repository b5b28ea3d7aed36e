"""The contract of searches: what a method takes, what it must return, and in which words it says where a file comes from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nncomplexity.errors import InputError
from nncomplexity.search.problem import Candidate, Problem
from nncomplexity.words import is_number, python_number

DESCENT, ALLOCATION, COMPENSATED, UNIFORM, ROUNDING, LOSSLESS = (
    "descent",
    "bit allocation",
    "bit allocation with compensated rounding",
    "uniform quantization",
    "rounding without descent",
    "lossless",
)
"""The origins of files, as reports name them.

In this order: a descent by gradients; a step size and a form for each tensor by the Lagrangian; the same, rounded for the inputs of each
layer; one step size for all weights; the rounded start of a descent; the unchanged network. A method may have other words.
"""


@dataclass(frozen=True)
class Found:
    """The answer of a search for one ε, and its effort. `best` is None if no candidate was within ε."""

    best: Candidate | None
    evaluations: float
    seconds: float
    cpu_seconds: float
    stopped: bool = False
    """Whether a `StopSearch` ended the search early."""
    descent_lost: bool = False
    """Whether there were descents, and none of them came within ε or was as small as uniform quantization."""
    last_gain: float | None = None
    """The share of the bits that the last doubling of the effort saved; None if the search does not double its effort."""
    converged: bool | None = None
    """Whether `last_gain` was too small to go on; None if the search does not double its effort."""


def checked_budget(budget: object, least: int) -> float:
    """A method's budget as a Python number. Raises InputError if it is not a finite number of at least `least` evaluations."""
    number = python_number(budget)
    if not is_number(number) or not least <= number < math.inf:
        raise InputError(f"budget: expected a number of loss evaluations, at least {least}, got {number!r}")
    return number


class Method(Protocol):
    """A search. Its settings are its fields, which are checked when it is made."""

    @property
    def name(self) -> str:
        """The name in reports and on the command line."""
        ...

    @property
    def codec(self) -> str:
        """The name of the codec of its files, unless the caller names another one."""
        ...

    @property
    def budget(self) -> float | None:
        """Loss evaluations for each ε; None if the search ends when it has converged."""
        ...

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        """Search for the smallest file within each ε.

        The result is the same each time for one seed. If `problem.progress` raises `StopSearch`, the search ends early, with the best
        candidates that it has by then.

        Args:
            problem: the network, its loss and the codec.
            eps: the bounds on the distortion, in the loss's unit, each above 0.

        Returns:
            The smallest candidate found for each ε, in the order of `eps`.
        """
        ...
