"""Text for people: numbers survive being written and read, and names from any source do no harm."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nncomplexity import InputError
from nncomplexity.words import (
    checked_count,
    checked_number,
    duration_in_words,
    is_number,
    listed,
    path_of,
    printable,
    python_number,
    seconds_of,
)


@given(st.integers(1, 10**7))
def test_plain_seconds_are_read_as_they_are(seconds: int) -> None:
    assert seconds_of(str(seconds), "--time-limit") == seconds_of(f"{seconds}s", "--time-limit") == seconds


@given(st.integers(0, 99), st.integers(0, 59), st.integers(1, 59))
def test_a_clock_is_hours_minutes_and_seconds(hours: int, minutes: int, seconds: int) -> None:
    text = f"{hours}:{minutes:02}:{seconds:02}"
    assert seconds_of(text, "--time-limit") == 3600 * hours + 60 * minutes + seconds


@given(st.integers(1, 10**7))
def test_a_told_duration_is_right_to_its_smaller_unit(seconds: int) -> None:
    sizes = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    words = duration_in_words(seconds).split()
    total = sum(int(count) * sizes[unit] for count, unit in zip(words[::2], words[1::2], strict=True))
    assert 0 <= seconds - total < sizes[words[-1]] * (1 if words[-1] == "s" else 60)


@given(st.text())
def test_what_is_printed_holds_nothing_that_a_terminal_acts_on(text: str) -> None:
    assert all(one.isprintable() for one in printable(text))


@given(st.lists(st.sampled_from("abc"), min_size=1))
def test_a_list_counts_what_it_leaves_out(names: list[str]) -> None:
    text = listed(names, most=2)
    assert text.endswith(f"and {len(names) - 2} more") == (len(names) > 2)


@pytest.mark.parametrize("value", [np.int16(3), np.float32(3), 3, 3.0])
def test_numbers_of_numpy_are_pythons(value: object) -> None:
    assert python_number(value) == 3
    assert type(python_number(value)) in {int, float}


@pytest.mark.parametrize(("value", "holds"), [(1, True), (-math.inf, True), (math.nan, False), (True, False), ("1", False)])
def test_a_number_is_no_text_no_truth_value_and_not_nan(value: object, holds: bool) -> None:
    assert is_number(value) == holds


@pytest.mark.parametrize("given_path", ["", "a\0b", "a\ud800", None, 3, b"a"])
def test_what_can_be_no_file_name_is_refused(given_path: object) -> None:
    with pytest.raises(InputError, match="out: expected the name of a file"):
        path_of(given_path, "out")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (True, "True"),
        ("3", "'3'"),
        (None, "None"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-1, "-1"),
        (1j, "1j"),
        (torch.zeros(2), r"tensor\(\[0., 0.\]\)"),
    ],
)
def test_what_is_no_number_is_refused_in_one_form(given: object, shown: str) -> None:
    with pytest.raises(InputError, match=f"^share: expected a number of at least 0, got {shown}$"):
        checked_number("share", given, "a number of at least 0", lambda share: share >= 0)


@pytest.mark.parametrize("given", [3, 3.0, np.float32(3), np.int64(3), torch.tensor(3.0), np.array([3])])
def test_numbers_of_other_libraries_are_python_numbers(given: object) -> None:
    found = checked_number("share", given, "a number")
    assert (found, type(found)) == (3.0, float)


@pytest.mark.parametrize(("given", "shown"), [(True, "True"), (2.0, r"2\.0"), ("2", "'2'"), (0, "0"), (10, "10"), (None, "None")])
def test_what_is_no_count_is_refused_in_one_form(given: object, shown: str) -> None:
    with pytest.raises(InputError, match=f"^jobs: expected a whole number from 1 to 9, got {shown}$"):
        checked_count("jobs", given, 1, 9)
    assert checked_count("jobs", np.int64(9), 1, 9) == 9
