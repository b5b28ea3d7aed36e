"""Which tensors may change: by name, by dtype and by content."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nncomplexity import InputError, estimate
from nncomplexity.cli.table import measured
from nncomplexity.file.coarse import lossless
from nncomplexity.network import kept_exactly, skeleton_of


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


METHODS = ("tight", "allocate", "bayes", "quantize")
SHARED = normal(8, 6, seed=0)
WEIGHTS = {
    "embed.weight": SHARED,
    "layers.0.weight": normal(6, 6, seed=1),
    "layers.0.bias": normal(6, seed=2),
    "head.weight": SHARED,
    "steps": torch.tensor(3),
}


def loss(weights: dict[str, Tensor]) -> Tensor:
    return torch.stack([(weights[name] - WEIGHTS[name]).square().mean() for name in list(WEIGHTS)[:4]]).mean()


@pytest.mark.parametrize(
    ("include", "exclude", "kept"),
    [
        (None, None, []),
        ("layers.*", None, ["embed.weight"]),
        (None, "layers.*", ["layers.0.bias", "layers.0.weight"]),
        (["*.weight"], ["layers.?.weight"], ["layers.0.bias", "layers.0.weight"]),
        ("head.*", None, ["layers.0.bias", "layers.0.weight"]),
        (None, "head.weight", ["embed.weight"]),
        ([], None, ["embed.weight", "layers.0.bias", "layers.0.weight"]),
    ],
)
def test_patterns_name_tensors_by_any_of_their_names(include: object, exclude: object, kept: list[str]) -> None:
    assert sorted(kept_exactly(skeleton_of(WEIGHTS), WEIGHTS, include, exclude)) == kept


def test_a_pattern_that_matches_nothing_lists_names_near_it() -> None:
    with pytest.raises(InputError, match=r"exclude: no tensor's name matches 'layer.0.weight'; names near it: layers.0.weight"):
        estimate(WEIGHTS, loss, 0.1, exclude=["layer.0.weight"])
    with pytest.raises(InputError, match=r"include: no tensor's name matches 'ü'; names near it: embed.weight, head.weight"):
        estimate(WEIGHTS, loss, 0.1, include="ü")
    with pytest.raises(InputError, match="exclude: expected glob patterns of tensor names, such as 'encoder"):
        estimate(WEIGHTS, loss, 0.1, exclude=[3])


@pytest.mark.parametrize(
    ("method", "budget"), [(method, 14) for method in METHODS] + [(method, 60) for method in METHODS if method != "bayes"]
)
def test_what_is_kept_is_kept_bit_for_bit_and_paid_for(method: str, budget: int) -> None:
    all_free = estimate(WEIGHTS, loss, 0.05, method=method, budget=budget, codec="entropy")
    report = estimate(WEIGHTS, loss, 0.05, method=method, budget=budget, codec="entropy", exclude="head.*")
    layers = {layer.name: layer for layer in report.layers}
    assert layers["embed.weight"].form == "lossless"
    assert layers["embed.weight"].names == ("embed.weight", "head.weight")
    assert layers["layers.0.weight"].form in ("dense", "low_rank", "zero")
    decoded = report.coarse_weights()["head.weight"]
    assert lossless(decoded).data.tobytes() == lossless(SHARED).data.tobytes()
    assert report.within
    assert all_free.bits < report.bits < min(report.subject.lossless_bits.values())


@pytest.mark.parametrize("method", METHODS)
def test_where_all_is_kept_the_lossless_file_is_the_answer(method: str) -> None:
    report = estimate(WEIGHTS, loss, 0.1, method=method, budget=14, include=[])
    assert report.distortion == 0
    assert report.bits == min(report.subject.lossless_bits.values())


def test_infinities_are_kept() -> None:
    weights = {"w": normal(5, 5, seed=3), "mask": torch.full((5, 5), -torch.inf).triu(1)}
    report = estimate(weights, lambda w: (w["w"] + w["mask"]).softmax(-1).square().mean(), 0.05, budget=40)
    assert {layer.name: layer.form for layer in report.layers}["mask"] == "lossless"
    assert report.within
    assert torch.equal(report.coarse_weights()["mask"], weights["mask"])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.complex128, torch.bfloat16])
@pytest.mark.parametrize("method", ["tight", "quantize"])
def test_numbers_of_every_dtype_are_coarse_grained(dtype: torch.dtype, method: str) -> None:
    weights = {"w": normal(12, 8, seed=3).to(dtype), "b": normal(seed=4).to(dtype)}
    kind = torch.complex128 if dtype.is_complex else torch.float64

    def distance(w: dict[str, Tensor]) -> Tensor:
        return torch.stack([(w[name].to(kind) - weights[name].to(kind)).abs().square().mean() for name in weights]).mean()

    report = estimate(weights, distance, 0.1, method=method, budget=60, codec="entropy")
    assert report.within
    assert report.bits < 0.7 * min(report.subject.lossless_bits.values())
    assert {layer.dtype for layer in report.layers} == {str(dtype).removeprefix("torch.")}
    decoded = report.coarse_weights()
    assert distance(decoded).item() == report.coarse_loss
    assert all(decoded[name].dtype == dtype and decoded[name].shape == weights[name].shape for name in weights)


def test_shares_that_add_up_but_for_rounding_leave_no_negative_zero() -> None:
    report = replace(estimate(WEIGHTS, loss, 0.1, budget=14), shared_bits=-1e-13)
    assert measured("net", [report], [None], [None]).splitlines()[-1].split()[-1] == "0"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("large", [-1e9, torch.finfo(torch.float32).min])
def test_a_mask_of_large_numbers_leaves_the_rest_to_be_searched(method: str, large: float) -> None:
    weights = {"w": normal(24, 16, seed=3), "mask": torch.full((24, 24), large).triu(1)}

    def attention(w: dict[str, Tensor]) -> Tensor:
        return (w["w"] @ w["w"].T / 4 + w["mask"]).softmax(-1)

    wanted = attention(weights)
    budget = 14 if method == "bayes" else 40
    report = estimate(weights, lambda w: (attention(w) - wanted).abs().mean(), 0.01, method=method, budget=budget)
    assert report.within
    assert report.bits < 0.7 * min(bits for bits in report.subject.lossless_bits.values() if bits)
