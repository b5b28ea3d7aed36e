"""The bound on smoothed cross-entropy, against a direct computation and the general bound."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomplexity.bounds import DEFAULT_ALPHAS, KINDS, SmoothedBound, bound, smoothed_bound, smoothed_loss
from nncomplexity.bounds.prefix import prefix_free_bits
from nncomplexity.errors import InputError

few = settings(max_examples=40, deadline=None)
right_probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=50)


def sample(n: int = 4000, good: float = 0.95) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.where(rng.random(n) < good, 1 - 0.2 * rng.random(n), 0.3 * rng.random(n))


@few
@given(p=right_probabilities, alpha=st.floats(1e-6, 0.999), classes=st.integers(2, 1000))
def test_loss_is_that_of_the_mixture(p: list[float], alpha: float, classes: int) -> None:
    expected = -sum(math.log((1 - alpha) * x + alpha / classes) for x in p) / len(p)
    assert smoothed_loss(p, alpha=alpha, n_classes=classes) == pytest.approx(expected, rel=1e-12, abs=1e-14)


@few
@given(p=right_probabilities, alpha=st.floats(1e-6, 0.999), classes=st.integers(2, 1000))
def test_loss_lies_in_an_interval_of_the_stated_width(p: list[float], alpha: float, classes: int) -> None:
    low, high = smoothed_bound(10, probabilities=p, n_classes=classes, alpha=alpha).range
    assert low <= smoothed_loss(p, alpha=alpha, n_classes=classes) + 1e-12
    assert smoothed_loss(p, alpha=alpha, n_classes=classes) <= high + 1e-12
    assert low == pytest.approx(smoothed_loss([1.0], alpha=alpha, n_classes=classes), abs=1e-12)
    assert high == pytest.approx(smoothed_loss([0.0], alpha=alpha, n_classes=classes), abs=1e-12)
    assert high - low == pytest.approx(math.log(1 + (1 - alpha) * classes / alpha), rel=1e-9)


def test_hoeffding_by_hand() -> None:
    p, bits, alpha, classes, delta = sample(), 300, 0.1, 10, 0.05
    risk = float(np.mean(-np.log(0.9 * p + 0.01)))
    root = math.sqrt((bits * math.log(2) + math.log(1 / delta)) / (2 * p.size))
    result = smoothed_bound(bits, probabilities=p, n_classes=classes, alpha=alpha, kind="hoeffding", self_delimiting=True)
    assert result.value == pytest.approx(risk + math.log(1 + 0.9 * classes / alpha) * root, rel=1e-12)
    assert result.risk == pytest.approx(risk, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("self_delimiting", [True, False])
def test_one_alpha_is_the_general_bound(kind: Any, self_delimiting: bool) -> None:
    p, alpha, classes = sample(), 0.05, 10
    result = smoothed_bound(800, probabilities=p, n_classes=classes, alpha=alpha, kind=kind, self_delimiting=self_delimiting)
    expected = bound(
        800,
        risk=smoothed_loss(p, alpha=alpha, n_classes=classes),
        n=p.size,
        kind=kind,
        range=(-math.log(0.95 + 0.005), math.log(200)),
        chance=math.log(10),
        self_delimiting=self_delimiting,
    )
    assert result.value == pytest.approx(expected.value, rel=1e-12)
    assert result.bits_needed == pytest.approx(expected.bits_needed, rel=1e-9)
    assert result.paid_bits == expected.paid_bits


@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_is_paid_for_and_searched_whole(kind: Any) -> None:
    p, grid = sample(), [0.5, 0.1, 0.02, 0.001]
    single = [smoothed_bound(500 + 2, probabilities=p, n_classes=10, alpha=a, kind=kind, self_delimiting=True) for a in grid]
    result = smoothed_bound(500, probabilities=p, n_classes=10, alphas=grid, kind=kind, self_delimiting=True)
    # K + 2·log₂ K is different for 500 + 2 bits, and for 500 bits with 2 bits added.
    tolerance = 1e-4 if kind == "paper" else 1e-12
    assert result.value == pytest.approx(min(b.value for b in single), rel=tolerance)
    assert result.alpha == grid[int(np.argmin([b.value for b in single]))]
    assert result.bits == 500
    needed = max(b.bits_needed for b in single if b.bits_needed is not None)
    assert result.bits_needed == pytest.approx(needed - 2, rel=tolerance)


def test_a_grid_of_one_costs_nothing() -> None:
    p = sample()
    fixed = smoothed_bound(500, probabilities=p, n_classes=10, alpha=0.1)
    assert smoothed_bound(500, probabilities=p, n_classes=10, alphas=[0.1]) == fixed
    assert fixed.paid_bits == prefix_free_bits(500, self_delimiting=False)


@few
@given(
    good=st.floats(0, 1), n=st.integers(10, 5000), classes=st.integers(2, 200), bits=st.floats(0, 1e5), kind=st.sampled_from(KINDS)
)
def test_the_bits_needed_are_where_the_bound_meets_chance(good: float, n: int, classes: int, bits: float, kind: Any) -> None:
    p, grid = sample(n, good), DEFAULT_ALPHAS[::16]

    def at(k: float) -> SmoothedBound:
        return smoothed_bound(k, probabilities=p, n_classes=classes, alphas=grid, kind=kind)

    result = at(bits)
    assert result.chance == math.log(classes)
    assert result.vacuous or result.value < result.chance - 0.001
    if result.bits_needed is None:
        assert at(0).vacuous
    else:
        assert not at(result.bits_needed).vacuous
        assert at(result.bits_needed * (1 + 1e-12) + 1e-12).vacuous


def test_the_default_grid_loses_little_to_a_fine_one() -> None:
    fine = 1 / (1 + np.geomspace(1e-3, 1e8, 150))
    for n, good, bits in ((2000, 0.99, 100), (50_000, 0.999, 500), (4000, 0.6, 50)):
        p = sample(n, good)
        paid = bits + math.log2(len(DEFAULT_ALPHAS))
        best = min(smoothed_bound(paid, probabilities=p, n_classes=50, alpha=a).value for a in fine)
        value = smoothed_bound(bits, probabilities=p, n_classes=50).value
        assert value <= best * 1.002


def test_the_default_grid_is_evenly_spaced_in_log_odds() -> None:
    log_odds = np.log2([alpha / (1 - alpha) for alpha in DEFAULT_ALPHAS])
    assert len(DEFAULT_ALPHAS) == 80
    assert np.allclose(np.diff(log_odds), -0.5)
    assert math.isclose(max(DEFAULT_ALPHAS), 1 - 2**-16, rel_tol=1e-9)


def test_the_extremes_of_alpha_stay_finite() -> None:
    for alpha in (1e-300, 1 - 1e-9):
        result = smoothed_bound(1e6, probabilities=[0.0, 1.0], n_classes=2**53, alpha=alpha)
        assert math.isfinite(result.value)
        assert result.value == result.range[1]


@pytest.mark.parametrize("make", [list, torch.tensor, lambda p: torch.tensor(p, dtype=torch.float64, requires_grad=True)])
def test_probabilities_of_any_library_are_taken(make: Any) -> None:
    p = [0.5, 0.25, 1.0, 0.0]
    assert smoothed_loss(make(p), alpha=0.5, n_classes=2) == smoothed_loss(np.array(p), alpha=0.5, n_classes=2)


def test_half_precision_tensors_are_taken() -> None:
    p = torch.tensor([0.5, 0.25], dtype=torch.bfloat16)
    assert smoothed_loss(p, alpha=0.5, n_classes=2) == smoothed_loss([0.5, 0.25], alpha=0.5, n_classes=2)


def test_a_softmax_that_rounds_above_one_counts_as_one() -> None:
    assert smoothed_loss([1 + 1e-7], alpha=0.5, n_classes=2) == smoothed_loss([1.0], alpha=0.5, n_classes=2)


def test_the_value_in_bits() -> None:
    result = smoothed_bound(100, probabilities=sample(), n_classes=8, alpha=0.1)
    assert result.value_bits == pytest.approx(result.value / math.log(2), rel=1e-15)
    assert result.chance / math.log(2) == pytest.approx(3, rel=1e-15)


def test_it_says_what_it_bounds() -> None:
    text = smoothed_bound(100, probabilities=sample(), n_classes=8).sentence()
    assert text.startswith("Not vacuous: with probability 0.95 the smoothed cross-entropy (nats per example) on unseen")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"probabilities": []}, r"^probabilities: expected a non-empty list of shape \(n,\).*, got shape \(0,\)$"),
    ({"probabilities": 0.5}, r"^probabilities: expected a non-empty list .*, got shape \(\)$"),
    ({"probabilities": [[0.5, 0.5]]}, r"got shape \(1, 2\)$"),
    ({"probabilities": "half"}, r"^probabilities: expected a non-empty list .*, got 'half'$"),
    ({"probabilities": [0.5, -0.2]}, r"^probabilities: expected values in \[0, 1\], .* got -0\.2 at 1$"),
    ({"probabilities": [0.5, 1.1]}, r"^probabilities: expected values in \[0, 1\]"),
    ({"probabilities": [math.nan]}, r"^probabilities: expected values in \[0, 1\], .* got nan at 0$"),
    ({"n_classes": 1}, r"^n_classes: expected a whole number of classes from 2 to 2\*\*53, got 1$"),
    ({"n_classes": 2.5}, "^n_classes: expected a whole number"),
    ({"n_classes": True}, "^n_classes: expected a whole number"),
    ({"alpha": 0}, r"^alpha: expected the share of the uniform distribution, from 1e-300 to 1 - 1e-9, .*, got 0$"),
    ({"alpha": 1}, "^alpha: expected the share"),
    ({"alpha": "much"}, "^alpha: expected the share"),
    ({"alphas": []}, r"^alphas: expected a non-empty sequence of values of alpha, got \[\]$"),
    ({"alphas": 0.1}, r"^alphas: expected a non-empty sequence of values of alpha, got 0\.1$"),
    ({"alphas": [0.1, 2]}, r"^alpha: expected the share .*, got 2$"),
    ({"delta": 0}, "^delta: expected"),
    ({"bits": -1}, "^bits: expected"),
    ({"kind": "pac"}, "^kind: expected one of"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_a_wrong_argument_is_named_in_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        smoothed_bound(**{"bits": 100, "probabilities": [0.5, 0.9], "n_classes": 4, **wrong})
    assert "\n" not in str(caught.value)
