"""The model of a quantized matrix: magnitudes under the scale that their row and column have shown so far.

Rows and columns of trained factors differ in scale: components fade, neurons die. Instead of writing scales down, the decoder
expects of entry (i, j) the magnitude

    μ = g · ρ_i · γ_j,   ρ_i = (Σ_{j'<j} |v_ij'| + a·g) / (g·(j + a)),   γ_j likewise from the rows of column j read before,

with g the mean magnitude of the tensor so far and a a weight of prior belief. μ, on a logarithmic ladder, picks one of a few
tables of magnitudes that the whole file shares; each begins as the geometric distribution of mean μ and learns. All of it is
IEEE additions, multiplications and divisions of float64, which are the same on every machine.

A tensor which such a model fits badly (a spike away from zero, few distinct values) is coded under one adaptive table of its own
instead, of all symbols from the least to the greatest or, where these lie far apart, of those that occur; a writer weighs all and
takes the lightest.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nncomplexity.codecs.coder import Meter
from nncomplexity.codecs.contract import SYMBOL_LIMIT, Coder, Frequencies, Integers
from nncomplexity.codecs.learning import weigh_contexts
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
    wide_uniform,
    within,
)

_DIRECT = 16
"""Magnitudes below this are tokens themselves; above, a token is an octave and its two leading mantissa bits."""
_MANTISSA_BITS = 2
_TOKENS = _DIRECT + (SYMBOL_LIMIT.bit_length() - _DIRECT.bit_length() + 1 << _MANTISSA_BITS)
_LOWEST = -14
"""The ladder of expected magnitudes runs from 2^(-14/2) in steps of √2."""
_CONTEXTS = 64
_FIRST_BLOCK = 32
_BELIEF = 4.0
_PRIOR_TOTAL = 4096
_GAIN = 192
_TABLE_LIMIT = 1 << 16
_LEVELS = 44
_GROUP = 1 << 16
"""Symbols whose contexts a writer works out at once."""
_GATHER = 1 << 12
"""Symbols whose tables are laid side by side at once."""


def _ladder() -> Frequencies:
    """(contexts,) expected magnitudes; √2 to the nearest float64, powers of two exactly."""
    steps = np.arange(_CONTEXTS) + _LOWEST
    return np.ldexp(np.where(steps % 2 == 0, 1.0, 1.4142135623730951), steps // 2)


def _token_floor(token: int) -> int:
    """The smallest magnitude that a token stands for."""
    if token <= _DIRECT:
        return token
    octave, mantissa = divmod(token - _DIRECT, 1 << _MANTISSA_BITS)
    return _DIRECT + mantissa * (_DIRECT >> _MANTISSA_BITS) << octave


_LADDER = _ladder()
_FLOORS = np.array([_token_floor(token) for token in range(_TOKENS + 1)], dtype=np.int64)
_WIDTHS = np.array([max((low // _DIRECT).bit_length() + 1, 0) if low >= _DIRECT else 0 for low in _FLOORS[:-1].tolist()])


def _geometric_tables() -> Integers:
    """(contexts, tokens) whole numbers ∝ θ^m (1 − θ) summed over a token's magnitudes, θ = μ / (1 + μ), by products alone."""
    theta = _LADDER / (1.0 + _LADDER)
    tail = np.ones((_CONTEXTS, _TOKENS + 1))  # P(magnitude >= floor), by repeated squaring of θ
    powers = [theta]
    for _ in range(SYMBOL_LIMIT.bit_length()):
        powers.append(powers[-1] * powers[-1])
    for token, floor in enumerate(_FLOORS.tolist()):
        for bit in range(int(floor).bit_length()):
            if floor >> bit & 1:
                tail[:, token] = tail[:, token] * powers[bit]
    return 1 + np.floor(_PRIOR_TOTAL * (tail[:, :-1] - tail[:, 1:])).astype(np.int64)


_PRIOR = _geometric_tables()


