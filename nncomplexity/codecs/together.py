"""Counts the bits of many small matrices at once, although a coder codes them one after another.

The bits of a matrix depend on earlier matrices only through tables that all matrices share. A table's counts are sums over those earlier
matrices that are coded by the scale model. So the bits depend on the kinds of earlier matrices, and the kind of a matrix depends on its bits.
This is solved by iteration: guess all kinds, count the bits, choose the kinds by the bits, and repeat until no kind changes. Each repetition
corrects at least the first matrix with a wrong guess, so the iteration ends. Usually the first guess is right.

The bits are those of `nncomplexity.codecs.matrix`, except for the rounding of sums. The symbols of all matrices are in one array (n,), in the
order of coding. T is the number of matrices, and `owner` (n,) has the index of each symbol's matrix. To weigh matrices is to count their bits.
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
"""The bits of a matrix with more symbols are counted for it alone, because this takes no longer."""
MOST = 1 << 17
"""The largest number of symbols in all matrices whose bits are counted at once."""
_CELLS = 32
"""If there are at most this factor more possible keys than symbols, the keys are counted by `bincount` and not by a sort."""
_EDGES, _OWN_EDGES = (
    np.array(block_edges(LARGEST)),
    {1: np.array(block_edges(LARGEST)), 2: np.array(block_edges(LARGEST, FIRST_OF_OWN))},
)
"""The beginnings of the blocks of signs and, by version of the format, of the blocks under the table of a single matrix."""


_OF_ZEROS = KnownKind(0)


@dataclass(frozen=True)
class Weighed:
    """The bits (T,) of matrices, and what a writer may know about each of them.

    A matrix of zeros has no kind, for which 0 is written, and no contexts.
    """

    bits: Frequencies
    known: Sequence[KnownKind] = ()
    """One for each matrix. They are collected only if `keep` is set."""


def weigh_together(matrices: Sequence[Matrix], symbols: Sequence[Integers], state: MatrixState, *, keep: bool = False) -> Weighed:
    """Count the bits of matrices that are coded one after another under one state, which learns from them.

    Args:
        matrices: the models of the matrices; all have this state.
        symbols: the symbols of each matrix, (rows, columns), together at most `MOST`.
        state: the state before the first matrix. At the end it has learned from all.
        keep: whether to keep the contexts.

    Returns:
        The bits of each matrix and, with `keep`, what a writer may know about it.
    """
    bits, known = np.zeros(len(matrices)), [_OF_ZEROS] * (keep * len(matrices))
    filled = np.array([index for index, matrix in enumerate(matrices) if matrix.count], dtype=np.int64)
    if not filled.size:
        return Weighed(bits, known)
    stacks = _stacked(matrices, symbols, filled)
    peaks, whole = np.zeros(len(matrices), dtype=np.int64), np.ones(len(matrices), dtype=np.bool_)
    for members, stack in stacks:
        peaks[members] = np.abs(stack).max(axis=(1, 2))
        present = stack != 0
        whole[members] = present.any(axis=1).all(axis=1) & present.any(axis=2).all(axis=1)
    bits[filled] += _naturals(peaks[filled], state.peaks)
    chosen = np.flatnonzero(peaks)
    if not chosen.size:
        return Weighed(bits, known)
    marked: Integers = np.zeros(chosen.size, dtype=np.int64)
    if state.version > 1:
        matrices, symbols, marked, marks = _without_dead_lines(matrices, symbols, chosen, ~whole, state)
        bits[chosen] += _learning(marked, state.lines.marked) + marks
        stacks = _stacked(matrices, symbols, chosen) if marked.any() else stacks
    batch = _Batch(matrices, stacks, peaks, chosen)
    tables = batch.tables()
    scale = _ByScale(batch, state)
    found = np.zeros(len(chosen), dtype=np.int64)
    # The iteration of the module's docstring, which begins with the guess that every matrix is coded by the scale model.
    while True:
        weights = np.stack([scale.bits(found == 0), *tables])
        guessed, found = found, weights.argmin(axis=0)
        if (guessed == found).all():
            break
    bits[chosen] += weights.min(axis=0) + _learning(found, state.kinds)
    scale.learn(found == 0)
    if keep:
        contexts = np.split(batch.contexts.astype(np.int8), batch.starts[1:])
        columns = found.tolist(), contexts, batch.levels.tolist(), (marked == 0).tolist()
        for index, *one in zip(chosen.tolist(), *columns, strict=True):
            known[index] = KnownKind(*one)
    return Weighed(bits, known)


def weigh_each(symbols: Sequence[Integers]) -> Frequencies:
    """The bits (T,) of matrices of symbols (rows, columns), with rows ≥ columns, as if each of them were alone in a file.

    The models are those of `weigh_together`, but no matrix learns from another one. Small matrices are still counted together, because all of
    them begin with the same tables.
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
    """The bits (T,) of matrices, none of them empty, each under the tables at the beginning of a file."""
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
    # No matrix learns from another one.
    nothing = np.zeros(chosen.size, dtype=np.bool_)
    batch = _Batch(matrices, _stacked(matrices, symbols, chosen), peaks, chosen)
    weights = np.stack([_ByScale(batch, state).bits(nothing), *batch.tables()])
    choices = _learning(weights.argmin(axis=0), state.kinds, nothing) + _learning(marked[chosen], state.lines.marked, nothing)
    bits[chosen] += choices + weights.min(axis=0)
    return bits


