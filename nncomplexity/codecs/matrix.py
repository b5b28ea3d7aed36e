"""The model of a quantized matrix: of three ways to code its symbols, the lightest.

Most are magnitudes of the scale model (`scales`) and signs. A tensor which that fits badly (a spike away from zero, few distinct
values) is coded under one adaptive table of its own instead, of all symbols from the least to the greatest or, where these lie far
apart, of those that occur; a writer weighs all and takes the lightest.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nncomplexity.codecs.coder import Meter
from nncomplexity.codecs.contract import SYMBOL_LIMIT, Coder, Frequencies, Integers
from nncomplexity.codecs.models import (
    Choice,
    Natural,
    Signed,
    Tally,
    adaptive,
    flat_tally,
    length_tally,
    naturals,
    single,
    within,
)
from nncomplexity.codecs.scales import Magnitudes, fresh_levels, fresh_tables

TABLE_GAIN = 4
"""What a symbol adds to its entry of a matrix's own table."""
SIGN_WEIGHT, SIGN_GAIN = 8, 2
"""How many times the file's counts of signs those of a matrix begin with, and what a sign adds."""
_TABLE_LIMIT = 1 << 16


@dataclass
class MatrixState:
    """What the matrices of one file share: the tables by context, and tallies of their levels, sizes and kinds."""

    tables: Frequencies = field(default_factory=fresh_tables)
    kinds: Tally = field(default_factory=lambda: flat_tally(3))
    signs: Tally = field(default_factory=lambda: flat_tally(2))
    levels: Tally = field(default_factory=fresh_levels)
    peaks: Tally = field(default_factory=length_tally)

    def copy(self) -> "MatrixState":
        """A state that learns on its own from here on."""
        tallies = (tally.copy() for tally in (self.kinds, self.signs, self.levels, self.peaks))
        return MatrixState(self.tables.copy(), *tallies)


