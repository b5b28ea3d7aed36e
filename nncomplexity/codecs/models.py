"""Models of the small integers of a payload: choices, counts, indices and raw bytes.

`Tally` is what a model has learned so far. Records that share a tally share what they learn, in the order of the file, so that
forms, ranks and steps get cheaper with each tensor and no table of them is ever written.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nncomplexity.codecs.coder import Meter
from nncomplexity.codecs.contract import SYMBOL_LIMIT, Coder, Frequencies, Integers
from nncomplexity.codecs.learning import weigh_table
from nncomplexity.errors import FormatError

_WORD_BITS = 16
FIRST_BLOCK, FIRST_OF_OWN = 32, 4
"""Symbols that are coded under a prior before a table learns: of bytes and of signs, and of the values of one matrix or list alone."""
_AT_ONCE = 1 << 16
"""Symbols that are handed to a coder at once."""
LENGTHS = SYMBOL_LIMIT.bit_length() + 1
"""Bit lengths that there are, 0 among them."""


class Tally:
    """Counts of symbols in [0, size), begun at a prior of positive whole numbers; each seen symbol adds `gain`."""

    def __init__(self, prior: Integers | Frequencies, gain: int = 16) -> None:
        self.frequencies: Frequencies = prior.astype(np.float64)
        self.gain = gain

    def copy(self) -> "Tally":
        """A tally that learns on its own from here on."""
        return Tally(self.frequencies, self.gain)

    def add(self, symbols: Integers) -> None:
        """Learn from symbols (n,) that both sides know by now."""
        self.frequencies += self.gain * np.bincount(symbols, minlength=self.frequencies.size)


def flat_tally(size: int, gain: int = 2) -> Tally:
    """All symbols equally likely at first; a gain of 2 is the estimator of Krichevsky and Trofimov (1981)."""
    return Tally(np.ones(size, dtype=np.int64), gain)


def length_tally(typical: int = 3) -> Tally:
    """For `Natural` and `Signed`: bit lengths near `typical` are likely at first, the others ever less."""
    return Tally(_length_prior(typical))


@functools.cache
def _length_prior(typical: int) -> Integers:
    prior: Integers = np.maximum(1, 64 >> np.abs(np.arange(LENGTHS) - typical))
    return prior


@dataclass(frozen=True)
class Categorical:
    """One symbol of an alphabet [0, size), under the frequencies of a tally."""

    tally: Tally

    count = 1

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the largest symbol."""
        return 0, self.tally.frequencies.size - 1

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """The symbol as a record (1,); None reads it."""
        return _singly(self.one, coder, symbols)

    def one(self, coder: Coder, value: int | None) -> int:
        """The same of one number, which is a record of its own."""
        return coder.learned(value, self.tally.frequencies, self.tally.gain)


@dataclass(frozen=True)
class Natural:
    """One integer in [0, 2^31): its bit length under a tally, then the bits below the leading one."""

    tally: Tally

    count = 1
    bounds = (0, SYMBOL_LIMIT)

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """The number as a record (1,); None reads it."""
        return _singly(self.one, coder, symbols)

    def one(self, coder: Coder, value: int | None) -> int:
        """The same of one number."""
        length = coder.learned(None if value is None else value.bit_length(), self.tally.frequencies, self.tally.gain)
        if length < 2:
            return length
        leading = 1 << length - 1
        return leading + _bits(coder, None if value is None else value - leading, length - 1)


@dataclass(frozen=True)
class Signed:
    """One integer of magnitude below 2^31: `Natural` for the magnitude, then a sign unless it is zero."""

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
        """The same of one number."""
        magnitude = self._magnitude.one(coder, None if value is None else abs(value))
        if not magnitude:
            return 0
        return -magnitude if coder.equal(None if value is None else int(value < 0), 2) else magnitude


