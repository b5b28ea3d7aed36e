"""Handwritten digits: the networks, the data, and the measures.

``nncomplexity measure --loss-fn task:loss --risk-fn task:error`` names this module. Every measure takes a *network*,
which is an ``nn.Module`` or the mapping of tensors that a checkpoint holds. A module is evaluated in eval mode, and its
mode is restored afterwards. A mapping's names say which network it belongs to; its batch-norm statistics are used
unchanged, and gradients flow to its tensors.

The data are scikit-learn's 1797 digits of 8 × 8 pixels (UCI "Optical Recognition of Handwritten Digits"): 1437 for
training, 360 for the test.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

Network: TypeAlias = nn.Module | Mapping[str, Tensor]

CLASSES = 10
TRAIN_EXAMPLES = 1437


def mlp() -> nn.Module:
    """An untrained 64-128-64-10 perceptron with ReLU: 17 226 parameters, images (N, 1, 8, 8) to logits (N, 10).

    >>> sum(parameter.numel() for parameter in mlp().parameters())
    17226
    """
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            hidden1=nn.Linear(64, 128),
            relu1=nn.ReLU(),
            hidden2=nn.Linear(128, 64),
            relu2=nn.ReLU(),
            output=nn.Linear(64, CLASSES),
        )
    )


def convnet() -> nn.Module:
    """An untrained convnet of two blocks (3 × 3 convolution, batch norm, ReLU, 2 × 2 max pooling) and a linear layer.

    1922 parameters and 50 batch-norm buffers, images (N, 1, 8, 8) to logits (N, 10). The convolutions have no bias,
    since the batch norm that follows takes any constant away.

    >>> sum(parameter.numel() for parameter in convnet().parameters())
    1922
    >>> convnet()(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 8, kernel_size=3, padding=1, bias=False),
            norm1=nn.BatchNorm2d(8),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(8, 16, kernel_size=3, padding=1, bias=False),
            norm2=nn.BatchNorm2d(16),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            output=nn.Linear(64, CLASSES),
        )
    )


BUILDERS = {"mlp": mlp, "convnet": convnet}


@cache
def split(name: str) -> tuple[Tensor, Tensor]:
    """The images, (N, 1, 8, 8) float32 in [0, 1], and the labels, (N,) int64, of 'train' (N = 1437) or 'test' (N = 360).

    The split is one fixed shuffle, the same at every call and on every machine. The tensors are kept for the next call:
    don't change them in place. Raises ValueError for another name and ImportError where scikit-learn is missing.

    >>> images, labels = split("test")
    >>> images.shape, labels.shape
    (torch.Size([360, 1, 8, 8]), torch.Size([360]))
    """
    if name not in ("train", "test"):
        raise ValueError(f"split: expected 'train' or 'test', got {name!r}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install 'nncomplexity[examples]'") from error
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    rows = order[:TRAIN_EXAMPLES] if name == "train" else order[TRAIN_EXAMPLES:]
    pixels = (digits.images[rows, np.newaxis] / 16).astype(np.float32)
    # The first caller may be inside inference_mode; later callers couldn't differentiate through tensors made there.
    with torch.inference_mode(False):
        return torch.from_numpy(pixels), torch.from_numpy(digits.target[rows].astype(np.int64))


@cache
def _architecture(names: frozenset[str]) -> nn.Module:
    """The network whose parameters and buffers have these names, in eval mode and without values."""
    # On the meta device a network costs no memory and its initialization draws no random numbers.
    with torch.inference_mode(False), torch.device("meta"):
        modules = [build().eval() for build in BUILDERS.values()]
    for module in modules:
        if names == module.state_dict().keys():
            return module
    closest = min(modules, key=lambda module: len(names ^ module.state_dict().keys()))
    missing = sorted(closest.state_dict().keys() - names)
    unexpected = sorted(names - closest.state_dict().keys())
    raise ValueError(f"weights: expected those of mlp() or convnet(); missing {missing}, unexpected {unexpected}")


def logits(network: Network, images: Tensor) -> Tensor:
    """The network's unnormalized log-probabilities, (N, 10), of images (N, 1, 8, 8), on the network's device.

    The network is evaluated in eval mode. Raises ValueError for a mapping whose names are those of neither network.

    >>> module, (images, _) = convnet(), split("test")
    >>> torch.equal(logits(module, images), logits(module.state_dict(), images))
    True
    """
    outputs: Tensor
    if isinstance(network, nn.Module):
        modes = [(module, module.training) for module in network.modules()]
        network.eval()
        try:
            outputs = network(images.to(next(network.parameters())))
        finally:
            for module, training in modes:
                module.training = training
    else:
        weights = dict(network)
        architecture = _architecture(frozenset(weights))
        outputs = functional_call(architecture, weights, (images.to(weights["output.weight"]),))
    return outputs


class MeanCrossEntropy:
    """Mean cross-entropy on the training data, in nats per example: a 0-d tensor, differentiable in the weights.

    It is a function of a network, and can be taken over some of the examples, so that a search may follow gradients of a part. A network of
    zeros knows nothing, and pays ln 10 nats an example:

    >>> zeros = {name: torch.zeros_like(tensor) for name, tensor in mlp().state_dict().items()}
    >>> round(loss(zeros).item(), 4), round(loss.part(torch.arange(100))(zeros).item(), 4)
    (2.3026, 2.3026)
    """

    examples = TRAIN_EXAMPLES

    def __call__(self, network: Network) -> Tensor:
        return self._mean(network, slice(None))

    def part(self, rows: Tensor) -> Callable[[Network], Tensor]:
        """The same over the examples numbered in `rows`, (m,) int64."""
        return lambda network: self._mean(network, rows)

    def _mean(self, network: Network, rows: Tensor | slice) -> Tensor:
        images, labels = split("train")
        outputs = logits(network, images[rows])
        return cross_entropy(outputs, labels[rows].to(outputs.device))


loss = MeanCrossEntropy()


@torch.no_grad()
def error(network: Network, name: str = "train") -> float:
    """The share of the examples of a split that the network gets wrong, in [0, 1]."""
    images, labels = split(name)
    answers = logits(network, images).argmax(dim=1)
    return (answers != labels.to(answers.device)).double().mean().item()


@torch.no_grad()
def probabilities(network: Network, name: str = "train") -> Tensor:
    """The probability, (N,), that the network gives to the right class of each example of a split."""
    images, labels = split(name)
    outputs = logits(network, images)
    return outputs.softmax(dim=1).gather(1, labels.to(outputs.device).unsqueeze(1)).squeeze(1)
