"""Second moments of the inputs that the weights of linear maps and embeddings are multiplied by, recorded while a loss runs.

A linear layer or a convolution multiplies a weight (m, k) by inputs x (k,). With H = Σ x·xᵀ over all inputs, the squared error of the layer's
outputs that an error E (m, k) of the weight causes is tr(E·H·Eᵀ). This module records PyTorch's operations and not calls of modules. So it
finds a layer that is called as a module, as a function of a mapping's tensors, or in a fused projection.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

_MOST_NUMBERS = 1 << 25
"""The largest number of elements of all moments together. In float64 they take 256 MiB."""
_AT_ONCE = 1 << 22
"""The largest number of input elements in one product, to limit the memory."""
_COPIES = {"aten::_to_copy", "aten::clone", "aten::copy_"}
"""Operations that copy values to another tensor. Autocast uses them, and so does load_state_dict() within a loss."""


@dataclass(frozen=True)
class Moment:
    """The second moment of the inputs that a weight is multiplied by.

    To look rows up, as an embedding does, is to multiply by inputs with a single 1. Their H is diagonal: the number of times each row is used.

    Attributes:
        H: (k, k) Σ x·xᵀ, float64, on the CPU; only its diagonal (k,) if the other elements are zero.
        last: whether the product sums over the last axes of the weight, which have k elements together, or over its first axes.
    """

    H: Tensor
    last: bool = True

    @property
    def diagonal(self) -> Tensor:
        """(k,) the diagonal of H: the energy of each input."""
        return self.H if self.H.dim() == 1 else self.H.diagonal()

    def inner(self, A: Tensor, B: Tensor) -> Tensor:
        """A·H·Bᵀ (r, s) of matrices A (r, k) and B (s, k)."""
        return (A * self.H if self.H.dim() == 1 else A @ self.H) @ B.T

    def matrix(self, weight: Tensor) -> Tensor:
        """A weight in any shape as the matrix (m, k) of the linear map."""
        return weight.reshape(-1, len(self.H)) if self.last else weight.reshape(len(self.H), -1).T

    def back(self, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        """The weight with this shape, from the matrix (m, k)."""
        return (matrix if self.last else matrix.T).reshape(*shape)


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context manager that collects moments. A weight that is multiplied along different axes in different products has no moment.

    Args:
        weights: the tensors that the loss uses, by name. A weight is recognised by its memory, or by that of a copy.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._held: dict[int, list[tuple[str, Tensor]]] = {}
        for name, weight in weights.items():
            self._hold(name, weight)
        self._sums: dict[str, tuple[Tensor, bool]] = {}
        self._dropped: set[str] = set()
        self._numbers = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch marks the dispatch below as not to be compiled. The mark imports the compiler, which takes two seconds."""
        return False

    def moments(self) -> dict[str, Moment]:
        """The moments of the weights that were seen in products, by name."""
        found = {name: Moment(H.cpu(), last) for name, (H, last) in self._sums.items() if name not in self._dropped}
        return {name: moment for name, moment in found.items() if bool(moment.H.isfinite().all())}

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation, and record its arguments if it is a product or a copy."""
        named = kwargs or {}
        name = func._schema.name
        record = _PRODUCTS.get(name)
        if record is None and name not in _COPIES:
            with self:  # a composite operation, such as linear() in inference mode, is recorded as the operations in it
                parts = func.decompose(*args, **named)
            if parts is not NotImplemented:
                return parts
        found = func(*args, **named)
        if record is not None:
            record(self, found, *args)
        elif name in _COPIES:
            self._follow(found, args[1] if name == "aten::copy_" else args[0])
        return found

    def product(self, x: Tensor, V: Tensor) -> None:
        """x (r, k) · V (k, p). Either of them may be a weight, a transposed weight, or some rows of a weight."""
        for inputs, weight in ((x, V), (V.T, x.T)):
            found = self._weight(weight)
            if found is not None:
                self._add(*found, inputs)

    def batched(self, x: Tensor, V: Tensor) -> None:
        """x (b, r, k) · V (b, k, p). Either of them may be a weight that is the same for all b."""
        for inputs, weight in ((x, V), (V.mT, x.mT)):
            if len(weight) == 1 or (len(weight) and weight.stride(0) == 0):
                found = self._weight(weight[0])
                if found is not None:
                    self._add(*found, inputs.reshape(-1, inputs.shape[-1]))

    def convolution(self, x: Tensor, weight: Tensor, how: "Convolution") -> None:
        """A convolution of x (n, channels, …). Transposed and grouped convolutions are not recorded."""
        name = self._whole(weight)
        if name is None or how.transposed or how.groups != 1:
            return
        sides = weight.shape[2:]
        per_input = max(1, weight[0].numel() * x[0, 0].numel()) if len(x) else 1
        for part in torch.split(x, max(1, _AT_ONCE // per_input)):
            self._add(name, True, patches(part, sides, how))

    def recurrent(self, x: Tensor, W: Tensor, U: Tensor, state: Tensor, states: Tensor, reverse: bool) -> None:
        """A layer of an LSTM: W times inputs x (t, b, k), and U times the previous states (t, b, h)."""
        first = state.reshape(1, *states.shape[1:])
        before = torch.cat([states[1:], first] if reverse else [first, states[:-1]])
        for weight, inputs in ((W, x), (U, before)):
            name = self._whole(weight)
            if name is not None:
                self._add(name, True, inputs.reshape(-1, inputs.shape[-1]))

    def lookup(self, weight: Tensor, rows: Tensor) -> None:
        """Rows of a weight, by their numbers."""
        name = self._whole(weight)
        if name is None or rows.is_floating_point() or rows.dtype in (torch.bool, torch.uint8):  # these are masks
            return
        used = torch.bincount(rows.reshape(-1) % len(weight), minlength=len(weight)).double()
        before, last = self._sums.setdefault(name, (torch.zeros_like(used), False))
        if before.shape == used.shape and not last:
            before += used
        else:
            self._dropped.add(name)  # it is multiplied, too

    def _hold(self, name: str, weight: Tensor) -> None:
        if weight.layout == torch.strided and weight.numel() and weight.is_floating_point():
            self._held.setdefault(weight.untyped_storage().data_ptr(), []).append((name, weight))

    def _follow(self, copy: Tensor, source: Tensor) -> None:
        """Recognise the copy of a weight as this weight."""
        name = self._whole(source)
        if name is not None and copy.shape == source.shape and self._whole(copy) != name:
            self._hold(name, copy)

    def _whole(self, tensor: Tensor) -> str | None:
        """The name of the weight if the tensor is a whole weight in its own shape, otherwise None."""
        for name, weight in self._near(tensor):
            if (
                tensor.storage_offset() == weight.storage_offset()
                and tensor.shape == weight.shape
                and tensor.stride() == weight.stride()
            ):
                return name
        return None

    def _weight(self, V: Tensor) -> tuple[str, bool] | None:
        """The weight of which V (k, p) is a view, and whether the k elements of a sum are along the weight's last axes."""
        k, p = V.shape
        # V must be a slice of the weight as an (m, k) matrix, transposed, or of the weight as a (k, m) matrix. Its strides say which.
        for name, weight in self._near(V):
            count, offset = weight.numel(), V.storage_offset() - weight.storage_offset()
            # For k = 1, the stride along the only row means nothing, so the two cases below look the same.
            if k < 2 or count % k or not 0 <= offset < count or not weight.is_contiguous():
                continue
            m = count // k
            if V.stride(0) == 1 and (p == 1 or V.stride(1) == k) and offset % k == 0 and offset // k + p <= m:
                return name, True
            if V.stride(0) == m and (p == 1 or V.stride(1) == 1) and offset + p <= m:
                return name, False
        return None

    def _near(self, tensor: Tensor) -> Sequence[tuple[str, Tensor]]:
        """The weights with the same storage."""
        return self._held.get(tensor.untyped_storage().data_ptr(), ()) if tensor.layout == torch.strided else ()

    def _add(self, name: str, last: bool, x: Tensor) -> None:
        """Add the moment of inputs x (r, k)."""
        k = x.shape[1]
        if name not in self._sums:
            if self._numbers + k * k > _MOST_NUMBERS:
                self._dropped.add(name)
                return
            self._numbers += k * k
            self._sums[name] = torch.zeros(k, k, dtype=torch.float64, device=x.device), last
        H, before = self._sums[name]
        if H.shape != (k, k) or before != last:
            self._dropped.add(name)
            return
        # Products of float32 parts are added up in float64: exact enough, and much faster than products in float64.
        for part in torch.split(x, max(1, _AT_ONCE // k)):
            rows = part if part.dtype == torch.float64 else part.float()
            H += rows.T @ rows


@contextmanager
def slow_attention() -> Iterator[None]:
    """Turn off PyTorch's fast path for attention and transformer layers, a fused operation in which the products aren't visible."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@dataclass(frozen=True)
class Convolution:
    """The arguments of a convolution, as in PyTorch, with one number for each side of the kernel."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    transposed: bool = False
    output_padding: Sequence[int] = ()
    groups: int = 1


def patches(x: Tensor, sides: Sequence[int], how: Convolution) -> Tensor:
    """The patches (places, channels · ∏ sides) of inputs x (n, channels, …) that a kernel with these sides is multiplied by.

    >>> x = torch.arange(12.0).reshape(1, 1, 3, 4)
    >>> patches(x, (2, 2), Convolution((1, 2), (0, 0), (1, 1))).tolist()[0]
    [0.0, 1.0, 4.0, 5.0]
    """
    # F.pad takes the last axis first, and each amount twice.
    padding = [amount for side in reversed(how.padding) for amount in (side, side)]
    windows = F.pad(x, padding)
    for axis, (side, stride, dilation) in enumerate(zip(sides, how.stride, how.dilation, strict=True), start=2):
        windows = windows.unfold(axis, (side - 1) * dilation + 1, stride)[..., ::dilation]
    spatial = len(sides)
    order = [0, *range(2, 2 + spatial), 1, *range(2 + spatial, 2 + 2 * spatial)]
    return windows.permute(order).reshape(-1, x.shape[1] * prod(sides))


_PRODUCTS: Mapping[str, Callable[..., None]] = {
    "aten::mm": lambda watch, _, x, V, *__: watch.product(x, V),
    "aten::addmm": lambda watch, _, __, x, V, *___: watch.product(x, V),
    "aten::_addmm_activation": lambda watch, _, __, x, V, *___: watch.product(x, V),
    "aten::mv": lambda watch, _, V, x, *__: watch.product(V, x[:, None]),
    "aten::addmv": lambda watch, _, __, V, x, *___: watch.product(V, x[:, None]),
    "aten::bmm": lambda watch, _, x, V, *__: watch.batched(x, V),
    "aten::baddbmm": lambda watch, _, __, x, V, *___: watch.batched(x, V),
    "aten::convolution": lambda watch, _, x, weight, __, *how: watch.convolution(x, weight, Convolution(*how)),
    "aten::mkldnn_rnn_layer": lambda watch, found, x, W, U, _, __, state, ___, reverse, *____: watch.recurrent(
        x, W, U, state, found[0], reverse
    ),
    "aten::embedding": lambda watch, _, weight, rows, *__: watch.lookup(weight, rows),
    "aten::index": lambda watch, _, weight, rows: watch.lookup(weight, rows[0]) if len(rows) == 1 and rows[0] is not None else None,
    "aten::index_select": lambda watch, _, weight, axis, rows: None if axis else watch.lookup(weight, rows),
}
"""How to record each operation, from its result and its arguments."""