@dataclass
class MatrixState:
    """What the matrices of one file share: the tables by context, and tallies of their levels, sizes and kinds."""

    tables: Frequencies = field(default_factory=lambda: _PRIOR.astype(np.float64))
    kinds: Tally = field(default_factory=lambda: flat_tally(3))
    signs: Tally = field(default_factory=lambda: flat_tally(2))
    levels: Tally = field(default_factory=lambda: flat_tally(_LEVELS, 16))
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

    bounds = None

    @property
    def count(self) -> int:
        return self.rows * self.columns

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        if not self.count:
            return np.zeros(0, dtype=np.int64)
        peak = None if symbols is None else int(np.abs(symbols).max())
        peak = int(Natural(self.state.peaks).code(coder, single(peak))[0])
        if peak == 0:
            return np.zeros(self.count, dtype=np.int64)
        tables = (self._by_span, self._by_list)
        if symbols is None:
            kind = int(Choice(self.state.kinds).code(coder, None)[0])
            return tables[kind - 1](coder, None) if kind else self._by_scale(coder, None, peak, self.state)
        scale, learned = Meter(), self.state.copy()
        self._by_scale(scale, symbols, peak, learned)
        weights = [scale.bits, *self._weigh_tables(symbols)]
        kind = weights.index(min(weights))
        Choice(self.state.kinds).code(coder, single(kind))
        if isinstance(coder, Meter):
            coder.bits += weights[kind]
            if not kind:
                self.state.tables, self.state.levels = learned.tables, learned.levels
            return symbols
        return tables[kind - 1](coder, symbols) if kind else self._by_scale(coder, symbols, peak, self.state)

    @property
    def _span_limit(self) -> int:
        """A table wider than this cannot pay."""
        return min(_TABLE_LIMIT, 4 * self.count + 64)

    def _weigh_tables(self, symbols: Integers) -> tuple[float, float]:
        """Bits of the symbols under a table of all from least to greatest, and under one of those that occur; ∞ where hopeless."""
        span, low = int(symbols.max()) - int(symbols.min()), int(symbols.min())
        by_span, by_list = Meter(), Meter()
        by_span.bits = by_list.bits = math.inf
        distinct = np.count_nonzero(np.bincount(symbols - low)) if span < self._span_limit else np.unique(symbols).size
        if span < self._span_limit:
            by_span.bits = 0.0
            self._by_span(by_span, symbols)
        if 2 * distinct <= min(span, self.count) and span <= SYMBOL_LIMIT:
            by_list.bits = 0.0
            self._by_list(by_list, symbols)
        return by_span.bits, by_list.bits

    def _by_list(self, coder: Coder, symbols: Integers | None) -> Integers:
        values, places = (None, None) if symbols is None else np.unique(symbols, return_inverse=True)
        low = int(Signed(length_tally()).code(coder, single(None if values is None else int(values[0])))[0])
        more = int(Natural(length_tally()).code(coder, single(None if values is None else values.size - 1))[0])
        within(more, 0, self.count - 1, "the length of a list of symbols")
        gaps = naturals(coder, None if values is None else np.diff(values) - 1, more, length_tally()) + 1
        within(low + int(gaps.sum()), -SYMBOL_LIMIT, SYMBOL_LIMIT, "a list's largest symbol")
        listed = low + np.concatenate([[0], np.cumsum(gaps)])
        decoded: Integers = listed[adaptive(coder, places, self.count, flat_tally(more + 1, 4))]
        return decoded

    def _by_span(self, coder: Coder, symbols: Integers | None) -> Integers:
        low, high = (None, None) if symbols is None else (int(symbols.min()), int(symbols.max()))
        low = int(Signed(length_tally()).code(coder, single(low))[0])
        span = int(Natural(length_tally()).code(coder, single(None if high is None else high - low))[0])
        within(span, 0, self._span_limit, "a table's span")
        within(low + span, -SYMBOL_LIMIT, SYMBOL_LIMIT, "a table's largest symbol")
        decoded = adaptive(coder, None if symbols is None else symbols - low, self.count, flat_tally(span + 1, 4))
        decoded += low
        return decoded

    def _by_scale(self, coder: Coder, symbols: Integers | None, peak: int, state: MatrixState) -> Integers:
        magnitudes = None if symbols is None else np.abs(symbols)
        magnitudes = self._magnitudes(coder, magnitudes, peak, state)
        signed = magnitudes > 0
        negative = None if symbols is None else (symbols[signed] < 0).astype(np.int64)
        signs = adaptive(coder, negative, int(signed.sum()), Tally(state.signs.frequencies.astype(np.int64) * 8, 2))
        if symbols is not None:
            return symbols
        signed[signed] = signs == 1
        return np.negative(magnitudes, where=signed, out=magnitudes)

    def _magnitudes(self, coder: Coder, magnitudes: Integers | None, peak: int, state: MatrixState) -> Integers:
        level = None if magnitudes is None else min(int(_context(magnitudes.mean())), _LEVELS - 1)
        level = int(Choice(state.levels).code(coder, single(level))[0])
        scales = _Scales(float(_LADDER[level]), self.rows, np.ones(self.columns) if self.profile is None else self.profile)
        alphabet = int(np.searchsorted(_FLOORS, peak, side="right"))
        if magnitudes is None:
            return self._read(coder, scales, alphabet, state.tables)
        group = max(1, _GROUP // self.rows)
        for first in range(0, self.columns, group):
            part = magnitudes[first * self.rows : (first + group) * self.rows].reshape(-1, self.rows)
            contexts = scales.contexts(part)
            if isinstance(coder, Meter):
                coder.bits += _weigh_tokens(part, contexts, alphabet, state.tables, scales.sizes)
                continue
            for column, context in zip(part, contexts, strict=True):
                for start, stop in scales.blocks:
                    _tokens(coder, column[start:stop], context[start:stop], alphabet, state.tables)
        return magnitudes

    def _read(self, coder: Coder, scales: "_Scales", alphabet: int, tables: Frequencies) -> Integers:
        decoded = np.empty((self.columns, self.rows), dtype=np.int64)
        for column in decoded:
            column_sum = 0
            for start, stop in scales.blocks:
                context = scales.context(start, stop, column_sum)
                column[start:stop] = _tokens(coder, None, context, alphabet, tables)
                column_sum += int(column[start:stop].sum())
            scales.add(column, column_sum)
        return decoded.reshape(-1)


class _Scales:
    """What the magnitudes of the columns read so far let expect of the next ones."""

    def __init__(self, expected: float, rows: int, profile: Frequencies) -> None:
        starts = [0]
        while (stop := starts[-1] + max(_FIRST_BLOCK, starts[-1])) < rows:
            starts.append(stop)
        self.blocks = list(zip(starts, [*starts[1:], rows], strict=True))
        self.sizes = np.array([stop - start for start, stop in self.blocks])
        self._starts = np.array(starts)
        self._expected, self._profile = expected, profile
        self._rows = np.zeros(rows, dtype=np.int64)
        self._total, self._columns = 0, 0

    def add(self, column: Integers, column_sum: int) -> None:
        """Take in a whole column (rows,)."""
        self._rows += column
        self._total += column_sum
        self._columns += 1

    def context(self, start: int, stop: int, column_sum: int) -> Integers:
        """(stop − start,) contexts of the next column's block, whose column has summed to `column_sum` before it."""
        j = self._columns
        overall = _mean(self._total + column_sum, j * self._rows.size + start, 8 * _BELIEF, self._expected)
        column = _mean(column_sum, start, 2 * _BELIEF, overall * self._profile[j])
        return _context(column * ((self._rows[start:stop] + _BELIEF * overall) / (overall * (j + _BELIEF))))

    def contexts(self, part: Integers) -> Integers:
        """(columns, rows) contexts of all blocks of the next columns, which are taken in; equal to `context` block by block."""
        j = self._columns + np.arange(len(part))[:, None]
        sums = np.add.reduceat(part, self._starts, axis=1)
        before = np.cumsum(sums, axis=1) - sums
        totals = self._total + np.cumsum(sums).reshape(sums.shape) - sums
        overall = _mean(totals, j * self._rows.size + self._starts, 8 * _BELIEF, self._expected)
        column = _mean(before, self._starts, 2 * _BELIEF, overall * self._profile[j])
        rows = self._rows + np.cumsum(part, axis=0)
        overall = np.repeat(overall, self.sizes, axis=1)
        row = (rows - part + _BELIEF * overall) / (overall * (j + _BELIEF))
        self._rows, self._total, self._columns = rows[-1], self._total + int(sums.sum()), self._columns + len(part)
        return _context(np.repeat(column, self.sizes, axis=1) * row)


def _mean(total: Any, count: Any, belief: float, prior: Any) -> Any:
    """The mean of `count` numbers that sum to `total`, with `belief` more of the size of `prior`; numbers or arrays."""
    return (total + belief * prior) / (count + belief)


def _context(expected: Frequencies) -> Integers:
    """(n,) expected magnitudes to indices of the nearest rung at or below."""
    return np.searchsorted(_LADDER[1:], expected, side="right")


def _tokens(coder: Coder, magnitudes: Integers | None, context: Integers, alphabet: int, tables: Frequencies) -> Integers:
    """Code magnitudes (n,), each under its context's table of (alphabet,) tokens, and let the tables learn."""
    tokens = None if magnitudes is None else np.searchsorted(_FLOORS, magnitudes, side="right") - 1
    coded = []
    for start in range(0, context.size, _GATHER):
        part = slice(start, start + _GATHER)
        rows = tables[:, :alphabet].take(context[part], axis=0)
        coded.append(coder.categorical(None if tokens is None else tokens[part], rows, len(rows)))
    tokens = np.concatenate(coded)
    np.add.at(tables.reshape(-1), context * tables.shape[1] + tokens, float(_GAIN))
    decoded = _FLOORS[tokens]
    if alphabet > _DIRECT:
        widths = _WIDTHS[tokens]
        for width in (np.flatnonzero(np.bincount(widths)[1:]) + 1).tolist():
            chosen = widths == width
            low = None if magnitudes is None else magnitudes[chosen] - decoded[chosen]
            decoded[chosen] += wide_uniform(coder, low, width, int(chosen.sum()))
    return decoded


def _weigh_tokens(part: Integers, contexts: Integers, alphabet: int, tables: Frequencies, sizes: Integers) -> float:
    """Bits of what `_tokens` codes for the blocks of columns (columns, rows); the tables learn."""
    tokens = part.reshape(-1) if alphabet <= _DIRECT else np.searchsorted(_FLOORS, part.reshape(-1), side="right") - 1
    blocks = np.repeat(np.arange(len(part) * sizes.size), np.tile(sizes, len(part)))
    used = np.ascontiguousarray(tables[:, :alphabet])
    bits = weigh_contexts(tokens, contexts.reshape(-1), blocks, used, _GAIN)
    tables[:, :alphabet] = used
    return bits + (float(_WIDTHS[tokens].sum()) if alphabet > _DIRECT else 0.0)
