"""What the general-purpose compressors share: records laid end to end as the narrowest integers, then compressed as one string.

A record whose model bounds its symbols takes the width of the bounds; another is preceded by one byte that says its width, the
least of 1, 2 and 4 bytes that holds them. The models' probabilities are not used.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nncomplexity.codecs.contract import SYMBOL_LIMIT, Integers, Model, Single
from nncomplexity.codecs.models import single
from nncomplexity.errors import FormatError

_WIDTHS = (1, 2, 4, 8)
_SYMBOL_WIDTHS = _WIDTHS[:3]


@dataclass(frozen=True)
class General:
    """A codec made of a byte compressor and a decompressor that stops after a given length."""

    name: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes, int], bytes]
    """(payload, most bytes to unpack): raises FormatError where the payload is damaged, cut or followed by something else."""

    def writer(self) -> "ByteWriter":
        """A writer of a new payload."""
        return ByteWriter(self.compress)

    def reader(self, payload: bytes, limit: int) -> "ByteReader":
        """A reader of a payload. Raises FormatError where it is damaged, or unpacks to more than `limit` bytes."""
        data = self.decompress(payload, limit + 1)
        if len(data) > limit:
            raise FormatError(f"{self.name} payload unpacks to more than the {limit} bytes that its tensors can need")
        return ByteReader(data)


class ByteWriter:
    """Collects records as bytes."""

    def __init__(self, compress: Callable[[bytes], bytes]) -> None:
        self._parts: list[bytes] = []
        self._compress = compress

    def record(self, symbols: Integers | None, model: Model) -> Integers:
        """Write symbols in the fewest bytes that their model's bounds, or their own, allow."""
        assert symbols is not None
        bounds = model.bounds
        if bounds is None:
            bounds = (int(symbols.min(initial=0)), int(symbols.max(initial=0)))
            width = _width(*bounds, signed=True)
            self._parts.append(bytes([width]))
            dtype = f"<i{width}"
        else:
            dtype = _dtype(*bounds)
        self._parts.append(symbols.astype(dtype).tobytes())
        return symbols

    def one(self, value: int | None, model: Single) -> int:
        """Write one number as a record of its own."""
        return int(self.record(single(value), model)[0])

    def finish(self) -> bytes:
        """The payload."""
        return self._compress(b"".join(self._parts))


class ByteReader:
    """Reads records from unpacked bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def record(self, symbols: Integers | None, model: Model) -> Integers:
        """The symbols of the next record. Raises FormatError where it is cut, or holds what the model refuses."""
        assert symbols is None
        low, high = model.bounds or (-SYMBOL_LIMIT, SYMBOL_LIMIT)
        if model.bounds is None:
            width = self._take(1)[0]
            if width not in _SYMBOL_WIDTHS:
                raise FormatError(f"a record says its symbols take {width} bytes each: the payload is damaged")
            dtype = np.dtype(f"<i{width}")
        else:
            dtype = np.dtype(_dtype(low, high))
        decoded = np.frombuffer(self._take(model.count * dtype.itemsize), dtype=dtype)
        if decoded.size and not low <= int(decoded.min()) <= int(decoded.max()) <= high:
            raise FormatError(f"a record holds symbols outside {low} to {high}: the payload is damaged")
        return decoded if dtype == np.uint8 else decoded.astype(np.int64)

    def one(self, value: int | None, model: Single) -> int:
        """The number of the next record."""
        return int(self.record(single(value), model)[0])

    def finish(self) -> None:
        """Raises FormatError where bytes are left over."""
        if self._at != len(self._data):
            raise FormatError(f"{len(self._data) - self._at} bytes are left over after the last tensor")

    def _take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if len(part) != count:
            raise FormatError("payload ends before its last tensor: it is cut")
        self._at += count
        return part


def _width(low: int, high: int, *, signed: bool) -> int:
    for width in _WIDTHS:
        bottom, top = (-(1 << 8 * width - 1), (1 << 8 * width - 1) - 1) if signed else (0, (1 << 8 * width) - 1)
        if bottom <= low and high <= top:
            return width
    raise AssertionError("symbols fit into 64 bits")


def _dtype(low: int, high: int) -> str:
    return f"<{'i' if low < 0 else 'u'}{_width(low, high, signed=low < 0)}"
