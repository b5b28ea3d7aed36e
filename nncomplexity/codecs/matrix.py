"""The model of a quantized matrix. It codes the symbols in one of three ways, whichever takes the fewest bits.

First, dead rows and columns may be marked (`lines`). They then cost almost nothing. A unit that a network doesn't use is a dead row in
the matrix before it and a dead column in the matrix after it.

Most matrices are coded as magnitudes under the scale model (`scales`) and signs. This model does not fit a tensor whose values have a peak
away from zero, or whose distinct values are few. Such a tensor is coded under an adaptive table for this matrix alone. The table has all
symbols from the smallest to the largest or, if these are far apart, only those that occur. A writer counts the bits of all three ways and
takes the smallest.
"""

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nncomplexity.codecs.coder import Meter
from nncomplexity.codecs.contract import SYMBOL_LIMIT, Coder, Frequencies, Integers
from nncomplexity.codecs.lines import DeadLines, Marks
from nncomplexity.codecs.models import (
    FIRST_BLOCK,
    FIRST_OF_OWN,
    Categorical,
    Natural,
    Signed,
    Tally,
    adaptive,
    flat_tally,
    length_tally,
    naturals,
    room_for,
    within,
)
from nncomplexity.codecs.scales import Magnitudes, fresh_levels, fresh_tables

VERSION = 2
"""The version of the format that is written. Version 1 can also be read."""
TABLE_GAIN = 4
"""The increase of a symbol's entry in a matrix's own table."""
SIGN_WEIGHT, SIGN_GAIN = 8, 2
"""The weight of the file's counts of signs at the beginning of a matrix, and the increase for a sign."""
_TABLE_LIMIT = 1 << 16
"""The largest number of entries of a table."""
_LIST_LIMITS = {1: 1 << 22, 2: 1 << 16}
"""The largest number of values in a list, by version of the format. Version 1 had no limit, but its writer never reached this number."""


@dataclass
class MatrixState:
    """The state that the matrices of one file share: tables by context, tallies of levels, sizes and kinds, and dead lines."""

    version: int = VERSION
    """The version of the format."""
    tables: Frequencies = field(default_factory=fresh_tables)
    kinds: Tally = field(default_factory=lambda: flat_tally(3))
    signs: Tally = field(default_factory=lambda: flat_tally(2))
    levels: Tally = field(default_factory=fresh_levels)
    peaks: Tally = field(default_factory=length_tally)
    lines: DeadLines = field(default_factory=DeadLines)

    @property
    def first(self) -> int:
        """The number of symbols in the first block, for the table of a single matrix."""
        return FIRST_BLOCK if self.version == 1 else FIRST_OF_OWN


@dataclass(frozen=True)
class KnownKind:
    """What a writer knows about a matrix, because its bits were counted before.

    Attributes:
        kind: its kind.
        contexts: (n,) the contexts of its symbols under the scale model.
        level: the grid value at which it begins under the scale model.
        whole: whether no lines are marked as dead; None if this isn't known.
    """

    kind: int
    contexts: Integers | None = None
    level: int | None = None
    whole: bool | None = None


