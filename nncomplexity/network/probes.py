"""Weights with which a loss is tested: slightly changed ones, or random ones."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from zlib import crc32

import torch
from torch import Tensor

from nncomplexity.network.weights import is_finite

_CHANGE = 0.1
"""The largest relative change of an element."""
_FEW = 1 << 10
"""Tensors with at most this number of elements are changed together, because for each of them alone a generator takes most of the time."""


@dataclass(frozen=True)
class Probe(Mapping[str, Tensor]):
    """Changed weights. Each tensor is made when it is needed. Integers, and tensors with infinities, do not change."""

    weights: Mapping[str, Tensor]
    make: Callable[[Tensor, torch.Generator], Tensor]
    seed: int = 0
    made: Mapping[str, Tensor] = field(default_factory=dict)
    """Changed tensors that exist already."""

    def __getitem__(self, name: str) -> Tensor:
        if name in self.made:
            return self.made[name]
        tensor = self.weights[name]
        if not self.moves(name):
            return tensor
        # The seed depends on the name alone, so a tensor is the same however often and in whatever order it is asked for.
        generator = torch.Generator(device="cpu").manual_seed(crc32(name.encode(errors="surrogatepass")) + self.seed)
        wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
        return self.make(tensor.to(wide), generator).to(tensor.dtype)

    def moves(self, name: str) -> bool:
        """Whether the tensor of that name is changed."""
        tensor = self.weights[name]
        return tensor.is_floating_point() and bool(tensor.numel()) and is_finite(tensor)

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def changed(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Change each element by up to a tenth of itself. Signs and zeros do not change."""
    noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype, device="cpu")
    return noise.mul_(2 * _CHANGE).add_(1 - _CHANGE).mul_(tensor)


def slightly_changed(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A `Probe` with `changed` weights, in which small tensors of one dtype are changed in one operation. It is the same at each call."""
    alike: dict[torch.dtype, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        if 0 < tensor.numel() <= _FEW:
            alike.setdefault(tensor.dtype, {})[name] = tensor
    made: dict[str, Tensor] = {}
    for group in alike.values():
        every = Probe({"all": torch.cat([tensor.reshape(-1) for tensor in group.values()])}, changed)
        if every.moves("all"):  # with an infinity in one tensor, each is looked at alone
            parts = torch.split(every["all"], [tensor.numel() for tensor in group.values()])
            made |= {name: part.view(tensor.shape) for (name, tensor), part in zip(group.items(), parts, strict=True)}
    # A loss gets the tensors of a dictionary in less time.
    return {name: made[name] for name in weights} if len(made) == len(weights) else Probe(weights, changed, made=made)


def random(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers with the root mean square of the tensor.

    If the tensor has no negative numbers, they are not negative either, because the tensor may contain variances.
    """
    # A tensor of zeros, such as a new bias, changes too: it gets numbers with a root mean square of 1.
    scale = float(torch.linalg.vector_norm(tensor)) / math.sqrt(tensor.numel()) or 1.0
    noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype, device="cpu").mul_(scale)
    return noise if bool(tensor.amin() < 0) else noise.abs_()
