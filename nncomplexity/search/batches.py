"""The examples of each step of a descent: all of them, or a part where the loss can be divided."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nncomplexity.network import Distortion


@dataclass(frozen=True)
class Batch:
    """Rows of the examples, None for all, and the original's loss on them."""

    rows: Tensor | None
    original: float


class Batches:
    """A fixed division of the examples, taken in an order that changes each time through.

    Fixed, since the original's loss on the same examples is then measured once: a distortion on a part is the difference of two losses on it.

    Args:
        distortion: the counted loss.
        size: examples of a part, at least; all where there are fewer than twice as many.
        seed: of the division and its order.
    """

    def __init__(self, distortion: Distortion, size: int, seed: int) -> None:
        self._distortion, self._size, self._seed = distortion, size, seed
        self._generator = torch.Generator().manual_seed(seed)
        examples = distortion.examples
        count = 1 if examples is None else max(1, examples // size)
        self._parts: Sequence[Tensor] = ()
        if examples is not None and count > 1:
            self._parts = torch.randperm(examples, generator=self._generator, device="cpu").chunk(count)
        self._originals: dict[int, float] = {}
        self._order: list[int] = []

    @property
    def share(self) -> float:
        """The share of the examples in one part, which is what its loss costs in evaluations."""
        return 1.0 / len(self._parts) if self._parts else 1.0

    def doubled(self) -> "Batches":
        """A division into parts of twice as many examples."""
        return Batches(self._distortion, 2 * self._size, self._seed)

    def next(self) -> Batch:
        """The next part."""
        if not self._parts:
            return Batch(None, self._distortion.original)
        self._order = self._order or torch.randperm(len(self._parts), generator=self._generator, device="cpu").tolist()
        index = self._order.pop()
        if index not in self._originals:
            known = self._distortion.divergence is not None  # of a network from itself it is 0 on any inputs
            rows = self._parts[index]
            self._originals[index] = 0.0 if known else self._distortion.loss(self._distortion.weights, rows)
        return Batch(self._parts[index], self._originals[index])
