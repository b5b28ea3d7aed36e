"""How much distortion a squared error of a tensor costs, measured by losses alone.

To second order d(θ + δ) = Σ_t c_t·‖δ_t‖² for errors δ that are random: c_t is the mean curvature of the loss along a tensor's elements. Noise
of a known size in one tensor, and its mirror image, in which the gradient's part cancels, show it. Where there are many tensors those of one
shape, which play one role, share their probes.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nncomplexity.search.trials import Trials
from nncomplexity.weights import TensorSpec

_FIRST = 2.0**-6
"""Noise relative to a tensor's root mean square, to begin with."""
_AIMS = 3
"""Measurements that look for the size of noise in all tensors at once which costs ε."""
_FAR = 30.0
"""How many times as much as was wanted, or as little, sends a probe back with another size of noise."""
_LEAST = 1e-4
"""The least that a probe counts for, in shares of what was wanted: distortions far below ε are noise of the arithmetic."""

Groups = Sequence[Sequence[int]]
"""Indices of the tensors that share a sensitivity."""


def groups_of(specs: Sequence[TensorSpec], most: int) -> list[list[int]]:
    """At most so many groups: single tensors where these are few, else those of one shape, the largest groups cut in two as often as they may.

    >>> small, large = TensorSpec(("b",), (3,), torch.float32), TensorSpec(("w",), (3, 3), torch.float32)
    >>> groups_of([small, large, small, large], most=3)
    [[1], [3], [0, 2]]
    """
    shapes: dict[tuple[int, ...], list[int]] = {}
    for index, spec in enumerate(specs):
        shapes.setdefault(spec.shape, []).append(index)

    def size(group: Sequence[int]) -> int:
        return sum(specs[index].count for index in group)

    groups = sorted(shapes.values(), key=size, reverse=True)
    groups[most - 1 :] = [sorted(sum(groups[most - 1 :], []))] if len(groups) > most else groups[most - 1 :]
    while len(groups) < min(most, len(specs)):
        largest = max((group for group in groups if len(group) > 1), key=size)
        place, half = groups.index(largest), len(largest) // 2
        groups[place : place + 1] = [largest[:half], largest[half:]]
    return groups


class Sensitivities:
    """c_t of each of the tensors that move, group by group.

    Args:
        trials: where losses are counted.
        specs: the tensors.
        groups: which of them share a sensitivity.
        limit: the distortion that errors in all tensors together are to reach.
    """

    def __init__(self, trials: Trials, specs: Sequence[TensorSpec], groups: Groups, limit: float) -> None:
        self._trials, self._specs, self._groups, self._limit = trials, specs, groups, limit
        self._sizes = [_root_mean_square(trials.tensors.weights[spec.name]) for spec in specs]
        self._seed = trials.problem.seed

    def measured(self) -> NDArray[np.float64]:
        """(tensors,) nats for each unit of squared error; 1 where the budget has ended before."""
        relative = self._common_noise()
        found = np.ones(len(self._specs))
        wanted = self._limit / math.sqrt(len(self._groups))
        for group in self._groups:
            noise, cost = relative * len(self._groups) ** 0.25, math.nan
            for _ in range(2):
                if self._trials.left < 2:
                    return found
                cost = self._probe(group, noise)
                if _LEAST * wanted < cost * _FAR and cost < _FAR * wanted and cost * _FAR > wanted:
                    break
                noise *= math.sqrt(min(_FAR, max(1 / _FAR, wanted / max(cost, 1e-300)))) if math.isfinite(cost) else 1 / _FAR
            cost = max(cost, _LEAST * wanted) if math.isfinite(cost) else _FAR * wanted
            error = sum((noise * self._sizes[index]) ** 2 * self._specs[index].count for index in group)
            found[list(group)] = cost / error if error else 1.0
        return found

    def _common_noise(self) -> float:
        """The relative size of noise in all tensors at once whose distortion is about the limit."""
        noise = _FIRST
        for _ in range(_AIMS):
            if self._trials.left < 1:
                break
            cost = abs(self._distorted(range(len(self._specs)), noise))
            ratio = self._limit / cost if cost > 0 and math.isfinite(cost) else (16.0**2 if cost == 0 else 16.0**-2)
            noise *= math.sqrt(min(16.0**2, max(16.0**-2, ratio)))
            if 0.25 < ratio < 4:
                break
        return noise

    def _probe(self, group: Sequence[int], noise: float) -> float:
        """The mean distortion of noise and its mirror image."""
        signed = [self._distorted(group, sign * noise) for sign in (1, -1)]
        return max(sum(signed) / 2, 0.05 * sum(abs(one) for one in signed) / 2)

    def _distorted(self, group: Sequence[int], noise: float) -> float:
        """What noise in some tensors adds to the loss."""
        distortion = self._trials.distortion
        noisy = {self._specs[index].name: self._noisy(index, noise) for index in group}
        return distortion.loss(_Changed(distortion.weights, noisy)) - distortion.original

    def _noisy(self, index: int, noise: float) -> Callable[[Tensor], Tensor]:
        """A weight with noise of its own, which is the same each time but for its size."""

        def added(weight: Tensor) -> Tensor:
            generator = torch.Generator().manual_seed(1_000_003 * self._seed + index)
            drawn = torch.randn(weight.shape, generator=generator, device="cpu").mul_(noise * self._sizes[index])
            return (weight.double() + drawn.to(weight.device)).to(weight.dtype)

        return added


class _Changed(Mapping[str, Tensor]):
    """Tensors of which some are changed, each whenever it is asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], changes: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        self._tensors, self._changes = tensors, changes

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        return self._changes[name](tensor) if name in self._changes else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _root_mean_square(weight: Tensor) -> float:
    top = float(weight.abs().max())
    return top * float((weight.double() / top).square().mean().sqrt()) if top else 0.0
