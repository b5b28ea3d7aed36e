"""Weighing many small matrices at once, which are coded one after another.

What a matrix's symbols cost depends on the matrices before it only by the counts in tables that all of them share, and these are sums over
earlier matrices. Which matrices they are summed over depends on the kinds chosen, and these on the costs: kinds are guessed, costs worked
out, and kinds chosen anew until none changes. The first matrix whose guess was wrong is right then, so that this ends; mostly at once.

Costs are those of `nncomplexity.codecs.matrix` but for the rounding of sums. Symbols lie matrix after matrix in one row (n,), in the order in
which they are coded; T is the number of matrices, `owner` (n,) says whose a symbol is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nncomplexity.codecs.coder import Meter
from nncomplexity.codecs.contract import SYMBOL_LIMIT, Frequencies, Integers
from nncomplexity.codecs.lines import DeadLines
from nncomplexity.codecs.matrix import SIGN_GAIN, SIGN_WEIGHT, TABLE_GAIN, KnownKind, Matrix, MatrixState, span_limit
from nncomplexity.codecs.models import FIRST_OF_OWN, LENGTHS, Tally, block_edges, length_tally
from nncomplexity.codecs.scales import GAIN, LEVELS, MEANS, WIDTHS, alphabet_of, blocks_of, context_of, contexts_of, tokens_of

LARGEST = 1 << 12
"""Symbols of a matrix from which on it is weighed by itself, at no greater cost."""
MOST = 1 << 17
"""Symbols of all matrices that are weighed at once."""
_CELLS = 16
"""How many times as many keys as symbols there may be for them to be counted one by one."""
_EDGES, _OWN_EDGES = (
    np.array(block_edges(LARGEST)),
    {1: np.array(block_edges(LARGEST)), 2: np.array(block_edges(LARGEST, FIRST_OF_OWN))},
)
"""Where the blocks of signs begin, and by version of the format those of a matrix's own table."""


@dataclass(frozen=True)
class Weighed:
    """What matrices weigh: their bits (T,), their kinds and the contexts of their symbols.

    A matrix of zeros alone has no kind, which is written as 0, and no contexts. The contexts are those under the scale model.
    """

    bits: Frequencies
    kinds: Integers
    contexts: dict[int, Integers]

    def known(self) -> list[KnownKind]:
        """What their writer is told."""
        return [KnownKind(kind, self.contexts.get(index)) for index, kind in enumerate(self.kinds.tolist())]


def weigh_together(matrices: Sequence[Matrix], symbols: Sequence[Integers], state: MatrixState, *, keep: bool = False) -> Weighed:
    """Bits of matrices that are coded one after another under one state, which learns.

    Args:
        matrices: their models; all have the state given.
        symbols: their symbols, each (rows, columns), at most `MOST` in all.
        state: what they share, as it is before the first of them; it learns from all.
        keep: whether to keep the contexts.

    Returns:
        The bits of each matrix, the kind that it is coded as and, where they are kept, its contexts.
    """
    bits, kinds = np.zeros(len(matrices)), np.zeros(len(matrices), dtype=np.int64)
    filled = np.array([index for index, matrix in enumerate(matrices) if matrix.count], dtype=np.int64)
    if not filled.size:
        return Weighed(bits, kinds, {})
    stacks = _stacked(matrices, symbols, filled)
    peaks, whole = np.zeros(len(matrices), dtype=np.int64), np.ones(len(matrices), dtype=np.bool_)
    for members, stack in stacks:
        peaks[members] = np.abs(stack).max(axis=(1, 2))
        present = stack != 0
        whole[members] = present.any(axis=1).all(axis=1) & present.any(axis=2).all(axis=1)
    bits[filled] += _naturals(peaks[filled], state.peaks)
    chosen = np.flatnonzero(peaks)
    if not chosen.size:
        return Weighed(bits, kinds, {})
    if state.version > 1:
        matrices, symbols, marked, marks = _without_dead_lines(matrices, symbols, chosen, ~whole, state)
        bits[chosen] += _learning(marked, state.lines.marked) + marks
        stacks = _stacked(matrices, symbols, chosen) if marked.any() else stacks
    batch = _Batch(matrices, stacks, peaks, chosen)
    tables = batch.tables()
    scale = _ByScale(batch, state)
    found = np.zeros(len(chosen), dtype=np.int64)
    while True:
        weights = np.stack([scale.bits(found == 0), *tables])
        guessed, found = found, weights.argmin(axis=0)
        if (guessed == found).all():
            break
    bits[chosen] += weights.min(axis=0) + _learning(found, state.kinds)
    kinds[chosen] = found
    scale.learn(found == 0)
    contexts = np.split(batch.contexts.astype(np.int8), batch.starts[1:]) if keep else []
    return Weighed(bits, kinds, dict(zip(chosen.tolist(), contexts, strict=False)))


