"""Which steps of a training are measured, for any steps at which the loop calls."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncomplexity.dynamics import Every, LogSchedule
from nncomplexity.dynamics.schedule import Schedule
from nncomplexity.errors import InputError


def due(every: Every, steps: object) -> list[float]:
    schedule = Schedule(every)
    return [step for step in steps if schedule.due(step)]  # type: ignore[attr-defined]


def test_every_n_steps() -> None:
    assert due(25, range(101)) == [0, 25, 50, 75, 100]
    assert due(None, [3, 3, 1]) == [3, 3, 1]


@given(st.integers(1, 50), st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_a_loop_that_leaves_out_steps_is_measured_at_the_next(every: int, strides: list[int]) -> None:
    steps = [sum(strides[:index]) for index in range(len(strides) + 1)]
    expected = [
        step for before, step in zip([-1, *steps], steps, strict=False) if any(n % every == 0 for n in range(before + 1, step + 1))
    ]
    assert due(every, steps) == expected


@given(st.integers(1, 20))
def test_a_log_schedule_has_its_steps_in_each_power_of_ten(per_decade: int) -> None:
    wanted = {0, *(math.ceil(round(10 ** (index / per_decade), 9)) for index in range(4 * per_decade + 1))}
    assert due(LogSchedule(per_decade), range(10_001)) == sorted(wanted)


def test_a_step_is_due_once_and_a_loop_may_begin_anywhere() -> None:
    assert due(10, [0, 0, 1, 10, 10, 11]) == [0, 10]  # several batches whose gradients are added
    assert due(10, [14, 15, 20, 21]) == [20]
    assert due(10, [20, 5, 10]) == [20, 10]


def test_a_schedule_that_is_none_is_said() -> None:
    with pytest.raises(InputError, match="per_decade: expected a whole number"):
        LogSchedule(0)
    with pytest.raises(InputError, match="every: expected a number of steps of at least 1"):
        Schedule(True)
