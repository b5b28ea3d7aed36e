"""The starts of a search: coarse tensors near the weights, in whichever basis they are."""

import math

import pytest
import torch

from nncomplexity.file import Dense, LowRank
from nncomplexity.network import TensorSpec
from nncomplexity.search.factorizations import Factorizations, Shape, latents_at
from nncomplexity.search.latent import Latent, candidate_of, coarse_of, on_grid


@pytest.mark.parametrize("rows", [24, 29, 40, 97])
def test_a_matrix_of_waves_begins_as_a_few_waves_at_the_weights(rows: int) -> None:
    angles = 2 * math.pi * torch.arange(rows, dtype=torch.float64) / rows
    columns = torch.randn(4, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.stack([wave(k * angles) for k in (2, 5) for wave in (torch.cos, torch.sin)], 1) @ columns
    spec, weights = TensorSpec(("w",), (rows, 12), torch.float64), {"w": weight}
    (latent,) = latents_at(Shape(4, 0.01), [spec], weights, Factorizations(weights))
    (coarse,) = coarse_of([latent]).values()
    assert isinstance(coarse, LowRank)
    assert coarse.periods[0] == rows
    assert (coarse.A.any(1)).sum() <= 8
    torch.testing.assert_close(coarse.decode(spec), weight, atol=0.05, rtol=0)


def test_components_without_a_symbol_in_one_factor_are_left_out_and_the_others_are_in_order_of_size() -> None:
    A = torch.tensor([[1.0, 0.0, 3.0, 1.0], [0.0, 0.0, 2.0, 2.0], [0.0, 0.0, -4.0, 0.0]])
    B = torch.tensor([[1.0, 1.0], [5.0, 5.0], [1.0, 0.0], [0.0, 2.0]])
    spec = TensorSpec(("w",), (3, 2), torch.float32)
    (coarse,) = coarse_of([Latent(spec, [A, B], math.log(0.25))]).values()
    assert isinstance(coarse, LowRank)
    assert coarse.A.tolist() == A[:, [2, 3, 0]].tolist()  # magnitudes of 9, 3 and 1; the second has none
    assert coarse.B.tolist() == B[[2, 3, 0]].tolist()
    torch.testing.assert_close(coarse.decode(spec), 0.25 * A @ B)


@pytest.mark.parametrize("rank", [0, 3])
def test_latents_on_the_grid_are_the_same_weights_in_a_file(rank: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "w": torch.randn(24, 3, generator=generator, dtype=torch.float64)
        @ torch.randn(3, 20, generator=generator, dtype=torch.float64)
    }
    spec = TensorSpec(("w",), (24, 20), torch.float64)
    latents = on_grid(latents_at(Shape(rank, 2.0**-12), [spec], weights, Factorizations(weights)))
    (coarse,) = candidate_of(latents).values()
    assert isinstance(coarse, LowRank if rank else Dense)
    assert (coarse.decode(spec) - weights["w"]).abs().max() < 0.001 * weights["w"].square().mean().sqrt()
