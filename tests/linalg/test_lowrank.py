"""Low-rank approximation against closed forms, exact fractions and the definition."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nncomplexity.errors import InputError
from nncomplexity.linalg import SVDCache, balanced, matrix_view, pays, rank_for, svd, truncate
from nncomplexity.linalg.lowrank import normalized

SHAPES = [(1, 1), (5, 5), (7, 3), (3, 7), (1, 6), (6, 1)]


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def with_singular_values(m: int, n: int, values: list[float]) -> torch.Tensor:
    U, V = torch.linalg.qr(gaussian(m, m)).Q, torch.linalg.qr(gaussian(n, n, seed=1)).Q
    r = len(values)
    return U[:, :r] * torch.tensor(values, dtype=torch.float64) @ V[:, :r].T


@pytest.mark.parametrize("shape", SHAPES)
def test_an_svd_is_one(shape: tuple[int, int]) -> None:
    x = gaussian(*shape)
    found = svd(x)
    r = min(shape)
    identity = torch.eye(r, dtype=torch.float64)
    assert found.U.shape == (shape[0], r)
    assert found.Vh.shape == (r, shape[1])
    torch.testing.assert_close(found.U * found.S @ found.Vh, x)
    torch.testing.assert_close(found.U.T @ found.U, identity)
    torch.testing.assert_close(found.Vh @ found.Vh.T, identity)
    assert (found.S.diff() <= 0).all()


def test_known_singular_values_to_the_last() -> None:
    values = [3.0, 1.0, 1e-3, 1e-9, 1e-12]
    expected = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(svd(with_singular_values(6, 5, values)).S, expected, rtol=0, atol=1e-14)


def test_signs_do_not_depend_on_the_solver() -> None:
    x = gaussian(8, 5)
    found = svd(x)
    largest = found.U.abs().argmax(0, keepdim=True)
    assert (found.U.gather(0, largest) > 0).all()
    # With other signs and reversed columns, the matrix is another problem for the solver, and U must be the same.
    turned = svd(-x.flip(1))
    torch.testing.assert_close(turned.U, found.U)
    torch.testing.assert_close(turned.Vh, -found.Vh.flip(1))


def test_signs_hold_where_two_entries_tie() -> None:
    for noise in (-1e-15, 0.0, 1e-15):
        assert svd(torch.tensor([[1.0 + noise, 0.0], [-1.0, 0.0]], dtype=torch.float64)).U[0, 0] > 0


def test_svd_takes_any_float_and_leaves_the_graph() -> None:
    found = svd(torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True))
    assert found.S.dtype == torch.float64
    assert not found.S.requires_grad


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(0, 100))
def test_rank_for_is_the_least_that_reaches_tau(values: list[int], percent: int) -> None:
    values.sort(reverse=True)
    tau = Fraction(percent, 100)
    total = sum(values)
    expected = next(k for k in range(len(values) + 1) if sum(values[:k]) >= tau * total)
    assert rank_for(torch.tensor(values), percent / 100) == expected


def test_tau_one_keeps_all_that_is_not_zero() -> None:
    assert rank_for(torch.tensor([1.0, 1e-30, 1e-60, 0.0], dtype=torch.float64), 1) == 3
    assert rank_for(torch.full((10_000,), 0.1), 1.0) == 10_000
    assert rank_for(torch.full((10,), 0.1), 0.9) == 9


def test_nothing_is_kept_of_a_zero_matrix_or_at_tau_zero() -> None:
    assert [rank_for(torch.zeros(4), tau) for tau in (0, 0.5, 1)] == [0, 0, 0]
    assert rank_for(torch.ones(4), 0) == 0
    assert rank_for(torch.zeros(0), 1) == 0


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1.0, 1e300, 1.7e308])
def test_normalized_at_any_scale(scale: float) -> None:
    shares = normalized(torch.full((4,), scale, dtype=torch.float64))
    assert shares.tolist() == [0.25] * 4
    assert normalized(torch.zeros(3)).tolist() == [0, 0, 0]


@given(st.integers(0, 60), st.integers(1, 60), st.integers(1, 60))
def test_pays_counts_numbers(rank: int, m: int, n: int) -> None:
    assert pays(rank, m, n) == (rank < Fraction(m * n, m + n))


@pytest.mark.parametrize("shape", SHAPES)
def test_both_pairs_of_factors_are_the_nearest_matrix(shape: tuple[int, int]) -> None:
    x = gaussian(*shape)
    found = svd(x)
    for rank in range(min(shape) + 1):
        for A, B in (truncate(found, rank), balanced(found, rank)):
            assert A.shape == (shape[0], rank)
            assert B.shape == (rank, shape[1])
            # Eckart and Young: the norm of the difference is that of the dropped singular values.
            assert torch.linalg.norm(x - A @ B).item() == pytest.approx(found.S[rank:].norm().item(), abs=1e-12)


def test_how_the_singular_values_are_shared_out() -> None:
    found = svd(gaussian(6, 4))
    A, B = truncate(found, 3)
    torch.testing.assert_close(A.norm(dim=0), found.S[:3])
    torch.testing.assert_close(B.norm(dim=1), torch.ones(3, dtype=torch.float64))
    A, B = balanced(found, 3)
    torch.testing.assert_close(A.norm(dim=0), B.norm(dim=1))


def test_factors_are_copies() -> None:
    found = svd(gaussian(3, 3))
    before = found.Vh.clone()
    for factor in (*truncate(found, 2), *balanced(found, 2)):
        factor.zero_()
    assert torch.equal(found.Vh, before)


def test_matrix_view() -> None:
    assert matrix_view(()) is None
    assert matrix_view((3,)) is None
    assert matrix_view((3, 0)) is None
    assert matrix_view((3, 4)) == (3, 4)
    assert matrix_view(torch.empty(8, 4, 3, 3).shape) == (8, 36)


def test_the_cache_computes_once_and_drops_what_was_used_least_recently() -> None:
    weights = {name: gaussian(4, 4, seed=seed) for seed, name in enumerate("abc")}
    one = svd(weights["a"]).nbytes
    cache = SVDCache(weights, max_bytes=2 * one)
    a, b = cache["a"], cache["b"]
    assert cache["a"] is a
    cache["c"]
    assert cache.nbytes == 2 * one
    assert cache["a"] is a
    assert cache["b"] is not b
    torch.testing.assert_close(cache["b"].S, b.S)


def test_the_cache_keeps_nothing_larger_than_itself() -> None:
    cache = SVDCache({"small": gaussian(2, 2), "large": gaussian(9, 9)}, max_bytes=100)
    small = cache["small"]
    assert cache["large"] is not cache["large"]
    assert cache["small"] is small
    assert cache.nbytes == small.nbytes <= 100


def test_the_cache_folds() -> None:
    x = gaussian(3, 2, 2, 2)
    torch.testing.assert_close(SVDCache({"conv": x})["conv"].S, torch.linalg.svdvals(x.reshape(3, 8)))


def test_bad_input_is_named() -> None:
    found = svd(torch.eye(2))
    cache = SVDCache({"bias": torch.ones(3)})
    cases = [
        (lambda: svd(torch.ones(3)), r"x: expected a floating-point matrix .* of shape \(3,\): fold"),
        (lambda: svd(torch.ones(3, 0)), r"x: expected a floating-point matrix .* with entries"),
        (lambda: svd(torch.ones(2, 2, dtype=torch.int32)), "got torch.int32"),
        (lambda: svd(torch.tensor([[math.nan]])), "x: expected finite values, got a NaN or an infinity"),
        (lambda: normalized(torch.tensor([1.0, 2.0])), "S: expected one row of finite singular values >= 0, largest first"),
        (lambda: normalized(torch.tensor([-1.0])), "S: expected one row of finite singular values >= 0"),
        (lambda: normalized(torch.tensor([math.inf])), "S: expected one row of finite singular values"),
        (lambda: normalized(torch.eye(2)), r"S: expected one row .* got shape \(2, 2\)"),
        (lambda: rank_for(torch.ones(2), 1.01), r"tau: expected a number in \[0, 1\].* got 1.01"),
        (lambda: rank_for(torch.ones(2), math.nan), r"tau: expected a number in \[0, 1\].* got nan"),
        (lambda: pays(1, 0, 3), "m, n, rank: expected m and n of at least 1 and rank of at least 0, got m = 0, n = 3, rank = 1"),
        (lambda: truncate(found, 3), "rank: expected a number from 0 to 2, the number of singular values, got 3"),
        (lambda: balanced(found, -1), "rank: expected a number from 0 to 2, the number of singular values, got -1"),
        (lambda: SVDCache({}, max_bytes=-1), "max_bytes: expected a whole number of at least 0, got -1"),
        (lambda: cache["weight"], "name: expected that of one of the 1 tensors given, got 'weight'"),
        (lambda: cache["bias"], r"bias: expected two dimensions or more, and entries, got shape \(3,\)"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
