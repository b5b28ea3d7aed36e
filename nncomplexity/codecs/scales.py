"""The scale model: it codes the magnitudes of a quantized matrix, given the earlier magnitudes in their row and column.

Rows and columns of trained matrices differ in scale. A file doesn't contain these scales. Instead, the decoder estimates the magnitude of
entry (i, j) as

    μ = g · ρ_i · γ_j,   ρ_i = (Σ_{j'<j} |v_ij'| + a·g) / (g·(j + a)),   γ_j likewise from the earlier rows of column j,

where g is the mean magnitude of the tensor so far, and a is the weight of the prior. μ is rounded down to a logarithmic grid. Each value
of the grid is a context. A context has an adaptive table of magnitudes, which the whole file shares, and which begins as the geometric
distribution with mean μ. Only additions, multiplications and divisions of float64 are used, which give the same results on every machine
(IEEE 754).
"""

import functools
from bisect import bisect_right
from dataclasses import dataclass
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncomplexity.codecs.coder import Meter
from nncomplexity.codecs.contract import SYMBOL_LIMIT, Coder, Frequencies, Integers
from nncomplexity.codecs.learning import weigh_contexts
from nncomplexity.codecs.models import Categorical, Tally, flat_tally, room_for, wide_uniform

# The numbers up to LEVELS are part of the format (docs/format.md). A file doesn't contain them, so a decoder must have the same ones.
_DIRECT = 16
"""A magnitude below this is its own token. Above, a token is the octave and the two leading mantissa bits."""
_MANTISSA_BITS = 2
_TOKENS = _DIRECT + (SYMBOL_LIMIT.bit_length() - _DIRECT.bit_length() + 1 << _MANTISSA_BITS)
_LOWEST = -14
"""The grid of expected magnitudes begins at 2^(-14/2). Each value is √2 times the one before it."""
_CONTEXTS = 64
_FIRST_BLOCK = 32
BELIEF = 4.0
"""The weight of a row's prior, as a number of magnitudes. For a column it is twice as large."""
_PRIOR_TOTAL = 4096
GAIN = 192
"""The increase of a symbol's entry in a table."""
LEVELS = 44
"""The number of grid values at which a matrix may begin. The largest is about 23,000. A matrix with a larger mean begins there too."""
_ROOT = 1.4142135623730951
_HALF_ROOT = _ROOT / 2
_GROUP = 1 << 16
"""The number of symbols whose contexts a writer computes at once."""
_AT_ONCE = 256
"""The largest matrix, in symbols, whose columns are all coded at once. The time is quadratic in the number of symbols."""
_ONE_OF = np.eye(_DIRECT)
"""(tokens, tokens) for each token that is its own magnitude, 1 in its place and 0 elsewhere."""
_GATHER = 1 << 12
"""The number of symbols whose tables are gathered at once."""