def weigh_each(symbols: Sequence[Integers]) -> Frequencies:
    """(T,) bits of matrices of symbols (rows, columns), at least as many rows as columns, each of them alone in a file.

    The models are those of `weigh_together`, and none learns from another: small matrices without dead lines are weighed together all
    the same, as each finds the tables that a file begins with.
    """
    bits = np.zeros(len(symbols))
    waiting: list[int] = []
    waits = 0
    for index, one in enumerate(symbols):
        if one.size > LARGEST:
            meter = Meter()
            Matrix(one.shape[0], one.shape[1], MatrixState()).code(meter, np.ascontiguousarray(one.T, dtype=np.int64).reshape(-1))
            bits[index] = meter.bits
        elif one.size:
            if waits + one.size > MOST:
                bits[waiting] = _weigh_fresh([symbols[place] for place in waiting])
                waiting, waits = [], 0
            waiting.append(index)
            waits += one.size
    if waiting:
        bits[waiting] = _weigh_fresh([symbols[place] for place in waiting])
    return bits


def _weigh_fresh(symbols: Sequence[Integers]) -> Frequencies:
    """(T,) bits of matrices, none of them empty, each under tables that have learned nothing."""
    state, every = MatrixState(), np.arange(len(symbols))
    matrices, symbols = [Matrix(one.shape[0], one.shape[1], state) for one in symbols], list(symbols)
    peaks = np.array([max(int(one.max()), -int(one.min())) for one in symbols])
    bits, marked = _lengths(peaks), np.zeros(every.size, dtype=np.int64)
    chosen = np.flatnonzero(peaks)
    if not chosen.size:
        return bits
    for index in chosen.tolist():
        one, lines = symbols[index], DeadLines()
        if one.any(axis=0).all() and one.any(axis=1).all():
            continue
        marks = lines.worthwhile(one.T)
        if marks is not None:
            meter = Meter()
            lines.code(meter, one.T.shape, marks)
            matrices[index], symbols[index] = matrices[index].inner(marks), marks.part(one.T).T
            marked[index], bits[index] = 1, bits[index] + meter.bits
    nothing = np.zeros(chosen.size, dtype=np.bool_)
    batch = _Batch(matrices, _stacked(matrices, symbols, chosen), peaks, chosen)
    weights = np.stack([_ByScale(batch, state).bits(nothing), *batch.tables()])
    choices = _learning(weights.argmin(axis=0), state.kinds, nothing) + _learning(marked[chosen], state.lines.marked, nothing)
    bits[chosen] += choices + weights.min(axis=0)
    return bits


def _stacked(matrices: Sequence[Matrix], symbols: Sequence[Integers], chosen: Integers) -> list[tuple[list[int], Integers]]:
    """Those of the matrices that are chosen, by shape: their indices, and their symbols (matrices, rows, columns)."""
    shapes: dict[tuple[int, int], list[int]] = {}
    for index in chosen.tolist():
        shapes.setdefault((matrices[index].rows, matrices[index].columns), []).append(index)
    return [(members, np.array([symbols[index] for index in members], dtype=np.int64)) for members in shapes.values()]


