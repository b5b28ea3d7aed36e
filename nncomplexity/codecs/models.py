"""Models of the small integers of a payload: symbols of an alphabet, counts, indices and bytes.

A `Tally` has the adaptive frequencies of a model. Records with one tally learn from each other, in the order of the file. So forms, ranks
and step sizes take fewer bits with each tensor, and no table of frequencies is written.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nncomplexity.codecs.coder import Meter
from nncomplexity.codecs.contract import SYMBOL_LIMIT, Coder, Frequencies, Integers
from nncomplexity.codecs.learning import weigh_table
from nncomplexity.errors import FormatError

_WORD_BITS = 16
"""The number of bits of a word in `wide_uniform`, by docs/format.md. A coder can't take more than 24 bits at once."""
FIRST_BLOCK, FIRST_OF_OWN = 32, 4
"""The number of symbols in the first block, before a table adapts: for bytes and signs, and for the values of one matrix or list."""
_AT_ONCE = 1 << 16
"""The largest number of symbols in one call of a coder."""
_ROOM: list[tuple[int, type[np.signedinteger[Any]]]] = [(2**7 - 1, np.int8), (2**15 - 1, np.int16), (2**31 - 1, np.int32)]
"""The largest number of each integer type."""
LENGTHS = SYMBOL_LIMIT.bit_length() + 1
"""The number of bit lengths, with 0."""


class Tally:
    """Adaptive frequencies of symbols in [0, size). They begin with a prior of positive integers, and each symbol adds `gain`."""

    def __init__(self, prior: Integers | Frequencies, gain: int = 16) -> None:
        self.frequencies: Frequencies = prior.astype(np.float64)
        self.gain = gain

    def copy(self) -> "Tally":
        """A copy that learns independently."""
        return Tally(self.frequencies, self.gain)

    def add(self, symbols: Integers) -> None:
        """Learn from symbols (n,) that both encoder and decoder know."""
        self.frequencies += self.gain * np.bincount(symbols, minlength=self.frequencies.size)


def flat_tally(size: int, gain: int = 2) -> Tally:
    """A tally with equal frequencies at first. A gain of 2 is the estimator of Krichevsky and Trofimov (1981)."""
    return Tally(np.ones(size, dtype=np.int64), gain)


def length_tally(typical: int = 3) -> Tally:
    """A tally for `Natural` and `Signed`. Bit lengths near `typical` have the largest frequencies at first."""
    return Tally(_length_prior(typical))


@functools.cache
def _length_prior(typical: int) -> Integers:
    # At least 1, because a length with frequency 0 could not be coded.
    prior: Integers = np.maximum(1, 64 >> np.abs(np.arange(LENGTHS) - typical))
    return prior


@dataclass(frozen=True)
class Categorical:
    """One symbol of an alphabet [0, size), under the frequencies of a tally."""

    tally: Tally

    count = 1

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest symbol."""
        return 0, self.tally.frequencies.size - 1

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """The symbol as a record (1,); None reads it."""
        return _singly(self.one, coder, symbols)

    def one(self, coder: Coder, value: int | None) -> int:
        """`code` for the symbol as a number instead of an array."""
        return coder.learned(value, self.tally.frequencies, self.tally.gain)


@dataclass(frozen=True)
class Natural:
    """One integer in [0, 2^31): its bit length under a tally, and then the bits after the leading one."""

    tally: Tally

    count = 1
    bounds = (0, SYMBOL_LIMIT)

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """The number as a record (1,); None reads it."""
        return _singly(self.one, coder, symbols)

    def one(self, coder: Coder, value: int | None) -> int:
        """`code` for the number itself instead of an array."""
        length = coder.learned(None if value is None else value.bit_length(), self.tally.frequencies, self.tally.gain)
        # The numbers 0 and 1 have the lengths 0 and 1, and no further bits.
        if length < 2:
            return length
        leading = 1 << length - 1
        return leading + _bits(coder, None if value is None else value - leading, length - 1)


@dataclass(frozen=True)
class Signed:
    """One integer with a magnitude below 2^31: `Natural` for the magnitude, and then a sign unless it is zero."""

    tally: Tally

    @functools.cached_property
    def _magnitude(self) -> Natural:
        return Natural(self.tally)

    count = 1
    bounds = (-SYMBOL_LIMIT, SYMBOL_LIMIT)

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """The number as a record (1,); None reads it."""
        return _singly(self.one, coder, symbols)

    def one(self, coder: Coder, value: int | None) -> int:
        """`code` for the number itself instead of an array."""
        magnitude = self._magnitude.one(coder, None if value is None else abs(value))
        if not magnitude:
            return 0
        return -magnitude if coder.equal(None if value is None else int(value < 0), 2) else magnitude


@dataclass(frozen=True)
class Bits:
    """One integer of `width` bits, all values equally likely."""

    width: int

    count = 1

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest number."""
        return 0, (1 << self.width) - 1

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """The number as a record (1,); None reads it."""
        return wide_uniform(coder, symbols, self.width, 1)

    def one(self, coder: Coder, value: int | None) -> int:
        """`code` for the number itself instead of an array."""
        return _bits(coder, value, self.width)


