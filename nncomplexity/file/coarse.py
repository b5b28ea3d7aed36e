"""Coarse tensors: the forms in which a file can store a tensor, and the exact arithmetic that decodes them.

Every decoder must get the same bits. Symbols are integers, so a product of factors is exact in float64 for any order of summation, as
long as it stays below 2⁵³. Then each element is multiplied by one step, added to the element of the base if there is one, and rounded
once to the tensor's dtype. This gives the same bits on every device that has float64.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nncomplexity.codecs import SYMBOL_LIMIT, Integers, room_for
from nncomplexity.errors import FormatError
from nncomplexity.linalg import SMALL, largest_entry, matrix_view, round_once, shift, waves
from nncomplexity.network import Blocks, Layout, TensorSpec, added, in_dtype, is_finite, of_bytes, pieces_of, stored_bytes

EXACT_LIMIT = 2.0**53
"""Sums of integers below this are exact in float64, in any order."""
_WAVES = 32
"""An element of a basis counts for this number of multiplications, because a cosine must be computed."""
_AT_ONCE = 1 << 22
"""The largest number of elements of a tensor that are in float64 at one time, to save memory."""
CPU = torch.device("cpu")
INTEGERS: dict[torch.dtype, type[np.generic]] = {
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.int16: np.int16,
    torch.int8: np.int8,
    torch.uint64: np.uint64,
    torch.uint32: np.uint32,
    torch.uint16: np.uint16,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}
"""The dtypes whose elements can be used as symbols directly."""


@dataclass(frozen=True)
class Constant:
    """Every element is `value`: 0, or 1 as for a new norm's gain. With a base, 0 is the base itself, bit for bit."""

    value: int

    def decode(self, spec: TensorSpec, device: torch.device = CPU) -> Tensor:
        """The tensor on a device, in its dtype."""
        if spec.base is not None:
            return Dense(np.broadcast_to(np.int8(self.value), spec.shape)).decode(spec, device)
        return torch.full(spec.shape, self.value, dtype=spec.dtype, device=device)


@dataclass(frozen=True)
class Dense:
    """Element i is symbols_i · step. The symbols have the tensor's shape. Integer and boolean tensors have step 1."""

    symbols: Integers
    step: float = 1.0

    def decode(self, spec: TensorSpec, device: torch.device = CPU) -> Tensor:
        """The tensor on a device, in its dtype."""
        if not spec.quantizable:
            return _integers(self.symbols, spec).to(device)
        shape = matrix_shape(spec) or (spec.count, 1)
        symbols = self.symbols.reshape(shape)
        return _made(lambda part, across: _doubles(symbols[part, across], device), self.step, spec, shape, device)


@dataclass(frozen=True)
class LowRank:
    """The matrix view (m, n) of the tensor is (T_a · A · B · T_bᵀ) · step · 2^−shift with symbols A (m, k) and B (k, n).

    T_a (m, m) and T_b (n, n) are the bases of `nncomplexity.linalg.basis` with these periods, and `shift` is the sum of their shifts. A
    period of 0 means no basis. The step is step_a · step_b.
    """

    A: Integers
    B: Integers
    step_a: float
    step_b: float
    periods: tuple[int, int] = (0, 0)

    @property
    def rank(self) -> int:
        """The number k of columns of A."""
        return int(self.A.shape[1])

    def step(self, spec: TensorSpec) -> float:
        """step_a · step_b. Raises FormatError with the tensor's name if it is not finite."""
        step = self.step_a * self.step_b
        if not math.isfinite(step):
            raise FormatError(
                f"{spec.name}: steps {self.step_a:.3g} and {self.step_b:.3g} have no finite product: the payload is damaged"
            )
        return step

    def decode(self, spec: TensorSpec, device: torch.device = CPU) -> Tensor:
        """The tensor on a device, in its dtype."""
        scale = math.ldexp(self.step(spec), -sum(shift(period) for period in self.periods if period))
        shape = len(self.A), self.B.shape[1]
        used = _used(self.A, self.B)
        A = self._along(0, self.A[:, used], spec, device)
        B = self._along(1, self.B[used].T, spec, device).T.contiguous()
        _check_exact(float(A.shape[1]) * _largest(A) * _largest(B), spec)
        rows, columns = A.any(1), B.any(0)

        def product(part: slice, across: slice) -> Tensor:
            """A part of A·B. Zero rows and columns of the factors take no time, and adding 0.0 makes every zero positive."""
            some, others = rows[part], columns[across]
            if some.all() and others.all():
                return (A[part] @ B[:, across]).add_(0.0)
            found = torch.zeros(len(some), len(others), dtype=torch.float64, device=device)
            found[some[:, None] & others] = (A[part][some] @ B[:, across][:, others]).add_(0.0).reshape(-1)
            return found

        return _made(product, scale, spec, shape, device)

    def _along(self, side: int, symbols: Integers, spec: TensorSpec, device: torch.device) -> Tensor:
        """The symbols (rows, k) of one factor times the basis of its side, as float64."""
        # PyTorch multiplies, with the caller's number of threads. NumPy's BLAS would start its own threads, which are busy while they wait.
        factor = _doubles(symbols, device)
        period = self.periods[side]
        if not period:
            return factor
        _check_exact(float(len(factor)) * largest_entry(period) * _largest(factor), spec)
        return waves(len(factor), period).to(device) @ factor