def _without_dead_lines(
    matrices: Sequence[Matrix], symbols: Sequence[Integers], chosen: Integers, partial: NDArray[np.bool_], state: MatrixState
) -> tuple[Sequence[Matrix], Sequence[Integers], Integers, Frequencies]:
    """The matrices and their symbols without dead lines that are marked; whether each `chosen` one is marked; the bits of its marks.

    Whether marks pay hangs on what matrices before have marked, so that those that have dead lines are looked at one by one.
    """
    marked, bits = np.zeros(chosen.size, dtype=np.int64), np.zeros(chosen.size)
    matrices, symbols = list(matrices), list(symbols)
    tally, seen = state.lines.marked, 0
    before = tally.copy()
    for place in np.flatnonzero(partial[chosen]).tolist():
        index = int(chosen[place])
        grid = symbols[index].T
        tally.frequencies[0] += tally.gain * (place - seen)
        marks, seen = state.lines.worthwhile(grid), place + 1
        tally.frequencies[int(marks is not None)] += tally.gain
        if marks is not None:
            meter = Meter()
            state.lines.code(meter, grid.shape[:2], marks)
            matrices[index], symbols[index] = matrices[index].inner(marks), marks.part(grid).T
            marked[place], bits[place] = 1, meter.bits
    tally.frequencies[:] = before.frequencies  # the choices themselves are weighed all at once
    return matrices, symbols, marked, bits


class Ledger(Meter):
    """A meter that adds up bits by part, and only notes single decisions under tables that learn, until `settle` weighs all of a table's.

    Attributes:
        parts: bits of each part.
        part: the part that is metered; -1 where what is metered is no part's.
    """

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts, self.part = [0.0] * parts, -1
        self._noted: dict[int, tuple[Frequencies, int, list[int], list[int]]] = {}

    def begin(self, part: int) -> None:
        """What comes now is this part's."""
        self.close()
        self.part = part

    def close(self) -> None:
        """What was metered so far is the part's."""
        if self.part >= 0:
            self.parts[self.part] += self.bits
        self.bits = 0.0

    def learned(self, value: int | None, frequencies: Frequencies, gain: int) -> int:
        """Note one symbol; `settle` weighs it."""
        assert value is not None
        noted = self._noted.get(id(frequencies))
        if noted is None:
            noted = self._noted[id(frequencies)] = frequencies, gain, [], []
        noted[2].append(value)
        noted[3].append(self.part)
        return value

    def note(self, tally: Tally, values: list[int], parts: list[int]) -> None:
        """Single decisions under a tally, one after another, each of its part."""
        _, _, noted, of_parts = self._noted.setdefault(id(tally.frequencies), (tally.frequencies, tally.gain, [], []))
        noted += values
        of_parts += parts

    def settle(self) -> None:
        """Weigh what was noted."""
        self.close()
        total = np.zeros(len(self.parts) + 1)  # the last is for what came before the first part
        for frequencies, gain, values, parts in self._noted.values():
            bits = _learning(np.array(values), Tally(frequencies, gain))
            total += np.bincount(np.array(parts) % len(total), weights=bits, minlength=len(total))
        self.parts = [bits + more for bits, more in zip(self.parts, total.tolist(), strict=False)]
        self._noted.clear()


