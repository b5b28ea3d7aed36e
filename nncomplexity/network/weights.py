"""Named tensors and their skeleton, which a decoder knows before it reads the payload.

The skeleton (names, shapes, dtypes, ties) is the architecture. Two names are tied if they are the same view of the same storage.
Equal values never make a tie, because they depend on the weights.
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
"""Dtypes that a search may coarse-grain. Tensors of all other dtypes are kept exactly."""
STORED = (
    *FLOATS,
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.bool, *PARTS),
)
"""The dtypes that a file can store."""

DIMENSIONS = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
"""The largest number of dimensions that PyTorch and NumPy support. The two parts of complex numbers count as one dimension."""
_EXPANDED = 1 << 32
"""An expanded tensor has fewer bytes in memory than it has elements. Above this number of bytes it is refused, because a search
gives each element its own memory."""

_SHARDED = {"DTensor", "ShardedTensor", "FlatParameter", "FullyShardedDataParallel", "FSDPModule"}
"""Classes of torch.distributed whose objects have only a part of their values in this process."""

ModuleOrTensors = nn.Module | Mapping[str, Tensor]
"""A network as users give it: a module, or its tensors by name."""


@dataclass(frozen=True)
class TensorSpec:
    """The shape and dtype of a tensor, with all names that share its storage. The first name identifies it."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    base: Tensor | None = field(default=None, compare=False, repr=False)
    """The base's tensor of the same shape, if this one is coded as the difference from it (`network.relative`). The decoder has the base
    too."""

    @cached_property
    def name(self) -> str:
        """The first name, which identifies the tensor."""
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
        """The largest number that can be added to every element of the base, or to 0, within the dtype's range."""
        if not self.dtype.is_floating_point or self.dtype == torch.float8_e4m3fn:  # this dtype has no infinity
            return math.inf
        held = 0.0 if self.base is None or not self.count else float(self.base.double().abs().max())
        return max(0.0, torch.finfo(self.dtype).max - held)

    @property
    def real(self) -> "TensorSpec":
        """The spec of the `real_view`, (..., 2), of a complex tensor. The spec of any other tensor does not change."""
        if self.dtype not in PARTS:
            return self
        base = None if self.base is None else real_view(self.base)
        return replace(self, shape=(*self.shape, 2), dtype=PARTS[self.dtype], base=base)


