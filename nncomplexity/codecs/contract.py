"""The contract between what is coded and how: records of (symbols, model) on one side, bytes on the other.

A *model* knows the shape of a record and how likely its symbols are. A *codec* turns a sequence of records into a payload and back.
Both directions run through one call, `record(symbols, model) -> symbols`: a writer is given the symbols and returns them, a reader
is given None and returns what it decoded. The code that lays out a file is therefore written once, and encoder and decoder
cannot disagree about it.

Entropy coding splits the work once more. A model drives a *coder*, which knows only frequencies: `Encoder`, `Decoder` and `Meter`
in `nncomplexity.codecs.coder` write, read and weigh the same decisions.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]
"""Symbols: int64, or uint8 where they are bytes, of which there may be many."""
Frequencies = NDArray[np.float64]

SYMBOL_LIMIT = 2**31 - 1
"""The largest magnitude of a symbol that a record may hold."""


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
        """Code one integer in [0, A) under frequencies (A,), of which its own then grows by `gain`."""
        ...


class Model(Protocol):
    """How one record's symbols are distributed, and what must be known to read them back."""

    @property
    def count(self) -> int:
        """Symbols in the record; a reader knows it before it reads."""
        ...

    @property
    def bounds(self) -> tuple[int, int] | None:
        """Smallest and largest symbol possible where that is known beforehand, else None."""
        ...

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """Run the record (count,) through an entropy coder; the same decisions in the same order in both directions."""
        ...


class Single(Model, Protocol):
    """A model of records of one symbol."""

    def one(self, coder: Coder, value: int | None) -> int:
        """The same as `code` of one symbol, without an array around it."""
        ...


class Records(Protocol):
    """One direction of a codec: a writer, a reader or a meter of records."""

    def record(self, symbols: Integers | None, model: Model) -> Integers:
        """Write `symbols` (count,), or read them where None is given; returns them either way."""
        ...

    def one(self, value: int | None, model: Single) -> int:
        """The same of a record of one symbol."""
        ...


class Writer(Records, Protocol):
    """Records going into a payload."""

    def finish(self) -> bytes:
        """The payload; the writer is not used afterwards."""
        ...


class Reader(Records, Protocol):
    """Records coming out of a payload."""

    def finish(self) -> None:
        """Raises FormatError where the payload holds more than its records."""
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