@dataclass(frozen=True)
class Lossless:
    """The bytes of the elements, little-endian, (count · itemsize,). With a base, they are XORed with the bytes of the base."""

    data: NDArray[np.uint8]

    def decode(self, spec: TensorSpec, device: torch.device = CPU) -> Tensor:
        """The tensor on a device, in its dtype."""
        return of_bytes(self.data.copy() if spec.base is None else _toggled(self.data, spec.base, spec.dtype), spec).to(device)


Piece = Constant | Dense | LowRank | Lossless
_WITH_STEPS = (Dense, LowRank)
"""A tuple, in which `isinstance` looks faster than in a union."""


@dataclass(frozen=True)
class Pieces:
    """A tensor in another layout. Each piece has its own form."""

    layout: Layout
    pieces: tuple[Piece, ...]

    def decode(self, spec: TensorSpec, device: torch.device = CPU) -> Tensor:
        """The tensor on a device, in its dtype."""
        specs = pieces_of(spec, self.layout)
        decoded = [piece.decode(one, device) for one, piece in zip(specs, self.pieces, strict=True)]
        return self.layout.together(decoded, spec.shape)


CoarseTensor = Piece | Pieces


class Decodable(Protocol):
    """An object that decodes to a tensor."""

    def decode(self, spec: TensorSpec, device: torch.device) -> Tensor:
        """The tensor, in the dtype of its spec."""
        ...


class Decoded(Mapping[str, Tensor]):
    """The decoded tensors by first name. A tensor is decoded at each access and not kept, to save memory."""

    def __init__(self, specs: Sequence[TensorSpec], tensors: Sequence[Decodable], device: torch.device = CPU) -> None:
        self._device = device
        self._coarse = {spec.name: (spec, coarse) for spec, coarse in zip(specs, tensors, strict=True)}

    def __getitem__(self, name: str) -> Tensor:
        spec, coarse = self._coarse[name]
        return coarse.decode(spec, self._device)

    def __iter__(self) -> Iterator[str]:
        return iter(self._coarse)

    def __len__(self) -> int:
        return len(self._coarse)


def decoded_together(specs: Sequence[TensorSpec], tensors: Sequence[CoarseTensor], device: torch.device = CPU) -> dict[str, Tensor]:
    """The decoded tensors by first name. Small ones of one form and shape are decoded in one operation, and are views of one memory."""
    # The dictionary is filled first, so that its order is that of the specifications.
    found: dict[str, Tensor] = dict.fromkeys((spec.name for spec in specs), torch.empty(0, device="cpu"))
    dense: dict[torch.dtype, list[tuple[TensorSpec, Dense]]] = {}
    factored: dict[object, list[tuple[TensorSpec, LowRank]]] = {}
    for spec, coarse in zip(specs, tensors, strict=True):
        small = spec.count <= SMALL and spec.base is None and spec.quantizable
        if small and isinstance(coarse, Dense):
            dense.setdefault(spec.dtype, []).append((spec, coarse))
        elif small and isinstance(coarse, LowRank) and coarse.periods == (0, 0):
            factored.setdefault((spec.shape, spec.dtype, coarse.rank), []).append((spec, coarse))
        else:
            found[spec.name] = coarse.decode(spec, device)
    for dtype, group in dense.items():
        symbols = np.concatenate([coarse.symbols.reshape(-1) for _, coarse in group])
        counts = [spec.count for spec, _ in group]
        steps = np.repeat([coarse.step for _, coarse in group], counts)
        values = round_once(_doubles(symbols, device).mul_(torch.from_numpy(steps).to(device)), dtype)
        shapes = {spec.shape for spec, _ in group}
        if len(shapes) == 1:
            parts = values.view(len(group), *shapes.pop()).unbind()
        else:
            parts = tuple(part.view(spec.shape) for (spec, _), part in zip(group, torch.split(values, counts), strict=True))
        found |= {spec.name: part for (spec, _), part in zip(group, parts, strict=True)}
    for alike in factored.values():
        found |= _multiplied(alike, device)
    return found


