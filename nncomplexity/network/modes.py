"""Training mode: which parts of a network are in it and depend on it, and how to evaluate the network in eval mode."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd


def depends_on_mode(part: nn.Module) -> bool:
    """Whether a part is in training mode and depends on it: dropout, batch norm, or a user's class that reads `training`."""
    return part.training and _depends_on_training(part)


def of_torch(part: nn.Module) -> bool:
    """Whether the class of the part is PyTorch's own."""
    return type(part).__module__.startswith("torch.")


def _depends_on_training(part: nn.Module) -> bool:
    if isinstance(part, _DropoutNd):
        return part.p > 0
    if isinstance(part, nn.RNNBase | nn.MultiheadAttention):
        return part.dropout > 0
    if isinstance(part, _NormBase | nn.RReLU):
        return True
    if of_torch(part):
        return False
    # A forward method that reads `self.training` has this name in its code object. A call would be needed to know more.
    code = getattr(type(part).forward, "__code__", None)
    return code is not None and "training" in code.co_names


@contextmanager
def evaluating(parts: Iterable[nn.Module]) -> Iterator[None]:
    """Put the parts in eval mode for a while. Only their flags change, because a user's `eval` may do more."""
    modes = [(part, part.training) for part in parts]
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def modules_named_in(function: Callable[..., Any]) -> list[nn.Module]:
    """The modules in the variables around a function, in the object of a method, or in a callable object."""
    # A MeanLoss and a Divergence have the user's function in these attributes.
    function = getattr(function, "per_example", getattr(function, "outputs", function))
    owner = getattr(function, "__self__", function)
    held = [owner, *vars(owner).values()] if hasattr(owner, "__dict__") else []
    try:
        variables = inspect.getclosurevars(inspect.unwrap(function))
        held += [*variables.nonlocals.values(), *variables.globals.values()]
    except (TypeError, ValueError):  # it is not a Python function, or a variable has no value yet
        pass
    return [value for value in held if isinstance(value, nn.Module)]
