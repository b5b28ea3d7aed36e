"""How much distortion a squared error of a tensor costs, measured by losses alone.

To second order d(θ + δ) = Σ_t c_t·‖δ_t‖² for errors δ that are random: c_t is the mean curvature of the loss along a tensor's elements. Noise
of a known size in one tensor, and its mirror image, in which the gradient's part cancels, show it. Where there are many tensors those of one
shape, which play one role, share their probes.
"""

import functools
import math
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nncomplexity.file import Constant
from nncomplexity.network import TensorSpec
from nncomplexity.search.scans import PARTS
from nncomplexity.search.trials import Trials

_FIRST = 2.0**-6
"""Noise relative to a tensor's root mean square, to begin with."""
_AIMS = 3
"""Measurements that look for the size of noise in all tensors at once which costs ε."""
_FAR = 30.0
"""How many times as much as was wanted, or as little, sends a probe back with another size of noise."""
_SMALL = 0.01
"""The share of all numbers below which a group is small."""
_LEAST, _MOST = 1e-4, 1e4
"""What a distortion counts for at least and at most, in shares of what was wanted: far below it is noise of the arithmetic, far above ruin."""

Groups = Sequence[Sequence[int]]
"""Indices of the tensors that share a sensitivity."""


def groups_of(specs: Sequence[TensorSpec], most: int) -> list[list[int]]:
    """At most so many groups of tensors that play one role: single ones where these are few.

    Matrices of one shape play one role, and so do vectors by one name, such as the biases of all layers. The largest groups are cut in two as
    often as they may be.

    >>> small, large = TensorSpec(("0.bias",), (3,), torch.float32), TensorSpec(("0.weight",), (3, 3), torch.float32)
    >>> groups_of([small, large, small, large], most=3)
    [[1], [3], [0, 2]]
    """
    roles: dict[Hashable, list[int]] = {}
    for index, spec in enumerate(specs):
        role = spec.name.rpartition(".")[2], spec.shape if len(spec.shape) > 1 else ()
        roles.setdefault(role, []).append(index)

    def size(group: Sequence[int]) -> int:
        return sum(specs[index].count for index in group)

    groups = sorted(roles.values(), key=size, reverse=True)
    if len(groups) > most:
        groups[most - 1 :] = [sorted(index for group in groups[most - 1 :] for index in group)]
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
        self._energies = [size**2 * spec.count for size, spec in zip(self._sizes, specs, strict=True)]
        self._seed = trials.problem.seed

    def equal(self) -> NDArray[np.float64]:
        """(tensors, 3) one sensitivity for all: that which noise in all tensors at once shows."""
        energy = sum(self._energies)
        c = self._limit / (self._noise**2 * energy) if energy else 1.0
        return np.full((len(self._specs), PARTS), c)

    def measured(self) -> NDArray[np.float64]:
        """(tensors, 3) nats for each unit of the parts of a squared error, what a low rank leaves out taken for noise.

        Tensors of one group share what a relative error costs. Those that the budget doesn't last for have the sensitivity of all.
        """
        found = self.equal()
        for group in self._groups:
            noise = self._noise * len(self._groups) ** 0.25
            cost, noise = self._known(group, noise)
            for index in group if math.isfinite(cost) else ():
                energy = max(len(group) * self._energies[index], sys.float_info.min)
                found[index] = cost / (noise**2 * energy)
            if self._trials.left >= 1 and self._matters(group, found):
                without = min(max(self._without(group), _LEAST * self._limit), _MOST * self._limit)
                for index in group:
                    found[index, 1] = without / max(len(group) * self._energies[index], sys.float_info.min)
        return found

    def _matters(self, group: Sequence[int], c: NDArray[np.float64]) -> bool:
        """Whether a group is large, or may do without, so that it is worth a measurement what it does without."""
        share = sum(self._specs[index].count for index in group) / sum(spec.count for spec in self._specs)
        return share > _SMALL or sum(c[index, 0] * self._energies[index] for index in group) < _FAR * self._limit

    def _known(self, group: Sequence[int], noise: float) -> tuple[float, float]:
        """The distortion of noise in a group, and its size: such that the distortion is a fair share of ε; NaN where none was measured."""
        wanted, cost = self._limit / math.sqrt(len(self._groups)), math.nan
        for last in (False, False, True):
            if self._trials.left < 2:
                break
            cost = self._probe(group, noise)
            if last or wanted < cost * _FAR < wanted * _FAR**2:
                break
            ratio = wanted / cost if cost > 0 and math.isfinite(cost) else (_FAR**2 if cost == 0 else _FAR**-2)
            noise *= math.sqrt(min(_FAR**2, max(_FAR**-2, ratio)))
        return (max(cost, _LEAST * wanted) if math.isfinite(cost) else cost), noise

    @functools.cached_property
    def _noise(self) -> float:
        """The relative size of noise in all tensors at once whose distortion is about the limit."""
        noise = _FIRST
        for _ in range(_AIMS):
            if self._trials.left < 1:
                break
            cost = abs(self._distorted(range(len(self._specs)), noise))
            ratio = self._limit / cost if cost > 0 and math.isfinite(cost) else (_FAR**2 if cost == 0 else _FAR**-2)
            noise *= math.sqrt(min(_FAR**2, max(_FAR**-2, ratio)))
            if 0.25 < ratio < 4:
                break
        return noise

    def _probe(self, group: Sequence[int], noise: float) -> float:
        """The mean distortion of noise and its mirror image."""
        signed = [self._distorted(group, sign * noise) for sign in (1, -1)]
        return max(sum(signed) / 2, 0.05 * sum(abs(one) for one in signed) / 2)

    def _without(self, group: Sequence[int]) -> float:
        """The distortion without some tensors; infinite where the loss is no number."""
        distortion = self._trials.distortion
        zeros = {spec.name: Constant(0).decode(spec, distortion.device) for spec in (self._specs[index] for index in group)}
        cost = abs(distortion.loss(Overlaid(zeros, distortion.weights)) - distortion.original)
        return cost if math.isfinite(cost) else math.inf

    def _distorted(self, group: Sequence[int], noise: float) -> float:
        """What noise in some tensors adds to the loss."""
        distortion = self._trials.distortion
        noisy = {self._specs[index].name: self._noisy(index, noise) for index in group}
        return distortion.loss(Overlaid(noisy, distortion.weights)) - distortion.original

    def _noisy(self, index: int, noise: float) -> Tensor:
        """A weight with noise of its own, which is the same each time but for its size."""
        weight = self._trials.distortion.weights[self._specs[index].name]
        generator = torch.Generator().manual_seed(1_000_003 * self._seed + index)
        drawn = torch.randn(weight.shape, generator=generator, device="cpu").mul_(noise * self._sizes[index])
        room = torch.finfo(weight.dtype).max  # what a mask holds may be at the end of the range
        return (weight.double() + drawn.to(weight.device)).clamp_(-room, room).to(weight.dtype)


class Overlaid(Mapping[str, Tensor]):
    """Tensors, some of which others take the place of."""

    def __init__(self, over: Mapping[str, Tensor], under: Mapping[str, Tensor]) -> None:
        self._over, self._under = over, under

    def __getitem__(self, name: str) -> Tensor:
        return self._over[name] if name in self._over else self._under[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._under)

    def __len__(self) -> int:
        return len(self._under)


def _root_mean_square(weight: Tensor) -> float:
    weight = weight.double()
    top = float(weight.abs().max())
    return top * float((weight / top).square().mean().sqrt()) if top else 0.0
