"""Loss and error of the networks, for `nncomplexity measure … --loss-fn examples.grokking.task:loss` and for `estimate`.

`loss` and `error` are those of the two checkpoints that ship with the example, or of the run whose folder the environment variable
GROKKING_RUN names; `task_for` gives them for any configuration.
"""

import functools
import os
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from examples.grokking.config import Config, preset
from examples.grokking.data import Examples, equations
from examples.grokking.model import Decoder
from nncomplexity.errors import InputError

SHIPPED = preset("paper", "addition", "full", seed=0)
"""The run that made checkpoints/memorised.safetensors and checkpoints/grokked.safetensors."""

Network = Mapping[str, Tensor] | nn.Module


class Task:
    """A run's training and test examples, and the loss and errors of a network on them. `network` is a module or a mapping of its tensors."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._model = config.decoder()
        self._shapes = {name: tensor.shape for name, tensor in self._model.state_dict().items()}
        self._examples = dict(zip(("train", "test"), config.examples(), strict=True))

    def loss(self, network: Network, rows: Tensor | None = None) -> Tensor:
        """Mean cross-entropy of the answer over the training examples, or over some of them (m,), nats per example: 0-d, differentiable."""
        examples = self._on_device(network, "train")
        examples = examples if rows is None else examples[rows.to(examples.answers.device)]
        return functional.cross_entropy(self.logits(network, examples.tokens), examples.answers)

    @property
    def mean_loss(self) -> "MeanCrossEntropy":
        """`loss` as a function that a search can also evaluate on a part of the examples."""
        return MeanCrossEntropy(lambda: self)

    def error(self, network: Network, part: str = "train") -> float:
        """Share of wrong answers on the 'train' or 'test' examples."""
        examples = self._on_device(network, part)
        with torch.no_grad():
            wrong = self.logits(network, examples.tokens).argmax(1) != examples.answers
        return wrong.double().mean().item()

    def inputs(self) -> Tensor:
        """The tokens (p², n) of all equations, for training or not."""
        return equations(self.config.operation, self.config.prime).tokens

    def logits(self, network: Network, tokens: Tensor) -> Tensor:
        """The network's outputs (m, p) for equations (m, n) of tokens."""
        if isinstance(network, nn.Module):
            return network(tokens)
        if {name: tensor.shape for name, tensor in network.items()} != self._shapes:
            raise InputError(
                f"weights: they are not those of a network for {self.config.operation} modulo {self.config.prime} with "
                f"{self.config.layers} layer(s); set GROKKING_RUN to the folder of the run that they come from"
            )
        return functional_call(self._model, dict(network), (tokens,))

    def size(self, part: str = "train") -> int:
        """Number of 'train' or 'test' examples."""
        return len(self._examples[part])

    def build(self) -> Decoder:
        """The network with its initial weights."""
        return self.config.decoder()

    def _on_device(self, network: Network, part: str) -> Examples:
        tensors = network.parameters() if isinstance(network, nn.Module) else network.values()
        return self._examples[part].to(next(iter(tensors)).device)


class MeanCrossEntropy:
    """Mean training cross-entropy, nats per example, also over some of the examples.

    Args:
        task: a function that returns the task. It is called at each evaluation, because the task may depend on the environment.
    """

    def __init__(self, task: Callable[[], Task]) -> None:
        self._task = task

    @property
    def examples(self) -> int:
        return self._task().size()

    def __call__(self, network: Network) -> Tensor:
        return self._task().loss(network)

    def part(self, rows: Tensor) -> Callable[[Network], Tensor]:
        """The same over the examples numbered in `rows`, (m,) int64."""
        return lambda network: self._task().loss(network, rows)


@functools.cache
def task_for(config: Config) -> Task:
    """The task of a run: `task_for(Config.of_run("runs/quick"))`."""
    return Task(config)


@functools.cache
def _task_of(folder: str) -> Task:
    return task_for(Config.of_run(folder) if folder else SHIPPED)


def _chosen() -> Task:
    return _task_of(os.environ.get("GROKKING_RUN", ""))


loss = MeanCrossEntropy(_chosen)
"""Mean training cross-entropy of the chosen run, nats per example."""


def error(network: Network, part: str = "train") -> float:
    """Share of wrong answers."""
    return _chosen().error(network, part)


def test_error(network: Network) -> float:
    """Share of wrong answers on the test examples, for `--metric`."""
    return _chosen().error(network, "test")


def build() -> Decoder:
    """The network, for `--model`."""
    return _chosen().build()


def outputs(network: Network, tokens: Tensor) -> Tensor:
    """The network's logits for some equations, for `--outputs`: together with `inputs` they give a distortion between functions."""
    return _chosen().logits(network, tokens)


def inputs() -> Tensor:
    """All equations of the chosen run, for `--inputs`."""
    return _chosen().inputs()