@dataclass(frozen=True)
class Matrix:
    """Symbols (rows, columns) of a quantized matrix, in column-major order. Columns should be the shorter side.

    `profile` (columns,) has the expected relative magnitudes of the columns, such as those of the other factor's components.
    """

    rows: int
    columns: int
    state: MatrixState
    profile: Frequencies | None = None
    known: "KnownKind | None" = None
    """The kind and contexts, if a writer knows them already, which saves time."""

    bounds = None

    @functools.cached_property
    def count(self) -> int:
        """The number of symbols."""
        return self.rows * self.columns

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """Code the symbols (count,), in column-major order. If they are None, read them."""
        if not self.count:
            return np.zeros(0, dtype=np.int64)
        peak = None if symbols is None else largest_magnitude(symbols)
        # The largest magnitude comes first. It bounds the alphabet, and a matrix of zeros ends here.
        peak = Natural(self.state.peaks).one(coder, peak)
        if peak == 0:
            return np.zeros(self.count, dtype=np.int8)
        if symbols is None:
            return self._read(coder, peak)
        grid = symbols.reshape(self.columns, self.rows)
        # Version 1 of the format has no marks of dead lines.
        if self.state.version > 1 and (marks := self.marks(coder, grid)):
            self.inner(marks).write_cells(coder, marks.part(grid).reshape(-1), peak)
        else:
            self.write_cells(coder, symbols, peak)
        return symbols

    def _read(self, coder: Coder, peak: int) -> Integers:
        """Read the symbols and marks that follow the peak."""
        lines = self.state.lines
        if self.state.version == 1 or not Categorical(lines.marked).one(coder, None):
            return self.read_cells(coder, peak)
        marks = lines.code(coder, (self.columns, self.rows))
        return marks.whole(self.inner(marks).read_cells(coder, peak)).reshape(-1)

    def marks(self, coder: Coder, grid: Integers) -> Marks | None:
        """Choose and code the marks of dead lines of symbols (columns, rows); None if they are not marked."""
        marks = None if self.known is not None and self.known.whole else self.state.lines.worthwhile(grid)
        Categorical(self.state.lines.marked).one(coder, int(marks is not None))
        return None if marks is None else self.state.lines.code(coder, (self.columns, self.rows), marks)

    def inner(self, marks: Marks) -> "Matrix":
        """The model of the living lines, with the shorter side as columns."""
        # A profile is about columns. If the matrix is transposed, these are rows, and the profile no longer applies.
        profile = None if marks.turned or self.profile is None else self.profile[marks.columns]
        return Matrix(max(marks.shape), min(marks.shape), self.state, profile, self.known)

    def read_cells(self, coder: Coder, peak: int) -> Integers:
        """Read the symbols that follow the peak and the marks."""
        kind = Categorical(self.state.kinds).one(coder, None)
        return self._by_kind(coder, None, peak, kind)

    def write_cells(self, coder: Coder, symbols: Integers, peak: int) -> None:
        """Write the symbols that follow the peak and the marks, in the way with the fewest bits."""
        if isinstance(coder, Meter):
            # The bits of the best way are counted in any case, so the symbols need not be coded for a meter.
            coder.bits += self._weigh(symbols, peak)[0]
            return
        kind = self._lightest(symbols, peak)[1] if self.known is None else self.known.kind
        Categorical(self.state.kinds).one(coder, kind)
        self._by_kind(coder, symbols, peak, kind)

    def _by_kind(self, coder: Coder, symbols: Integers | None, peak: int, kind: int) -> Integers:
        if not kind:
            return self._by_scale(coder, symbols, peak, self.state.tables, self.state.levels)
        return self._by_span(coder, symbols) if kind == 1 else self.by_list(coder, symbols)

    def weigh(self, symbols: Integers) -> tuple[float, int]:
        """Bits of the symbols, and their kind. A matrix of zeros has no kind, and 0 is returned for it."""
        meter, peak = Meter(), largest_magnitude(symbols)
        Natural(self.state.peaks).one(meter, peak)
        if not peak:
            return meter.bits, 0
        grid = symbols.reshape(self.columns, self.rows)
        if marks := self.marks(meter, grid):
            bits, kind = self.inner(marks)._weigh(marks.part(grid).reshape(-1), peak)
        else:
            bits, kind = self._weigh(symbols, peak)
        return meter.bits + bits, kind

    def _weigh(self, symbols: Integers, peak: int) -> tuple[float, int]:
        """Bits of the symbols after the peak and the marks, and their kind. The state learns from them."""
        bits, kind, tables, levels = self._lightest(symbols, peak)
        meter = Meter()
        Categorical(self.state.kinds).one(meter, kind)
        if not kind:
            self.state.tables, self.state.levels = tables, levels
        return meter.bits + bits, kind

    def _lightest(self, symbols: Integers, peak: int) -> tuple[float, int, Frequencies, Tally]:
        """The smallest number of bits, its kind, and the tables and levels as the scale model leaves them."""
        # Copies, because the tables must learn from these symbols only if the scale model is chosen.
        scale, tables, levels = Meter(), self.state.tables.copy(), self.state.levels.copy()
        self._by_scale(scale, symbols, peak, tables, levels)
        weights = [scale.bits, *self._weigh_tables(symbols)]
        kind = weights.index(min(weights))
        return weights[kind], kind, tables, levels

    def _weigh_tables(self, symbols: Integers) -> tuple[float, float]:
        """Bits under a table of all symbols from smallest to largest, and of those that occur; ∞ for one that can't be the best."""
        span, low = int(symbols.max()) - int(symbols.min()), int(symbols.min())
        by_span, by_list = Meter(), Meter()
        by_span.bits = by_list.bits = math.inf
        # A table with many more entries than there are symbols can't be the smallest, so its bits are not counted.
        limit = span_limit(self.count)
        # bincount is faster, but takes memory in proportion to the span.
        distinct = np.count_nonzero(np.bincount(symbols - low)) if span < limit else np.unique(symbols).size
        if span < limit:
            by_span.bits = 0.0
            self._by_span(by_span, symbols)
        # A list of values costs bits for each value. It pays only if the values are few, compared with the span and the symbols.
        if 2 * distinct <= min(span, self.count, 2 * _LIST_LIMITS[self.state.version]) and span <= SYMBOL_LIMIT:
            by_list.bits = 0.0
            self.by_list(by_list, symbols)
        return by_span.bits, by_list.bits

    def by_list(self, coder: Coder, symbols: Integers | None) -> Integers:
        """Code the symbols under a table of those that occur."""
        # The values are ascending, so their differences are positive and small, and take fewer bits than the values.
        values, places = (None, None) if symbols is None else _distinct(symbols)
        low = Signed(length_tally()).one(coder, None if values is None else int(values[0]))
        more = Natural(length_tally()).one(coder, None if values is None else values.size - 1)
        within(more, 0, min(self.count, _LIST_LIMITS[self.state.version]) - 1, "the length of a list of symbols")
        gaps = naturals(coder, None if values is None else np.diff(values) - 1, more, length_tally(), self.state.first) + 1
        high = within(low + int(gaps.sum()), -SYMBOL_LIMIT, SYMBOL_LIMIT, "a list's largest symbol")
        listed = low + np.concatenate([[0], np.cumsum(gaps)])
        return self._by_table(coder, places, listed.astype(room_for(max(-low, high))))

    def _by_span(self, coder: Coder, symbols: Integers | None) -> Integers:
        low, high = (None, None) if symbols is None else (int(symbols.min()), int(symbols.max()))
        low = Signed(length_tally()).one(coder, low)
        span = Natural(length_tally()).one(coder, None if high is None else high - low)
        # Checked before the table is made: a damaged span could otherwise ask for gigabytes.
        within(span, 0, int(span_limit(self.count)), "a table's span")
        high = within(low + span, -SYMBOL_LIMIT, SYMBOL_LIMIT, "a table's largest symbol")
        places = None if symbols is None else symbols - low
        return self._by_table(coder, places, np.arange(low, high + 1, dtype=room_for(max(-low, high))))

    def _by_table(self, coder: Coder, places: Integers | None, listed: Integers) -> Integers:
        """Code symbols as their places in an ascending list."""
        found = adaptive(coder, places, self.count, flat_tally(listed.size, TABLE_GAIN), self.state.first, kept=False)
        return listed[found] if places is None else found

    def _by_scale(self, coder: Coder, symbols: Integers | None, peak: int, tables: Frequencies, levels: Tally) -> Integers:
        magnitudes = None if symbols is None else np.abs(symbols)
        known = (None, None) if self.known is None else (self.known.level, self.known.contexts)
        magnitudes = Magnitudes(self.rows, self.columns, peak, self.profile, *known).code(coder, magnitudes, tables, levels)
        signed = magnitudes > 0
        negative = None if symbols is None else (symbols[signed] < 0).astype(np.int64)
        # Signs are nearly fair coins. A strong prior keeps the table from learning noise, and a matrix of one sign still adapts.
        tally = Tally(self.state.signs.frequencies * SIGN_WEIGHT, SIGN_GAIN)
        signs = adaptive(coder, negative, int(np.count_nonzero(signed)), tally, kept=False)
        if symbols is not None:
            return symbols
        signed[signed] = signs == 1
        return np.negative(magnitudes, where=signed, out=magnitudes)


def largest_magnitude(symbols: Integers) -> int:
    """The largest magnitude, without a copy of the symbols; 0 if there are none."""
    return max(int(symbols.max(initial=0)), -int(symbols.min(initial=0)))


def _distinct(symbols: Integers) -> tuple[Integers, Integers]:
    """The distinct symbols in ascending order, and the place of each symbol among them."""
    low, high = int(symbols.min()), int(symbols.max())
    if high - low >= span_limit(symbols.size):
        return np.unique(symbols, return_inverse=True)
    # Close together, they are counted in a fraction of the time of a sort.
    offsets = symbols.astype(np.int64) - low
    occurs = np.bincount(offsets) > 0
    return np.flatnonzero(occurs) + low, (np.cumsum(occurs) - 1)[offsets]


def span_limit(count: Any) -> Any:
    """The largest table that can still save bits, given the number of symbols. Takes a number or an array."""
    return np.minimum(_TABLE_LIMIT, 4 * count + 64)