def _stacked(matrices: Sequence[Matrix], symbols: Sequence[Integers], chosen: Integers) -> list[tuple[list[int], Integers]]:
    """The chosen matrices, grouped by shape: for each shape, their indices and their symbols (matrices, rows, columns)."""
    shapes: dict[tuple[int, int], list[int]] = {}
    for index in chosen.tolist():
        shapes.setdefault((matrices[index].rows, matrices[index].columns), []).append(index)
    return [(members, np.array([symbols[index] for index in members], dtype=np.int64)) for members in shapes.values()]


def _without_dead_lines(
    matrices: Sequence[Matrix], symbols: Sequence[Integers], chosen: Integers, partial: NDArray[np.bool_], state: MatrixState
) -> tuple[Sequence[Matrix], Sequence[Integers], Integers, Frequencies]:
    """The matrices and their symbols without marked dead lines; whether each `chosen` matrix has marks; and the bits of its marks.

    Whether marks save bits depends on the marks of earlier matrices. So the matrices with dead lines are processed one by one.
    """
    marked, bits = np.zeros(chosen.size, dtype=np.int64), np.zeros(chosen.size)
    matrices, symbols = list(matrices), list(symbols)
    tally, seen = state.lines.marked, 0
    before = tally.copy()
    for place in np.flatnonzero(partial[chosen]).tolist():
        index = int(chosen[place])
        grid = symbols[index].T
        # The matrices between have no dead lines, so each of them was coded as one without marks.
        tally.frequencies[0] += tally.gain * (place - seen)
        marks, seen = state.lines.worthwhile(grid), place + 1
        tally.frequencies[int(marks is not None)] += tally.gain
        if marks is not None:
            meter = Meter()
            state.lines.code(meter, grid.shape[:2], marks)
            matrices[index], symbols[index] = matrices[index].inner(marks), marks.part(grid).T
            marked[place], bits[place] = 1, meter.bits
    tally.frequencies[:] = before.frequencies  # the caller counts the bits of these decisions, and learns from them, all at once
    return matrices, symbols, marked, bits


class Ledger(Meter):
    """A meter that counts the bits of each part. It collects single decisions under adaptive tables, and `settle` counts them all at once.

    Attributes:
        parts: the bits of each part.
        part: the present part; -1 for bits that belong to no part.
    """

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts, self.part = [0.0] * parts, -1
        # By the id of the frequencies. An entry keeps them alive, so that no other table gets the same id.
        self._noted: dict[int, tuple[Frequencies, int, list[int], list[int]]] = {}

    def begin(self, part: int) -> None:
        """The following bits belong to this part."""
        self.close()
        self.part = part

    def close(self) -> None:
        """Add the bits so far to the present part."""
        if self.part >= 0:
            self.parts[self.part] += self.bits
        self.bits = 0.0

    def learned(self, value: int | None, frequencies: Frequencies, gain: int) -> int:
        """Collect one symbol; `settle` counts its bits."""
        assert value is not None
        noted = self._noted.get(id(frequencies))
        if noted is None:
            noted = self._noted[id(frequencies)] = frequencies, gain, [], []
        noted[2].append(value)
        noted[3].append(self.part)
        return value

    def note(self, tally: Tally, values: list[int], parts: list[int]) -> None:
        """Collect single decisions under a tally, in their order, with the part of each."""
        _, _, noted, of_parts = self._noted.setdefault(id(tally.frequencies), (tally.frequencies, tally.gain, [], []))
        noted += values
        of_parts += parts

    def settle(self) -> None:
        """Count the bits of all collected decisions."""
        self.close()
        total = np.zeros(len(self.parts) + 1)  # the last entry is for decisions before the first part, whose part is -1
        for frequencies, gain, values, parts in self._noted.values():
            bits = _learning(np.array(values), Tally(frequencies, gain))
            total += np.bincount(np.array(parts) % len(total), weights=bits, minlength=len(total))
        self.parts = [bits + more for bits, more in zip(self.parts, total.tolist(), strict=False)]
        self._noted.clear()


