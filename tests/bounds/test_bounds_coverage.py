"""The bounds hold as often as they promise, for all hypotheses of a prefix code at once.

Eight hypotheses with code words of 1, 2, ..., 7, 7 bits use up Kraft's inequality. Their losses on one example are
independent, which is the hardest case for a union bound; for each draw of n examples any one that breaks its bound is
a failure.
"""

from typing import Any

import numpy as np
import pytest

from nncomplexity.bounds import bound

WORDS = np.array([1, 2, 3, 4, 5, 6, 7, 7])
DRAWS = 50_000
DELTA = 0.1
N = 40


def test_the_words_use_up_kraft() -> None:
    assert (2.0**-WORDS).sum() == 1


def failures(table: np.ndarray, counts: np.ndarray, true_risk: float) -> float:
    """The share of draws in which some hypothesis has a true risk above the bound ``table[hypothesis, count]``."""
    return float((true_risk > table[np.arange(len(WORDS)), counts]).any(axis=1).mean())


@pytest.mark.parametrize("true_risk", [0.08, 0.3])
@pytest.mark.parametrize("kind", ["kl", "hoeffding", "best"])
def test_errors(kind: Any, true_risk: float) -> None:
    counts = np.random.default_rng(0).binomial(N, true_risk, size=(DRAWS, len(WORDS)))
    table = np.array(
        [[bound(k, risk=c / N, n=N, delta=DELTA, kind=kind, self_delimiting=True).value for c in range(N + 1)] for k in WORDS]
    )
    assert failures(table, counts, true_risk) <= DELTA


def test_bits_left_unpaid_break_the_promise() -> None:
    # This shows that the test above can fail: with no bits for each, eight hypotheses together fail more often than δ.
    counts = np.random.default_rng(0).binomial(N, 0.3, size=(DRAWS, len(WORDS)))
    row = [bound(0, risk=c / N, n=N, delta=DELTA, self_delimiting=True).value for c in range(N + 1)]
    assert failures(np.array([row] * len(WORDS)), counts, 0.3) > DELTA


@pytest.mark.parametrize("kind", ["kl", "hoeffding"])
def test_losses_of_three_values_in_another_range(kind: Any) -> None:
    low, high, chances = 2.0, 5.0, [0.5, 0.3, 0.2]  # losses 2, 3.5 and 5
    draws = np.random.default_rng(1).multinomial(N, chances, size=(DRAWS, len(WORDS)))
    halves = draws @ np.array([0, 1, 2])
    true_risk = float(np.dot(chances, [low, (low + high) / 2, high]))

    def value(bits: int, c: int) -> float:
        risk = low + (high - low) * c / (2 * N)
        return bound(bits, risk=risk, n=N, delta=DELTA, kind=kind, range=(low, high), self_delimiting=True).value

    table = np.array([[value(k, c) for c in range(2 * N + 1)] for k in WORDS])
    assert failures(table, halves, true_risk) <= DELTA


def test_examples_drawn_without_replacement() -> None:
    # A finite population of 120 with 36 errors: its mean is the true risk.
    counts = np.random.default_rng(2).hypergeometric(36, 84, N, size=(DRAWS, len(WORDS)))
    table = np.array([[bound(k, risk=c / N, n=N, delta=DELTA, self_delimiting=True).value for c in range(N + 1)] for k in WORDS])
    assert failures(table, counts, 0.3) <= DELTA
