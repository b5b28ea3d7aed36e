"""A copy of a network at one moment, on the CPU. It can be sent to another process while the training goes on."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.network.modulestate import copied, settle, tensors_of
from nncomplexity.network.weights import ModuleOrTensors, Skeleton, as_read, check_network, check_whole, skeleton_of

_INNER = {"DistributedDataParallel": "module", "DataParallel": "module", "OptimizedModule": "_orig_mod"}
"""The attribute of each of PyTorch's wrappers that is the network itself."""


def unwrapped(model: ModuleOrTensors) -> ModuleOrTensors:
    """The network inside DistributedDataParallel, DataParallel and torch.compile; anything else does not change.

    A forward pass of DistributedDataParallel waits for the other processes. A measurement on one of them would wait for ever.

    >>> layer = nn.Linear(2, 1)
    >>> unwrapped(nn.DataParallel(layer)) is layer
    True
    """
    while isinstance(model, nn.Module):
        # Known by name, so that torch.distributed and the compiler need not be loaded.
        inner = next((_INNER[kind.__name__] for kind in type(model).__mro__ if kind.__name__ in _INNER and _of_torch(kind)), None)
        if inner is None:
            break
        model = getattr(model, inner)
    return model


@dataclass(frozen=True)
class Snapshot:
    """A copy of a network that shares no memory with it. Two copies of one state are equal bit by bit.

    Attributes:
        network: a module on the CPU, or tensors there by the first of their names.
        skeleton: which names share one tensor. Pickling separates such tensors, so they are joined again afterwards.
    """

    network: ModuleOrTensors
    skeleton: Skeleton

    @classmethod
    def of(cls, model: ModuleOrTensors) -> "Snapshot":
        """A copy of the network in its present state.

        Raises:
            InputError: the argument is no network, has only a part of its weights in this process, or can't be copied.

        >>> layer = nn.Linear(2, 1)
        >>> before, kept = layer.weight.tolist(), Snapshot.of(layer)
        >>> _ = nn.init.zeros_(layer.weight)
        >>> kept.on(torch.device("cpu")).weight.tolist() == before
        True
        """
        check_network(model)
        if not isinstance(model, nn.Module):
            tensors = as_read(model)
            skeleton = skeleton_of(tensors)
            return cls({spec.name: tensors[spec.name].detach().to("cpu", copy=True) for spec in skeleton.tensors}, skeleton)
        for name, part in model.named_modules():
            check_whole(name or type(part).__name__, part, "model")
        skeleton = skeleton_of(tensors_of(model))
        copy = copied(model)
        if copy is None:
            raise InputError(
                f"model: a {type(model).__name__} can't be copied, which a measurement in the background needs; "
                "pass model.state_dict(), or leave `background` and `executor` out"
            )
        return cls(copy.cpu(), skeleton)

    def on(self, device: torch.device) -> ModuleOrTensors:
        """The network on a device, with its ties. A module is moved there itself; for tensors, the result is a new dictionary."""
        if isinstance(self.network, nn.Module):
            # Both pickling and moving separate tied tensors, so ties are restored before and after the move.
            settle(tensors_of(self.network), self.skeleton)
            moved = self.network.to(device)
            settle(tensors_of(moved), self.skeleton)
            return moved
        held: Mapping[str, Tensor] = self.network
        return self.skeleton.expand({name: tensor.to(device) for name, tensor in held.items()})


def _of_torch(kind: type) -> bool:
    return kind.__module__.startswith("torch.")
