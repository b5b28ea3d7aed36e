"""The network with all weights zero. It gives a constant answer and takes 0 bits, so it is the reference for other networks."""

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from nncomplexity.errors import InputError
from nncomplexity.network.distortion import Distortion
from nncomplexity.network.weights import Skeleton, is_finite, skeleton_of


def constant(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same architecture with every floating-point and complex number set to zero.

    Integers, and tensors with infinities, do not change.

    >>> constant({"w": torch.ones(2), "calls": torch.tensor(3)})
    {'w': tensor([0., 0.]), 'calls': tensor(3)}
    """
    skeleton = skeleton_of(weights)
    return skeleton.expand(dict(_Zeroed(weights, skeleton)))


def constant_loss(distortion: Distortion) -> float | None:
    """L(0), the loss with all weights zero; None if it is not finite, or if the loss fails."""
    return _finite(lambda: distortion.loss(_Zeroed(distortion.weights, distortion.skeleton)))


def constant_loss_of(loss: Callable[[Mapping[str, Tensor]], float], weights: Mapping[str, Tensor]) -> float | None:
    """L(0) for a loss that takes tensors by name."""
    return _finite(lambda: loss(constant(weights)))


def _finite(loss: Callable[[], float]) -> float | None:
    try:
        found = loss()
    except InputError:  # the loss may fail for such weights; the measurement goes on without L(0)
        return None
    return found if math.isfinite(found) else None


def constant_risk(risk: Callable[[dict[str, Tensor]], float], weights: Mapping[str, Tensor]) -> float | None:
    """The risk with all weights zero; None if it is not in [0, 1], or if the function fails."""
    try:
        found = float(risk(constant(weights)))
    except KeyboardInterrupt:
        raise
    except BaseException:  # as above: the user's code may raise anything
        return None
    return found if 0 <= found <= 1 else None


class _Zeroed(Mapping[str, Tensor]):
    """All weights zero, by first name. Each tensor is made when it is needed, so a large network's zeros don't fill the memory."""

    def __init__(self, weights: Mapping[str, Tensor], skeleton: Skeleton) -> None:
        self._weights, self._specs = weights, {spec.name: spec for spec in skeleton.tensors}

    def __getitem__(self, name: str) -> Tensor:
        weight = self._weights[name]
        # Infinities, as in attention masks, are part of the architecture and not learned. Without them this would be another network.
        return torch.zeros_like(weight) if self._specs[name].quantizable and is_finite(weight) else weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)
