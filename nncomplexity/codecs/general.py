"""The common part of the general-purpose compressors: records as integers in few bytes, one after another, compressed as one string.

If the model of a record has bounds, these give the number of bytes of each symbol. Otherwise one byte before the record gives this number: the
smallest of 1, 2 and 4 that is enough for the symbols. The models' probabilities are not used.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nncomplexity.codecs.contract import SYMBOL_LIMIT, Integers, Model, Single
from nncomplexity.codecs.models import room_for, single
from nncomplexity.errors import FormatError

AT_ONCE = 1 << 20
"""The number of bytes that are unpacked at once."""
# Eight bytes are for the mantissa of a step size. Symbols of matrices are below 2^31 and fit into four.
_WIDTHS = (1, 2, 4, 8)
_SYMBOL_WIDTHS = _WIDTHS[:3]


@dataclass(frozen=True)
class General:
    """A codec made of a byte compressor and a decompressor that stops after a given length."""

    name: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes, int], bytes | bytearray]
    """From (payload, most bytes to unpack) to bytes. Raises FormatError if the payload is damaged or cut, or if something follows it."""

    def writer(self) -> "ByteWriter":
        """A writer of a new payload."""
        return ByteWriter(self.compress)

    def reader(self, payload: bytes, limit: int) -> "ByteReader":
        """A reader of a payload. Raises FormatError if it is damaged, or unpacks to more than `limit` bytes."""
        # One byte more than allowed shows that there is too much. No copy is made, because the data may fill most of the memory.
        data = self.decompress(payload, limit + 1)
        if len(data) > limit:
            raise FormatError(f"{self.name} payload unpacks to more than the {limit} bytes that its tensors can need")
        return ByteReader(data)


class Stream(Protocol):
    """A decompressor of bzip2 or LZMA, as Python has them."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether more input is needed to unpack more."""

    @property
    def unused_data(self) -> bytes:
        """The bytes after the end of the stream."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """The next unpacked bytes, at most `max_length` of them."""


def unpacked(stream: Stream, payload: bytes, most: int, name: str) -> bytearray:
    """The unpacked bytes of a stream, unpacked in parts, so they are in memory only once. Raises FormatError if it is cut or too long."""
    data = bytearray()
    while not stream.eof and len(data) < most:
        data += stream.decompress(payload, min(AT_ONCE, most - len(data)))
        payload = b""  # the stream keeps what it has not unpacked yet
        if stream.needs_input:  # it has no more input, although it has not ended: the payload is cut
            break
    if len(data) < most and (not stream.eof or stream.unused_data):
        raise FormatError(f"{name} payload is cut, or followed by something else")
    return data


class ByteWriter:
    """Collects records as bytes."""

    def __init__(self, compress: Callable[[bytes], bytes]) -> None:
        self._parts: list[bytes] = []
        self._compress = compress

    def record(self, symbols: Integers | None, model: Model) -> Integers:
        """Write symbols in the smallest number of bytes that the bounds of the model allow, or without bounds the symbols."""
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
        assert value is not None
        assert model.bounds is not None
        low, high = model.bounds
        self._parts.append(value.to_bytes(_width(low, high, signed=low < 0), "little", signed=low < 0))
        return value

    @property
    def data(self) -> bytes:
        """The bytes to compress. They are the same for every compressor."""
        return b"".join(self._parts)

    def finish(self) -> bytes:
        """The payload."""
        return self._compress(self.data)


class ByteReader:
    """Reads records from unpacked bytes."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = memoryview(data)
        self._at = 0

    def record(self, symbols: Integers | None, model: Model) -> Integers:
        """The symbols of the next record. Raises FormatError if it is cut, or if a symbol is outside the model's bounds."""
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
        # An empty record has no least symbol. 0 is within the bounds of every model.
        least, most = int(decoded.min(initial=0)), int(decoded.max(initial=0))
        if not low <= least <= most <= high:
            raise FormatError(f"a record holds symbols outside {low} to {high}: the payload is damaged")
        # Bytes stay bytes. Other symbols get the smallest signed type, as the entropy codec returns them.
        return decoded.astype(np.uint8 if dtype == np.uint8 else room_for(max(-least, most)))

    def one(self, value: int | None, model: Single) -> int:
        """The number of the next record."""
        return int(self.record(single(value), model)[0])

    def finish(self) -> None:
        """Raises FormatError if bytes are left."""
        if self._at != len(self._data):
            raise FormatError(f"{len(self._data) - self._at} bytes are left over after the last tensor")

    def _take(self, count: int) -> memoryview:
        part = self._data[self._at : self._at + count]
        if len(part) != count:
            raise FormatError("payload ends before its last tensor: it is cut")
        self._at += count
        return part


# Many small records ask for the same few bounds, and a search writes thousands of files.
@functools.lru_cache(maxsize=1 << 8)
def _width(low: int, high: int, *, signed: bool) -> int:
    for width in _WIDTHS:
        bottom, top = (-(1 << 8 * width - 1), (1 << 8 * width - 1) - 1) if signed else (0, (1 << 8 * width) - 1)
        if bottom <= low and high <= top:
            return width
    raise AssertionError("symbols fit into 64 bits")


@functools.lru_cache(maxsize=1 << 8)
def _dtype(low: int, high: int) -> str:
    return f"<{'i' if low < 0 else 'u'}{_width(low, high, signed=low < 0)}"
