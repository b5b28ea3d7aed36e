"""Numbers at the ends of what their dtypes hold: no step, scale, rank or decoded weight becomes infinite or no number."""

import json
import math
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nncomplexity import estimate
from nncomplexity.file import Dense, LowRank, overflows, paper_bytes
from nncomplexity.linalg import effective_rank
from nncomplexity.measure import Report
from nncomplexity.network import TensorSpec, kept_exactly, skeleton_of
from nncomplexity.search import Bayes, Quantize
from nncomplexity.search.blocks import Block
from nncomplexity.search.latent import Latent, coarse_of

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
Weights = Mapping[str, Tensor]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attention(weights: Weights) -> Tensor:
    w, mask = weights["w"].float(), weights["mask"]
    return (w @ w.T / 4 + mask.to(torch.promote_types(torch.float32, mask.dtype))).softmax(-1)


def distance_to(weights: Weights) -> Callable[[Weights], Tensor]:
    wanted = attention(weights)
    return lambda w: (attention(w) - wanted).abs().mean()


def check_finite(report: Report, weights: Weights) -> None:
    """What a report says are numbers, and what its file decodes to are numbers wherever the original's are; infinities are kept."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"the report holds {constant}")

    json.loads(report.to_json(), parse_constant=refuse)
    assert all(layer.step is None or 0 < layer.step < math.inf for layer in report.layers)
    for name, tensor in report.coarse_weights().items():
        assert torch.equal(tensor.isfinite(), weights[name].isfinite())


@pytest.mark.parametrize("seed", [33, 50, 55])
def test_a_descent_beside_a_mask_of_the_lowest_number_ends_in_an_answer(seed: int) -> None:
    weights = {"w": normal(24, 16, seed=seed), "mask": torch.full((24, 24), torch.finfo(torch.float32).min).triu(1)}
    report = estimate(weights, distance_to(weights), 0.01, budget=40)
    check_finite(report, weights)
    assert report.within
    assert report.bits < 0.7 * min(bits for bits in report.subject.lossless_bits.values() if bits)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("share", [1.0, 0.99, math.inf], ids=["lowest", "nearly lowest", "infinite"])
@pytest.mark.parametrize("method", ["tight", "bayes", "quantize"])
def test_masks_of_every_dtype_stay_numbers(dtype: torch.dtype, share: float, method: str) -> None:
    mask = torch.full((24, 24), torch.finfo(dtype).min * share, dtype=dtype).triu(1)
    weights = {"w": normal(24, 16, seed=1).to(dtype), "mask": mask}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = estimate(weights, distance_to(weights), 0.01, method=method, budget=10 if method == "bayes" else 40)
    check_finite(report, weights)
    assert report.within
    assert report.bits < 0.8 * min(bits for bits in report.subject.lossless_bits.values() if bits)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "method", ["tight", Quantize(budget=12, steps=(1e-20, 1e20)), Bayes(budget=14, steps=(1e-200, 1e200))], ids=str
)
@pytest.mark.parametrize("relative", [False, True])
def test_huge_and_tiny_numbers_together_stay_numbers(dtype: torch.dtype, method: object, relative: bool) -> None:
    info = torch.finfo(dtype)
    sizes = torch.logspace(math.log10(info.tiny) - 3, math.log10(info.max) - 0.1, 20, dtype=torch.float64)
    biases = (normal(20, seed=2).sign() * sizes).to(dtype)
    biases[7] = info.max
    matrix = (normal(16, 2, seed=3).double() @ normal(2, 16, seed=4).double() / 8 * info.max).clamp(info.min, info.max).to(dtype)
    weights = {
        "w": normal(12, 8, seed=5).to(dtype),
        "bias": biases,
        "matrix": matrix,
        "tiny": (normal(6, 5, seed=6) * info.tiny).to(dtype),
    }
    wanted = {name: tensor.double() / info.max for name, tensor in weights.items()} | {"w": weights["w"].double()}

    def loss(w: Weights) -> Tensor:
        seen = {name: tensor.double() / info.max for name, tensor in w.items()} | {"w": w["w"].double()}
        return torch.stack([(seen[name] - wanted[name]).abs().mean() for name in wanted]).mean()

    base = {name: (tensor.double() * 0.9).to(dtype) for name, tensor in weights.items()} if relative else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = estimate(weights, loss, 0.01, method=method, budget=40 if method == "tight" else None, relative_to=base)  # type: ignore[arg-type]
    check_finite(report, weights)


def test_numbers_of_float64_beyond_its_squares_are_kept() -> None:
    weights = {
        name: torch.full((2,), size, dtype=torch.float64) for name, size in {"low": 1e-130, "in": 1e100, "high": 1e130}.items()
    }
    weights |= {"none": torch.zeros(3, dtype=torch.float64), "empty": torch.zeros(0, dtype=torch.float64)}
    assert kept_exactly(skeleton_of(weights), weights) == {"low", "high"}


@given(
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float8_e5m2]),
    share=st.floats(1e-4, 4),
    rank=st.integers(0, 3),
    precision=st.sampled_from([None, 3, 6]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_a_latent_whose_numbers_are_too_large_is_scaled_to_its_dtype(
    dtype: torch.dtype, share: float, rank: int, precision: int | None, seed: int
) -> None:
    top = torch.finfo(dtype).max
    parts = [3 * normal(6, rank, seed=seed), 3 * normal(rank, 5, seed=seed + 1)] if rank else [3 * normal(6, 5, seed=seed)]
    latent = Latent(TensorSpec(("w",), (6, 5), dtype), parts, math.log(share * top / 4), precision=precision)
    (coarse,) = coarse_of([latent]).values()
    decoded = coarse.decode(latent.spec)
    assert torch.isfinite(decoded.float()).all()
    assert not overflows(coarse, latent.spec)
    if isinstance(coarse, Dense | LowRank):
        step, largest = (coarse.step if isinstance(coarse, Dense) else coarse.step_a), float(decoded.double().abs().max())
        assert step <= latent.step
        assert step == latent.step or largest > 0.55 * top  # no smaller than it has to be, on a grid of two steps an eighth apart


def test_what_overflows_is_told_as_decoding_tells_it() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        spec, top = TensorSpec(("w",), (2, 2), dtype), torch.finfo(dtype).max
        for share in (0.4, 0.49, 0.51, 1.0, 2.0):
            for coarse in (
                Dense(np.array([[2, -1], [0, 1]]), share * top),
                LowRank(np.array([[2], [1]]), np.array([[1, 0]]), share * top, 1.0),
                LowRank(np.array([[40000], [1]]), np.array([[-1, 0]]), share * top / 20000, 1.0),
            ):
                assert overflows(coarse, spec) == (not coarse.decode(spec).isfinite().all())
    on_base = TensorSpec(("w",), (2,), torch.float16, base=torch.tensor([60000.0, -1.0]).half())
    assert [overflows(Dense(np.array([1, 0]), step), on_base) for step in (5000.0, 6000.0)] == [False, True]
    assert overflows(Dense(np.array([-3, 0]), 30000.0), TensorSpec(("w",), (2,), torch.float8_e4m3fn)) is False


def test_gradients_beyond_float32_move_nothing_by_more_than_a_step() -> None:
    """What float32 doesn't hold counts as nothing; Adam's steps are no longer than the learning rate, however large a gradient is."""
    for parts in ([torch.tensor([[3.0, 1.0], [-2.0, 0.0]])], [torch.tensor([[3.0], [1.0]]), torch.tensor([[2.0, -1.0]])]):
        latent = Latent(TensorSpec(("w",), (2, 2), torch.float32), parts, math.log(1e38))
        block = Block([latent], lean=False)
        before = torch.cat([part.reshape(-1) for part in latent.parts])
        pull, along = block.pulls({"w": torch.tensor([[1e3, -1e-3], [0.0, 1e-30]])})
        assert torch.isfinite(pull).all()
        assert torch.isfinite(along).all()
        block.move([(pull, 1.0)], 0.3)
        after = torch.cat([part.reshape(-1) for part in latent.parts])
        assert (after - before).abs().max() <= 0.31


def test_scales_beyond_float64_are_held() -> None:
    for logarithm in (-2000.0, 2000.0):
        for parts in ([torch.ones(3)], [torch.ones(3, 1), torch.ones(1, 2)]):
            for precision in (None, 3):
                latent = Latent(TensorSpec(("w",), (3,), torch.float64), parts, logarithm, precision=precision)
                assert 0 < latent.step < math.inf
                assert latent.scale < math.inf


def test_paper_bytes_hold_what_float32_does() -> None:
    skeleton = skeleton_of({"w": torch.zeros(8, 8, dtype=torch.float64)})
    symbols = np.arange(64).reshape(8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paper_bytes(skeleton, [Dense(symbols, 1e300)]) < paper_bytes(skeleton, [Dense(symbols, 1.0)])


@pytest.mark.parametrize("size", [1e-310, 1e-200, 1e200, 1.7e308])
def test_effective_ranks_do_not_depend_on_the_size_of_numbers(size: float) -> None:
    matrix = torch.tensor([[1.0, 0.5], [0.25, -1.0]], dtype=torch.float64)
    assert effective_rank(matrix * size) == pytest.approx(effective_rank(matrix), rel=1e-6)
