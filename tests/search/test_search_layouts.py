"""`tight` uses pieces of a tensor only if the pieces need few numbers. The files are then smaller."""

import json

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from nncomplexity import estimate, load, rate_distortion
from nncomplexity.codecs import codec_named
from nncomplexity.network import Distortion
from nncomplexity.search import Problem, allocate, layouts, problem, tensors, tight

BUDGET = 90
"""Evaluations that are enough for a layout to show in the answer."""
Weights = dict[str, Tensor]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def separable(seed: int = 0, rank: int = 2) -> tuple[Weights, object]:
    """A kernel that acts along the height and then along the width, and how far another is from it on some images."""
    kernel = torch.einsum("orh,riw->oihw", normal(seed, 16, rank, 5), normal(seed + 1, rank, 8, 5)) / 10
    weights, images = {"kernel": kernel, "bias": normal(seed + 2, 16)}, normal(seed + 3, 8, 8, 8, 8)

    def outputs(weights: Weights) -> Tensor:
        return conv2d(images, weights["kernel"], weights["bias"])

    expected = outputs(weights)
    return weights, lambda weights: (outputs(weights) - expected).square().mean() / expected.var()


def adapted(seed: int = 0, rank: int = 2, width: int = 32) -> tuple[Weights, Weights, object]:
    """A fused projection whose queries and values were changed by a product of low rank, its base, and its loss."""
    base = {"qkv": normal(seed, 3 * width, width)}
    change = torch.zeros(3, width, width)
    for block in (0, 2):
        change[block] = normal(seed + 1 + block, width, rank) @ normal(seed + 2 + block, rank, width) / 10
    tuned, x = {"qkv": base["qkv"] + change.reshape(3 * width, width)}, normal(seed + 9, 100, width)

    def outputs(weights: Weights) -> Tensor:
        return (x @ (weights["qkv"] - base["qkv"]).T).reshape(100, 3, width)

    expected = outputs(tuned)
    return tuned, base, lambda weights: (outputs(weights) - expected).square().mean() / expected.var()


def as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tight, "with_layouts", lambda problem: problem)
    monkeypatch.setattr(allocate, "layouts_of", lambda _: {})


