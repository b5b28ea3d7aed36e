"""Bisection over indices, against looking at all of them."""

from itertools import product

import pytest

from nncomplexity.search.bisection import first_that, last_that


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_the_first_index_is_found_wherever_it_is(count: int) -> None:
    assert [first_that(lambda index, at=at: index >= at, count) for at in range(count)] == list(range(count))
    assert first_that(lambda index: False, count) == count - 1


@pytest.mark.parametrize("count", [0, 1, 2, 7, 30])
def test_the_last_index_is_found_from_every_place(count: int) -> None:
    for at, place in product(range(-1, count), [None, *range(-1, count + 1)]):
        tried: list[int] = []
        found = last_that(lambda index, at=at, tried=tried: tried.append(index) or index <= at, count, place, lambda *_: False)
        assert found == at
        assert len(tried) == len(set(tried))  # none is tried twice
        assert set(tried) <= set(range(count))


def test_near_the_expected_place_few_are_tried() -> None:
    tried: list[int] = []
    last_that(lambda index: tried.append(index) or index <= 500, 100_000, 498, lambda *_: False)
    assert len(tried) <= 5


def test_a_search_that_has_enough_gives_the_last_that_is_known() -> None:
    told: list[tuple[int, int]] = []
    found = last_that(lambda index: index <= 10, 100, None, lambda *between: told.append(between) or between[0] >= 0)
    assert told == [(-1, 100), (-1, 50), (-1, 24), (-1, 11), (5, 11)]
    assert found == 5
