"""The training steps at which a network is measured: every n steps, or steps that are evenly spaced on a logarithmic axis."""

import math
from dataclasses import dataclass

from nncomplexity.words import checked_count


@dataclass(frozen=True)
class LogSchedule:
    """Steps 0 and 1, and then a fixed number of steps in each power of ten, evenly spaced on a logarithmic axis.

    Attributes:
        per_decade: the number of steps from one power of ten to the next. Where they are closer than 1, every step is measured.

    Raises:
        InputError: `per_decade` is no whole number of at least 1.

    >>> [step for step in range(1001) if LogSchedule(3).passed(step) > LogSchedule(3).passed(step - 1)]
    [0, 1, 3, 5, 10, 22, 47, 100, 216, 465, 1000]
    """

    per_decade: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "per_decade", checked_count("per_decade", self.per_decade, 1))

    def passed(self, step: float) -> int:
        """The number of steps of the schedule up to this step."""
        if step < 1:
            return int(step >= 0)
        passed = math.floor(self.per_decade * math.log10(step))
        while 10 ** ((passed + 1) / self.per_decade) <= step:  # rounding may put a logarithm slightly below a whole number
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
        """The number of steps of the schedule up to this step."""
        return math.floor(step / self.steps) + 1


Every = int | LogSchedule | None
"""A schedule as users give it: a number of steps, a `LogSchedule`, or None for each call."""


class Schedule:
    """Says for each step whether it is due. A loop may leave out a step of the schedule. The next step after it is then due.

    Args:
        every: the schedule; None is every call.

    Raises:
        InputError: the argument is no schedule.
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
        """Whether the network is measured at this step. A step is due only once, even if the loop repeats it."""
        if self._steps is None:
            return True
        # A loop that goes back, or that has just begun, gives no previous step. The step before the present one takes its place.
        before = step - 1 if self._last is None or step < self._last else self._last
        self._last = step
        return self._steps.passed(step) > self._steps.passed(before)