class _Batch:
    """Matrices that aren't zero: their symbols in one row, and where they are."""

    def __init__(
        self, matrices: Sequence[Matrix], stacks: Sequence[tuple[list[int], Integers]], peaks: Integers, chosen: Integers
    ) -> None:
        self.matrices = [matrices[index] for index in chosen.tolist()]
        self.peaks, self.number = peaks[chosen], chosen.size
        self.counts = np.array([matrix.count for matrix in self.matrices])
        self._profiled = any(matrix.profile is not None for matrix in self.matrices)
        self.starts = np.cumsum(self.counts) - self.counts
        self.owner = np.repeat(np.arange(self.number), self.counts)
        self.place = np.arange(self.owner.size) - np.repeat(self.starts, self.counts)
        self.symbols = np.empty(self.owner.size, dtype=np.int64)
        self.levels = np.empty(self.number, dtype=np.int64)
        self.contexts, self.blocks = np.empty_like(self.symbols), np.empty_like(self.symbols)
        numbers = np.full(len(matrices), -1)
        numbers[chosen] = np.arange(chosen.size)
        for members, stack in stacks:
            kept = numbers[members] >= 0
            if kept.any():
                self._lay(numbers[members][kept], stack[kept])

    def _lay(self, members: Integers, stack: Integers) -> None:
        """Put the symbols of matrices of one shape (matrices, rows, columns) into their places, with their contexts."""
        rows, columns = stack.shape[1:]
        stacked = stack.transpose(0, 2, 1)
        sizes = np.abs(stacked)
        levels = np.minimum(context_of(sizes.sum(axis=(1, 2)) / (rows * columns)), LEVELS - 1)
        profiles = np.ones((len(members), columns))
        for row, index in enumerate(members.tolist() if self._profiled else ()):
            if (profile := self.matrices[index].profile) is not None:
                profiles[row] = profile
        where = (self.starts[members][:, None] + np.arange(rows * columns)).reshape(-1)
        self.symbols[where] = stacked.reshape(-1)
        self.levels[members] = levels
        self.contexts[where] = contexts_of(sizes, MEANS[levels], profiles).reshape(-1)
        starts, lengths = blocks_of(rows)
        within = np.repeat(np.arange(len(starts)), lengths)
        self.blocks[where] = np.tile((np.arange(columns)[:, None] * len(starts) + within).reshape(-1), len(members))

    def sums(self, values: NDArray[np.float64] | Integers, owner: Integers) -> Frequencies:
        """(T,) sums of values over the matrices that they are of."""
        found: Frequencies = np.bincount(owner, weights=values, minlength=self.number).astype(np.float64)
        return found

    def tables(self) -> tuple[Frequencies, Frequencies]:
        """(T,) bits under a table of all symbols from least to greatest, and under one of those that occur; ∞ where hopeless."""
        low = np.minimum.reduceat(self.symbols, self.starts)
        spans = np.maximum.reduceat(self.symbols, self.starts) - low
        edges = _OWN_EDGES[self.matrices[0].state.version]
        blocks = np.searchsorted(edges, self.place, side="right") - 1
        runs = _Runs((self.owner, self.symbols - low[self.owner]), blocks)
        distinct = np.bincount(runs.keys(0)[runs.news], minlength=self.number)
        logs = runs.counts * np.log2(1 + TABLE_GAIN * runs.earlier)
        total = spans[self.owner] + 1 + TABLE_GAIN * edges[blocks]
        by_span = _signed(low) + _lengths(spans) + self.sums(np.log2(total), self.owner) - self.sums(logs, runs.keys(0))
        by_span[spans >= span_limit(self.counts)] = np.inf
        by_list = np.full(self.number, np.inf)
        pays = (2 * distinct <= np.minimum(spans, self.counts)) & (spans <= SYMBOL_LIMIT)
        for index in np.flatnonzero(pays).tolist():
            meter, start = Meter(), self.starts[index]
            self.matrices[index].by_list(meter, self.symbols[start : start + self.counts[index]])
            by_list[index] = meter.bits
        return by_span, by_list


