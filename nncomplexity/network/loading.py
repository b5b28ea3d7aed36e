"""Ways to put weights into a module so that its parts use them.

Copying values into a module's tensors is quick and exact. But some parts keep values that they computed from their weights, such as
folded factors, merged adapters or the caches of a Gaussian process. Such a part doesn't notice the copy, and goes on with its old values.
Many of these parts clear the old values when a state dict is loaded, or in `train()`. The others are found by their attributes outside the
state dict (`nncomplexity.network.caches`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class LoadMethod:
    """A way to put weights into a module.

    Attributes:
        by_state_dict: whether `load_state_dict` is used, for parts that have their own code for loading.
        in_training: whether `train()` is called first, in which parts may clear computed values. Modes are restored after loading.
    """

    by_state_dict: bool = False
    in_training: bool = False


COPY_VALUES = LoadMethod()


def load_methods_of(module: nn.Module) -> tuple[LoadMethod, ...]:
    """The ways to put weights into a module, the most thorough first.

    The last one only copies values. It is the only one if all parts are PyTorch's own.
    """
    parts = list(module.modules())
    listening = any(_is_own(part, "_load_from_state_dict") or _is_own(part, "load_state_dict") or _hooked(part) for part in parts)
    in_training = any(_is_own(part, "train") for part in parts)
    ways = [LoadMethod(one, other) for one in (True, False) for other in (True, False)]
    return tuple(way for way in ways if way.by_state_dict <= listening and way.in_training <= in_training)


def _is_own(part: nn.Module, method: str) -> bool:
    """Whether a part overrides a method of PyTorch."""
    owner = next(kind for kind in type(part).__mro__ if method in vars(kind))
    return method in vars(part) or not owner.__module__.startswith("torch.")


def _hooked(part: nn.Module) -> bool:
    hooks = [*part._load_state_dict_pre_hooks.values(), *part._load_state_dict_post_hooks.values()]
    # PyTorch puts some hooks into an object of its own, which has the user's function as `hook`.
    return any(not str(getattr(getattr(hook, "hook", hook), "__module__", None)).startswith("torch.") for hook in hooks)


@contextmanager
def training_mode(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Call `train()` on the module, if wanted, and then restore the modes of its parts.

    Modes are restored one by one, because `train(False)` would merge again what `train()` took apart.
    """
    modes = [(part, part.training) for part in module.modules()] if wanted else []
    if wanted:
        # Some modules, such as LoRA layers, merge weights in eval mode, and take new weights only in training mode.
        module.train()
    yield
    for part, training in modes:
        part.training = training
