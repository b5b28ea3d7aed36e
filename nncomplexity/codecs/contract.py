"""The interfaces of models, coders and codecs: from records of (symbols, model) to bytes and back.

A *model* has the number of symbols in a record and their probabilities. A *codec* turns a sequence of records into a payload and back. Both
directions use one call, `record(symbols, model) -> symbols`. A writer gets the symbols and returns them. A reader gets None and returns the
decoded symbols. So the code for the order of a file exists once, and encoder and decoder always agree.

For entropy coding, a model calls a *coder*, which knows only frequencies. `Encoder`, `Decoder` and `Meter` in `nncomplexity.codecs.coder` write
symbols, read them, and count their bits.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]
"""Symbols: int64, or uint8 for bytes, because there may be many."""
Frequencies = NDArray[np.float64]

SYMBOL_LIMIT = 2**31 - 1
"""The largest magnitude of a symbol."""


class Coder(Protocol):
    """Codes integers under explicit frequencies. `values` is None when they are to be decoded."""

    def categorical(self, values: Integers | None, frequencies: Frequencies, count: int) -> Integers:
        """Code `count` integers in [0, A): frequencies (A,) shared by all, or (count, A), whole positive numbers."""
        ...

    def uniform(self, values: Integers | None, size: int, count: int) -> Integers:
        """Code `count` integers in [0, size), all equally likely; size at most 2^24."""
        ...

    def equal(self, value: int | None, size: int) -> int:
        """Code one integer in [0, size), all equally likely; size from 2 to 2^24."""
        ...

    def learned(self, value: int | None, frequencies: Frequencies, gain: int) -> int:
        """Code one integer in [0, A) under frequencies (A,). Its frequency then grows by `gain`."""
        ...


class Model(Protocol):
    """The number and the distribution of a record's symbols."""

    @property
    def count(self) -> int:
        """The number of symbols. A reader knows it before it reads."""
        ...

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The smallest and the largest possible symbol; None if they are not known before reading."""
        ...

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """Code the record (count,) by an entropy coder, in the same order for writing and reading."""
        ...


class Single(Model, Protocol):
    """A model of a record with one symbol."""

    def one(self, coder: Coder, value: int | None) -> int:
        """`code` for the symbol as a number instead of an array, which is faster."""
        ...


class Records(Protocol):
    """A writer, a reader or a meter of records."""

    def record(self, symbols: Integers | None, model: Model) -> Integers:
        """Write `symbols` (count,), or read them if they are None. Both return the symbols."""
        ...

    def one(self, value: int | None, model: Single) -> int:
        """`record` for one symbol."""
        ...


class Writer(Records, Protocol):
    """Writes records to a payload."""

    def finish(self) -> bytes:
        """The payload. The writer must not be used afterwards."""
        ...


class Reader(Records, Protocol):
    """Reads records from a payload."""

    def finish(self) -> None:
        """Raises FormatError if the payload has more than the records that were read."""
        ...


class Codec(Protocol):
    """A way to turn records into bytes and back."""

    @property
    def name(self) -> str:
        """The codec's name on the command line and in reports."""
        ...

    def writer(self) -> Writer:
        """A writer of a new payload."""
        ...

    def reader(self, payload: bytes, limit: int) -> Reader:
        """A reader that refuses to unpack more than `limit` bytes."""
        ...