class _ByScale:
    """Bits of matrices under the scale model, for any choice of those that the tables learn from."""

    def __init__(self, batch: _Batch, state: MatrixState) -> None:
        self._batch, self._state = batch, state
        sizes, owner = np.abs(batch.symbols), batch.owner
        self._alphabets = alphabet_of(batch.peaks)
        tokens = tokens_of(sizes)
        self._used = np.flatnonzero(np.bincount(batch.contexts))
        column = np.zeros(len(state.tables), dtype=np.int64)
        column[self._used] = np.arange(self._used.size)
        places = column[batch.contexts]  # from here on contexts are known by their places among those used
        self._runs = _Runs((owner, places, tokens), batch.blocks)
        self._totals = _Runs((owner, places), batch.blocks)
        # What one matrix has in all of a token under a context, in the order in which the tables meet them.
        firsts = self._runs.news
        counts = np.add.reduceat(self._runs.counts, firsts)
        owners, contexts, found = (self._runs.keys(part)[firsts] for part in range(3))
        order = np.argsort(((contexts << 7 | found) << 32) | owners)  # fewer than 128 tokens
        self._order, self._back = order, np.empty_like(order)
        self._back[order] = np.arange(order.size)
        self._entries = owners[order], contexts[order], found[order], counts[order]
        self._entry = np.cumsum(_flags(firsts, self._runs.counts.size)) - 1
        self._fixed = self._signs(sizes, owner) + batch.sums(WIDTHS[tokens], owner)

    def _signs(self, sizes: Integers, owner: Integers) -> Frequencies:
        """(T,) bits of the signs."""
        signed = sizes > 0
        owner, negative = owner[signed], self._batch.symbols[signed] < 0
        counts = np.bincount(owner, minlength=self._batch.number)
        place = np.arange(owner.size) - np.repeat(np.cumsum(counts) - counts, counts)
        blocks = np.searchsorted(_EDGES, place, side="right") - 1
        runs = _Runs((owner, negative.astype(np.int64)), blocks)
        initial = SIGN_WEIGHT * self._state.signs.frequencies
        logs = runs.counts * np.log2(initial[runs.keys(1)] + SIGN_GAIN * runs.earlier)
        totals = np.log2(initial.sum() + SIGN_GAIN * _EDGES[blocks])
        return self._batch.sums(totals, owner) - self._batch.sums(logs, runs.keys(0))

    def bits(self, learned: NDArray[np.bool_]) -> Frequencies:
        """(T,) bits, where the tables learn from the matrices that are `learned` (T,) alone."""
        batch, runs, totals = self._batch, self._runs, self._totals
        owners, contexts, tokens, counts = self._entries
        taken = counts * learned[owners]
        before = (np.cumsum(taken) - taken) - _at_starts(np.cumsum(taken) - taken, (contexts, tokens))
        frequencies = self._state.tables[self._used[contexts], tokens] + GAIN * before
        logs = runs.counts * np.log2(frequencies[self._back][self._entry] + GAIN * runs.earlier)
        whole = self._whole(taken)[totals.keys(0), totals.keys(1)] + GAIN * totals.earlier
        found: Frequencies = batch.sums(totals.counts * np.log2(whole), totals.keys(0)) - batch.sums(logs, runs.keys(0))
        return found + self._fixed + _learning(batch.levels, self._state.levels, learned)

    def _whole(self, taken: Integers) -> Frequencies:
        """(T, used contexts) the sums of the tables as each matrix finds them, over the tokens that it may have."""
        owners, contexts, tokens, _ = self._entries
        shape = self._batch.number, len(self._used)
        cells = owners * shape[1] + contexts
        found = np.empty(shape)
        for alphabet in np.unique(self._alphabets).tolist():
            counted = np.bincount(cells, weights=taken * (tokens < alphabet), minlength=shape[0] * shape[1]).reshape(shape)
            mine = np.flatnonzero(self._alphabets == alphabet)
            earlier = (np.cumsum(counted, axis=0) - counted)[mine]
            found[mine] = self._state.tables[self._used, :alphabet].sum(axis=1) + GAIN * earlier
        return found

    def learn(self, learned: NDArray[np.bool_]) -> None:
        """Let the state learn from these matrices."""
        owners, contexts, tokens, counts = self._entries
        np.add.at(self._state.tables, (self._used[contexts], tokens), GAIN * (counts * learned[owners]).astype(np.float64))
        self._state.levels.add(self._batch.levels[learned])


