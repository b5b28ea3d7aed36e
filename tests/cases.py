"""Networks and losses that several test files measure. Each one is made from its own random generator, so tests share no state."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

MANY_EPS = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003]
Weights = dict[str, Tensor]


def two_layers(
    seed: int = 0, hidden: int = 24, classes: int = 4, features: int = 12
) -> tuple[Weights, Callable[[Mapping[str, Tensor]], Tensor]]:
    """A trained network of two layers and its loss, a cross-entropy; seeds give different data."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, features, generator=generator)
    y = (x @ torch.randn(features, classes, generator=generator)).argmax(1)
    weights = {
        "one": torch.randn(hidden, features, generator=generator) / features**0.5,
        "bias": torch.zeros(hidden),
        "two": torch.randn(classes, hidden, generator=generator) / hidden**0.5,
    }
    for tensor in weights.values():
        tensor.requires_grad_()
    optimizer = torch.optim.Adam(weights.values(), lr=0.03)

    def loss(weights: Mapping[str, Tensor]) -> Tensor:
        return cross_entropy(torch.relu(x @ weights["one"].T + weights["bias"]) @ weights["two"].T, y)

    for _ in range(60):
        optimizer.zero_grad()
        loss(weights).backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in weights.items()}, loss


def without_gradient(loss: Callable[[Any], Tensor]) -> Callable[[Any], float]:
    """The same loss as numbers, which have no gradient."""
    return lambda weights: float(loss(weights).detach())


def cross_entropy_of(inputs: Tensor, labels: Tensor) -> Callable[[nn.Module], Tensor]:
    """The loss of a module that gives logits (n, classes) for inputs (n, ...)."""
    return lambda model: cross_entropy(model(inputs), labels)


def mean_square(weights: Mapping[str, Tensor]) -> Tensor:
    """The mean of the squares of one tensor, `w`."""
    return weights["w"].square().mean()


def to_identity(weights: Mapping[str, Tensor]) -> Tensor:
    """The mean squared distance of the tensor `weight` (3, 6) from the identity, as in the training of `tests.training_run`."""
    return ((weights["weight"] - torch.eye(3, 6)) ** 2).mean()


def to_zero(network: Any) -> Tensor:
    """The mean square of a module's outputs for fixed inputs of six features, or of the tensor `weight` of a mapping."""
    if isinstance(network, nn.Module):
        return network(torch.linspace(-1, 1, 24).reshape(4, 6)).square().mean()
    return network["weight"].square().mean()


def dying(network: Any) -> Tensor:
    """A loss that ends the process."""
    os._exit(9)
