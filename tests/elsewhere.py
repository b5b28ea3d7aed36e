"""A simulated accelerator: a device whose tensors are in this machine's memory, but don't mix with the CPU's.

Under `Elsewhere`, tensors can be moved to `DEVICE`. The device refuses operations on tensors of both devices, and `numpy()`. It counts the
bytes that are copied from it. The CPU computes, so the results are bit for bit those of the CPU. PyTorch allows one such device in a
process, so tests use it in a process of its own.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("elsewhere")
DEVICE = torch.device("elsewhere", 0)
crossed: Counter[str] = Counter()
"""The bytes that were copied from the device, by dtype."""

_MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class _There(Tensor):
    """A tensor that says it is on the device."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "_There":
        there = Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=DEVICE, requires_grad=False
        )
        there.here = here
        return there

    def data_ptr(self) -> int:
        return self.here.data_ptr()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert a tensor elsewhere to numpy; use Tensor.cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """The context in which the device exists."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    there = any(isinstance(tensor, _There) for tensor in tensors)
    if there and func not in _MOVES and any(tensor.dim() and not isinstance(tensor, _There) for tensor in tensors):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    if func is torch.ops.aten.copy_.default:
        to_there = isinstance(args[0], _There)
    else:
        device = kwargs.get("device")
        to_there = there if device is None else torch.device(device).type == DEVICE.type
    kwargs = {key: torch.device("cpu") if key == "device" and value is not None else value for key, value in kwargs.items()}
    found = func(*tree_map(_here, args), **tree_map(_here, kwargs))
    if func in _MOVES and isinstance(args[-1 if len(args) > 1 else 0], _There) and not to_there:
        crossed[str(found.dtype)] += found.nbytes
    if func._schema.is_mutable and not func._schema.name.endswith("out"):
        return args[0]
    return tree_map(lambda value: _There(value) if isinstance(value, Tensor) and to_there else value, found)


def _here(value: Any) -> Any:
    return value.here if isinstance(value, _There) else value