@dataclass(frozen=True)
class Matrix:
    """Symbols (rows, columns) of a quantized matrix, in column-major order; columns should be the shorter side.

    `profile` (columns,) gives relative magnitudes to expect of the columns, such as those of a factor's partner.
    """

    rows: int
    columns: int
    state: MatrixState
    profile: Frequencies | None = None
    kind: int | None = None
    """Which way is the lightest, where a writer knows it already."""

    bounds = None

    @property
    def count(self) -> int:
        """How many symbols there are."""
        return self.rows * self.columns

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        """Write, weigh or read the symbols, (count,) in column-major order; None reads them."""
        if not self.count:
            return np.zeros(0, dtype=np.int64)
        peak = None if symbols is None else int(np.abs(symbols).max())
        peak = int(Natural(self.state.peaks).code(coder, single(peak))[0])
        if peak == 0:
            return np.zeros(self.count, dtype=np.int64)
        tables = (self._by_span, self.by_list)
        if symbols is None:
            kind = int(Choice(self.state.kinds).code(coder, None)[0])
            return tables[kind - 1](coder, None) if kind else self._by_scale(coder, None, peak, self.state)
        if isinstance(coder, Meter):
            coder.bits += self._weigh(symbols, peak)[0]
            return symbols
        kind = self._lightest(symbols, peak)[1] if self.kind is None else self.kind
        Choice(self.state.kinds).code(coder, single(kind))
        return tables[kind - 1](coder, symbols) if kind else self._by_scale(coder, symbols, peak, self.state)

    def weigh(self, symbols: Integers) -> tuple[float, int]:
        """Bits of the symbols, and the kind that they are coded as: 0 of zeros, which have none."""
        meter, peak = Meter(), int(np.abs(symbols).max(initial=0))
        Natural(self.state.peaks).one(meter, peak)
        bits, kind = self._weigh(symbols, peak) if peak else (0.0, 0)
        return meter.bits + bits, kind

    def _weigh(self, symbols: Integers, peak: int) -> tuple[float, int]:
        """Bits of what follows the peak, and the kind; the state learns."""
        bits, kind, learned = self._lightest(symbols, peak)
        meter = Meter()
        Choice(self.state.kinds).one(meter, kind)
        if not kind:
            self.state.tables, self.state.levels = learned.tables, learned.levels
        return meter.bits + bits, kind

    def _lightest(self, symbols: Integers, peak: int) -> tuple[float, int, MatrixState]:
        """Bits under the lightest kind, that kind, and what the state would be after the scale model."""
        scale, learned = Meter(), self.state.copy()
        self._by_scale(scale, symbols, peak, learned)
        weights = [scale.bits, *self._weigh_tables(symbols)]
        kind = weights.index(min(weights))
        return weights[kind], kind, learned

    def _weigh_tables(self, symbols: Integers) -> tuple[float, float]:
        """Bits of the symbols under a table of all from least to greatest, and under one of those that occur; ∞ where hopeless."""
        span, low = int(symbols.max()) - int(symbols.min()), int(symbols.min())
        by_span, by_list = Meter(), Meter()
        by_span.bits = by_list.bits = math.inf
        limit = span_limit(self.count)
        distinct = np.count_nonzero(np.bincount(symbols - low)) if span < limit else np.unique(symbols).size
        if span < limit:
            by_span.bits = 0.0
            self._by_span(by_span, symbols)
        if 2 * distinct <= min(span, self.count) and span <= SYMBOL_LIMIT:
            by_list.bits = 0.0
            self.by_list(by_list, symbols)
        return by_span.bits, by_list.bits

    def by_list(self, coder: Coder, symbols: Integers | None) -> Integers:
        """The symbols under a table of those that occur."""
        values, places = (None, None) if symbols is None else np.unique(symbols, return_inverse=True)
        low = int(Signed(length_tally()).code(coder, single(None if values is None else int(values[0])))[0])
        more = int(Natural(length_tally()).code(coder, single(None if values is None else values.size - 1))[0])
        within(more, 0, self.count - 1, "the length of a list of symbols")
        gaps = naturals(coder, None if values is None else np.diff(values) - 1, more, length_tally()) + 1
        within(low + int(gaps.sum()), -SYMBOL_LIMIT, SYMBOL_LIMIT, "a list's largest symbol")
        listed = low + np.concatenate([[0], np.cumsum(gaps)])
        decoded: Integers = listed[adaptive(coder, places, self.count, flat_tally(more + 1, TABLE_GAIN))]
        return decoded

    def _by_span(self, coder: Coder, symbols: Integers | None) -> Integers:
        low, high = (None, None) if symbols is None else (int(symbols.min()), int(symbols.max()))
        low = int(Signed(length_tally()).code(coder, single(low))[0])
        span = int(Natural(length_tally()).code(coder, single(None if high is None else high - low))[0])
        within(span, 0, int(span_limit(self.count)), "a table's span")
        within(low + span, -SYMBOL_LIMIT, SYMBOL_LIMIT, "a table's largest symbol")
        decoded = adaptive(coder, None if symbols is None else symbols - low, self.count, flat_tally(span + 1, TABLE_GAIN))
        decoded += low
        return decoded

    def _by_scale(self, coder: Coder, symbols: Integers | None, peak: int, state: MatrixState) -> Integers:
        magnitudes = None if symbols is None else np.abs(symbols)
        model = Magnitudes(self.rows, self.columns, peak, self.profile)
        magnitudes = model.code(coder, magnitudes, state.tables, state.levels)
        signed = magnitudes > 0
        negative = None if symbols is None else (symbols[signed] < 0).astype(np.int64)
        signs = adaptive(coder, negative, int(signed.sum()), Tally(state.signs.frequencies * SIGN_WEIGHT, SIGN_GAIN))
        if symbols is not None:
            return symbols
        signed[signed] = signs == 1
        return np.negative(magnitudes, where=signed, out=magnitudes)


def span_limit(count: Any) -> Any:
    """A table of more symbols than this cannot pay for so many; a number or an array."""
    return np.minimum(_TABLE_LIMIT, 4 * count + 64)
