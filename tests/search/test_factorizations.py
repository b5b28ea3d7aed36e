"""The starts of a search: coarse tensors near the weights, in whichever basis they are."""

import math

import pytest
import torch

from nncomplexity.file import LowRank
from nncomplexity.network import TensorSpec
from nncomplexity.search.factorizations import Factorizations, Shape, latents_at
from nncomplexity.search.latent import Latent, coarse_of


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
