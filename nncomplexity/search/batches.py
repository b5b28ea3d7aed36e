"""Minibatches: the examples of each step of a descent, if the loss is a mean over examples."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nncomplexity.network import GRADIENT_COST, Distortion


@dataclass(frozen=True)
class Minibatch:
    """The rows of the examples, None for all examples, and the original network's loss on them."""

    rows: Tensor | None
    original: float


class Batches:
    """A fixed division of the examples into minibatches, whose order is new in each epoch.

    The division is fixed because a distortion needs the original network's loss on the same examples. It is measured once for each minibatch.

    Args:
        distortion: the loss.
        size: the least number of examples in a minibatch. With fewer than twice as many examples, each step uses all of them.
        seed: of the division and of the order.
    """

    def __init__(self, distortion: Distortion, size: int, seed: int) -> None:
        self._distortion, self._size, self._seed = distortion, size, seed
        self._generator = torch.Generator().manual_seed(seed)
        examples = distortion.examples
        count = 1 if examples is None else max(1, examples // size)
        self._parts: Sequence[Tensor] = ()
        if examples is not None and count > 1:
            self._parts = torch.randperm(examples, generator=self._generator, device="cpu").chunk(count)
        # The divergence of a network from itself is 0; other losses of the original are measured when they are needed.
        self._originals: dict[int, float] = dict.fromkeys(range(len(self._parts)), 0.0) if distortion.divergence is not None else {}
        self._order: list[int] = []

    @functools.cached_property
    def share(self) -> float:
        """The share of the examples in the largest minibatch. It is also the cost of a loss on it, in evaluations."""
        return max(map(len, self._parts)) / sum(map(len, self._parts)) if self._parts else 1.0

    @property
    def cost(self) -> float:
        """The evaluations that a step may take: a gradient, and the original's loss as long as it isn't known of every minibatch."""
        known = len(self._originals) == len(self._parts)
        return self.share * (GRADIENT_COST if known else GRADIENT_COST + 1)

    def doubled(self) -> "Batches":
        """A division into minibatches of twice the size."""
        return Batches(self._distortion, 2 * self._size, self._seed)

    def next(self) -> Minibatch:
        """The next minibatch."""
        if not self._parts:
            return Minibatch(None, self._distortion.original)
        self._order = self._order or torch.randperm(len(self._parts), generator=self._generator, device="cpu").tolist()
        return self._batch(self._order.pop())

    def sample(self) -> Minibatch:
        """One minibatch, always the same."""
        return self._batch(0) if self._parts else Minibatch(None, self._distortion.original)

    def _batch(self, index: int) -> Minibatch:
        rows = self._parts[index]
        if index not in self._originals:
            self._originals[index] = self._distortion.loss(self._distortion.weights, rows)
        return Minibatch(rows, self._originals[index])