def _multiplied(group: Sequence[tuple[TensorSpec, LowRank]], device: torch.device) -> dict[str, Tensor]:
    """The decoded tensors of a group that has one shape and one rank, by name."""
    spec = group[0][0]
    A, B = (_doubles(np.stack(sides), device) for sides in zip(*((coarse.A, coarse.B) for _, coarse in group), strict=True))
    steps = [coarse.step(one) for one, coarse in group]
    if A.shape[2] * float((A.abs().amax((1, 2)) * B.abs().amax((1, 2))).max()) >= EXACT_LIMIT:  # some product may not be exact
        # Alone, each tensor is checked, and an error names the one at fault.
        return {one.name: coarse.decode(one, device) for one, coarse in group}
    # Adding 0.0 makes every zero positive, as in `LowRank.decode`.
    products = torch.matmul(A, B).add_(0.0).mul_(torch.tensor(steps, dtype=torch.float64, device="cpu").to(device)[:, None, None])
    values = round_once(products.reshape(-1, *spec.shape), spec.dtype)
    return {one.name: value for (one, _), value in zip(group, values.unbind(), strict=True)}


def lossless(tensor: Tensor) -> Lossless:
    """A tensor of any dtype as its bytes."""
    return Lossless(stored_bytes(tensor).copy())


def exact(tensor: Tensor, base: Tensor | None = None) -> Constant | Dense | Lossless:
    """A tensor of any dtype, bit for bit, in the cheapest form.

    It is a constant if all elements are 0 or all are 1. Integers and truth values are symbols if they are within the symbols' range. Other
    tensors are bytes. With a base, the form is that of the difference, and bytes are XORed with the base's bytes.
    """
    if base is not None:
        return _exact_on(base, tensor)
    stored = lossless(tensor)
    for value in (0, 1):
        # Bytes are compared, because −0.0 equals 0.0 but has other bits. For most tensors, the first element alone gives the answer.
        first, wanted = stored.data[: tensor.dtype.itemsize], _bytes_of(value, tensor.dtype)
        if first.tobytes() in (b"", wanted) and np.array_equal(stored.data, lossless(torch.full_like(tensor, value)).data):
            return Constant(value)
    if tensor.dtype in INTEGERS:
        values: NDArray[np.generic] = stored.data.view(INTEGERS[tensor.dtype])
        if not values.size or -SYMBOL_LIMIT <= int(values.min()) <= int(values.max()) <= SYMBOL_LIMIT:
            return Dense(values.astype(np.int64).reshape(tensor.shape))
    return stored


@functools.cache
def _bytes_of(value: int, dtype: torch.dtype) -> bytes:
    return stored_bytes(torch.tensor([value], device="cpu").to(dtype)).tobytes()


def dense(symbols: Integers, step: float) -> Constant | Dense:
    """A tensor of symbols and a step; a constant if all elements are 0 or all are 1."""
    if not symbols.any():
        return Constant(0)
    value = float(symbols.item(0)) * step
    return Constant(1) if value == 1.0 and (symbols == symbols.item(0)).all() else Dense(symbols, step)


def dense_of(symbols: Integers, shapes: Sequence[Sequence[int]], step: float) -> list[Constant | Dense]:
    """`dense` for several tensors, none of them empty, whose symbols (n,) are concatenated."""
    counts = [math.prod(shape) for shape in shapes]
    starts = np.cumsum([0, *counts[:-1]], dtype=np.int64)
    low, high = np.minimum.reduceat(symbols, starts).tolist(), np.maximum.reduceat(symbols, starts).tolist()
    found: list[Constant | Dense] = []
    for start, count, shape, least, most in zip(starts.tolist(), counts, shapes, low, high, strict=True):
        if least == most and (not most or most * step == 1.0):
            found.append(Constant(int(bool(most))))
        else:
            found.append(Dense(symbols[start : start + count].reshape(shape), step))
    return found


