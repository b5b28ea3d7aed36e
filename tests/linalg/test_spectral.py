"""Spectral entropy and effective rank against closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nncomplexity.errors import InputError
from nncomplexity.linalg import effective_rank, effective_rank_of, spectral_entropy


def orthogonal(n: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))).Q


@pytest.mark.parametrize("n", [1, 2, 7])
def test_equal_singular_values_have_the_largest_entropy(n: int) -> None:
    assert spectral_entropy(3 * orthogonal(n, 0)).item() == pytest.approx(math.log(n), abs=1e-12)
    assert effective_rank(3 * orthogonal(n, 0)) == pytest.approx(n)


def test_rank_one_has_none() -> None:
    x = torch.outer(torch.arange(1.0, 6), torch.tensor([1.0, -2.0, 3.0]))
    assert spectral_entropy(x).item() == pytest.approx(0, abs=1e-13)
    assert effective_rank(x) == pytest.approx(1)


def test_a_zero_matrix_acts_in_no_direction() -> None:
    assert spectral_entropy(torch.zeros(3, 4)).item() == 0
    assert effective_rank(torch.zeros(3, 4)) == effective_rank_of(torch.zeros(3)) == effective_rank_of(torch.zeros(0)) == 0


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6).filter(lambda values: max(values) > 1e-3))
def test_known_singular_values(values: list[float]) -> None:
    shares = [value / math.fsum(values) for value in values]
    expected = -math.fsum(p * math.log(p) for p in shares if p > 0)
    n = len(values)
    x = orthogonal(n, 1) * torch.tensor(values, dtype=torch.float64) @ orthogonal(n, 2).T
    assert spectral_entropy(x).item() == pytest.approx(expected, abs=1e-10)
    assert effective_rank_of(torch.tensor(values, dtype=torch.float64)) == pytest.approx(math.exp(expected))


@pytest.mark.parametrize("scale", [1e-320, 1e-160, 1e160, 1.7e308])
def test_the_scale_does_not_matter(scale: float) -> None:
    assert effective_rank_of(torch.tensor([scale, scale, 0.0], dtype=torch.float64)) == pytest.approx(2)


def test_neither_do_side_and_dtype() -> None:
    x = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert spectral_entropy(x).dtype == torch.float64
    torch.testing.assert_close(spectral_entropy(x), spectral_entropy(x.double().T), rtol=0, atol=1e-12)
    assert not spectral_entropy(x.requires_grad_()).requires_grad


def test_bad_input_is_named() -> None:
    cases = [
        (lambda: spectral_entropy(torch.ones(2, 2, 2)), r"x: expected a floating-point matrix .* shape \(2, 2, 2\): fold"),
        (lambda: effective_rank(torch.ones(0, 2)), "x: expected a floating-point matrix .* with entries"),
        (lambda: effective_rank(torch.ones(2, 2, dtype=torch.int64)), "got torch.int64"),
        (lambda: effective_rank(torch.full((2, 2), math.inf)), "x: expected finite values, got a NaN or an infinity"),
        (lambda: effective_rank_of(torch.eye(2)), r"S: expected one row .* got shape \(2, 2\)"),
        (lambda: effective_rank_of(torch.tensor([1.0, -1.0])), "S: expected one row of finite singular values >= 0"),
        (lambda: effective_rank_of(torch.tensor([math.nan])), "S: expected one row of finite singular values >= 0"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
