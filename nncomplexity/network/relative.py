"""Weights relative to a base that the decoder has.

A file contains the difference θ − θ₀. The decoder computes θ₀ + difference in float64, and rounds once. The search uses the same function
as the decoder. docs/format.md is the specification.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.linalg import round_once
from nncomplexity.network.weights import (
    FLOATS,
    PARTS,
    ModuleOrTensors,
    Skeleton,
    TensorSpec,
    as_read,
    check_network,
    check_numbers,
    skeleton_of,
    stored_bytes,
)


@dataclass(frozen=True)
class Base:
    """Tensors by name, on the CPU, to which other weights are relative. `base_of` makes a base."""

    tensors: Mapping[str, Tensor] = field(repr=False)
    sha256: str
    """The digest of names, dtypes, shapes and bytes, in the order of the names. It does not depend on the type of the file."""
    path: str | None = None
    """The path of the tensors' file, as the user gave it; None for tensors."""

    def under(self, skeleton: Skeleton, version: int = 2) -> Skeleton:
        """The skeleton with the base's tensor for each tensor, if the base has one that fits.

        A tied tensor has several names. They are tried in alphabetical order, and the first fitting tensor of the base is taken. Version 1 of
        the format took them in the order of the skeleton.
        """
        names = {spec.name: spec.names if version == 1 else sorted(spec.names) for spec in skeleton.tensors}
        return Skeleton(tuple(replace(spec, base=self._fitting(spec, names[spec.name])) for spec in skeleton.tensors))

    def unused(self, skeleton: Skeleton) -> tuple[str, ...]:
        """The names of the base's tensors that are not in the skeleton."""
        wanted = {name for spec in skeleton.tensors for name in spec.names}
        return tuple(name for name in self.tensors if name not in wanted)

    def _fitting(self, spec: TensorSpec, names: Sequence[str]) -> Tensor | None:
        found = (self.tensors[name] for name in names if name in self.tensors)
        return next((tensor for tensor in found if tensor.shape == spec.shape and _alike(tensor.dtype, spec.dtype)), None)


def base_of(given: ModuleOrTensors, argument: str = "base", path: str | None = None) -> Base:
    """A module's state, or a mapping of tensors, as a base.

    Raises:
        InputError: it has no tensors, a NaN, or a tensor that a file can't store; the message names the argument.

    >>> base_of({"w": torch.zeros(2)}).sha256 == base_of({"w": torch.zeros(2, 1)[:, 0]}).sha256
    True
    """
    check_network(given, argument)
    state = given.state_dict() if isinstance(given, nn.Module) else given
    if isinstance(given, nn.Module):
        state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    state = as_read(state)
    tensors = skeleton_of(state, argument).expand({name: _materialized(tensor) for name, tensor in state.items()})
    check_numbers(tensors, argument)
    return Base(tensors, _digest(tensors, argument), path)


def difference(tensor: Tensor, base: Tensor | None) -> Tensor:
    """θ − θ₀ in float64, which a search coarse-grains. A tensor of integers, or without a base, is returned as it is."""
    return tensor if base is None or not tensor.is_floating_point() else tensor.double() - base.double()


def added(base: Tensor, change: Tensor, dtype: torch.dtype) -> Tensor:
    """The float64 `change` added to a base in float64, rounded once to `dtype`.

    Elements with a change of 0 keep the base's value, also a −0. So do elements in which the base is infinite.

    >>> added(torch.tensor([1.0, -0.0]), torch.tensor([2.0**-12, 0.0], dtype=torch.float64), torch.float16).tolist()
    [1.0, -0.0]
    """
    exact = base.double()
    # −0.0 + 0.0 is +0.0, and ∞ − ∞ is NaN, so these elements are taken from the base without adding.
    return round_once(torch.where((change == 0) | exact.isinf(), exact, exact + change), dtype)


def in_dtype(base: Tensor, dtype: torch.dtype) -> Tensor:
    """The base in the tensor's dtype, with each element rounded once. The base itself if it has this dtype."""
    return base if base.dtype == dtype else round_once(base.double(), dtype)


def _alike(one: torch.dtype, other: torch.dtype) -> bool:
    return one == other or any(one in kind and other in kind for kind in (FLOATS, PARTS))


def _materialized(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().resolve_conj().resolve_neg()


def _digest(tensors: Mapping[str, Tensor], argument: str) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        entry = [name, str(tensors[name].dtype).removeprefix("torch."), list(tensors[name].shape)]
        try:
            digest.update(json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
        except UnicodeEncodeError as error:
            raise InputError(
                f"{argument}: the name of a tensor is not valid Unicode ({error.reason}); rename the tensor"
            ) from error
        digest.update(stored_bytes(tensors[name]).data)
    return digest.hexdigest()
