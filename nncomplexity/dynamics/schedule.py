"""At which training steps a network is measured: every n steps, or at steps that are equally far apart on a logarithmic axis."""

import math
from dataclasses import dataclass

from nncomplexity.words import checked_count


@dataclass(frozen=True)
class LogSchedule:
    """Steps 0 and 1, and then so many in each power of ten, as pictures of training over a logarithmic axis need them.

    Attributes:
        per_decade: how many steps from one power of ten to the next. Where they are closer than 1, every step is measured.

    Raises:
        InputError: `per_decade` is no whole number of at least 1.

    >>> [step for step in range(1001) if LogSchedule(3).passed(step) > LogSchedule(3).passed(step - 1)]
    [0, 1, 3, 5, 10, 22, 47, 100, 216, 465, 1000]
    """

    per_decade: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "per_decade", checked_count("per_decade", self.per_decade, 1))

    def passed(self, step: float) -> int:
        """How many steps of the schedule are at most this step."""
        if step < 1:
            return int(step >= 0)
        passed = math.floor(self.per_decade * math.log10(step))
        while 10 ** ((passed + 1) / self.per_decade) <= step:  # a logarithm may be rounded down past a whole number
            passed += 1
        return passed + 2


@dataclass(frozen=True)
class EverySteps:
    """Every n steps: 0, n, 2n, ...

    >>> [step for step in range(10) if EverySteps(4).passed(step) > EverySteps(4).passed(step - 1)]
    [0, 4, 8]
    """

    steps: int

    def passed(self, step: float) -> int:
        """How many steps of the schedule are at most this step."""
        return math.floor(step / self.steps) + 1


Every = int | LogSchedule | None
"""As users give it: a number of steps, a schedule, or None for each call."""


class Schedule:
    """Says for each step whether it is due. A loop may leave out steps: the next one after a step of the schedule is then due.

    Args:
        every: which steps; None is every call.

    Raises:
        InputError: it is something else.
    """

    def __init__(self, every: Every) -> None:
        self._steps: EverySteps | LogSchedule | None
        if every is None or isinstance(every, LogSchedule):
            self._steps = every
        else:
            expected = "a number of steps of at least 1, a LogSchedule, or None for each call"
            self._steps = EverySteps(checked_count("every", every, 1, expected=expected))
        self._last: float | None = None

    def due(self, step: float) -> bool:
        """Whether the network is measured at this step. A step is due once, however often the loop comes to it."""
        if self._steps is None:
            return True
        # A loop that goes back, or has just begun, may be anywhere between two steps of the schedule.
        before = step - 1 if self._last is None or step < self._last else self._last
        self._last = step
        return self._steps.passed(step) > self._steps.passed(before)
