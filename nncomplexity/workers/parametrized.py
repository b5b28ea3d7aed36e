"""Pickles modules with parametrizations, such as `weight_norm` and `spectral_norm`. PyTorch's own pickling refuses them.

PyTorch gives each of these modules a class of its own, which is made while the program runs and has a property for each parametrized tensor.
Here such a module is sent as the class that it had before, and its state. The other process makes a class with the same properties again.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize


def reduced(given: object) -> Any:
    """For the `reducer_override` of a pickler: how a module with parametrizations is pickled; NotImplemented for any other object."""
    if not isinstance(given, nn.Module) or not parametrize.is_parametrized(given):
        return NotImplemented
    kind: Any = parametrize.type_before_parametrizations(given)
    # The state is set after the module was made, because a part of it may refer to the module.
    return _empty, (kind,), kind.__getstate__(given), None, None, _fill


def _empty(kind: type[nn.Module]) -> nn.Module:
    return kind.__new__(kind)


def _fill(module: Any, state: Any) -> None:
    module.__setstate__(state)
    parametrizations = module._modules.pop("parametrizations")
    for name in parametrizations:
        # PyTorch makes the property. The parametrization itself, with its tensors, replaces this placeholder below.
        module.register_parameter(name, nn.Parameter(torch.empty(0)))
        parametrize.register_parametrization(module, name, nn.Identity(), unsafe=True)
    module.parametrizations = parametrizations