@dataclass(frozen=True)
class Planes:
    """The bytes (uint8) of `count // width` numbers with `width` bytes each. Each byte position has an adaptive table.

    The tables are separate because the bytes differ: in trained weights, bytes with sign and exponent are far from uniform, and bytes of the
    mantissa are nearly uniform.
    """

    count: int
    width: int

    bounds = (0, 255)

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """Code the bytes (count,), one byte position after another. None reads them."""
        if symbols is not None and self.count <= _AT_ONCE and not isinstance(coder, Meter):
            _write_rows(coder, np.ascontiguousarray(symbols.reshape(-1, self.width).T, dtype=np.int32), flat_tally(256))
            return symbols
        numbers = (
            np.empty((self.count // self.width, self.width), dtype=np.uint8) if symbols is None else symbols.reshape(-1, self.width)
        )
        # Planes instead of numbers: neighbouring exponent bytes are alike, and the bytes of one number are not.
        for byte in range(self.width):
            decoded = adaptive(coder, None if symbols is None else numbers[:, byte], len(numbers), flat_tally(256), kept=False)
            if symbols is None:
                numbers[:, byte] = decoded
        return numbers.reshape(-1)


def _singly(one: Callable[[Coder, int | None], int], coder: Coder, symbols: Integers | None) -> Integers:
    return np.array([one(coder, None if symbols is None else int(symbols[0]))], dtype=np.int64)


def adaptive(
    coder: Coder, symbols: Integers | None, count: int, tally: Tally, first: int = FIRST_BLOCK, *, kept: bool = True
) -> Integers:
    """Code (count,) symbols under a tally that learns after each block. A block has `first` symbols, or half as many as all blocks before it.

    Blocks allow vectorised code in both directions. Compared with learning after every symbol, they cost a fraction of a bit for each entry
    of the table and each doubling of the length. If the tally isn't `kept` for later symbols, it need not learn from the last block. This
    saves half of the time for short records, and there may be thousands of them.
    """
    edges = block_edges(count, first)
    if isinstance(coder, Meter):
        assert symbols is not None
        coder.bits += weigh_table(symbols, edges, tally.frequencies, tally.gain)
        return symbols
    size = tally.frequencies.size
    decoded = np.empty(count, dtype=room_for(size - 1)) if symbols is None else symbols
    for start, stop in itertools.pairwise(edges):
        learns = kept or stop < count
        seen: Integers | int = 0
        for part in parts_of(start, stop):
            given = None if symbols is None else symbols[part]
            found = coder.categorical(given, tally.frequencies, part.stop - part.start)
            if symbols is None:
                decoded[part] = found
            if learns:
                seen = seen + np.bincount(found, minlength=size)
        if learns:
            tally.frequencies += tally.gain * seen
    return decoded


def _write_rows(coder: Coder, rows: Integers, tally: Tally) -> None:
    """Write rows (rows, n) of symbols one after another, each by `adaptive` with a copy of the tally.

    The frequencies of all rows are computed at once. This takes half of the time for small tensors, of which there may be thousands.
    """
    size, edges = tally.frequencies.size, block_edges(rows.shape[1])
    cells = rows + size * np.arange(len(rows))[:, None]
    seen: Integers = np.zeros(len(rows) * size, dtype=np.int64)
    tables: list[Sequence[Frequencies] | Frequencies] = [[tally.frequencies] * len(rows)]  # of all rows, for each block
    for start, stop in itertools.pairwise(edges[:-1]):
        seen += np.bincount(cells[:, start:stop].reshape(-1), minlength=seen.size)
        tables.append(tally.frequencies + tally.gain * seen.reshape(len(rows), size))
    for index, row in enumerate(rows):
        for table, (start, stop) in zip(tables, itertools.pairwise(edges), strict=False):  # an empty row has no block
            coder.categorical(row[start:stop], table[index], stop - start)


def parts_of(start: int, stop: int) -> list[slice]:
    """[start, stop) divided into parts, each for one call of a coder, to limit the memory."""
    if stop - start <= _AT_ONCE:
        return [slice(start, stop)] if stop > start else []
    return [slice(first, min(first + _AT_ONCE, stop)) for first in range(start, stop, _AT_ONCE)]


def room_for(largest: int) -> type[np.signedinteger[Any]]:
    """The smallest integer type for magnitudes up to this one, with both signs."""
    return next((dtype for limit, dtype in _ROOM if largest <= limit), np.int64)


@functools.lru_cache(maxsize=1 << 10)
def block_edges(count: int, first: int = FIRST_BLOCK) -> tuple[int, ...]:
    """The beginnings of the blocks of `adaptive`, and the end of the last one."""
    edges = [0]
    while edges[-1] < count:
        edges.append(min(count, edges[-1] + max(first, edges[-1] // 2)))
    return tuple(edges)


def naturals(coder: Coder, values: Integers | None, count: int, tally: Tally, first: int = FIRST_OF_OWN) -> Integers:
    """Code (count,) integers in [0, 2^31): first all bit lengths under the tally, and then the lower bits, one length after another."""
    # The exponent of frexp is the bit length of an integer, and 0 for zero.
    given = None if values is None else np.frexp(values)[1].astype(np.int64)
    lengths = adaptive(coder, given, count, tally, first).astype(np.int64)
    decoded = np.where(lengths > 0, 1 << np.maximum(lengths - 1, 0), 0)
    # 0 and 1 are known from their lengths, so only longer numbers have lower bits.
    for length in (np.flatnonzero(np.bincount(lengths, minlength=3)[2:]) + 2).tolist():
        chosen = lengths == length
        low = None if values is None else values[chosen] - decoded[chosen]
        decoded[chosen] += wide_uniform(coder, low, length - 1, int(chosen.sum()))
    return decoded


def wide_uniform(coder: Coder, values: Integers | None, width: int, count: int) -> Integers:
    """Code (count,) integers of `width` equally likely bits each, in words of at most 16 bits, highest first."""
    decoded = np.zeros(count, dtype=room_for((1 << width) - 1)) if values is None else values
    for low in range((width - 1) // _WORD_BITS * _WORD_BITS, -1, -_WORD_BITS) if width > 0 else ():
        size = 1 << min(_WORD_BITS, width - low)
        for part in parts_of(0, count):
            word = None if values is None else values[part] >> low & (size - 1)
            found = coder.uniform(word, size, part.stop - part.start)
            if values is None:
                decoded[part] |= (found << low).astype(decoded.dtype)
    return decoded


def _bits(coder: Coder, value: int | None, width: int) -> int:
    """`wide_uniform` of one integer."""
    decoded = 0
    for low in range((width - 1) // _WORD_BITS * _WORD_BITS, -1, -_WORD_BITS) if width > 0 else ():
        size = 1 << min(_WORD_BITS, width - low)
        decoded |= coder.equal(None if value is None else value >> low & (size - 1), size) << low
    return decoded


def single(value: int | None) -> Integers | None:
    """A record of one symbol; None to read it."""
    return None if value is None else np.array([value], dtype=np.int64)


def within(value: int, low: int, high: int, what: str) -> int:
    """`value`. Raises FormatError if it isn't in [low, high]. Every number that is read from a file must be checked like this."""
    if not low <= value <= high:
        raise FormatError(f"{what} is {value}, outside {low} to {high}: the payload is damaged")
    return value
