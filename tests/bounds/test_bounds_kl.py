"""The divergence and its inverse, against mpmath in 700 digits, a brute-force grid and closed forms."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nncomplexity.bounds import binary_kl, hoeffding_bound, kl_inverse
from nncomplexity.errors import InputError

untimed = settings(deadline=None)
probabilities = st.floats(0, 1) | st.floats(0, 1e-6) | st.floats(1 - 1e-6, 1)
# A real cost, ln(1/δ)/n at least, stays above 1e-32.
costs = st.floats(1e-32, 60) | st.floats(1e-15, 1e-3) | st.just(0.0)


def exact_kl(q: float, p: float) -> mpmath.mpf:
    """kl(q‖p) in 700 digits, which a subnormal p needs. Nothing of the package is used."""
    with mpmath.workdps(700):
        total = mpmath.mpf(0)
        for a, b in ((mpmath.mpf(q), mpmath.mpf(p)), (1 - mpmath.mpf(q), 1 - mpmath.mpf(p))):
            if a > 0:
                total += mpmath.inf if b == 0 else a * mpmath.log(a / b)
        return total


@untimed
@given(q=probabilities, p=probabilities)
@example(q=0.0, p=0.0)
@example(q=1.0, p=0.0)
@example(q=1.0, p=5e-324)
@example(q=5e-324, p=0.5)
@example(q=0.3, p=0.3 + 1e-12)
def test_divergence_agrees_with_mpmath(q: float, p: float) -> None:
    exact = exact_kl(q, p)
    if exact == mpmath.inf:
        assert binary_kl(q, p) == math.inf
    else:
        # If q and p are nearly equal, the two terms, of size |p − q|, cancel.
        assert abs(binary_kl(q, p) - exact) <= 1e-14 * (exact + 2 * abs(p - q)) + 1e-322


@untimed
@given(risk=probabilities, nats=costs)
def test_inverse_is_an_upper_bound_in_floating_point(risk: float, nats: float) -> None:
    value = kl_inverse(risk, nats)
    assert risk <= value <= 1
    assert value == 1 or exact_kl(risk, value) >= nats


@untimed
@given(risk=st.floats(0.001, 0.999), nats=st.floats(1e-4, 5))
def test_inverse_is_no_looser_than_rounding_makes_it(risk: float, nats: float) -> None:
    value = kl_inverse(risk, nats)
    below = value - 1e-11 * (1 - risk)
    assert below < risk or exact_kl(risk, below) < nats


@pytest.mark.parametrize("risk", [0.0, 0.02, 0.3, 0.5, 0.93])
@pytest.mark.parametrize("nats", [0.001, 0.05, 0.7, 3.0])
def test_inverse_agrees_with_a_brute_force_grid(risk: float, nats: float) -> None:
    grid = np.linspace(0, 1, 400_001)[1:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        first = risk * np.log(risk / grid) if risk else np.zeros_like(grid)
        divergence = first + (1 - risk) * np.log((1 - risk) / (1 - grid))
    largest = grid[(grid >= risk) & (divergence <= nats)].max()
    assert largest - 1e-15 <= kl_inverse(risk, nats) <= largest + 1 / 400_000


@untimed
@given(nats=costs)
def test_no_error_has_a_closed_form(nats: float) -> None:
    assert kl_inverse(0.0, nats) == pytest.approx(-math.expm1(-nats), rel=1e-15, abs=1e-323)


@untimed
@given(nats=st.floats(1e-9, 60))
def test_the_smallest_risks_join_the_closed_form(nats: float) -> None:
    assert kl_inverse(5e-324, nats) == pytest.approx(kl_inverse(0.0, nats), rel=1e-12)


def test_the_ends_of_the_scale() -> None:
    assert kl_inverse(1.0, 0.01) == 1
    assert kl_inverse(0.0, math.inf) == 1
    assert kl_inverse(0.4, math.inf) == 1
    assert kl_inverse(0.4, 1e9) == 1
    assert kl_inverse(0.4, 0.0) == pytest.approx(0.4, rel=1e-15)


@untimed
@given(risk=probabilities, nats=costs, more=costs)
def test_inverse_never_falls_with_the_cost(risk: float, nats: float, more: float) -> None:
    assert kl_inverse(risk, nats) <= kl_inverse(risk, nats + more)


@untimed
@given(risk=probabilities, other=probabilities, nats=costs)
def test_inverse_never_falls_with_the_risk(risk: float, other: float, nats: float) -> None:
    low, high = sorted((risk, other))
    assert kl_inverse(low, nats) <= kl_inverse(high, nats) + 1e-12


@untimed
@given(risk=probabilities, nats=costs)
@example(risk=1e-310, nats=0.0)
@example(risk=0.5, nats=1e-18)
def test_pinsker(risk: float, nats: float) -> None:
    assert kl_inverse(risk, nats) <= hoeffding_bound(risk, nats)


@pytest.mark.parametrize(("q", "p", "name"), [(-0.1, 0.5, "q"), (0.5, 1.1, "p"), (math.nan, 0.5, "q")])
def test_divergence_refuses_what_is_no_probability(q: float, p: float, name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name}: expected a probability in \[0, 1\], got "):
        binary_kl(q, p)


@pytest.mark.parametrize("risk", [-1e-9, 1.5, math.nan])
def test_inverse_refuses_a_risk_off_the_scale(risk: float) -> None:
    with pytest.raises(InputError, match=r"^risk: expected a number in \[0, 1\]"):
        kl_inverse(risk, 1.0)


@pytest.mark.parametrize("nats", [-1.0, math.nan])
def test_inverse_refuses_a_negative_cost(nats: float) -> None:
    with pytest.raises(InputError, match=r"^nats: expected a number of nats per example >= 0, got "):
        kl_inverse(0.1, nats)
