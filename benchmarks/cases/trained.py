"""Networks that are trained here, in seconds each. No setting of a search was chosen on them.

They are of different kinds: perceptrons, a convolutional network, a recurrent one, a regression, random labels, and modular addition before
and after it generalises. Each is trained from its own seed, so that it is the same on each run of one machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncomplexity import Divergence, loss_from
from nncomplexity.network import MeanLoss

PRIME = 37
"""The modulus of the addition."""
_SEED = 40
"""Of all initial weights, data and batches. Networks from other seeds, and addition modulo 31, were used to choose the starts of `tight`."""


@dataclass(frozen=True)
class Trained:
    """A trained network, its training inputs and its targets."""

    network: nn.Module
    inputs: Tensor
    targets: Tensor

    @property
    def loss(self) -> MeanLoss:
        """The mean loss on the training examples: cross-entropy in nats, or the squared error of a regression."""
        return loss_from(_squared_error if self.targets.is_floating_point() else _cross_entropy, (self.inputs, self.targets))

    @property
    def divergence(self) -> Divergence:
        """The KL divergence of the outputs from the original's on the training inputs, nats per example."""
        return Divergence(lambda network, x: network(x), self.inputs, probe=0)


class Recurrent(nn.Module):
    """Reads the eight rows of a digit, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRU(8, 40, batch_first=True), nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (m, 10) of digits (m, 64)."""
        states: Tensor = self.cell(x.view(-1, 8, 8))[0]
        logits: Tensor = self.out(states[:, -1])
        return logits


class Addition(nn.Module):
    """A perceptron over the embeddings of two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(PRIME, 64)
        self.hidden, self.out = nn.Linear(128, 128), nn.Linear(128, PRIME)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (m, PRIME) of pairs (m, 2)."""
        logits: Tensor = self.out(F.relu(self.hidden(self.embedding(x).flatten(1))))
        return logits


@cache
def trained(name: str, share: float = 1.0) -> Trained:
    """The network with this name, after this share of its training. Smaller shares are checkpoints of the same training."""
    torch.manual_seed(_SEED)
    return _MAKERS[name](share)


def untrained(name: str) -> Trained:
    """The same network before its training."""
    return trained(name, 0.0)


def _cross_entropy(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(network(x), y, reduction="none")


def _squared_error(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (network(x) - y).square().flatten()


def _fitted(
    network: nn.Module, x: Tensor, y: Tensor, steps: float, rate: float = 2e-3, decay: float = 0.01, batch: int | None = 128
) -> Trained:
    """The network after some steps of AdamW on batches, or on all examples."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    generator = torch.Generator().manual_seed(_SEED + 1)
    loss = _squared_error if y.is_floating_point() else _cross_entropy
    for _ in range(round(steps)):
        rows = torch.randint(len(x), (batch,), generator=generator) if batch else torch.arange(len(x))
        optimizer.zero_grad()
        loss(network, x[rows], y[rows]).mean().backward()
        optimizer.step()
    return Trained(network.eval(), x, y)


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(_SEED + 2))[:1400]
    return torch.tensor(data.data, dtype=torch.float32)[order] / 16, torch.tensor(data.target)[order]


def _perceptron(share: float) -> Trained:
    return _fitted(nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10)), *_digits(), share * 1500)


def _convolutional(share: float) -> Trained:
    x, y = _digits()
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 16, 10),
    )
    return _fitted(network, x.view(-1, 1, 8, 8), y, share * 800)


def _recurrent(share: float) -> Trained:
    return _fitted(Recurrent(), *_digits(), share * 1500, rate=4e-3)


def _random_labels(share: float) -> Trained:
    generator = torch.Generator().manual_seed(_SEED + 3)
    x, y = torch.randn(300, 24, generator=generator), torch.randint(3, (300,), generator=generator)
    return _fitted(nn.Sequential(nn.Linear(24, 48), nn.Tanh(), nn.Linear(48, 3)), x, y, share * 1200, rate=5e-3, batch=None)


def _regression(share: float) -> Trained:
    x = torch.rand(800, 3, generator=torch.Generator().manual_seed(_SEED + 4)) * 4 - 2
    y = torch.sin(2 * x[:, :1]) * x[:, 1:2] + x[:, 2:] ** 2
    network = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    return _fitted(network, x, y, share * 3000)


def _addition(steps: float, decay: float) -> Trained:
    pairs = torch.cartesian_prod(torch.arange(PRIME), torch.arange(PRIME))
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(_SEED + 5))[: int(0.8 * len(pairs))]
    x = pairs[order]
    return _fitted(Addition(), x, x.sum(1) % PRIME, steps, rate=3e-3, decay=decay, batch=None)


# Each takes the share of its training that is done.
_MAKERS: dict[str, Callable[[float], Trained]] = {
    "perceptron": _perceptron,
    "convolutional": _convolutional,
    "recurrent": _recurrent,
    "random labels": _random_labels,
    "regression": _regression,
    "addition, memorised": lambda share: _addition(share * 400, 0.0),
    "addition, generalised": lambda share: _addition(share * 6000, 1.0),
}
NAMES = tuple(_MAKERS)
