"""The basis of waves: it has the same integers on every machine, columns of nearly the same norm, and nearly orthogonal columns."""

import math

import numpy as np
import pytest
import torch

from nncomplexity.linalg import MOST_ROWS, largest_entry, shift, waves
from nncomplexity.linalg.basis import UNIT_BITS

SIDES = [(2, 2), (3, 2), (4, 3), (9, 9), (16, 16), (115, 113), (115, 2), (130, 128)]


@pytest.mark.parametrize(("rows", "period"), SIDES)
def test_entries_are_the_waves_rounded_to_integers(rows: int, period: int) -> None:
    expected = np.zeros((rows, rows))
    for i in range(period):
        for f in range(period // 2 + 1):
            angle = 2 * math.pi * f * i / period
            if f == 0 or 2 * f == period:
                expected[i, max(2 * f - 1, 0)] = round(1024 * math.cos(angle))
            else:
                expected[i, 2 * f - 1] = round(1024 * math.sqrt(2) * math.cos(angle))
                expected[i, 2 * f] = round(1024 * math.sqrt(2) * math.sin(angle))
    for i in range(period, rows):
        expected[i, i] = int(math.sqrt(period) * 1024)
    assert np.array_equal(waves(rows, period).numpy(), expected)
    assert not np.signbit(waves(rows, period).numpy()[expected == 0]).any()
    assert np.abs(expected).max() <= largest_entry(period)


def test_entries_are_exact_for_every_period() -> None:
    """One wave of each period goes through all its angles. With float32 angles, 68 periods would have an entry rounded at a tie."""
    for period in range(3, MOST_ROWS + 1):
        angles = np.arange(period) * (2 * math.pi / period)
        expected = np.stack([np.cos(angles), np.sin(angles)], 1) * math.sqrt(2) * 1024
        assert np.array_equal(waves.__wrapped__(period, period)[:, 1:3].numpy(), np.round(expected)), period


@pytest.mark.parametrize(("rows", "period"), SIDES)
def test_columns_have_nearly_one_norm_and_are_nearly_orthogonal(rows: int, period: int) -> None:
    scaled = waves(rows, period) * 2.0 ** -shift(period)
    gram = scaled.T @ scaled
    norm = gram[0, 0].sqrt().item()
    assert 0.7 <= norm <= 1.42
    assert torch.allclose(gram, norm**2 * torch.eye(rows, dtype=torch.float64), atol=2e-3)


def test_no_wave_of_any_period_comes_near_a_tie() -> None:
    """So every cosine with an error below 1e-10 rounds to the same integers."""
    nearest = 1.0
    for period in range(2, MOST_ROWS + 1):
        angles = np.arange(period) * (2 * math.pi / period)
        for wave in (np.cos, np.sin):
            values = math.sqrt(2) * 2**UNIT_BITS * wave(angles)
            nearest = min(nearest, np.abs(values - np.floor(values) - 0.5).min())
    assert nearest > 1e-6
