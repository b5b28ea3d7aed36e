"""Networks of known size: weights with a short description, with noise added that costs half of ε.

A family says how the weights are made. `Planted` draws such weights and adds up the bits that describe them; `noisy` adds the noise.
The distortion is the Kullback–Leibler divergence of the outputs, so that only the planted function itself is within ε.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from nncomplexity.network import MeanLoss

FAMILIES = ("sparse", "live", "low rank", "signs")
INPUTS, CLASSES, EXAMPLES = 20, 5, 3000
_HEADER = 24.0
"""Bits allowed for the scales of the layers, which no symbol describes."""
_DENSITY, _LIVE, _SPREAD = 0.1, 9, 0.7
"""The share of nonzero elements in a sparse matrix; live units in a layer; the standard deviation of the logarithm of a unit's scale."""


@dataclass(frozen=True)
class Planted:
    """A ReLU network of `depth` weight matrices. Its biases are zero."""

    family: str
    depth: int = 3
    width: int = 64
    rescaled: bool = False
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.family} {self.depth}×{self.width}{' rescaled' if self.rescaled else ''}"

    @cached_property
    def drawn(self) -> tuple[dict[str, Tensor], float]:
        """The planted weights, and the bits that describe them."""
        generator = Generator().manual_seed(self.seed)
        sizes = [INPUTS, *[self.width] * (self.depth - 1), CLASSES]
        live = [torch.arange(size) for size in sizes]
        weights, bits = dict[str, Tensor](), _HEADER
        if self.family == "live":
            live[1:-1] = [torch.randperm(size, generator=generator)[:_LIVE] for size in sizes[1:-1]]
            bits += sum(_choices(size, _LIVE) for size in sizes[1:-1])
        for layer in range(self.depth):
            columns, rows = sizes[layer : layer + 2]
            symbols, described = _DRAW[self.family](rows, columns, generator, live[layer + 1], live[layer])
            weights[f"{layer}.weight"] = symbols / (float(symbols.square().mean().sqrt()) * math.sqrt(columns))
            weights[f"{layer}.bias"] = torch.zeros(rows)
            bits += described
        last = f"{self.depth - 1}.weight"
        weights[last] *= 4 / float(logits(weights, self.inputs).std())
        return self._rescaled(weights, generator) if self.rescaled else weights, bits

    @cached_property
    def inputs(self) -> Tensor:
        return torch.randn(EXAMPLES, INPUTS, generator=Generator().manual_seed(99))

    def noisy(self, eps: float) -> dict[str, Tensor]:
        """The weights with noise that costs ε/2: this is the divergence of the planted network's outputs from the noisy network's."""
        weights, _ = self.drawn
        generators = {name: Generator().manual_seed(1000 * self.seed + index) for index, name in enumerate(weights)}
        noise = {name: torch.randn(weight.shape, generator=generators[name]) for name, weight in weights.items()}
        sizes = {name: float(weight.square().mean().sqrt()) or 0.01 for name, weight in weights.items()}
        low, high = 0.0, 1.0
        for _ in range(40):
            share = (low + high) / 2
            noisy = {name: weight + share * sizes[name] * noise[name] for name, weight in weights.items()}
            low, high = (low, share) if float(divergence(self.inputs, noisy)(weights)) > eps / 2 else (share, high)
        return noisy

    def _rescaled(self, weights: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        for layer in range(self.depth - 1):
            scale = (_SPREAD * torch.randn(self.width, generator=generator)).exp()
            weights[f"{layer}.weight"] = weights[f"{layer}.weight"] * scale[:, None]
            weights[f"{layer + 1}.weight"] = weights[f"{layer + 1}.weight"] / scale
        return weights


def logits(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """(m, classes) outputs of a perceptron whose tensors are numbered layer by layer."""
    for layer in range(len(weights) // 2):
        x = F.linear(F.relu(x) if layer else x, weights[f"{layer}.weight"], weights[f"{layer}.bias"])
    return x


def divergence(inputs: Tensor, original: dict[str, Tensor]) -> MeanLoss:
    """KL(original ‖ candidate) of the outputs, in nats per example."""

    def per_example(weights: dict[str, Tensor], x: Tensor, target: Tensor) -> Tensor:
        return F.kl_div(logits(weights, x).log_softmax(-1), target, log_target=True, reduction="none").sum(-1)

    return MeanLoss(per_example, inputs, logits(original, inputs).log_softmax(-1))


def entropy(symbols: Tensor) -> float:
    """Bits of the symbols by their own frequencies, plus ½·log₂ n for each frequency."""
    _, counts = torch.unique(symbols, return_counts=True)
    shares = counts.double() / symbols.numel()
    return float(-(counts * shares.log2()).sum()) + len(counts) * 0.5 * math.log2(symbols.numel())


def _choices(count: int, chosen: int) -> float:
    """log₂ of the number of ways to choose."""
    return math.log2(math.comb(count, chosen))


def _whole(*shape: int, generator: Generator, spread: float = 1.5) -> Tensor:
    return (torch.randn(*shape, generator=generator) * spread).round()


Drawn = tuple[Tensor, float]
"""Symbols (rows, columns) and the bits that describe them."""


def _sparse(rows: int, columns: int, generator: Generator, *_: Tensor) -> Drawn:
    count = round(_DENSITY * rows * columns)
    values = torch.randint(1, 4, (count,), generator=generator) * (2.0 * torch.randint(0, 2, (count,), generator=generator) - 1)
    symbols = torch.zeros(rows * columns)
    symbols[torch.randperm(rows * columns, generator=generator)[:count]] = values
    return symbols.reshape(rows, columns), entropy(values) + _choices(rows * columns, count)


def _live(_rows: int, _columns: int, generator: Generator, live_rows: Tensor, live_columns: Tensor) -> Drawn:
    block = torch.randint(-7, 8, (len(live_rows), len(live_columns)), generator=generator).float()
    symbols = torch.zeros(_rows, _columns)
    symbols[live_rows[:, None], live_columns] = block
    return symbols, entropy(block)


def _low_rank(rows: int, columns: int, generator: Generator, *_: Tensor) -> Drawn:
    A, B = _whole(rows, 3, generator=generator), _whole(3, columns, generator=generator)
    return A @ B, entropy(A) + entropy(B)


def _signs(rows: int, columns: int, generator: Generator, *_: Tensor) -> Drawn:
    symbols = 2.0 * torch.randint(0, 2, (rows, columns), generator=generator) - 1
    return symbols, entropy(symbols)


_DRAW: dict[str, Callable[..., Drawn]] = dict(zip(FAMILIES, (_sparse, _live, _low_rank, _signs), strict=True))
