"""Networks that tell whether a measure of complexity is right: planted ones of known size, and ones of random labels with a least size.

A planted network (`benchmarks.cases.planted`) has weights with a short description. Its distortion is the divergence of its outputs. At the
ε used here, nobody has found a file that is clearly shorter than the description.

Random labels have no shorter description than themselves. A file of a network and the labels' code by its probabilities describe
the labels together. So with probability 1 − 2^−t over the labels, a file that decodes to a network with mean loss ℓ nats has

    bits ≥ n·log₂ C − n·ℓ / ln 2 − t

and within ε of a network with loss L, ℓ ≤ L + ε. This is the least size of a file, whatever the search and the code.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from benchmarks.cases.networks import Case
from benchmarks.cases.planted import EXAMPLES, FAMILIES, Planted, divergence, logits
from nncomplexity.network import MeanLoss

PLANTED_EPS, LABELS_EPS = 0.001, 0.05
SHAPES = ((2, 16), (2, 32), (2, 64), (2, 128), (3, 24), (3, 48), (3, 96), (4, 32), (4, 64), (4, 96), (5, 24))
"""Depth and width of the planted networks."""
RESCALED_SHAPES = ((3, 32), (4, 64))
LABELS = ((150, 2), (300, 2), (300, 5), (600, 5), (1200, 5), (1200, 10))
"""Examples and classes of the networks of random labels."""
DOUBT = 20
"""t, in bits."""
_INPUTS, _HIDDEN, _STEPS, _RATE = 24, 96, 600, 5e-3
_FIRST_SEED = 300
"""No setting of a search was chosen on seeds from here on."""


@dataclass(frozen=True)
class Subject:
    """A network, its loss over `examples` examples, ε, and its size: that of its description or, for random labels, the least."""

    case: Case
    kind: str
    examples: int
    eps: float
    known_bits: float

    def about(self) -> dict[str, Any]:
        """The record's entries on the network."""
        return {
            **self.case.about(),
            "kind": self.kind,
            "examples": self.examples,
            "eps": self.eps,
            "known_bits": round(self.known_bits, 1),
        }


def subjects() -> Iterator[Subject]:
    """All networks: planted, planted with rescaled units, random labels."""
    seeds = iter(range(_FIRST_SEED, _FIRST_SEED + 1000))
    for rescaled, shapes in ((False, SHAPES), (True, RESCALED_SHAPES)):
        for depth, width in shapes:
            for family in FAMILIES:
                yield planted(Planted(family, depth, width, rescaled=rescaled, seed=next(seeds)))
    for examples, classes in LABELS:
        yield of_random_labels(examples, classes, seed=next(seeds))


def planted(network: Planted) -> Subject:
    """A planted network with its noise."""
    weights, (_, bits) = network.noisy(PLANTED_EPS), network.drawn
    kind = f"{network.family}, rescaled" if network.rescaled else network.family
    return Subject(Case(network.name, "", weights, divergence(network.inputs, weights)), kind, EXAMPLES, PLANTED_EPS, bits)


def of_random_labels(examples: int, classes: int, seed: int) -> Subject:
    """A perceptron that has learned random labels by heart."""
    generator = Generator().manual_seed(seed)
    x, y = torch.randn(examples, _INPUTS, generator=generator), torch.randint(classes, (examples,), generator=generator)
    weights = {
        name: torch.randn(shape, generator=generator) / math.sqrt(_INPUTS) if len(shape) > 1 else torch.zeros(shape)
        for name, shape in {
            "0.weight": (_HIDDEN, _INPUTS),
            "0.bias": (_HIDDEN,),
            "1.weight": (classes, _HIDDEN),
            "1.bias": (classes,),
        }.items()
    }
    for tensor in weights.values():
        tensor.requires_grad_()
    optimizer = torch.optim.Adam(weights.values(), lr=_RATE)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        F.cross_entropy(logits(weights, x), y).backward()
        optimizer.step()
    trained = {name: tensor.detach() for name, tensor in weights.items()}
    loss = MeanLoss(_cross_entropy, x, y)
    least = least_bits(examples, classes, float(loss(trained)) + LABELS_EPS)
    return Subject(Case(f"{examples} labels of {classes} classes", "", trained, loss), "random labels", examples, LABELS_EPS, least)


def least_bits(examples: int, classes: int, loss: float, doubt: float = DOUBT) -> float:
    """n·log₂ C − n·loss / ln 2 − t.

    >>> least_bits(1000, 4, 0.0, doubt=20)
    1980.0
    """
    return examples * (math.log2(classes) - loss / math.log(2)) - doubt


def _cross_entropy(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits(weights, x), y, reduction="none")
