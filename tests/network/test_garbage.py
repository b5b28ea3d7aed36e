"""Garbage collection during a search."""

import gc

import pytest
import torch

from nncomplexity import estimate
from nncomplexity.errors import InputError
from nncomplexity.network.garbage import collected_each_few_evaluations


def test_a_network_of_many_tensors_is_collected_as_rarely_as_its_evaluations_need() -> None:
    before = gc.get_threshold()
    inside: list[int] = []

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        inside.append(gc.get_threshold()[0])
        return torch.stack([weight.square().sum() for weight in weights.values()]).mean()

    estimate({f"w{place}": torch.ones(2) * place for place in range(400)}, loss, eps=0.1, method="quantize", budget=4)
    assert set(inside) == {max(before[0], 2000)}
    assert gc.get_threshold() == before


def test_few_tensors_change_nothing_and_an_error_restores_the_threshold() -> None:
    before = gc.get_threshold()
    with collected_each_few_evaluations(3):
        assert gc.get_threshold() == before

    def loss(weights: dict[str, torch.Tensor]) -> float:
        raise ValueError("no")

    with pytest.raises(InputError, match="ValueError: no"):
        estimate({f"w{place}": torch.ones(2) for place in range(400)}, loss, eps=0.1)
    assert gc.get_threshold() == before


def test_collections_that_are_off_stay_off() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with collected_each_few_evaluations(10**6):
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
