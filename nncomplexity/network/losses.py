"""What a loss may return, and losses over examples.

An ordinary function is always computed on all its data. A `MeanLoss` knows its examples. So a descent can use gradients on m of n
examples, which cost m / n as much, and only its candidates are measured on all examples.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from nncomplexity.errors import InputError
from nncomplexity.network.weights import ModuleOrTensors
from nncomplexity.words import checked_count


def number_of(value: object, argument: str) -> float:
    """The result of a loss, risk or metric as a float.

    It may be a number of Python or NumPy, or a tensor or array without dimensions.

    Raises:
        InputError: the value is anything else; the message names the argument.

    >>> number_of(torch.tensor(0.5), "loss_fn"), number_of(True, "loss_fn")
    (0.5, 1.0)
    """
    came = type(value).__name__
    if isinstance(value, (bool, int, float)):
        try:
            return float(value)
        except OverflowError:
            came = "an int beyond the range of floats"
    elif isinstance(value, (Tensor, np.ndarray, np.generic)):
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        if len(value.shape):
            came = f"{kind} of shape {tuple(value.shape)}; take its mean"
        elif value.is_complex() if isinstance(value, Tensor) else value.dtype.kind == "c":
            came = "a complex number; take its abs()"
        elif isinstance(value, Tensor) and value.is_meta:
            came = "a tensor on the meta device, which holds no value; compute it on the CPU"
        elif isinstance(value, Tensor):
            return float(value.detach())
        elif value.dtype.kind in "biuf":
            return float(value)
        else:
            came = f"an array of {value.dtype}"
    elif inspect.iscoroutine(value):
        value.close()  # otherwise Python warns that it was never awaited
        came = "a coroutine; define it by def, not by async def"
    raise InputError(f"{argument}: expected a float or a 0-d tensor, got {came}")


@runtime_checkable
class Divisible(Protocol):
    """A loss that is a mean over examples and can be computed on some of them."""

    @property
    def examples(self) -> int:
        """n, the number of examples."""
        ...

    def __call__(self, network: Any) -> Any:
        """The loss of a network over all examples, a float or a 0-d tensor."""
        ...

    def part(self, rows: Tensor) -> Callable[[Any], Any]:
        """The same loss on the examples with the numbers in `rows`, (m,) int64."""
        ...


@dataclass(frozen=True)
class MeanLoss:
    """The mean of a loss per example, over data in tensors.

    Attributes:
        per_example: `per_example(network, inputs, targets)` -> (m,) losses, one for each row; the network is a module or
            a mapping of tensors.
        inputs: (n, ...) tensor.
        targets: (n, ...) tensor.
        batch: number of rows that are computed at once; it limits the memory.

    Raises:
        InputError: inputs and targets differ in length or are empty.

    >>> from torch.nn.functional import cross_entropy
    >>> images, labels = torch.randn(10, 4), torch.arange(10) % 3
    >>> loss = MeanLoss(lambda net, x, y: cross_entropy(net(x), y, reduction="none"), images, labels)
    >>> network = torch.nn.Linear(4, 3)
    >>> bool(torch.isclose(loss(network), cross_entropy(network(images), labels)))
    True
    """

    per_example: Callable[[Any, Tensor, Tensor], Tensor]
    inputs: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)
    batch: int = 4096

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets) or not len(self.inputs):
            raise InputError(
                f"targets: expected one row for each of the inputs and at least one, got {len(self.targets)} for {len(self.inputs)}"
            )
        checked_count("batch", self.batch, 1)
        if not callable(self.per_example):
            raise InputError(
                f"per_example: expected a function of a network, inputs and targets, got {type(self.per_example).__name__}"
            )

    @property
    def examples(self) -> int:
        """The number of examples, n."""
        return len(self.inputs)

    def __call__(self, network: ModuleOrTensors) -> Tensor:
        """Mean loss over all examples, a 0-d tensor."""
        return self._mean(network, self.inputs, self.targets)

    def part(self, rows: Tensor) -> Callable[[Any], Tensor]:
        """The mean over the examples numbered in `rows`, (m,) int64, as a loss of its own."""
        inputs, targets = self.inputs[rows], self.targets[rows]
        return lambda network: self._mean(network, inputs, targets)

    def _mean(self, network: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        sums = []
        for start in range(0, len(inputs), self.batch):
            x, y = inputs[start : start + self.batch], targets[start : start + self.batch]
            losses = self.per_example(network, x, y)
            if not isinstance(losses, Tensor) or losses.shape != (len(x),):
                came = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else type(losses).__name__
                raise InputError(
                    f"per_example: expected a tensor with one loss for each of {len(x)} rows, got {came}; use reduction='none'"
                )
            sums.append(losses.sum())
        # Sums divided by n, and not a mean of means: the last batch may be smaller than the others.
        return torch.stack(sums).sum() / len(inputs)


def loss_from(
    per_example: Callable[[Any, Tensor, Tensor], Tensor],
    data: Iterable[tuple[Tensor, Tensor]] | tuple[Tensor, Tensor],
    *,
    batch: int = 4096,
) -> MeanLoss:
    """A `MeanLoss` of a pair of tensors (inputs, targets), or of a DataLoader that yields such pairs, read once and kept.

    A loader is read only once, so the loss is always the same function, even if the loader shuffles or augments.

    Args:
        per_example: `per_example(network, inputs, targets)` -> (m,) losses, one for each row.
        data: the pair, or the loader.
        batch: number of rows that are computed at once; it limits the memory.

    Returns:
        The loss, to be handed to `estimate`.

    Raises:
        InputError: `data` is neither, inputs and targets differ in length, or batches differ in the shape of their rows.
    """
    if isinstance(data, (tuple, list)) and data and isinstance(data[0], Tensor):
        return MeanLoss(per_example, *_pair(data), batch)
    if not isinstance(data, Iterable):
        raise InputError(f"data: expected a pair of tensors (inputs, targets) or a DataLoader of pairs, got {type(data).__name__}")
    # A loader that shuffles or augments would make the loss another function at each call, and ε would have no meaning.
    pairs = [_pair(given) for given in data]
    if not pairs:
        raise InputError("data: expected at least one batch of (inputs, targets), got none")
    return MeanLoss(per_example, _joined("inputs", [x for x, _ in pairs]), _joined("targets", [y for _, y in pairs]), batch)


def _joined(what: str, batches: Sequence[Tensor]) -> Tensor:
    """The batches as one tensor.

    Raises:
        InputError: their rows have different shapes, for example because sequences are padded batch by batch.
    """
    first = batches[0]
    for number, other in enumerate(batches):
        if other.shape[1:] != first.shape[1:]:
            raise InputError(
                f"data: expected {what} with rows of one shape, got {tuple(first.shape)} in the first batch and "
                f"{tuple(other.shape)} in batch {number + 1}; pad all batches to one length, or write the loss as a function of the network "
                "that reads the batches itself"
            )
        if other.device != first.device:
            raise InputError(f"data: expected {what} on one device, got {first.device} and {other.device}; move them to one")
    return torch.cat(list(batches))


def _pair(given: object) -> tuple[Tensor, Tensor]:
    """One batch of a loader."""
    if isinstance(given, (tuple, list)) and len(given) == 2 and all(isinstance(one, Tensor) and one.dim() for one in given):
        inputs, targets = given
        if len(inputs) != len(targets):
            raise InputError(f"data: expected as many targets as inputs in a batch, got {len(targets)} for {len(inputs)}")
        return inputs, targets
    came = type(given).__name__
    if isinstance(given, (tuple, list)):
        came += f" of {', '.join('a number' if isinstance(one, Tensor) and not one.dim() else type(one).__name__ for one in given)}"
    raise InputError(
        f"data: expected pairs of tensors (inputs, targets), got a {came}; use torch.as_tensor, or a DataLoader of pairs"
    )