def united(layout: Layout, pieces: Sequence[CoarseTensor], shape: Sequence[int]) -> CoarseTensor:
    """The tensor with these pieces. It is one constant or dense tensor if all pieces are the same constant, or dense with the same step.

    >>> united(Blocks(0, 2), [Constant(0), Constant(0)], (4, 3))
    Constant(value=0)
    """
    first = pieces[0]
    if isinstance(first, Constant) and all(piece == first for piece in pieces):
        return first
    if isinstance(first, Dense) and all(isinstance(piece, Dense) and piece.step == first.step for piece in pieces):
        symbols = [torch.from_numpy(piece.symbols) for piece in pieces if isinstance(piece, Dense)]
        return Dense(narrow(layout.together(symbols, shape)), first.step)
    undivided = tuple(piece for piece in pieces if not isinstance(piece, Pieces))
    assert len(undivided) == len(pieces)  # a file has no pieces of pieces
    return Pieces(layout, undivided)


def narrow(symbols: Tensor) -> Integers:
    """Symbols in the smallest integer type that has room for them and their negatives. This saves memory, because most are small.

    >>> narrow(torch.tensor([-127.0, 3.0])).dtype, narrow(torch.tensor([128])).dtype
    (dtype('int8'), dtype('int16'))
    """
    largest = max(float(symbols.max()), -float(symbols.min())) if symbols.numel() else 0.0
    fitting = (dtype for dtype in (torch.int8, torch.int16, torch.int32) if largest <= torch.iinfo(dtype).max)
    narrowed: Integers = symbols.to(next(fitting, torch.int64)).cpu().numpy()
    return narrowed


def narrowed(symbols: Integers) -> Integers:
    """`narrow` for an array."""
    if symbols.dtype == np.int8:
        return symbols
    largest = max(int(symbols.max(initial=0)), -int(symbols.min(initial=0)))
    found: Integers = symbols.astype(room_for(largest))
    return found


def overflows(coarse: CoarseTensor, spec: TensorSpec) -> bool:
    """Whether some element is beyond the range of the tensor's dtype. It would decode to an infinity.

    >>> spec = TensorSpec(("w",), (2,), torch.float16)
    >>> [overflows(Dense(np.array([-2, 1]), step), spec) for step in (32752.0, 32800.0)]
    [False, True]
    """
    if not spec.quantizable:
        return False
    room = spec.room
    for piece in coarse.pieces if isinstance(coarse, Pieces) else (coarse,):
        # The range of the symbols' dtype gives the answer for nearly every tensor, and takes no time. The symbols are read only if it
        # doesn't.
        if isinstance(piece, _WITH_STEPS) and _reach(piece, _allowed) > room and _reach(piece, _most) > room:
            return not is_finite(coarse.decode(spec))
    return False


def _reach(coarse: Dense | LowRank, most: Callable[[Integers], float]) -> float:
    """An upper bound on the magnitude of an element. `most` gives the largest magnitude of the symbols in an array."""
    if isinstance(coarse, Dense):
        return most(coarse.symbols) * coarse.step
    sides = (len(coarse.A), coarse.B.shape[1])
    waves = [side * largest_entry(p) * 2.0 ** -shift(p) for side, p in zip(sides, coarse.periods, strict=True) if p]
    return math.prod([coarse.rank, most(coarse.A), most(coarse.B), coarse.step_a, coarse.step_b, *waves])


def _allowed(symbols: Integers) -> float:
    return _largest_of(symbols.dtype)


@functools.cache
def _largest_of(dtype: np.dtype[np.signedinteger[Any]]) -> float:
    return float(np.iinfo(dtype).max)


def _most(symbols: Integers) -> float:
    return float(max(int(symbols.max(initial=0)), -int(symbols.min(initial=0))))


def form_of(coarse: CoarseTensor) -> str:
    """The form's name in reports."""
    match coarse:
        case Constant(0):
            return "zero"
        case Constant():
            return "constant"
        case Dense():
            return "dense"
        case LowRank():
            return "low_rank"
        case Lossless():
            return "lossless"
        case Pieces(Blocks()):
            return "blocks"
        case Pieces(_, pieces):
            return form_of(pieces[0])


def matrix_shape(spec: TensorSpec) -> tuple[int, int] | None:
    """(m, n) of the tensor's matrix view; None if it has none."""
    return matrix_view(spec.shape)


def _exact_on(base: Tensor, tensor: Tensor) -> Constant | Dense | Lossless:
    changed = Lossless(_toggled(stored_bytes(tensor), base, tensor.dtype))
    if not changed.data.any():
        return Constant(0)
    if tensor.dtype in INTEGERS:
        with np.errstate(over="ignore"):  # the difference may wrap around, and the decoder's sum then wraps back
            changes = np.asarray(_int64(tensor) - _int64(base))
        if (changes == 1).all():
            return Constant(1)
        if -SYMBOL_LIMIT <= int(changes.min()) <= int(changes.max()) <= SYMBOL_LIMIT:
            return Dense(changes)
    return changed


