"""Bases of factors: rotations that make one sparse, and the waves on which its energy may gather."""

import math

import pytest
import torch

from nncomplexity.search.bases import _spread, in_basis, likely_periods, quartimax


def test_quartimax_keeps_the_product_and_raises_the_fourth_powers() -> None:
    torch.manual_seed(0)
    sparse = torch.randn(40, 5, dtype=torch.float64) * (torch.rand(40, 5) < 0.2)
    mixed = sparse @ torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    R = quartimax(mixed)
    assert torch.allclose(R.T @ R, torch.eye(5, dtype=torch.float64))
    assert ((mixed @ R) ** 4).sum() > 0.99 * (sparse**4).sum() > (mixed**4).sum()


def test_the_spread_of_a_factor_is_the_entropy_of_its_energy_over_waves_and_further_rows() -> None:
    """A wave has two unit vectors, the cosine and the sine. Rows beyond the period have one each."""
    period, rows = 20, 22
    angles = 2 * math.pi * torch.arange(period, dtype=torch.float64) / period
    constant, wave, alternating = torch.ones_like(angles), (3 * angles + 0.7).cos(), (10 * angles).cos()
    beyond = torch.eye(rows, dtype=torch.float64)[20:]

    def factor(*columns: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.cat([column, torch.zeros(rows - len(column), dtype=torch.float64)]) for column in columns], 1)

    cases = {
        (constant, 2 * constant): 0.0,
        (wave, 2 * wave): math.log(2),
        (alternating, alternating): 0.0,
        (beyond[0], beyond[1]): math.log(2),
        (constant, math.sqrt(2) * wave): math.log(2) + 0.5 * math.log(2),
    }
    # Together, so that no matrix's energy is taken for another's.
    found = _spread(torch.stack([factor(*columns) for columns in cases]), period)
    assert found.tolist() == pytest.approx(list(cases.values()), abs=1e-9)


def test_a_period_is_likely_only_where_the_energy_gathers_on_its_waves() -> None:
    generator = torch.Generator().manual_seed(0)
    angles = 2 * math.pi * torch.arange(30, dtype=torch.float64) / 30
    circle = torch.stack([(2 * angles).cos(), (2 * angles).sin(), (7 * angles).cos()], 1)
    # Two rows more than the period, as of special tokens.
    circle = torch.cat([circle, 0.01 * torch.randn(2, 3, generator=generator, dtype=torch.float64)])
    noise = torch.randn(32, 3, generator=generator, dtype=torch.float64)
    assert likely_periods(torch.stack([circle, noise])) == [[0, 30], [0]]
    assert likely_periods(circle[None, :15]) == [[0]]  # too few rows
    # In the basis the circle has three large rows, and everything can be put together again.
    coordinates = in_basis(circle[None], 30)[0]
    assert (coordinates.abs().amax(1) > 0.1).sum() == 3