def _means() -> Frequencies:
    """(contexts,) expected magnitudes; √2 to the nearest float64, powers of two exactly."""
    steps = np.arange(_CONTEXTS) + _LOWEST
    return np.ldexp(np.where(steps % 2 == 0, 1.0, _ROOT), steps // 2)


def _token_floor(token: int) -> int:
    """The smallest magnitude that a token stands for."""
    if token <= _DIRECT:
        return token
    octave, mantissa = divmod(token - _DIRECT, 1 << _MANTISSA_BITS)
    return _DIRECT + mantissa * (_DIRECT >> _MANTISSA_BITS) << octave


MEANS = _means()
"""(contexts,) the expected magnitudes that contexts stand for."""
_ABOVE_FIRST = MEANS[1:].tolist()
_FLOORS = np.array([_token_floor(token) for token in range(_TOKENS + 1)], dtype=np.int64)
"""(tokens + 1,) the smallest magnitude of each token, and the number after the last one."""
_FLOOR_NUMBERS: list[int] = _FLOORS.tolist()
"""The same as Python numbers, in which a single number is found faster."""
WIDTHS = np.array(
    [max((low // _DIRECT).bit_length() + 1, 0) if low >= _DIRECT else 0 for low in _FLOORS[:-1].tolist()], dtype=np.int8
)


def _geometric_tables() -> Integers:
    """(contexts, tokens) whole numbers ∝ θ^m (1 − θ) summed over a token's magnitudes m, with θ = μ / (1 + μ).

    They are computed by products alone, because powers may be rounded differently on another machine.
    """
    theta = MEANS / (1.0 + MEANS)
    tail = np.ones((_CONTEXTS, _TOKENS + 1))  # P(magnitude >= floor), by repeated squaring of θ
    powers = [theta]
    for _ in range(SYMBOL_LIMIT.bit_length()):
        powers.append(powers[-1] * powers[-1])
    for token, floor in enumerate(_FLOORS.tolist()):
        for bit in range(int(floor).bit_length()):
            if floor >> bit & 1:
                tail[:, token] = tail[:, token] * powers[bit]
    # At least 1, because the coder can't code a token of frequency 0.
    return 1 + np.floor(_PRIOR_TOTAL * (tail[:, :-1] - tail[:, 1:])).astype(np.int64)


_PRIOR = _geometric_tables()


def fresh_tables() -> Frequencies:
    """The tables (contexts, tokens) at the beginning of a file."""
    return _PRIOR.astype(np.float64)


def fresh_levels() -> Tally:
    """A tally of the grid values at which matrices begin."""
    return flat_tally(LEVELS, 16)


@dataclass(frozen=True)
class Magnitudes:
    """Magnitudes (rows, columns) of a matrix that isn't zero, in column-major order. The largest is at most `peak`.

    `profile` (columns,) has the expected relative magnitudes of the columns.
    """

    rows: int
    columns: int
    peak: int
    profile: Frequencies | None = None
    level: int | None = None
    """The level, if a writer knows it already."""
    known: Integers | None = None
    """(n,) the contexts of all symbols, if a writer knows them already; only for matrices of at most `_GROUP` symbols."""

    def code(self, coder: Coder, magnitudes: Integers | None, tables: Frequencies, levels: Tally) -> Integers:
        """Code the level, and then the magnitudes column by column. Tables and levels learn from them."""
        # A writer may choose any level. The mean is close to the best level, and needs no search.
        level = self.level
        if level is None and magnitudes is not None:
            level = min(int(context_of(magnitudes.mean())), LEVELS - 1)
        level = Categorical(levels).one(coder, level)
        alphabet = bisect_right(_FLOOR_NUMBERS, self.peak)  # `alphabet_of` for one number
        if magnitudes is None and self.rows <= _FIRST_BLOCK:
            return _read_columns(coder, self, float(MEANS[level]), alphabet, tables)
        scales = _Scales(float(MEANS[level]), self.rows, np.ones(self.columns) if self.profile is None else self.profile)
        if magnitudes is None:
            return self._read(coder, scales, alphabet, tables)
        # Contexts of all columns at once could take many times the memory of the matrix.
        group = max(1, _GROUP // self.rows)
        for first in range(0, self.columns, group):
            part = magnitudes[first * self.rows : (first + group) * self.rows].reshape(-1, self.rows)
            contexts = scales.contexts(part) if self.known is None else self.known.reshape(part.shape).astype(np.int64)
            if isinstance(coder, Meter):
                coder.bits += _weigh_tokens(part, contexts, alphabet, tables, scales.sizes)
                continue
            if part.size <= _AT_ONCE and alphabet <= _DIRECT and len(scales.blocks) == 1:
                _write_columns(coder, part, contexts, alphabet, tables)
                continue
            for column, context in zip(part, contexts, strict=True):
                for start, stop in scales.blocks:
                    _tokens(coder, column[start:stop], context[start:stop], alphabet, tables)
        return magnitudes

    def _read(self, coder: Coder, scales: "_Scales", alphabet: int, tables: Frequencies) -> Integers:
        decoded = np.empty((self.columns, self.rows), dtype=room_for(int(_FLOORS[alphabet]) - 1))
        for j, column in enumerate(decoded):
            column_sum = 0
            for start, stop in scales.blocks:
                block = column[start:stop]
                if stop - start <= _GATHER:
                    block[:] = _tokens(coder, None, scales.context(start, start, stop, column_sum), alphabet, tables)
                else:
                    _read_block(coder, scales, start, column_sum, alphabet, tables, block)
                column_sum += int(block.sum(dtype=np.int64))
            if j + 1 < self.columns:
                scales.add(column, column_sum)
        return decoded.reshape(-1)


class _Scales:
    """The expected magnitudes of the next columns, from those of the columns so far."""

    def __init__(self, expected: float, rows: int, profile: Frequencies) -> None:
        _, self.sizes = blocks_of(rows)
        self.blocks = _spans(rows)
        self.expected, self._profile = expected, profile
        self._rows = np.zeros(rows, dtype=np.int64)
        self._total, self._columns = 0, 0

    def add(self, column: Integers, column_sum: int) -> None:
        """Learn from a whole column (rows,)."""
        self._rows += column
        self._total += column_sum
        self._columns += 1

    def context(self, begin: int, start: int, stop: int, column_sum: int) -> Integers:
        """The contexts (stop − start,) of a part of the next column's block from `begin` on. `column_sum` is its sum before `begin`."""
        j = self._columns
        # The prior is the level, the mean of the whole matrix as the writer saw it. So it has a large weight.
        overall = _mean(self._total + column_sum, j * self._rows.size + begin, 8 * BELIEF, self.expected)
        column = _mean(column_sum, begin, 2 * BELIEF, overall * self._profile[j])
        return context_of(column * ((self._rows[start:stop] + BELIEF * overall) / (overall * (j + BELIEF))))

    def contexts(self, part: Integers) -> Integers:
        """The contexts (columns, rows) of the next columns. The state then learns from these columns. Equal to `context` for each block."""
        profile = self._profile[self._columns : self._columns + len(part)]
        seen = self._rows, self._total, self._columns
        found: Integers = contexts_of(part[None], np.array([self.expected]), profile[None], seen)[0]
        self._rows, self._total = self._rows + part.sum(axis=0), self._total + int(part.sum())
        self._columns += len(part)
        return found


def contexts_of(
    parts: Integers, expected: Frequencies, profiles: Frequencies, seen: tuple[Integers | int, int, int] = (0, 0, 0)
) -> Integers:
    """The contexts (matrices, columns, rows) of all blocks of many matrices of one shape at once.

    Args:
        parts: the magnitudes (matrices, columns, rows).
        expected: (matrices,) the mean magnitude with which each matrix begins.
        profiles: (matrices, columns) the expected relative magnitudes of the columns.
        seen: for the columns before these: the sums of their rows, the sum of all, and the number of columns.
    """
    rows_before, total_before, columns_before = seen
    count, columns, rows = parts.shape
    starts, sizes = blocks_of(rows)
    j = columns_before + np.arange(columns)[:, None]
    sums = np.add.reduceat(parts, starts, axis=2) if len(starts) > 1 else parts.sum(axis=2, keepdims=True)
    before = np.cumsum(sums, axis=2) - sums
    totals = total_before + np.cumsum(sums.reshape(count, -1), axis=1).reshape(sums.shape) - sums
    overall = _mean(totals, j * rows + starts, 8 * BELIEF, expected[:, None, None])
    column = _mean(before, starts, 2 * BELIEF, overall * profiles[:, :, None])
    above = rows_before + np.cumsum(parts, axis=1) - parts
    if len(starts) > 1:  # one block is broadcast over the rows
        overall, column = np.repeat(overall, sizes, axis=2), np.repeat(column, sizes, axis=2)
    row = (above + BELIEF * overall) / (overall * (j + BELIEF))
    return context_of(column * row)


@functools.lru_cache(maxsize=256)
def blocks_of(rows: int) -> tuple[Integers, Integers]:
    """The beginnings of a column's blocks, and their sizes. A block is as large as all blocks before it together, and at least 32."""
    # A decoder needs the sums before each block, and nothing within it. Because the blocks double, even a long column has few.
    starts = [0]
    while (stop := starts[-1] + max(_FIRST_BLOCK, starts[-1])) < rows:
        starts.append(stop)
    return np.array(starts), np.diff(starts, append=rows)


@functools.lru_cache(maxsize=256)
def _spans(rows: int) -> list[tuple[int, int]]:
    """The beginning and the end of each block of a column."""
    starts, sizes = blocks_of(rows)
    return list(zip(starts.tolist(), (starts + sizes).tolist(), strict=True))


def alphabet_of(peak: Any) -> Any:
    """The number of tokens for magnitudes up to a peak. Takes a number or an array."""
    return np.searchsorted(_FLOORS, peak, side="right")


def tokens_of(magnitudes: Integers) -> Integers:
    """(n,) the tokens of magnitudes."""
    tokens = magnitudes.copy()
    large = np.flatnonzero(magnitudes >= _DIRECT)
    tokens[large] = np.searchsorted(_FLOORS, magnitudes[large], side="right") - 1
    return tokens


def _mean(total: Any, count: Any, belief: float, prior: Any) -> Any:
    """The mean of `count` numbers with the sum `total`, and of `belief` further numbers equal to `prior`. Takes numbers or arrays."""
    return (total + belief * prior) / (count + belief)


def context_of(expected: Frequencies) -> Integers:
    """The index of the largest grid value at or below each expected magnitude, which is above 0. It is 0 for magnitudes below the grid.

    For each exponent of 2 there are two grid values, and the significand decides between them. Nothing is rounded.
    """
    # A logarithm could round differently on another machine. frexp is exact everywhere.
    significands, exponents = np.frexp(expected)
    places: Integers = 2 * exponents.astype(np.int64) + (significands >= _HALF_ROOT) - (2 + _LOWEST)
    return np.minimum(np.maximum(places, 0), _CONTEXTS - 1)


def _tokens(coder: Coder, magnitudes: Integers | None, context: Integers, alphabet: int, tables: Frequencies) -> Integers:
    """Code magnitudes (n,), each under the table of its context (alphabet,). The tables learn from them."""
    tokens = None if magnitudes is None else tokens_of(magnitudes)
    coded = []
    for start in range(0, context.size, _GATHER):
        part = slice(start, start + _GATHER)
        # One row of frequencies for each symbol, so that one call codes all symbols. The part limits the memory of these rows.
        rows = tables[:, :alphabet].take(context[part], axis=0)
        coded.append(coder.categorical(None if tokens is None else tokens[part], rows, len(rows)))
    tokens = coded[0] if len(coded) == 1 else np.concatenate(coded)
    # Not `+=`, which would count a context and token only once if they occur several times.
    np.add.at(tables.reshape(-1), context * tables.shape[1] + tokens, float(GAIN))
    if alphabet <= _DIRECT:
        return tokens
    decoded: Integers = _FLOORS[tokens]
    _add_low_bits(coder, magnitudes, tokens, decoded)
    return decoded


def _read_block(
    coder: Coder, scales: _Scales, begin: int, column_sum: int, alphabet: int, tables: Frequencies, block: Integers
) -> None:
    """`_tokens` for reading a large block that starts at the row `begin`. It needs little memory except for the result."""
    parts = [slice(first, min(first + _GATHER, block.size)) for first in range(0, block.size, _GATHER)]
    contexts, tokens = np.empty(block.size, dtype=np.int8), np.empty(block.size, dtype=np.int8)
    for part in parts:
        contexts[part] = scales.context(begin, begin + part.start, begin + part.stop, column_sum)
        rows = tables[:, :alphabet].take(contexts[part], axis=0)
        tokens[part] = coder.categorical(None, rows, len(rows))
        block[part] = _FLOORS[tokens[part]]
    for part in parts:
        # An index doesn't fit into the bytes of contexts and tokens, and NumPy 1 keeps these bytes if it multiplies them by a number.
        np.add.at(tables.reshape(-1), contexts[part].astype(np.int64) * tables.shape[1] + tokens[part], float(GAIN))
    _add_low_bits(coder, None, tokens, block)


def _add_low_bits(coder: Coder, magnitudes: Integers | None, tokens: Integers, decoded: Integers) -> None:
    """Code the differences of magnitudes from the beginnings of their tokens, and add them to `decoded`, which has these beginnings."""
    widths = WIDTHS[tokens]
    for width in (np.flatnonzero(np.bincount(widths)[1:]) + 1).tolist():
        chosen = widths == width
        low = None if magnitudes is None else magnitudes[chosen] - decoded[chosen]
        decoded[chosen] += wide_uniform(coder, low, width, int(np.count_nonzero(chosen))).astype(decoded.dtype, copy=False)


def _write_columns(coder: Coder, part: Integers, contexts: Integers, alphabet: int, tables: Frequencies) -> None:
    """Code magnitudes (columns, rows) that are their own tokens, if each column is one block. Equal to `_tokens` for each column.

    The frequencies for a symbol are those of its table, plus the increases by earlier columns under its context.
    """
    tokens, context = part.reshape(-1), contexts.reshape(-1)
    # A matrix of all pairs says which earlier symbols change the frequencies of which later ones. It is fast for so few symbols.
    seen = (context[:, None] == context) & _earlier_columns(*part.shape)
    added = seen.astype(np.float64) @ _ONE_OF[tokens, :alphabet]
    coder.categorical(tokens, tables[:, :alphabet].take(context, axis=0) + GAIN * added, tokens.size)
    np.add.at(tables.reshape(-1), context * tables.shape[1] + tokens, float(GAIN))


@functools.lru_cache(maxsize=64)
def _earlier_columns(columns: int, rows: int) -> NDArray[np.bool_]:
    """(n, n) whether the second symbol is in an earlier column than the first, in column-major order."""
    column = np.repeat(np.arange(columns), rows)
    earlier: NDArray[np.bool_] = column < column[:, None]
    return earlier


def _read_columns(coder: Coder, model: Magnitudes, expected: float, alphabet: int, tables: Frequencies) -> Integers:
    """Read the magnitudes of a matrix whose columns are one block each. For so few symbols, Python numbers are faster than arrays."""
    profile = [1.0] * model.columns if model.profile is None else model.profile.tolist()
    columns: list[list[int]] = []
    sums, total = [0] * model.rows, 0
    used = np.ascontiguousarray(tables[:, :alphabet])
    entries = used.reshape(-1).data  # a view, of which Python changes a single number in a fraction of the time
    for j in range(model.columns):
        overall = _mean(total, j * model.rows, 8 * BELIEF, expected)
        mean, prior, belief = overall * profile[j], BELIEF * overall, overall * (j + BELIEF)
        # Rows with the same sum so far have the same context, so it is computed once for each different sum.
        places = {seen: bisect_right(_ABOVE_FIRST, mean * ((seen + prior) / belief)) for seen in set(sums)}
        context = [places[seen] for seen in sums]
        if alphabet <= _DIRECT:
            values = coder.categorical(None, used.take(context, axis=0), model.rows).tolist()
            for row, token in zip(context, values, strict=True):
                entries[row * alphabet + token] += GAIN
        else:
            values = _tokens(coder, None, np.array(context), alphabet, used).tolist()
        columns.append(values)
        sums = list(map(add, sums, values))
        total += sum(values)
    tables[:, :alphabet] = used
    return np.array(columns, dtype=room_for(int(_FLOORS[alphabet]) - 1)).reshape(-1)


def _weigh_tokens(part: Integers, contexts: Integers, alphabet: int, tables: Frequencies, sizes: Integers) -> float:
    """Bits of `_tokens` for the blocks of columns (columns, rows). The tables learn from them."""
    tokens = part.reshape(-1) if alphabet <= _DIRECT else np.searchsorted(_FLOORS, part.reshape(-1), side="right") - 1
    blocks = np.repeat(np.arange(len(part) * sizes.size), np.tile(sizes, len(part)))
    used = np.ascontiguousarray(tables[:, :alphabet])
    bits = weigh_contexts(tokens, contexts.reshape(-1), blocks, used, GAIN)
    tables[:, :alphabet] = used
    return bits + (float(WIDTHS[tokens].sum()) if alphabet > _DIRECT else 0.0)