def _toggled(data: NDArray[np.uint8], base: Tensor, dtype: torch.dtype) -> NDArray[np.uint8]:
    return np.bitwise_xor(data, stored_bytes(in_dtype(base, dtype)))


def _int64(tensor: Tensor) -> Integers:
    values: Integers = stored_bytes(tensor).view(INTEGERS[tensor.dtype]).astype(np.int64).reshape(tensor.shape)
    return values


def _integers(symbols: Integers, spec: TensorSpec) -> Tensor:
    if spec.base is not None:
        with np.errstate(over="ignore"):
            sums = np.asarray(_int64(spec.base) + symbols)
        wrapped = sums & 1 if spec.dtype == torch.bool else sums
        return torch.from_numpy(wrapped.astype(INTEGERS[spec.dtype]).reshape(spec.shape))
    values: NDArray[np.generic] = symbols.astype(INTEGERS[spec.dtype]).reshape(spec.shape)
    negative = spec.dtype == torch.uint64 and bool((symbols < 0).any())  # they would decode to numbers near 2^64
    if negative or not np.array_equal(values.astype(np.int64), symbols):
        raise FormatError(f"{spec.name}: symbols go beyond what {spec.dtype} holds: the payload is damaged")
    return torch.from_numpy(values)


def _largest(symbols: Tensor) -> float:
    return float(symbols.abs().max()) if symbols.numel() else 0.0


def _check_exact(reach: float, spec: TensorSpec) -> None:
    if reach >= EXACT_LIMIT:
        raise FormatError(f"{spec.name}: factors reach {reach:.3g}, beyond 2^53, where products are no longer exact")


def _doubles(symbols: Integers, device: torch.device) -> Tensor:
    """Symbols as float64 on a device. Those read from a payload are stored column by column."""
    return torch.from_numpy(np.ascontiguousarray(symbols)).to(device).double()


def _made(
    values: Callable[[slice, slice], Tensor], step: float, spec: TensorSpec, shape: tuple[int, int], device: torch.device
) -> Tensor:
    """The tensor with the matrix view values · step. Only a part of a large tensor is in float64 at one time.

    Args:
        values: a function that gives the float64 values of some rows and columns. The result may be changed in place.
        step: the factor.
        spec: the tensor's shape, dtype and base.
        shape: (rows, columns) of its matrix view.
        device: the device of the result.
    """
    m, n = shape
    if spec.count <= _AT_ONCE:
        return _rounded(values(slice(0, m), slice(0, n)), step, spec, spec.base).reshape(spec.shape)
    whole = torch.empty(shape, dtype=spec.dtype, device=device)
    base = None if spec.base is None else spec.base.reshape(shape)
    rows = max(1, min(m, _AT_ONCE // n))
    columns = min(n, _AT_ONCE)
    for top in range(0, m, rows):
        for left in range(0, n, columns):
            place = slice(top, min(top + rows, m)), slice(left, min(left + columns, n))
            whole[place] = _rounded(values(*place), step, spec, None if base is None else base[place])
    return whole.reshape(spec.shape)


def _rounded(values: Tensor, step: float, spec: TensorSpec, base: Tensor | None) -> Tensor:
    scaled = values.mul_(step)
    return (
        round_once(scaled, spec.dtype) if base is None else added(base.to(values.device).reshape(scaled.shape), scaled, spec.dtype)
    )


def _used(A: Integers, B: Integers) -> NDArray[np.bool_]:
    """(k,) whether each component is nonzero in both factors."""
    return np.logical_and(A.any(axis=0), B.any(axis=1))


def multiplications(A: Integers, B: Integers, periods: tuple[int, int]) -> int:
    """The number of multiplications that decode factors (m, k) and (k, n) in these bases, without zero rows, columns and components.

    Computing the elements of a basis counts, too.
    """
    used = _used(A, B)
    rank = int(np.count_nonzero(used))
    rows = len(A) if periods[0] else int(np.count_nonzero(A[:, used].any(axis=1)))
    columns = B.shape[1] if periods[1] else int(np.count_nonzero(B[used].any(axis=0)))
    squares = sum(side * side for side, period in ((rows, periods[0]), (columns, periods[1])) if period)
    return rank * rows * columns + (rank + _WAVES) * squares