class _Batch:
    """Matrices that aren't zero, with their symbols in one array and the place of each matrix in it."""

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
            # A matrix of zeros is in a stack, but not among the chosen ones.
            kept = numbers[members] >= 0
            if kept.any():
                self._lay(numbers[members][kept], stack[kept])

    def _lay(self, members: Integers, stack: Integers) -> None:
        """Put the symbols of matrices of one shape, (matrices, rows, columns), into the array, and compute their contexts."""
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
        """The sum (T,) of the values of each matrix."""
        found: Frequencies = np.bincount(owner, weights=values, minlength=self.number).astype(np.float64)
        return found

    def tables(self) -> tuple[Frequencies, Frequencies]:
        """The bits (T,) under a table of all symbols from smallest to largest, and of those that occur; ∞ for one that can't be the best."""
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
    """Counts the bits of matrices under the scale model, for any set of matrices from which the tables learn."""

    def __init__(self, batch: _Batch, state: MatrixState) -> None:
        self._batch, self._state = batch, state
        sizes, owner = np.abs(batch.symbols), batch.owner
        self._alphabets = alphabet_of(batch.peaks)
        tokens = tokens_of(sizes)
        self._used = np.flatnonzero(np.bincount(batch.contexts))
        column = np.zeros(len(state.tables), dtype=np.int64)
        column[self._used] = np.arange(self._used.size)
        places = column[batch.contexts]  # from here on, a context is numbered among those that are used
        self._runs = _Runs((owner, places, tokens), batch.blocks)
        self._totals = _Runs((owner, places), batch.blocks)
        # How often each matrix has a token under a context, sorted by context and token, and then in the order of coding.
        firsts = self._runs.news
        counts = np.add.reduceat(self._runs.counts, firsts)
        owners, contexts, found = (self._runs.keys(part)[firsts] for part in range(3))
        # The entries are in the order of the matrices, which a stable sort keeps. NumPy sorts 16 bits, enough for 64 contexts and 128
        # tokens, in a fraction of the time.
        order = np.argsort((contexts << 7 | found).astype(np.uint16), kind="stable")
        self._order, self._back = order, np.empty_like(order)
        self._back[order] = np.arange(order.size)
        self._entries = owners[order], contexts[order], found[order], counts[order]
        self._entry = np.cumsum(_flags(firsts, self._runs.counts.size)) - 1
        self._fixed = self._signs(sizes, owner) + batch.sums(WIDTHS[tokens], owner)

    def _signs(self, sizes: Integers, owner: Integers) -> Frequencies:
        """The bits (T,) of the signs."""
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
        """The bits (T,), if the tables learn only from the matrices that are true in `learned` (T,)."""
        batch, runs, totals = self._batch, self._runs, self._totals
        owners, contexts, tokens, counts = self._entries
        taken = counts * learned[owners]
        # Running sums over all entries, less their values where the present context and token begin.
        before = (np.cumsum(taken) - taken) - _at_starts(np.cumsum(taken) - taken, (contexts, tokens))
        frequencies = self._state.tables[self._used[contexts], tokens] + GAIN * before
        logs = runs.counts * np.log2(frequencies[self._back][self._entry] + GAIN * runs.earlier)
        whole = self._whole(taken)[totals.keys(0), totals.keys(1)] + GAIN * totals.earlier
        found: Frequencies = batch.sums(totals.counts * np.log2(whole), totals.keys(0)) - batch.sums(logs, runs.keys(0))
        return found + self._fixed + _learning(batch.levels, self._state.levels, learned)

    def _whole(self, taken: Integers) -> Frequencies:
        """The sums (T, used contexts) of the tables before each matrix, over the tokens of the matrix's alphabet."""
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
        """Let the state learn from the matrices that are true in `learned`."""
        owners, contexts, tokens, counts = self._entries
        np.add.at(self._state.tables, (self._used[contexts], tokens), GAIN * (counts * learned[owners]).astype(np.float64))
        self._state.levels.add(self._batch.levels[learned])