@pytest.mark.parametrize("eps", [0.1, 0.01])
def test_a_separable_kernel_is_folded_and_takes_fewer_bits(eps: float, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, loss = separable()
    report = estimate(weights, loss, eps, budget=BUDGET)
    kernel = report.layers[0]
    assert (kernel.form, kernel.layout) == ("low_rank", "axes 0, 2 × 1, 3")
    assert kernel.rank is not None
    assert kernel.rank <= 2
    assert kernel.step is not None
    assert sum(layer.bits for layer in report.layers) + report.shared_bits == pytest.approx(report.bits)
    report.save(tmp_path / "kernel.coarse")
    assert loss(load(tmp_path / "kernel.coarse")).item() == report.coarse_loss
    assert json.loads(report.to_json())["results"][0]["layers"][0]["layout"] == "axes 0, 2 × 1, 3"
    assert "low rank, axes 0, 2 × 1, 3" in report._repr_html_()
    as_they_are(monkeypatch)
    whole = estimate(weights, loss, eps, budget=BUDGET)
    assert whole.layers[0].layout is None
    assert report.bits < 0.8 * whole.bits


@pytest.mark.parametrize("eps", [0.1, 0.01])
def test_what_an_adapter_changed_of_a_fused_projection_is_in_blocks(eps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, base, loss = adapted()
    report = estimate(weights, loss, eps, relative_to=base, budget=BUDGET)
    [layer] = report.layers
    assert (layer.form, layer.rank, layer.step) == ("blocks", None, None)
    assert layer.layout is not None
    assert layer.layout.startswith("3 blocks of rows: low rank ")
    assert ", zero, low rank " in layer.layout
    assert loss(report.coarse_weights()).item() == report.coarse_loss
    as_they_are(monkeypatch)
    assert report.bits < estimate(weights, loss, eps, relative_to=base, budget=BUDGET).bits


def test_projections_side_by_side_are_blocks_of_columns() -> None:
    weights, base, loss = adapted()
    turned, turned_base = {"qkv": weights["qkv"].T.contiguous()}, {"qkv": base["qkv"].T}
    [layer] = estimate(turned, lambda weights: loss({"qkv": weights["qkv"].T}), 0.1, relative_to=turned_base, budget=BUDGET).layers
    assert layer.layout is not None
    assert layer.layout.startswith("3 blocks of columns: low rank ")


def test_a_curve_takes_them_in_pieces_too() -> None:
    weights, loss = separable()
    curve = rate_distortion(weights, loss, [0.1, 0.05, 0.02, 0.01], budget=BUDGET)
    assert [report.layers[0].layout for report in curve.reports] == ["axes 0, 2 × 1, 3"] * 4


def test_so_does_a_search_without_a_gradient() -> None:
    weights, loss = separable(rank=1)
    report = estimate(weights, lambda weights: loss(weights).item(), 0.1, budget=100)
    assert (report.layers[0].form, report.layers[0].layout) == ("low_rank", "axes 0, 2 × 1, 3")
    assert report.within


def test_and_a_large_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held once and decoded tensor by tensor, in another way: its file is as good."""
    weights, base, loss = adapted()
    for module in (problem, tensors):
        monkeypatch.setattr(module, "large_network", lambda _: True)
    kernel, distance = separable()
    for report in (estimate(weights, loss, 0.1, relative_to=base, budget=BUDGET), estimate(kernel, distance, 0.1, budget=BUDGET)):
        assert report.layers[0].layout is not None
        assert report.distortion <= 0.1


def test_complex_kernels_are_folded_as_their_parts() -> None:
    kernel = torch.einsum(
        "or,riw->oiw", torch.complex(normal(0, 24, 1), normal(1, 24, 1)), torch.complex(normal(2, 1, 6, 8), normal(3, 1, 6, 8))
    )
    report = estimate({"kernel": kernel}, lambda weights: (weights["kernel"] - kernel).abs().square().mean(), 0.01, budget=BUDGET)
    assert torch.view_as_real(report.coarse_weights()["kernel"] - kernel).square().sum(-1).mean().item() == pytest.approx(
        report.coarse_loss
    )


@pytest.mark.parametrize("shape", [(32, 32), (96, 32), (32, 128), (16, 8, 5, 5), (8, 1, 3, 3), (6, 5, 4, 3, 2), (40,), (2, 6)])
def test_tensors_without_such_structure_stay_whole(shape: tuple[int, ...]) -> None:
    weight = normal(0, *shape)
    report = estimate({"w": weight}, lambda weights: (weights["w"] - weight).square().mean(), 0.1, budget=30)
    assert report.layers[0].layout is None


def test_numbers_that_hold_nine_tenths_of_the_energy() -> None:
    """Against singular values chosen by hand: diagonal matrices have them on their diagonals."""
    strong, weak = torch.diag(torch.tensor([3.0, 2.0, 0.1, 0.1])), torch.diag(torch.tensor([1.0, 0.1, 0.1, 0.1]))
    assert layouts.numbers([[strong]]) == [16]  # 9 + 4 of 13.02, and 9 alone is too little
    assert layouts.numbers([[weak]]) == [8]
    assert layouts.numbers([[strong, weak]]) == [16]  # 13 of 14.05
    assert layouts.numbers([[torch.eye(4)]]) == [16]  # no factors of rank 4: the matrix itself has fewer numbers
    assert layouts.numbers([[1e30 * strong.double() * 1e200]]) == [16]
    assert layouts.numbers([[torch.zeros(4, 4)]]) == [0]


def test_large_matrices_are_looked_at_as_far_as_that_is_cheap() -> None:
    assert [layout.in_words(()) for layout in layouts.candidates((768, 2304))] == ["3 blocks of columns"]
    assert list(layouts.candidates((50257, 768))) == []
    assert list(layouts.candidates((8192, 3 * 8192))) == []  # a decomposition of each block would take too long
    assert len(list(layouts.candidates((48, 12)))) == 3 + 2  # 2, 3 or 4 blocks of rows, 2 or 3 of columns: four are too narrow
    assert len(list(layouts.candidates((64, 32, 3, 3)))) == 7
    assert list(layouts.candidates((2,) * 7)) == []


def test_names_like_those_of_pieces_are_no_trouble() -> None:
    weights, loss = separable()
    named = weights | {"kernel[0]": torch.zeros(3)}
    report = estimate(named, loss, 0.1, budget=60)
    assert report.layers[0].layout is None
    assert list(report.coarse_weights()) == list(named)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64])
def test_tensors_of_every_width_are_looked_at(dtype: torch.dtype) -> None:
    kernel = separable(rank=1)[0]["kernel"].to(dtype)
    size = kernel.double().square().mean()
    report = estimate(
        {"kernel": kernel}, lambda given: (given["kernel"].double() - kernel.double()).square().mean() / size, 0.05, budget=60
    )
    assert report.layers[0].layout == "axes 0, 2 × 1, 3"
    assert report.coarse_weights()["kernel"].dtype == dtype


def test_a_tensor_of_zeros_is_no_piece_of_anything() -> None:
    given = {"gone": torch.zeros(6, 4), "kept": normal(0, 6, 4)}
    report = estimate(given, lambda weights: (weights["kept"] - given["kept"]).square().mean(), 0.1, budget=30)
    assert (report.layers[0].form, report.layers[0].layout) == ("zero", None)


@pytest.mark.parametrize("method", ["tight", "allocate"])
def test_pieces_of_a_tensor_are_not_divided_again(method: str) -> None:
    """A quarter of a quarter of the rows has all of the energy, so that blocks of blocks would take the fewest numbers."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.zeros(64, 20)
    matrix[:4] = torch.randn(4, 20, generator=generator)
    with Distortion({"w": matrix}, lambda weights: (weights["w"] - matrix).square().sum()) as distortion:
        given = Problem(distortion, codec_named("entropy"), 0)
        assert list(layouts.layouts_of(given)) == ["w"]
        assert layouts.layouts_of(layouts.with_layouts(given)) == {}
    report = estimate({"w": matrix}, lambda weights: (weights["w"] - matrix).square().sum(), 0.1, method=method, budget=60)
    assert report.distortion <= 0.1
    assert 0 < report.bits < 4 * 20 * 16
