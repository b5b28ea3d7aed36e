"""Weights to try a loss on: every one a little other than the original's, or nothing like it."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor

from nncomplexity.weights import is_finite

_CHANGE = 0.1
"""By how much of itself an element is changed at most."""


@dataclass(frozen=True)
class Probe(Mapping[str, Tensor]):
    """Weights in place of others, made when they are asked for. Integers, and tensors that hold infinities, stay as they are."""

    weights: Mapping[str, Tensor]
    make: Callable[[Tensor, torch.Generator], Tensor]
    seed: int = 0

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.weights[name]
        if not self.moves(name):
            return tensor
        generator = torch.Generator(device="cpu").manual_seed(crc32(name.encode(errors="surrogatepass")) + self.seed)
        return self.make(tensor.double(), generator).to(tensor.dtype)

    def moves(self, name: str) -> bool:
        """Whether the tensor of that name is another one here."""
        tensor = self.weights[name]
        return tensor.is_floating_point() and bool(tensor.numel()) and is_finite(tensor)

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def changed(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Each element by up to a tenth of itself: signs stay, and so do zeros."""
    noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64, device="cpu")
    return tensor * (1 + _CHANGE * (2 * noise - 1))


def random(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers as large as the tensor's, none of them negative where its own aren't, as variances may not be."""
    scale = math.sqrt(float(tensor.square().mean())) or 1.0
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64, device="cpu") * scale
    return noise if bool((tensor < 0).any()) else noise.abs()