class _Runs:
    """Equal keys in equal blocks: how many there are of each, and how many of the same key there were in earlier blocks.

    Attributes:
        counts: how many.
        earlier: how many before.
        news: where a key comes first, in its first block.
    """

    def __init__(self, parts: Sequence[Integers], blocks: Integers) -> None:
        widths = [int(part.max(initial=0)).bit_length() for part in (*parts, blocks)]
        assert sum(widths) < 64, "fields of a key that fit into one integer"
        packed = np.zeros(blocks.size, dtype=np.int64)
        for part, width in zip((*parts, blocks), widths, strict=True):
            packed = (packed << width) | part
        if 1 << sum(widths) <= _CELLS * packed.size:  # few keys are counted faster than sorted
            counts = np.bincount(packed)
            self._keys = np.flatnonzero(counts)
            self.counts = counts[self._keys]
            firsts = np.cumsum(self.counts) - self.counts
        else:
            packed.sort()
            firsts = np.flatnonzero(_changes(packed))
            self._keys, self.counts = packed[firsts], np.diff(firsts, append=packed.size)
        self._widths = widths
        new = _changes(self._keys >> widths[-1])
        self.news = np.flatnonzero(new)
        self.earlier = firsts - np.maximum.accumulate(np.where(new, firsts, 0))

    def keys(self, part: int) -> Integers:
        """One part of each run's key."""
        shift = sum(self._widths[part + 1 :])
        return (self._keys >> shift) & ((1 << self._widths[part]) - 1)


def _changes(values: Integers) -> NDArray[np.bool_]:
    """(n,) true where a value isn't that before it."""
    found = np.ones(values.size, dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=found[1:])
    return found


def _at_starts(values: Integers, keys: Sequence[Integers]) -> Integers:
    """(n,) each value replaced by that at the beginning of its run of equal keys."""
    begins = np.flatnonzero(np.logical_or.reduce([_changes(key) for key in keys]))
    found: Integers = np.repeat(values[begins], np.diff(begins, append=values.size))
    return found


def _flags(places: Integers, size: int) -> Integers:
    flags = np.zeros(size, dtype=np.int64)
    flags[places] = 1
    return flags


def _learning(symbols: Integers, tally: Tally, learned: NDArray[np.bool_] | None = None) -> Frequencies:
    """(n,) bits of symbols, one after another, under a tally that learns after each, or after those that are `learned`.

    The tally itself learns only where all are.
    """
    counted = np.zeros((symbols.size, tally.frequencies.size))
    counted[np.arange(symbols.size), symbols] = 1.0 if learned is None else learned
    before = np.cumsum(counted, axis=0) - counted
    own = before[np.arange(symbols.size), symbols]
    found: Frequencies = np.log2(
        (tally.frequencies.sum() + tally.gain * before.sum(axis=1)) / (tally.frequencies[symbols] + tally.gain * own)
    )
    if learned is None:
        tally.add(symbols)
    return found


def _naturals(values: Integers, tally: Tally) -> Frequencies:
    """(n,) bits of integers as `Natural` codes them, one after another, under a tally, which learns."""
    lengths = np.frexp(values)[1].astype(np.int64)
    found: Frequencies = _learning(lengths, tally) + np.maximum(lengths - 1, 0)
    return found


def _lengths(values: Integers) -> Frequencies:
    """(n,) bits of integers as `Natural` codes them, each under a tally of its own. None is beyond the limit where it matters."""
    frequencies = length_tally().frequencies
    lengths = np.minimum(np.frexp(values)[1], LENGTHS - 1)
    found: Frequencies = np.log2(frequencies.sum() / frequencies[lengths]) + np.maximum(lengths - 1, 0)
    return found


def _signed(values: Integers) -> Frequencies:
    """The same as `Signed` codes them."""
    found: Frequencies = _lengths(np.abs(values)) + (values != 0)
    return found
