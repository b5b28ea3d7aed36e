"""Finds the numbers in a checkpoint that are not weights, by their dotted paths. One of them may be the training step."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from nncomplexity.checkpoint.stepkeys import AMONG_WEIGHTS, number_in

_DEPTH = 6
"""The deepest level of dictionaries that is searched. Deeper levels are configurations, which may be very large."""


def counters_of(content: Mapping[Any, Any], weights: Mapping[Any, Any]) -> dict[str, int | float]:
    """All numbers in a file's dictionary outside the weights, and numbers among the weights that have the name of a count.

    >>> import torch
    >>> weights = {"w": torch.ones(2), "scale": torch.tensor(3.0)}
    >>> counters_of({"model": weights, "meta": {"iter": torch.tensor(1200), "lr": [0.1]}, "history": [{"n": 3}]}, weights)
    {'meta.iter': 1200, 'history.0.n': 3}
    """
    return dict(_numbers(content, weights, (), ()))


def _numbers(
    value: Any, weights: Mapping[Any, Any], path: tuple[str, ...], above: tuple[int, ...]
) -> Iterator[tuple[str, int | float]]:
    if value is weights:
        yield from _among_weights(weights, path)
    elif isinstance(value, Mapping | Sequence) and not isinstance(value, str | bytes):
        if len(path) < _DEPTH and id(value) not in above:
            inside = (
                value.items()
                if isinstance(value, Mapping)
                else ((n, one) for n, one in enumerate(value) if isinstance(one, Mapping))
            )
            for name, inner in inside:
                yield from _numbers(inner, weights, (*path, str(name)), (*above, id(value)))
    elif (number := number_in(value)) is not None:
        yield ".".join(path), number


def _among_weights(weights: Mapping[Any, Any], path: tuple[str, ...]) -> Iterator[tuple[str, int | float]]:
    for name, value in weights.items():
        counts = name in AMONG_WEIGHTS and not (isinstance(value, Tensor) and value.dtype.is_floating_point)
        # If the file itself is the state dict, a training loop's counts are among the tensors.
        at_top = not path and isinstance(name, str) and not isinstance(value, Tensor)
        if (counts or at_top) and (number := number_in(value)) is not None:
            yield ".".join((*path, name)), number