@dataclass(frozen=True)
class Skeleton:
    """Every tensor once, in the order of the original mapping."""

    tensors: tuple[TensorSpec, ...]

    @property
    def parameters(self) -> int:
        """The number of all elements, with tied ones counted once."""
        return sum(spec.count for spec in self.tensors)

    @property
    def raw_bits(self) -> int:
        """Bits of all tensors as stored, tied ones counted once."""
        return 8 * sum(spec.raw_bytes for spec in self.tensors)

    @cached_property
    def real(self) -> "Skeleton":
        """The skeleton of the `real_view` of every tensor. The payload and the search use this one."""
        return Skeleton(tuple(spec.real for spec in self.tensors))

    @cached_property
    def by_name(self) -> tuple[int, ...]:
        """The indices of the tensors, sorted by each tensor's alphabetically first name. The order depends only on names."""
        return tuple(sorted(range(len(self.tensors)), key=lambda index: min(self.tensors[index].names)))

    def expand(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by all names, from tensors by first name. Tied names get the same object."""
        return {name: tensors[spec.name] for spec in self.tensors for name in spec.names}


class Private(dict[str, Tensor]):
    """Tensors by name that no other object uses, so that no copy of them is needed."""


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
            raise InputError(f"{argument}: expected names as texts, got {name!r} ({type(name).__name__}); use str({name!r})")
        given: object = tensor  # the user may have given anything
        if not isinstance(given, Tensor):
            remedy = "use torch.as_tensor" if isinstance(given, np.ndarray | np.generic) else "leave other values out"
            raise InputError(f"{argument}: expected a tensor under {name!r}, got {type(given).__name__}; {remedy}")
        check_dense(name, tensor, argument)
        names.setdefault(storage_key(name, tensor), []).append(name)
    return Skeleton(
        tuple(TensorSpec(tuple(group), tuple(weights[group[0]].shape), weights[group[0]].dtype) for group in names.values())
    )


def check_dense(name: str, tensor: Tensor, argument: str) -> None:
    """Check that a tensor can be measured: it must be dense, in memory, and of a dtype that a file can store.

    Raises:
        InputError: it can't be measured; the message names the argument.
    """
    check_whole(name, tensor, argument)
    if is_lazy(tensor):
        raise InputError(f"{argument}: {name!r} has no shape yet, because its module is lazy; call the model with a batch first")
    if tensor.layout != torch.strided or tensor.dtype not in STORED or tensor.is_meta or tensor.is_nested:
        what = {"a meta tensor": tensor.is_meta, "a nested tensor": tensor.is_nested, tensor.dtype: tensor.dtype not in STORED}
        kind = next((kind for kind, holds in what.items() if holds), tensor.layout)
        advice = "; convert it first"
        if kind is tensor.dtype and tensor.is_floating_point():  # a small float type that a file can't hold
            advice += ", or pass its bytes, .view(torch.uint8)"
        raise InputError(f"{argument}: expected {name!r} to be a dense tensor in memory, got {kind}{advice}")
    check_in_memory(name, tensor, argument)
    most = DIMENSIONS - (tensor.dtype in PARTS)
    if tensor.dim() > most:
        raise InputError(f"{argument}: expected {name!r} to have at most {most} dimensions, got {tensor.dim()}; reshape it")
    if tensor.nbytes > _EXPANDED and tensor.nbytes > (held := tensor.untyped_storage().nbytes()):
        raise InputError(
            f"{argument}: expected {name!r} to have memory for all its elements, got {tensor.numel()} elements expanded from {held} bytes; "
            "leave it out, or pass it as it was before .expand()"
        )


def check_in_memory(name: str, tensor: Tensor, argument: str) -> None:
    """Raises InputError, which names the argument, if a tensor has no memory of its own: quantized, fake, or within a transform."""
    if reason := _not_in_memory(tensor):
        raise InputError(f"{argument}: expected {name!r} to be a dense tensor in memory, got {type(tensor).__name__}, {reason}")


def _not_in_memory(tensor: Tensor) -> str | None:
    """The reason why the elements can't be read from the tensor's memory, and what to do. None if they can be read."""
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_nested or is_lazy(tensor):
        return None  # `check_dense` has its own messages for these
    if type(tensor).__name__ == "FakeTensor":
        return "which has no values; make it outside of FakeTensorMode"
    if tensor.numel() and not _address(tensor):
        if not _answers_itself(tensor):
            return "which has no memory of its own within vmap, grad or functionalize; call it outside of them"
        return "which has no memory of its own, like quantized and masked tensors; dequantize it first, or pass its parts"
    # Some classes return ordinary tensors from their operations, and then their values can be read. An empty slice shows it, without a
    # copy from an accelerator.
    if _answers_itself(tensor) and _answers_itself(tensor.detach().reshape(-1)[:0].cpu()):
        return "whose class defines all operations itself; pass an ordinary tensor with its values"
    return None


def _answers_itself(tensor: Tensor) -> bool:
    """Whether the tensor's class has its own `__torch_dispatch__`."""
    return type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__


def _address(tensor: Tensor) -> int:
    """The address of the first element. It is 0 if the tensor has no memory, or if its values are in other tensors."""
    try:
        return tensor.data_ptr()
    except Exception:  # PyTorch and subclasses raise different types of errors here
        return 0


def as_read(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The mapping, with tensors without memory replaced by their values, which `detach()` returns for some quantized tensors.

    Two names of one object get one tensor. A tensor without values stays, and `check_dense` refuses it.
    """
    values = {id(tensor): _detached(tensor) for tensor in weights.values() if isinstance(tensor, Tensor) and _not_in_memory(tensor)}
    return {name: values.get(id(tensor), tensor) for name, tensor in weights.items()} if values else weights


def _detached(tensor: Tensor) -> Tensor:
    try:
        values = tensor.detach()
    except Exception:  # the class may raise any error
        return tensor
    same = values.shape == tensor.shape and values.dtype == tensor.dtype
    return values if same and not _not_in_memory(values) else tensor


def check_network(given: object, argument: str = "model") -> None:
    """Check that an argument is a module or a mapping.

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
    """Check that a tensor or module has all of its values in this process. A DTensor, or a module under FSDP, has only a part of them.

    Classes are recognised by name, so that `torch.distributed` need not be loaded.

    Raises:
        InputError: it has only a part of its values.
    """
    kinds = {kind.__name__ for kind in type(value).__mro__ if kind.__module__.startswith("torch.distributed")}
    if sharded := sorted(kinds & _SHARDED):
        raise InputError(
            f"{argument}: {name!r} is sharded over processes ({sharded[0]}); collect all of it first, with "
            "torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
            "options=StateDictOptions(full_state_dict=True, cpu_offload=True)), and measure that on one process"
        )


def real_view(tensor: Tensor) -> Tensor:
    """A complex tensor (...) as its real and imaginary parts (..., 2). Any other tensor does not change.

    >>> real_view(torch.tensor([1 + 2j])).tolist()
    [[1.0, 2.0]]
    """
    return torch.view_as_real(tensor.resolve_conj()) if tensor.dtype in PARTS else tensor


def complex_view(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor of this dtype whose `real_view` is given."""
    return torch.complex(tensor[..., 0], tensor[..., 1]) if dtype in PARTS and not tensor.is_complex() else tensor


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape as one tensor, (T, ...). For a single tensor, it is a view."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))


def stored_bytes(tensor: Tensor) -> NDArray[np.uint8]:
    """The bytes of the elements, little-endian, in row-major order. A view of the tensor if possible."""
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if flat.numel() else np.zeros(0, dtype=np.uint8)


def of_bytes(data: NDArray[np.uint8], spec: TensorSpec) -> Tensor:
    """The tensor with these `stored_bytes`. It uses their memory."""
    return (
        torch.from_numpy(data).view(spec.dtype).reshape(spec.shape)
        if spec.count
        else torch.zeros(spec.shape, dtype=spec.dtype, device="cpu")
    )


def is_running_statistic(name: str) -> bool:
    """Whether this is the name of a running statistic, such as those of batch norm. Training never changes them by a gradient.

    >>> is_running_statistic("norm.running_mean"), is_running_statistic("running_man.weight")
    (True, False)
    """
    return name.rpartition(".")[2].startswith("running_")


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is a NaN or an infinity, for a tensor of any dtype."""
    wide = _testable(tensor)
    # A sum is finite only if all its terms are, and takes a fraction of the time. It may also overflow, so an infinite sum proves nothing.
    return (wide.is_floating_point() and math.isfinite(wide.sum().item())) or bool(torch.isfinite(wide).all())


def check_numbers(weights: Mapping[str, Tensor], argument: str = "weights") -> None:
    """Check that weights have no NaN. Infinities are allowed, because masks and new observers contain them.

    Raises:
        InputError: a tensor contains a NaN, or its values can't be read; the message names the first such tensor.
    """
    for name, tensor in weights.items():
        check_dense(name, tensor, argument)
        count = 0 if is_finite(tensor) else int(torch.isnan(_testable(tensor)).sum())
        if count:
            raise InputError(f"{argument}: {name!r} holds {count} values that are NaN; use an earlier checkpoint")


def _testable(tensor: Tensor) -> Tensor:
    """The tensor in a dtype for PyTorch's tests for NaN and infinity, which don't support 8-bit floats."""
    return tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize == 1 else tensor


def storage_key(name: str, tensor: Tensor) -> object:
    """A key that two tensors share if and only if they are the same view of the same storage."""
    if tensor.numel() == 0:
        return name  # all empty storages are at address zero
    if not (address := _address(tensor)):
        return id(tensor)
    view = (tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.is_conj(), tensor.is_neg())
    return tensor.device, address, view


def storage_place(tensor: Tensor) -> tuple[torch.device, int] | None:
    """The address of the tensor's storage. None if it has no storage in memory, or an empty one."""
    try:
        address = tensor.untyped_storage().data_ptr()
    except Exception:  # see `_address`
        return None
    return (tensor.device, address) if address else None
