"""MNIST and the networks on which compression is compared: LeNet-300-100, LeNet-5 as Caffe has it, and a convnet that is small by design.

The images are in a NumPy archive: train_x (60000, 28, 28) and test_x (10000, 28, 28) of bytes, train_y and test_y of int64. They are at
https://huggingface.co/datasets/ylecun/mnist, and in torchvision.datasets.MNIST. A folder of networks holds `lenet300.safetensors`, with the
tensors 0.weight to 4.bias, or `lenet5.safetensors`, with conv1.weight to fc2.bias.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.cases.networks import Case
from nncomplexity import Divergence
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.network import MeanLoss

NAMES = ("lenet300", "lenet5")
CHANCE = 0.9
"""The error of a guess among ten classes."""
_ROWS = {"lenet300": 4096, "lenet5": 256, "small": 256}
"""Images at a time, so that the activations of a convolution fit the processor's cache."""
_ORDER = 0
"""Seed of the order from which the first images are taken; in some archives the images are sorted by their class."""


@dataclass(frozen=True)
class Images:
    """One part of the data: pixels (n, 784) in [0, 1], and labels (n,)."""

    pixels: Tensor
    labels: Tensor

    @classmethod
    def read(cls, archive: Path, part: str) -> "Images":
        """The images of a part, "train" or "test", in an order that is the same each time."""
        with np.load(archive) as content:
            pixels = torch.from_numpy(content[f"{part}_x"]).float().div_(255).reshape(-1, 784)
            labels = torch.from_numpy(content[f"{part}_y"]).long()
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_ORDER))
        return cls(pixels[order], labels[order])

    def first(self, count: int | None) -> "Images":
        """The first images; all if no number is given."""
        return Images(self.pixels[:count], self.labels[:count])

    def loss(self, name: str) -> MeanLoss:
        """The mean cross-entropy of a network of this name, in nats per image."""
        return MeanLoss(cross_entropy, self.pixels, self.labels, batch=_ROWS[name])

    def divergence(self, name: str) -> Divergence:
        """KL from the outputs of the original on all these images."""
        return Divergence(logits, self.pixels, probe=0, batch=_ROWS[name])

    def error(self, weights: Mapping[str, Tensor]) -> float:
        """The share of images that a network gets wrong."""
        with torch.no_grad():
            wrong = [
                (logits(weights, x).argmax(1) != y).sum()
                for x, y in zip(self.pixels.split(512), self.labels.split(512), strict=True)
            ]
        return int(torch.stack(wrong).sum()) / len(self.labels)


def cross_entropy(weights: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Losses (m,) in nats of images (m, 784) with labels (m,)."""
    return F.cross_entropy(logits(weights, x), y, reduction="none")


def logits(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Logits (m, 10) of images (m, 784) by a network, whose architecture follows from the names of its tensors."""
    if "conv1.weight" not in weights:
        return lenet300(weights, x)
    return (lenet5 if "fc2.weight" in weights else small)(weights, x)


def lenet300(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Logits of LeNet-300-100: 784-300-100-10, ReLU."""
    for layer in (0, 2):
        x = F.relu(F.linear(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"]))
    return F.linear(x, weights["4.weight"], weights["4.bias"])


def lenet5(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Logits of LeNet-5-Caffe: 20 and 50 kernels of 5 × 5, each followed by max pooling, then 500 units with ReLU."""
    x = _pooled(F.conv2d(x.reshape(-1, 1, 28, 28), weights["conv1.weight"], weights["conv1.bias"]))
    x = _pooled(F.conv2d(x, weights["conv2.weight"], weights["conv2.bias"]))
    return F.linear(
        F.relu(F.linear(x.flatten(1), weights["fc1.weight"], weights["fc1.bias"])), weights["fc2.weight"], weights["fc2.bias"]
    )


def _pooled(x: Tensor) -> Tensor:
    """Max pooling, two by two. On a processor, slices take a third less time of the network than `max_pool2d`, but more with a gradient."""
    if torch.is_grad_enabled():
        return F.max_pool2d(x, 2)
    x = torch.maximum(x[..., ::2], x[..., 1::2])
    return torch.maximum(x[..., ::2, :], x[..., 1::2, :])


def small(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Logits of the small convnet: two convolutions of 5 × 5 with stride 2 and ReLU, then one linear layer."""
    x = F.relu(F.conv2d(x.reshape(-1, 1, 28, 28), weights["conv1.weight"], weights["conv1.bias"], stride=2))
    x = F.relu(F.conv2d(x, weights["conv2.weight"], weights["conv2.bias"], stride=2))
    return F.linear(x.flatten(1), weights["fc1.weight"], weights["fc1.bias"])


def networks(folder: Path, train: Images, wanted: tuple[str, ...] = NAMES) -> list[Case]:
    """The networks in a folder, each with its loss on these images. Raises FileNotFoundError if there is none."""
    files = [folder / f"{name}.safetensors" for name in NAMES if name in wanted]
    found = [file for file in files if file.is_file()]
    if not found:
        raise FileNotFoundError(f"{folder}: expected {' or '.join(file.name for file in files)}")
    cases = []
    for file in found:
        checkpoint = load_checkpoint(file)
        cases.append(Case(f"mnist/{file.stem}", checkpoint.sha256, checkpoint.tensors, train.loss(file.stem)))
    return cases
