"""The running mean of latents, and what it is for: a distortion that stands still where that of the latents jumps."""

import math

import pytest
import torch

from nncomplexity.network import TensorSpec
from nncomplexity.search.average import Average
from nncomplexity.search.blocks import Block
from nncomplexity.search.dual import Dual
from nncomplexity.search.latent import Latent, candidate_of
from nncomplexity.search.settings import Settings


def latents_at(value: float, log_scale: float = 0.0) -> list[Latent]:
    shapes: list[list[tuple[int, int]]] = [[(2, 3)], [(2, 1), (1, 4)]]
    specs = [TensorSpec((f"w{index}",), (parts[0][0], parts[-1][-1]), torch.float32) for index, parts in enumerate(shapes)]
    return [
        Latent(spec, [torch.full(shape, value) for shape in parts], log_scale) for spec, parts in zip(specs, shapes, strict=True)
    ]


def test_it_is_the_mean_with_geometric_weights_and_shares_no_memory() -> None:
    latents = latents_at(0.0)
    average = Average(latents)
    values = torch.randn(30, generator=torch.Generator().manual_seed(0)).tolist()
    for value in values:
        for latent in latents:
            latent.log_scale = 2 * value
            for part in latent.parts:
                part.fill_(value)
        average.update()
    wanted = sum(0.1 * 0.9 ** (len(values) - 1 - index) * value for index, value in enumerate(values))
    for mean, latent in zip(average.latents, latents, strict=True):
        assert mean.log_scale == pytest.approx(2 * wanted)
        assert latent.log_scale == 2 * values[-1]
        for part, source in zip(mean.parts, latent.parts, strict=True):
            torch.testing.assert_close(part, torch.full_like(part, wanted), rtol=1e-5, atol=1e-6)
            assert torch.equal(source, torch.full_like(source, values[-1]))


def test_it_takes_the_place_of_latents_that_are_views_of_a_block() -> None:
    latents = latents_at(1.0)
    block = Block(latents, lean=False)
    average = Average(block.latents)
    for latent in average.latents:
        latent.log_scale = 0.5
        for part in latent.parts:
            part.fill_(3.0)
    average.replace()
    block.forget()
    assert [latent.log_scale for latent in latents] == [0.5, 0.5]
    for _, weight in block.weights(torch.device("cpu")):
        assert float(weight.max()) == pytest.approx(math.exp(0.5) * 3 ** (2 if weight.shape == (2, 4) else 1), rel=1e-5)


def test_numbers_that_go_back_and_forth_over_a_threshold_round_to_one_symbol() -> None:
    (latent, _) = latents_at(1.4)
    average = Average([latent])
    symbols, averaged = set(), set()
    for step in range(60):
        latent.parts[0].fill_(1.4 if step % 2 else 1.55)
        average.update()
        symbols.add(float(candidate_of([latent])["w0"].decode(latent.spec).max()))
        averaged.add(float(candidate_of(average.latents)["w0"].decode(latent.spec).max()))
    assert symbols == {1.0, 2.0}
    assert averaged == {1.0}


def test_the_dual_variable_is_led_by_the_distortion_of_the_candidate() -> None:
    settings = Settings()
    dual = Dual(settings, 1.0, 10**6)
    dual.observe(1.0, 1.0)
    before = dual.at(settings.target)
    for _ in range(50):
        dual.calibrate(0.5, 1.0)  # the candidate has half the distortion of the latents on batches
    assert dual.at(settings.target) == pytest.approx(2 * before, rel=1e-3)
    assert dual.at(2 * settings.target) == pytest.approx(before, rel=1e-3)
    dual.calibrate(1.0, 0.0)  # a loss below the original's tells no ratio
    dual.calibrate(1.0, -1.0)
    assert dual.at(2 * settings.target) == pytest.approx(before, rel=1e-3)
    for _ in range(100):
        dual.calibrate(1e9, 1e-9)
    assert dual.at(settings.target * math.exp(-3)) == pytest.approx(before, rel=1e-3)  # a ratio is at most e³


def test_calibration_moves_by_three_tenths_of_the_newest_logarithm() -> None:
    settings = Settings()
    dual = Dual(settings, 1.0, 10**6)
    dual.observe(1.0, 1.0)
    dual.calibrate(math.exp(-1.0), 1.0)
    assert dual.at(settings.target) == pytest.approx(math.exp(0.3), rel=1e-3)


def test_extensions_lower_the_dual_variable_beyond_the_bound_of_its_integral() -> None:
    settings = Settings()
    dual = Dual(settings, 1.0, 1)
    dual.observe(1.0, 1.0)
    for _ in range(10):
        before = dual.at(settings.target * math.e**3)  # far beyond ε: the integral falls to its bound
    dual.shift(-0.7)
    dual.shift(-0.7)
    assert dual.at(settings.target * math.e**3) == pytest.approx(before * math.exp(-1.4))
    assert dual.integral == pytest.approx(-math.log(settings.bound))
