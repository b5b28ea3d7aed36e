"""A distortion over tensors in pieces has, for each of its parts, the pieces of what it had for the whole tensors."""

import pytest
import torch
from torch import Tensor

from nncomplexity.network import Distortion, base_of
from nncomplexity.network.layout import Blocks
from tests.cases import mean_square


def weights(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(6, 4, generator=generator), "other": torch.randn(3, generator=generator)}


@pytest.mark.parametrize("on_base", [False, True])
def test_pieces_of_what_is_coded_are_those_of_the_differences_on_a_base(on_base: bool) -> None:
    base = base_of(weights(1), "relative_to") if on_base else None
    with Distortion(weights(0), mean_square, base) as distortion:
        pieces = distortion.laid_out({"w": Blocks(0, 2)})
        for whole, apart in ((distortion.coded, pieces.coded), (distortion.weights, pieces.weights)):
            assert torch.equal(torch.cat([apart["w[0]"], apart["w[1]"]]), whole["w"])
            assert torch.equal(apart["other"], whole["other"])
        differences = weights(0)["w"].double() - weights(1)["w"].double() if on_base else weights(0)["w"]
        assert torch.equal(torch.cat([pieces.coded["w[0]"], pieces.coded["w[1]"]]), differences)
        assert [spec.name for spec in pieces.skeleton.tensors] == ["w[0]", "w[1]", "other"]
        assert pieces.loss(pieces.weights) == distortion.original
