"""The inversion of the binomial tail, the test-set bound and the bound by disagreement: against exact sums, and by simulation."""

import functools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from nncomplexity.bounds import binomial_upper_limit, bound, disagreement_bound, holdout_bound
from nncomplexity.errors import InputError

DRAWS = 2_000


def tail(k: int, n: int, p: float) -> Fraction:
    """P[Bin(n, p) ≤ k], exactly, for the value of the float p."""
    share = Fraction(p)
    return sum((math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k + 1)), Fraction(0))


@pytest.mark.parametrize("n", [1, 2, 7, 60])
@pytest.mark.parametrize("delta", [0.5, 0.05, 1e-3, 1e-9])
def test_the_tail_at_the_limit_is_delta_and_never_above_it(n: int, delta: float) -> None:
    for k in range(n):
        limit = binomial_upper_limit(k, n, delta)
        found = tail(k, n, limit)
        assert found <= Fraction(delta)
        assert float(found) > delta * (1 - 1e-9) - n * 2.0**-48  # for p near 1, floats are no closer together than this
    assert binomial_upper_limit(n, n, delta) == 1.0


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 2000), st.floats(0, 1), st.floats(1e-9, 0.6))
def test_it_is_clopper_and_pearsons_rounded_upwards(n: int, share: float, delta: float) -> None:
    k = int(share * n)
    limit = binomial_upper_limit(k, n, delta)
    expected = 1.0 if k == n else float(beta.isf(delta, k + 1, n - k))
    assert limit == pytest.approx(expected, rel=1e-9)
    assert k / n <= limit <= 1 or delta > 0.5


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 500), st.floats(1e-6, 0.5))
def test_it_rises_with_the_events_and_falls_with_delta(n: int, delta: float) -> None:
    limits = [binomial_upper_limit(k, n, delta) for k in range(0, n + 1, max(1, n // 7))]
    assert limits == sorted(limits)
    assert binomial_upper_limit(n // 2, n, delta / 2) >= binomial_upper_limit(n // 2, n, delta)


@pytest.mark.parametrize("true_risk", [0.004, 0.08, 0.5])
def test_the_test_set_bound_fails_no_more_often_than_delta(true_risk: float) -> None:
    n, delta = 360, 0.05
    errors = np.random.default_rng(0).binomial(n, true_risk, DRAWS)
    table = np.array([holdout_bound(k, n, delta).value for k in range(n + 1)])
    failed = float((table[errors] < true_risk).mean())
    assert failed <= delta + 3 * math.sqrt(delta * (1 - delta) / DRAWS)


def test_half_the_delta_would_be_too_tight_for_ten_times_as_many_draws() -> None:
    # This shows that the test above can fail: a limit for 2 δ fails more often than δ.
    n, delta, true_risk = 360, 0.05, 0.08
    errors = np.random.default_rng(1).binomial(n, true_risk, 10 * DRAWS)
    table = np.array([holdout_bound(k, n, 2 * delta).value for k in range(n + 1)])
    assert float((table[errors] < true_risk).mean()) > delta


@pytest.mark.parametrize(("disagree", "decoded_errs", "bits"), [(0.03, 0.05, 8), (0.2, 0.1, 8), (0.0, 0.3, 10)])
def test_the_bound_to_disagree_fails_no_more_often_than_delta(disagree: float, decoded_errs: float, bits: int) -> None:
    # The worst case: on all inputs on which the two differ, the decoded network is right and the original is wrong. Each of the
    # 2^bits files has its own training errors, and the file with the smallest bound is taken.
    n, m, delta = 300, 200, 0.1
    rng = np.random.default_rng(2)
    true_risk = decoded_errs + disagree
    least = rng.binomial(n, decoded_errs, (DRAWS, 2**bits)).min(axis=1)
    differ = rng.binomial(m, disagree, DRAWS)

    @functools.cache
    def value(errors: int, differences: int) -> float:
        return disagreement_bound(bits, risk=errors / n, n=n, disagreements=differences, m=m, delta=delta).value

    failed = sum(value(int(errors), int(differences)) < true_risk for errors, differences in zip(least, differ, strict=True))
    assert failed / DRAWS <= delta + 3 * math.sqrt(delta * (1 - delta) / DRAWS)


def test_the_risk_of_a_test_set_is_its_share_of_errors() -> None:
    found = holdout_bound(9, 360)
    assert found.risk == found.to_dict()["risk"] == 0.025
    assert found.risk < found.value


@pytest.mark.parametrize("events", [0, 1, 2])
def test_no_limit_is_above_one_however_small_delta_is(events: int) -> None:
    assert binomial_upper_limit(events, events + 1, 1e-300) == 1.0


def test_the_bound_to_disagree_is_its_parts() -> None:
    found = disagreement_bound(880, risk=0.1, n=1437, disagreements=4, m=360, delta=0.05, chance=0.9)
    assert found.decoded.value == pytest.approx(bound(880, risk=0.1, n=1437, delta=0.005).value, rel=1e-12)
    assert found.limit == pytest.approx(binomial_upper_limit(4, 360, 0.045), rel=1e-12)
    assert found.value == pytest.approx(found.decoded.value + found.limit, rel=1e-12)
    assert found.value >= found.decoded.value + found.limit
    assert not found.vacuous
    assert found.to_dict()["disagreements"] == 4


def test_the_bound_to_disagree_is_never_above_one() -> None:
    found = disagreement_bound(8_000, risk=0.1, n=100, disagreements=300, m=360)
    assert (found.value, found.vacuous) == (1.0, True)


def test_the_least_vacuous_bound_to_disagree_is_a_thousandth_below_chance() -> None:
    found = disagreement_bound(500, risk=0.0, n=10_000, disagreements=0, m=10_000, chance=0.9)
    assert replace(found, value=0.899).vacuous
    assert not replace(found, value=math.nextafter(0.899, 0.0)).vacuous


@pytest.mark.parametrize(
    ("events", "n", "words"),
    [
        (-1, 10, "events: expected a whole number of events from 0 to n = 10, got -1"),
        (11, 10, "events: expected a whole number of events from 0 to n = 10, got 11"),
        (0.5, 10, "events: expected a whole number of events from 0 to n = 10, got 0.5"),
        (0, 0, "n: expected a whole number of examples"),
    ],
)
def test_counts_that_are_none_are_refused(events: int, n: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        binomial_upper_limit(events, n)


def test_a_number_of_unlabelled_inputs_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="m: expected a whole number of unlabelled inputs"):
        disagreement_bound(8, risk=0.1, n=100, disagreements=0, m=0)


def test_a_bound_is_printed_rounded_upwards() -> None:
    found = holdout_bound(3, 100)
    printed = float(found.sentence().split("at most ")[1].split(",")[0])
    assert found.value <= printed < found.value * 1.01
    assert "at most 1, by 100 errors" in holdout_bound(100, 100).sentence()


@pytest.mark.parametrize("disagreements", range(0, 60, 3))
def test_the_bound_on_the_original_is_never_rounded_below_the_sum_of_its_parts(disagreements: int) -> None:
    found = disagreement_bound(880, risk=0.146, n=1437, disagreements=disagreements, m=360)
    assert Fraction(found.value) >= Fraction(found.decoded.value) + Fraction(found.limit)
    assert found.value == pytest.approx(found.decoded.value + found.limit, rel=1e-15)


def test_one_error_is_not_called_errors() -> None:
    assert "by 1 error on 360 test examples" in holdout_bound(1, 360).sentence()
    assert "by 0 errors on 1 test example that" in holdout_bound(0, 1).sentence()
