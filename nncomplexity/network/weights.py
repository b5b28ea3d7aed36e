"""Named tensors and their skeleton: what a decoder knows before it reads a bit.

The skeleton (names, shapes, dtypes, ties) is the architecture. Two names are tied when they are the same view of the same storage;
equal values alone never tie, since which values are equal depends on the weights.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nncomplexity.errors import InputError

PARTS = {torch.complex64: torch.float32, torch.complex128: torch.float64}
"""The dtypes of the real and imaginary parts of complex numbers."""
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
QUANTIZABLE = (*FLOATS, *PARTS)
"""Dtypes that a search may coarse-grain; all others are kept as they are."""
STORED = (
    *FLOATS,
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.bool, *PARTS),
)
"""Dtypes that have a form in a file."""

DIMENSIONS = 64
"""Most dimensions of a tensor that PyTorch and NumPy can work on; the parts of complex numbers are one of them."""
_EXPANDED = 1 << 32
"""Bytes above which a tensor is refused that repeats fewer bytes of memory: its elements would take more than there was to hold them."""

_SHARDED = {"DTensor", "ShardedTensor", "FlatParameter", "FullyShardedDataParallel", "FSDPModule"}
"""Classes of torch.distributed whose objects hold a part of their values."""

ModuleOrTensors = nn.Module | Mapping[str, Tensor]
"""A network as users hand it over: a module, or its tensors by name."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's shape and dtype, under every name that shares its storage, the first name first."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    base: Tensor | None = field(default=None, compare=False, repr=False)
    """The tensor of the same shape from which this one is coded as a difference (`network.relative`), which a decoder knows too."""

    @property
    def name(self) -> str:
        """The first name, under which the tensor goes wherever one is enough."""
        return self.names[0]

    @cached_property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def raw_bytes(self) -> int:
        """Bytes of the elements as stored."""
        return self.count * self.dtype.itemsize

    @property
    def quantizable(self) -> bool:
        """Whether a search may coarse-grain a tensor of this dtype."""
        return self.dtype in QUANTIZABLE

    @cached_property
    def room(self) -> float:
        """The largest size of a number that may be added to any element of the base, or to 0, without leaving the dtype's range."""
        if not self.dtype.is_floating_point or self.dtype == torch.float8_e4m3fn:  # that one has no infinity
            return math.inf
        held = 0.0 if self.base is None or not self.count else float(self.base.double().abs().max())
        return max(0.0, torch.finfo(self.dtype).max - held)

    @property
    def real(self) -> "TensorSpec":
        """A complex tensor as that of its real and imaginary parts, (..., 2), as `real_view` gives it; others as they are."""
        if self.dtype not in PARTS:
            return self
        base = None if self.base is None else real_view(self.base)
        return replace(self, shape=(*self.shape, 2), dtype=PARTS[self.dtype], base=base)


