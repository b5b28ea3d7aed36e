"""The sensitivity of each tensor: the distortion for each unit of squared error, measured by losses without gradients.

To second order, d(θ + δ) = Σ_t c_t·‖δ_t‖² for random errors δ. c_t is half of the mean curvature of the loss along the elements of tensor t.
It is measured by noise of a known size in one tensor. The mean over the noise and its negative has no first-order part: the gradient cancels.
If there are many tensors, those of one shape, which play one role, are measured together.
"""

import functools
import math
import sys
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nncomplexity.file import Constant
from nncomplexity.network import TensorSpec
from nncomplexity.search.batches import Minibatch
from nncomplexity.search.forms import AT_ONCE
from nncomplexity.search.scans import PARTS
from nncomplexity.search.trials import Trials

_FIRST = 2.0**-6
"""The first size of noise, relative to a tensor's root mean square."""
_AIMS = 3
"""Measurements to find the size of noise in all tensors at once that costs ε."""
_FAR = 30.0
"""A measurement is repeated with another size of noise if its distortion is too large or too small by more than this factor."""
_SMALL = 0.01
"""A group is small if it has less than this share of all numbers."""
_LEAST, _MOST = 1e-4, 1e4
"""Distortions are clipped to this range, relative to the wanted one: far below it, floating-point noise; far above, a ruined network."""

Groups = Sequence[Sequence[int]]
"""Indices of the tensors that share a sensitivity."""


def groups_of(specs: Sequence[TensorSpec], most: int) -> list[list[int]]:
    """Groups of tensors that play one role, at most `most` of them. If there are few tensors, each is a group.

    Matrices of one shape play one role, and so do vectors of one name, such as the biases of all layers. The largest groups are divided until
    there are `most` groups.

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
        # The smallest groups share one sensitivity: they have few bits to save.
        groups[most - 1 :] = [sorted(index for group in groups[most - 1 :] for index in group)]
    while len(groups) < min(most, len(specs)):
        # What is left of the allowed number tells layers of one role apart.
        largest = max((group for group in groups if len(group) > 1), key=size)
        place, half = groups.index(largest), len(largest) // 2
        groups[place : place + 1] = [largest[:half], largest[half:]]
    return groups


class Sensitivities:
    """The sensitivities c of the moving tensors, measured group by group.

    Args:
        trials: counts the losses.
        specs: the tensors.
        groups: the indices of the tensors that share a sensitivity.
        limit: the distortion that the errors of all tensors together should have.
        sample: the examples on which losses are measured.
    """

    def __init__(self, trials: Trials, specs: Sequence[TensorSpec], groups: Groups, limit: float, sample: Minibatch) -> None:
        self._trials, self._specs, self._groups, self._limit, self._sample = trials, specs, groups, limit, sample
        self._sizes = [_root_mean_square(trials.tensors.weights[spec.name]) for spec in specs]
        self._energies = [size**2 * spec.count for size, spec in zip(self._sizes, specs, strict=True)]
        self._seed = trials.problem.seed

    def equal(self) -> NDArray[np.float64]:
        """c (tensors, 3) with one value for all tensors, from noise in all of them at once."""
        energy = sum(self._energies)
        # Noise of this size in all tensors costs about the limit.
        c = self._limit / (self._noise**2 * energy) if energy else 1.0
        return np.full((len(self._specs), PARTS), c)

    def measured(self) -> NDArray[np.float64]:
        """c (tensors, 3), in units of the loss for each unit of the parts of a squared error (`nncomplexity.search.scans.PARTS`).

        The error of a low rank is treated as noise. In a group, equal relative errors cost the same. If the budget ends early, the remaining
        tensors have the value of `equal`.
        """
        found = self.equal()
        for group in self._groups:
            # The group's share of the limit is 1/√groups of it, and distortion grows with the square of the noise: hence the
            # fourth root.
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
        """Whether to measure the network without a group: the group is large, or its removal may cost little."""
        # To remove a small group saves few bits, and a measurement costs an evaluation.
        share = sum(self._specs[index].count for index in group) / sum(spec.count for spec in self._specs)
        return share > _SMALL or sum(c[index, 0] * self._energies[index] for index in group) < _FAR * self._limit

    def _known(self, group: Sequence[int], noise: float) -> tuple[float, float]:
        """The distortion of noise in a group, and the size of the noise. The distortion is NaN if the budget ended first.

        The size of the noise is adapted until the distortion is about the group's share of ε: c_t is then measured where it matters.
        """
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
        """The relative size of noise in all tensors at once at which the distortion is about the limit."""
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
        """The mean distortion of noise and of its negative."""
        signed = [self._distorted(group, sign * noise) for sign in (1, -1)]
        # If the gradient's part is much larger than the mean, the mean is a small difference of large numbers, and may even be negative.
        return max(sum(signed) / 2, 0.05 * sum(abs(one) for one in signed) / 2)

    def _without(self, group: Sequence[int]) -> float:
        """The distortion with some tensors set to zero; infinite if the loss is not finite."""
        device = self._trials.distortion.device
        zeros = {spec.name: Constant(0).decode(spec, device) for spec in (self._specs[index] for index in group)}
        cost = abs(self._trials.change(zeros, self._sample))
        return cost if math.isfinite(cost) else math.inf

    def _distorted(self, group: Sequence[int], noise: float) -> float:
        """The change of the loss by noise in some tensors."""
        noisy = {self._specs[index].name: self._noisy(index, noise) for index in group}
        return self._trials.change(noisy, self._sample)

    def _noisy(self, index: int, noise: float) -> Tensor:
        """A tensor plus normal noise. For one tensor the noise is always the same, except for its size and sign."""
        weight = self._trials.distortion.weights[self._specs[index].name]
        generator = torch.Generator().manual_seed(1_000_003 * self._seed + index)
        # Drawn on the CPU, so that all devices get the same noise.
        drawn = torch.randn(weight.shape, generator=generator, device="cpu").mul_(noise * self._sizes[index])
        room = torch.finfo(weight.dtype).max  # numbers of a mask may be at the end of the range
        noisy = torch.empty_like(weight, memory_format=torch.contiguous_format)
        parts = (torch.split(one.reshape(-1), AT_ONCE) for one in (weight, drawn.to(weight.device), noisy))
        for part, added, into in zip(*parts, strict=True):
            into.copy_((part.double() + added).clamp_(-room, room))
        return noisy


def _root_mean_square(weight: Tensor) -> float:
    # In parts, because a large tensor in float64 takes much memory.
    parts = torch.split(weight.reshape(-1), AT_ONCE)
    top = max(float(part.double().abs().max()) for part in parts)
    if not top:
        return 0.0
    means = torch.stack([(part.double() / top).square().mean() for part in parts])
    # The weights are exactly 1 for a tensor in one part.
    shares = torch.tensor([len(part) / weight.numel() for part in parts], dtype=torch.float64, device="cpu").to(means.device)
    return top * float((shares * means).sum().sqrt())
