"""Equations a ∘ b = c modulo a prime, as the sequences ⟨a⟩⟨∘⟩⟨b⟩⟨=⟩ whose next token is c.

The tokens are the residues 0 … p−1, then ⟨∘⟩ = p and ⟨=⟩ = p+1: a vocabulary of p+2. Every pair (a, b) on which the operation is
defined gives one equation; a seeded permutation decides which of them the network sees.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nncomplexity.errors import InputError


@dataclass(frozen=True)
class Operation:
    """One task: c = `rule(a, b, p)` modulo p, with the settings of DeMoss et al. 2025, Table 1."""

    rule: Callable[[Tensor, Tensor, int], Tensor]
    train_fraction: float
    layers: int
    noise: float
    smallest_b: int = 0


def _divide(a: Tensor, b: Tensor, prime: int) -> Tensor:
    inverses = torch.tensor([0] + [pow(residue, -1, prime) for residue in range(1, prime)])
    return a * inverses[b]


OPERATIONS = {
    "addition": Operation(lambda a, b, _: a + b, train_fraction=0.2, layers=1, noise=1e-2),
    "multiplication": Operation(lambda a, b, _: a * b, train_fraction=0.2, layers=1, noise=1e-2),
    "subtraction": Operation(lambda a, b, _: a - b, train_fraction=0.3, layers=2, noise=1e-3),
    "division": Operation(_divide, train_fraction=0.3, layers=2, noise=1e-3, smallest_b=1),
    "x2+y2": Operation(lambda a, b, _: a * a + b * b, train_fraction=0.4, layers=1, noise=1e-3),
    "x2+xy+y2": Operation(lambda a, b, _: a * a + a * b + b * b, train_fraction=0.6, layers=1, noise=1e-3),
}


@dataclass(frozen=True)
class Examples:
    """Some of the equations: `tokens` (n, 4) and `answers` (n,), both int64."""

    tokens: Tensor
    answers: Tensor

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, rows: Tensor) -> "Examples":
        return Examples(self.tokens[rows], self.answers[rows])

    def to(self, device: torch.device) -> "Examples":
        return Examples(self.tokens.to(device), self.answers.to(device))


def equations(operation: str, prime: int) -> Examples:
    """All equations of the operation modulo the prime, ordered by a, then b.

    >>> sums = equations("addition", 5)
    >>> len(sums), sums.tokens[9].tolist(), sums.answers[9].item()  # 1 + 4 = 0 modulo 5
    (25, [1, 5, 4, 6], 0)
    >>> len(equations("division", 5))  # nothing divides by 0
    20
    """
    rule = OPERATIONS[operation]
    a, b = torch.cartesian_prod(torch.arange(prime), torch.arange(rule.smallest_b, prime)).unbind(1)
    tokens = torch.stack([a, torch.full_like(a, prime), b, torch.full_like(a, prime + 1)], dim=1)
    return Examples(tokens, rule.rule(a, b, prime) % prime)


def split(operation: str, prime: int, train_fraction: float, generator: torch.Generator) -> tuple[Examples, Examples]:
    """The equations in random order, cut into ⌊fraction · N⌋ for training and the rest for the test.

    >>> train, test = split("addition", 113, 0.2, torch.Generator().manual_seed(0))
    >>> len(train), len(test)
    (2553, 10216)

    Raises:
        InputError: if fewer than two are left for training.
    """
    everything = equations(operation, prime)
    order = torch.randperm(len(everything), generator=generator)
    cut = int(train_fraction * len(everything))
    if cut < 2:
        raise InputError(
            f"train_fraction: {train_fraction:g} of the {len(everything)} equations modulo {prime} leaves {cut} for training, "
            "fewer than 2; choose a larger one"
        )
    train, test = order[:cut], order[cut:]
    return (
        Examples(everything.tokens[train], everything.answers[train]),
        Examples(everything.tokens[test], everything.answers[test]),
    )