@dataclass(frozen=True)
class Skeleton:
    """Every tensor once, in the order of the mapping that it was taken from."""

    tensors: tuple[TensorSpec, ...]

    @property
    def parameters(self) -> int:
        """Elements in all, tied ones counted once."""
        return sum(spec.count for spec in self.tensors)

    @property
    def raw_bits(self) -> int:
        """Bits of all tensors as stored, tied ones counted once."""
        return 8 * sum(spec.raw_bytes for spec in self.tensors)

    @cached_property
    def real(self) -> "Skeleton":
        """The skeleton of the `real_view` of every tensor: what the payload holds, and what a search sees."""
        return Skeleton(tuple(spec.real for spec in self.tensors))

    @cached_property
    def by_name(self) -> tuple[int, ...]:
        """The indices of the tensors in the order of their least names, which hangs on names alone."""
        return tuple(sorted(range(len(self.tensors)), key=lambda index: min(self.tensors[index].names)))

    def expand(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by first name to tensors by every name; tied names get one object."""
        return {name: tensors[spec.name] for spec in self.tensors for name in spec.names}


class Private(dict[str, Tensor]):
    """Tensors by name that nobody else holds: whoever is given them needs no copy to keep them as they are."""


def skeleton_of(weights: Mapping[str, Tensor], argument: str = "weights") -> Skeleton:
    """The skeleton of a mapping of names to tensors.

    Raises:
        InputError: the mapping is empty, a name is no text or a value is no dense tensor; the message names the argument.

    >>> shared = torch.zeros(3, 2)
    >>> skeleton_of({"in.weight": shared, "out.weight": shared, "copy": torch.zeros(3, 2)}).tensors
    (TensorSpec(names=('in.weight', 'out.weight'), shape=(3, 2), dtype=torch.float32),
     TensorSpec(names=('copy',), shape=(3, 2), dtype=torch.float32))
    """
    if not weights:
        raise InputError(f"{argument}: expected at least one tensor, got an empty mapping; pass a state dict")
    names: dict[object, list[str]] = {}
    for name, tensor in weights.items():
        if not isinstance(name, str):
            raise InputError(f"{argument}: expected names that are texts, got {name!r} ({type(name).__name__}); use str({name!r})")
        if not isinstance(tensor, Tensor):
            raise InputError(f"{argument}: expected a tensor under {name!r}, got {type(tensor).__name__}; leave other values out")
        check_dense(name, tensor, argument)
        names.setdefault(storage_key(name, tensor), []).append(name)
    return Skeleton(
        tuple(TensorSpec(tuple(group), tuple(weights[group[0]].shape), weights[group[0]].dtype) for group in names.values())
    )


def check_dense(name: str, tensor: Tensor, argument: str) -> None:
    """Raises InputError, which names the argument, where a tensor isn't one that can be measured: dense, in memory, of a stored dtype."""
    check_whole(name, tensor, argument)
    if is_lazy(tensor):
        raise InputError(f"{argument}: {name!r} has no shape yet, as its module is lazy; call the model on a batch first")
    if tensor.layout != torch.strided or tensor.dtype not in STORED or tensor.is_meta or tensor.is_nested:
        what = {"a meta tensor": tensor.is_meta, "a nested tensor": tensor.is_nested, tensor.dtype: tensor.dtype not in STORED}
        kind = next((kind for kind, holds in what.items() if holds), tensor.layout)
        advice = "; convert it first"
        if kind is tensor.dtype and tensor.is_floating_point():  # a small float that has no form in a file
            advice += ", or keep its bytes, as .view(torch.uint8) gives them"
        raise InputError(f"{argument}: expected {name!r} to be a dense tensor in memory, got {kind}{advice}")
    check_in_memory(name, tensor, argument)
    most = DIMENSIONS - (tensor.dtype in PARTS)
    if tensor.dim() > most:
        raise InputError(f"{argument}: expected {name!r} to have at most {most} dimensions, got {tensor.dim()}; reshape it")
    if tensor.nbytes > _EXPANDED and tensor.nbytes > (held := tensor.untyped_storage().nbytes()):
        raise InputError(
            f"{argument}: expected {name!r} to hold its elements, got {tensor.numel()} of them expanded from {held} bytes; "
            "leave it out, or keep it as it was before .expand()"
        )


def check_in_memory(name: str, tensor: Tensor, argument: str) -> None:
    """Raises InputError, which names the argument, where a tensor has no memory of its own: quantized, fake, of a transform."""
    if reason := _not_in_memory(tensor):
        raise InputError(f"{argument}: expected {name!r} to be a dense tensor in memory, got {type(tensor).__name__}, {reason}")


def _not_in_memory(tensor: Tensor) -> str | None:
    """Why elements can't be read where the tensor says that they lie, and what to do; None where they can."""
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_nested or is_lazy(tensor):
        return None  # there are other words for these
    if type(tensor).__name__ == "FakeTensor":
        return "which has no values; make it outside of FakeTensorMode"
    if tensor.numel() and not _address(tensor):
        if not _answers_itself(tensor):
            return "which has no memory of its own, as within vmap, grad or functionalize; call it outside of them"
        return "which has no memory of its own, as quantized and masked tensors have none; dequantize it first, or pass its parts"
    if _answers_itself(tensor) and _answers_itself(tensor.detach().reshape(-1)[:0].cpu()):  # of an accelerator nothing is fetched
        return "whose class answers every operation itself; pass a plain tensor of its values"
    return None


def _answers_itself(tensor: Tensor) -> bool:
    """Whether it is of a class with a `__torch_dispatch__` of its own."""
    return type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__


def _address(tensor: Tensor) -> int:
    """Where in memory its first element is; 0 where nowhere: in other tensors, as those of a wrapper subclass are, or in none."""
    try:
        return tensor.data_ptr()
    except Exception:  # PyTorch's ways of saying so, and those of subclasses, differ in their types
        return 0


def as_read(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The mapping, with the values of tensors that have no memory of their own but give them when detached, as some quantized ones do.

    Two names of one object have one tensor of values. Others are left to `check_dense`.
    """
    values = {id(tensor): _detached(tensor) for tensor in weights.values() if isinstance(tensor, Tensor) and _not_in_memory(tensor)}
    return {name: values.get(id(tensor), tensor) for name, tensor in weights.items()} if values else weights


def _detached(tensor: Tensor) -> Tensor:
    try:
        values = tensor.detach()
    except Exception:  # whatever its class refuses with
        return tensor
    same = values.shape == tensor.shape and values.dtype == tensor.dtype
    return values if same and not _not_in_memory(values) else tensor


def check_network(given: object, argument: str = "model") -> None:
    """Refuse what is neither a module nor a mapping.

    Raises:
        InputError: it is neither; the message names the argument, and says what to pass.

    >>> check_network("net.safetensors")
    Traceback (most recent call last):
        ...
    nncomplexity.errors.InputError: model: expected a module or a mapping of names to tensors, got str; load the file first, by
        nncomplexity.checkpoint.load_checkpoint(path).tensors
    """
    if isinstance(given, (nn.Module, Mapping)):
        return
    came, advice = type(given).__name__, "pass the module itself, or its state_dict()"
    if isinstance(given, (str, os.PathLike)):
        advice = "load the file first, by nncomplexity.checkpoint.load_checkpoint(path).tensors"
    elif isinstance(given, type):
        came, advice = f"the class {given.__name__}", f"pass an object of it, as {given.__name__}(...) makes one"
    elif isinstance(getattr(given, "tensors", None), Mapping):  # a loaded checkpoint
        advice = "pass its .tensors"
    raise InputError(f"{argument}: expected a module or a mapping of names to tensors, got {came}; {advice}")


def check_whole(name: str, value: object, argument: str) -> None:
    """Refuse a tensor or module that holds only this process's part of its values: a DTensor, or one under FSDP.

    Classes are known by their names, so that `torch.distributed` is loaded only where they come from it.

    Raises:
        InputError: it holds a part alone.
    """
    kinds = {kind.__name__ for kind in type(value).__mro__ if kind.__module__.startswith("torch.distributed")}
    if sharded := sorted(kinds & _SHARDED):
        raise InputError(
            f"{argument}: {name!r} is sharded over processes ({sharded[0]}); gather the whole first, by "
            "torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
            "options=StateDictOptions(full_state_dict=True, cpu_offload=True)), and pass that on one process"
        )


def real_view(tensor: Tensor) -> Tensor:
    """A complex tensor (...) as its real and imaginary parts (..., 2); any other as it is.

    >>> real_view(torch.tensor([1 + 2j])).tolist()
    [[1.0, 2.0]]
    """
    return torch.view_as_real(tensor.resolve_conj()) if tensor.dtype in PARTS else tensor


def complex_view(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor of this dtype whose `real_view` is given."""
    return torch.complex(tensor[..., 0], tensor[..., 1]) if dtype in PARTS and not tensor.is_complex() else tensor


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape as one, (T, ...); a view of one alone."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))


def stored_bytes(tensor: Tensor) -> NDArray[np.uint8]:
    """The elements' bytes, little-endian, in row-major order; a view of the tensor where that is possible."""
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if flat.numel() else np.zeros(0, dtype=np.uint8)


def of_bytes(data: NDArray[np.uint8], spec: TensorSpec) -> Tensor:
    """The tensor that has these `stored_bytes`; its memory is theirs."""
    return (
        torch.from_numpy(data).view(spec.dtype).reshape(spec.shape)
        if spec.count
        else torch.zeros(spec.shape, dtype=spec.dtype, device="cpu")
    )


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is a NaN or an infinity, for tensors of any dtype."""
    return bool(torch.isfinite(_testable(tensor)).all())


def check_numbers(weights: Mapping[str, Tensor], argument: str = "weights") -> None:
    """Refuse weights that hold a NaN. Infinities are let pass: masks and fresh observers hold them.

    Raises:
        InputError: a tensor holds a NaN, or can't be looked into; the message names the first.
    """
    for name, tensor in weights.items():
        check_dense(name, tensor, argument)
        count = int(torch.isnan(_testable(tensor)).sum())
        if count:
            raise InputError(f"{argument}: {name!r} holds {count} values that are NaN; use an earlier checkpoint")


def _testable(tensor: Tensor) -> Tensor:
    """PyTorch's tests for NaN and infinity don't take 8-bit floats."""
    return tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize == 1 else tensor


def storage_key(name: str, tensor: Tensor) -> object:
    """What tensors have in common that are the same view of the same storage, and no others."""
    if tensor.numel() == 0:
        return name  # empty storages all begin at address zero
    if not (address := _address(tensor)):
        return id(tensor)
    view = (tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.is_conj(), tensor.is_neg())
    return tensor.device, address, view


def storage_place(tensor: Tensor) -> tuple[torch.device, int] | None:
    """Where the storage begins that a tensor is a view of; None where it has none in memory, or an empty one."""
    try:
        address = tensor.untyped_storage().data_ptr()
    except Exception:  # see `_address`
        return None
    return (tensor.device, address) if address else None