@dataclass(frozen=True)
class Bits:
    """One integer of `width` equally likely bits: fields with no more to say about them."""

    width: int

    count = 1

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the largest number."""
        return 0, (1 << self.width) - 1

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """The number as a record (1,); None reads it."""
        return wide_uniform(coder, symbols, self.width, 1)

    def one(self, coder: Coder, value: int | None) -> int:
        """The same of one number."""
        return _bits(coder, value, self.width)


@dataclass(frozen=True)
class Planes:
    """Bytes (uint8) of `count // width` numbers of `width` bytes each, number after number; one adaptive table a byte position.

    Sign and exponent bytes of trained weights are far from uniform while the mantissa's are not: apart, each finds its own table.
    """

    count: int
    width: int

    bounds = (0, 255)

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """The bytes (count,), written plane by plane; None reads them."""
        numbers = (
            np.empty((self.count // self.width, self.width), dtype=np.uint8) if symbols is None else symbols.reshape(-1, self.width)
        )
        for byte in range(self.width):
            decoded = adaptive(coder, None if symbols is None else numbers[:, byte], len(numbers), flat_tally(256))
            if symbols is None:
                numbers[:, byte] = decoded
        return numbers.reshape(-1)


def _singly(one: Callable[[Coder, int | None], int], coder: Coder, symbols: Integers | None) -> Integers:
    return np.array([one(coder, None if symbols is None else int(symbols[0]))], dtype=np.int64)


def adaptive(coder: Coder, symbols: Integers | None, count: int, tally: Tally, first: int = FIRST_BLOCK) -> Integers:
    """Code (count,) symbols under a tally that learns after each block, of `first` symbols or half of what has been seen.

    Whole blocks keep both directions vectorised: the price against learning after every symbol is a fraction of a bit for each
    table entry and doubling of the length.
    """
    edges = block_edges(count, first)
    if isinstance(coder, Meter):
        assert symbols is not None
        coder.bits += weigh_table(symbols, edges, tally.frequencies, tally.gain)
        return symbols
    size = tally.frequencies.size
    decoded = np.empty(count, dtype=room_for(size - 1)) if symbols is None else symbols
    for start, stop in itertools.pairwise(edges):
        seen = np.zeros(size, dtype=np.int64)
        for part in parts_of(start, stop):
            given = None if symbols is None else symbols[part]
            found = coder.categorical(given, tally.frequencies, part.stop - part.start)
            decoded[part] = found
            seen += np.bincount(found, minlength=size)
        tally.frequencies += tally.gain * seen
    return decoded


def parts_of(start: int, stop: int) -> list[slice]:
    """[start, stop) in parts that are coded at once, so that what a call returns is never large."""
    if stop - start <= _AT_ONCE:
        return [slice(start, stop)] if stop > start else []
    return [slice(first, min(first + _AT_ONCE, stop)) for first in range(start, stop, _AT_ONCE)]


def room_for(largest: int) -> type[np.signedinteger[Any]]:
    """The narrowest integers that hold magnitudes up to this one, and their negatives."""
    return next((dtype for dtype in (np.int8, np.int16, np.int32) if largest <= np.iinfo(dtype).max), np.int64)


@functools.lru_cache(maxsize=1 << 10)
def block_edges(count: int, first: int = FIRST_BLOCK) -> tuple[int, ...]:
    """Where the blocks of `adaptive` begin, and the end of the last."""
    edges = [0]
    while edges[-1] < count:
        edges.append(min(count, edges[-1] + max(first, edges[-1] // 2)))
    return tuple(edges)


def naturals(coder: Coder, values: Integers | None, count: int, tally: Tally, first: int = FIRST_OF_OWN) -> Integers:
    """Code (count,) integers in [0, 2^31): all bit lengths, adaptive under the tally, then length by length the bits below them."""
    given = None if values is None else np.frexp(values)[1].astype(np.int64)
    lengths = adaptive(coder, given, count, tally, first).astype(np.int64)
    decoded = np.where(lengths > 0, 1 << np.maximum(lengths - 1, 0), 0)
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
    """A record of one symbol, or none where it is to be read."""
    return None if value is None else np.array([value], dtype=np.int64)


def within(value: int, low: int, high: int, what: str) -> int:
    """`value` where it is in [low, high], as every count from a file must be before it is used; raises FormatError."""
    if not low <= value <= high:
        raise FormatError(f"{what} is {value}, outside {low} to {high}: the payload is damaged")
    return value
