"""Large matrices and networks: results from the Gram matrix of the short side agree with those of the whole matrix, and files are the same."""

import importlib

import numpy as np
import pytest
import torch
from torch import Tensor

from nncomplexity import estimate
from nncomplexity.codecs import codec_named
from nncomplexity.file import Dense, LowRank, count_bits, encode, narrow
from nncomplexity.file.payload import decode
from nncomplexity.linalg import Sketch, SVDCache, balanced, lowrank, sizes, sketch, svd
from nncomplexity.network import skeleton_of


def decaying(m: int, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(m)
    U = torch.linalg.qr(torch.randn(m, min(m, n), generator=generator, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(n, min(m, n), generator=generator, dtype=torch.float64)).Q
    return (U * 0.9 ** torch.arange(min(m, n))) @ V.T


@pytest.mark.parametrize("shape", [(200, 60), (60, 200), (64, 64)])
@pytest.mark.parametrize("rank", [1, 7, 50])
def test_the_small_side_gives_what_the_svd_gives(shape: tuple[int, int], rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    W = decaying(*shape)
    whole = svd(W)
    monkeypatch.setattr(sizes, "MATRIX", 1)
    cache = SVDCache({"w": W})
    assert torch.allclose(cache.singular_values("w"), whole.S, atol=1e-7)
    found, expected = balanced(cache.leading("w", rank), rank), balanced(whole, rank)
    assert torch.allclose(found[0] @ found[1], expected[0] @ expected[1], atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(found, expected, strict=True))  # signs too


@pytest.mark.parametrize("shape", [(300, 120), (120, 300)])
def test_the_range_finder_gives_the_leading_components(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "_LONG_SIDE", 1)
    monkeypatch.setattr(sketch, "gram", None)  # it must not be asked for
    W = decaying(*shape)
    U, S, Vh = Sketch(W).leading(10)
    whole = svd(W)
    assert torch.allclose(S, whole.S[:10], rtol=1e-6)
    assert torch.allclose((U * S) @ Vh, (whole.U[:, :10] * whole.S[:10]) @ whole.Vh[:10], atol=1e-5)
    again = Sketch(W).leading(10)
    assert all(torch.equal(a, b) for a, b in zip((U, S, Vh), again, strict=True))


def test_a_smaller_rank_needs_nothing_new_and_a_larger_one_the_small_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "_LONG_SIDE", 1)
    one = Sketch(decaying(300, 120))
    ten = one.leading(10)
    assert torch.equal(one.leading(4)[1], ten[1][:4])
    assert len(one.leading(60)[1]) == 60
    assert one.nbytes == 120 * 8 + 120 * 120 * 4


def test_products_by_blocks_are_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "_ROWS", 7)
    W, X, Y = (torch.randn(shape, generator=torch.Generator().manual_seed(1)).double() for shape in ((50, 9), (9, 4), (50, 4)))
    assert torch.allclose(sketch.gram(W), W.T @ W)
    assert torch.allclose(sketch.product(W, X), W @ X)
    assert torch.allclose(sketch.transposed_product(W, Y), W.T @ Y)


def test_an_infinity_in_a_large_matrix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "MATRIX", 1)
    with pytest.raises(lowrank.InputError, match="w: expected finite"):
        SVDCache({"w": torch.full((3, 3), float("inf"))}).leading("w", 1)


@pytest.mark.parametrize(("largest", "dtype"), [(0, "int8"), (127, "int8"), (128, "int16"), (40_000, "int32"), (2**31, "int64")])
def test_narrow_symbols_are_the_same_symbols(largest: int, dtype: str) -> None:
    symbols = np.array([[-largest, 0], [1, largest]])
    narrowed = narrow(torch.from_numpy(symbols))
    assert narrowed.dtype == dtype
    assert np.array_equal(narrowed, symbols)


@pytest.mark.parametrize("codec", ["entropy", "bzip2"])
def test_narrow_symbols_make_the_same_payload(codec: str) -> None:
    rng = np.random.default_rng(0)
    symbols, A, B = rng.integers(-300, 300, (20, 30)), rng.integers(-5, 5, (20, 3)), rng.integers(-9, 9, (3, 30))
    wide = [Dense(symbols, 0.5), LowRank(A, B, 1.0, 0.5)]
    symbols, A, B = (narrow(torch.from_numpy(one)) for one in (symbols, A, B))
    slim = [Dense(symbols, 0.5), LowRank(A, B, 1.0, 0.5)]
    skeleton = skeleton_of({"a": torch.zeros(20, 30), "b": torch.zeros(20, 30)})
    payload = encode(skeleton, wide, codec_named(codec))
    assert encode(skeleton, slim, codec_named(codec)) == payload
    assert count_bits(skeleton, slim) == count_bits(skeleton, wide)
    for coarse, spec, found in zip(slim, skeleton.tensors, decode(skeleton, payload)[1], strict=True):
        assert torch.equal(coarse.decode(spec), found.decode(spec))


@pytest.mark.parametrize("method", ["tight", "quantize"])
def test_a_network_searched_as_a_large_one_keeps_what_it_claims(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"w": decaying(96, 64).float(), "v": decaying(64, 80).float(), "b": torch.linspace(0.1, 1, 64)}
    energies = {name: float(weight.square().sum()) for name, weight in weights.items()}

    def loss(candidate: dict[str, Tensor]) -> Tensor:
        return torch.stack([(candidate[name] - weights[name]).square().sum() / energies[name] for name in weights]).mean()

    budget = 50 if method == "tight" else 20
    small = estimate(weights, loss, 0.1, method=method, budget=budget)
    monkeypatch.setattr(sizes, "MATRIX", 1)
    monkeypatch.setattr(sizes, "NETWORK", 1)
    large = estimate(weights, loss, 0.1, method=method, budget=budget)
    assert large.within
    assert large.distortion <= 0.1
    assert large.bits <= 1.25 * small.bits
    assert large.to_dict() | {"seconds": 0, "cpu_seconds": 0} == estimate(
        weights, loss, 0.1, method=method, budget=budget
    ).to_dict() | {"seconds": 0, "cpu_seconds": 0}
    assert float(loss(large.coarse_weights())) == large.coarse_loss
    assert large.subject.lossless_bits["xz"] is None
    assert large.subject.lossless_bits["entropy"] == pytest.approx(small.subject.lossless_bits["entropy"], rel=0.01, abs=64)
    assert [layer.effective_rank for layer in large.layers] == pytest.approx([layer.effective_rank for layer in small.layers])


def test_a_large_network_of_which_nothing_smaller_is_within_eps_is_its_lossless_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "NETWORK", 1)
    weights = {"w": torch.randn(40, 40, generator=torch.Generator().manual_seed(0))}
    report = estimate(weights, lambda found: float((found["w"] != weights["w"]).any()), 0.5, budget=30)
    assert not report.within
    assert torch.equal(report.coarse_weights()["w"], weights["w"])


def test_an_effective_rank_that_would_take_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "MATRIX", 1)
    monkeypatch.setattr(importlib.import_module("nncomplexity.measure.layers"), "RANKED", 30)
    weights = {"w": decaying(40, 50).float(), "v": decaying(40, 20).float()}
    report = estimate(weights, lambda found: float((found["w"] - weights["w"]).square().sum()), 0.1, method="quantize", budget=5)
    assert [layer.effective_rank is None for layer in report.layers] == [True, False]
