"""The trust region of a descent: which steps are taken back, and what is left of them."""

import math

import pytest
import torch

from nncomplexity.network import TensorSpec
from nncomplexity.search.blocks import Block
from nncomplexity.search.latent import Latent
from nncomplexity.search.trust import TrustRegion


def block_of(*values: float) -> Block:
    return Block([Latent(TensorSpec(("w",), (len(values),), torch.float32), [torch.tensor(values)], 0.0)], lean=False)


def numbers(block: Block) -> list[float]:
    return block.latents[0].parts[0].tolist()


@pytest.mark.parametrize(
    ("eps", "nothing", "limit"),
    [(1.0, 4.0, 2.0), (0.1, 4.0, math.sqrt(0.4)), (0.001, 4.0, 0.01), (1.0, 0.5, 1.0), (0.1, math.inf, 1.0)],
)
def test_the_region_ends_halfway_to_a_network_that_has_learned_nothing(eps, nothing, limit) -> None:
    for distortion, leaves in ((limit * 0.999, False), (limit * 1.001, True)):
        trust, block = TrustRegion(eps, 0.95 * eps, nothing), block_of(1.0)
        trust.begin([block])
        assert trust.leaves(distortion, [block]) is leaves


def test_a_step_that_leaves_is_taken_back_to_the_last_latents_within_the_target() -> None:
    trust, block = TrustRegion(0.1, 0.095, 4.0), block_of(1.0, 2.0)
    trust.begin([block])
    for change, distortion in ((1.0, 0.05), (1.0, 0.2)):
        block.latents[0].parts[0].add_(change)
        block.latents[0].log_scale += change
        assert not trust.leaves(distortion, [block])
    assert trust.leaves(5.0, [block])
    assert numbers(block) == [2.0, 3.0]  # after the first change: the second was within the region, but not within the target
    assert block.latents[0].log_scale == 1.0


def test_a_step_that_is_taken_back_leaves_no_momentum() -> None:
    trust, block, fresh = TrustRegion(0.1, 0.095, 4.0), block_of(1.0, 2.0), block_of(1.0, 2.0)
    trust.begin([block])
    block.move(torch.tensor([3.0, -1.0]), torch.zeros(2), 0.1)
    assert trust.leaves(5.0, [block])
    for each in (block, fresh):
        each.move(torch.tensor([1.0, 1.0]), torch.zeros(2), 0.1)
    assert numbers(block) == numbers(fresh)


def test_the_learning_rate_is_halved_and_grows_again() -> None:
    trust, block = TrustRegion(0.1, 0.095, 4.0), block_of(1.0)
    trust.begin([block])
    assert trust.factor == 1
    for _ in range(20):
        trust.leaves(5.0, [block])
    assert trust.factor == 1 / 64
    assert not trust.leaves(5.0, [block])  # no step is taken back any more
    for _ in range(40):
        trust.leaves(0.01, [block])
    assert trust.factor == 1