class _Runs:
    """Runs of equal keys in one block: the length of each run, and the number of the same keys in earlier blocks.

    Attributes:
        counts: the length of each run.
        earlier: the number of the same keys in earlier blocks.
        news: the indices of the runs that are the first of their key.
    """

    def __init__(self, parts: Sequence[Integers], blocks: Integers) -> None:
        widths = [int(part.max(initial=0)).bit_length() for part in (*parts, blocks)]
        assert sum(widths) < 64, "fields of a key that fit into one integer"
        packed = np.zeros(blocks.size, dtype=np.int64)
        for part, width in zip((*parts, blocks), widths, strict=True):
            packed = (packed << width) | part
        if 1 << sum(widths) <= _CELLS * packed.size:  # if there are few possible keys, counting is faster than sorting
            counts = np.bincount(packed)
            self._keys = np.flatnonzero(counts > 0)  # NumPy finds what is true much faster than what isn't 0
            self.counts = counts[self._keys]
            firsts = np.cumsum(self.counts) - self.counts
        else:
            packed.sort(kind="stable")  # the faster kind here, because owners are in order already
            firsts = np.flatnonzero(_changes(packed))
            self._keys, self.counts = packed[firsts], np.diff(firsts, append=packed.size)
        self._widths = widths
        new = _changes(self._keys >> widths[-1])
        self.news = np.flatnonzero(new)
        self.earlier = firsts - np.maximum.accumulate(np.where(new, firsts, 0))

    def keys(self, part: int) -> Integers:
        """One part of the key of each run."""
        shift = sum(self._widths[part + 1 :])
        return (self._keys >> shift) & ((1 << self._widths[part]) - 1)


def _changes(values: Integers) -> NDArray[np.bool_]:
    """(n,) true where a value differs from the value before it, and at the first."""
    found = np.ones(values.size, dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=found[1:])
    return found


def _at_starts(values: Integers, keys: Sequence[Integers]) -> Integers:
    """(n,) each value replaced by the value at the beginning of its run of equal keys."""
    begins = np.flatnonzero(np.logical_or.reduce([_changes(key) for key in keys]))
    found: Integers = np.repeat(values[begins], np.diff(begins, append=values.size))
    return found


def _flags(places: Integers, size: int) -> Integers:
    flags = np.zeros(size, dtype=np.int64)
    flags[places] = 1
    return flags


def _learning(symbols: Integers, tally: Tally, learned: NDArray[np.bool_] | None = None) -> Frequencies:
    """The bits (n,) of symbols, one after another, under a tally that learns after each symbol, or only after those true in `learned`.

    The tally itself changes only without `learned`.
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
    """The bits (n,) of integers that `Natural` codes one after another under a tally, which learns."""
    lengths = np.frexp(values)[1].astype(np.int64)
    found: Frequencies = _learning(lengths, tally) + np.maximum(lengths - 1, 0)
    return found


def _lengths(values: Integers) -> Frequencies:
    """The bits (n,) of integers that `Natural` codes, each under a new tally. Integers above the limit give a value that callers ignore."""
    frequencies = length_tally().frequencies
    lengths = np.minimum(np.frexp(values)[1], LENGTHS - 1)
    found: Frequencies = np.log2(frequencies.sum() / frequencies[lengths]) + np.maximum(lengths - 1, 0)
    return found


def _signed(values: Integers) -> Frequencies:
    """The bits (n,) of integers that `Signed` codes, each under a new tally."""
    found: Frequencies = _lengths(np.abs(values)) + (values != 0)
    return found
