"""Counts the bits of symbols under tables that adapt after each block, without coding them.

A coder must code one block after another, because each block changes the frequencies for the next one. To count the bits, it is enough to
know how often each symbol occurred in earlier blocks under its context, and one sort gives these numbers. A search counts the bits of small
matrices thousands of times, and coding them block by block would take nearly all of its time.
"""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nncomplexity.codecs.contract import Frequencies, Integers

_FEW_PAIRS = 32
"""This number of pairs of a block and a symbol is always counted, and not sorted."""
_RADIX_LIMIT = 1 << 16
"""Keys below this are sorted as 16-bit integers, because NumPy has a radix sort for them."""


def weigh_table(symbols: Integers, edges: Sequence[int], frequencies: Frequencies, gain: int) -> float:
    """Bits of symbols (n,) under one adaptive table (alphabet,).

    The table changes at the end of each block: each symbol of the block adds `gain` to its entry. In the example, the frequencies are 1 : 1
    for the first symbol, and 3 : 1 for the second one, after a gain of 2.

    Args:
        symbols: the symbols.
        edges: the edges of the blocks, from 0 to n.
        frequencies: the table. At the end it has learned from all symbols.
        gain: the increase for each symbol.

    Returns:
        The sum of −log₂ of the probabilities.

    >>> weigh_table(np.array([0, 1]), [0, 1, 2], np.ones(2), 2)
    3.0
    """
    if not symbols.size:
        return 0.0
    starts, lengths = _starts_and_lengths(tuple(edges))
    blocks = np.repeat(np.arange(lengths.size), lengths)
    totals = frequencies.sum() + gain * starts
    pairs = lengths.size * frequencies.size
    if pairs <= max(symbols.size, _FEW_PAIRS):
        # So few pairs of a block and a symbol are counted in less time than a sort takes.
        counts = np.bincount(blocks * frequencies.size + symbols, minlength=pairs).reshape(lengths.size, -1)
        later = np.cumsum(counts, axis=0)
        logs = float((counts * np.log2(frequencies + gain * (later - counts))).sum())
        frequencies += gain * later[-1]
    else:
        logs = _log_frequencies(symbols, blocks, frequencies, gain)
        frequencies += gain * np.bincount(symbols, minlength=frequencies.size)
    return float((lengths * np.log2(totals)).sum()) - logs


@functools.lru_cache(maxsize=1 << 10)
def _starts_and_lengths(edges: tuple[int, ...]) -> tuple[Integers, Integers]:
    """The beginnings of blocks with these edges, and their lengths. A search asks for a few sets of edges, thousands of times."""
    starts: Integers = np.array(edges[:-1], dtype=np.int64)
    return starts, np.diff(edges)


def weigh_contexts(symbols: Integers, contexts: Integers, blocks: Integers, tables: Frequencies, gain: int) -> float:
    """Bits of symbols (n,), each under the adaptive table of its context at the beginning of the symbol's block.

    Args:
        symbols: the symbols.
        contexts: (n,) the row of `tables` for each symbol.
        blocks: (n,) the number of each symbol's block, in ascending order.
        tables: (contexts, alphabet). At the end they have learned from all symbols.
        gain: the increase for each symbol.

    Returns:
        The sum of −log₂ of the probabilities.

    >>> weigh_contexts(np.array([0, 1]), np.array([0, 0]), np.array([0, 1]), np.ones((1, 2)), 2)
    3.0
    """
    keys = contexts * tables.shape[1] + symbols
    flat = tables.reshape(-1)
    bits = _log_frequencies(contexts, blocks, tables.sum(axis=1), gain) - _log_frequencies(keys, blocks, flat, gain)
    flat += gain * np.bincount(keys, minlength=flat.size)
    return bits


def _log_frequencies(keys: Integers, blocks: Integers, initial: Frequencies, gain: int) -> float:
    """Σ log₂(initial[key] + gain · occurrences of the key in earlier blocks), over keys (n,)."""
    # A stable sort keeps the order of blocks within a key. So the place of a run within its key is the number of earlier occurrences.
    order = np.argsort(keys.astype(np.uint16) if initial.size <= _RADIX_LIMIT else keys, kind="stable")
    keys, blocks = keys[order], blocks[order]
    firsts = np.flatnonzero(_starts(keys) | _starts(blocks))
    counts = np.diff(firsts, append=keys.size)
    keys = keys[firsts]
    earlier = firsts - np.maximum.accumulate(np.where(_starts(keys), firsts, 0))
    return float((counts * np.log2(initial[keys] + gain * earlier)).sum())


def _starts(runs: Integers) -> NDArray[np.bool_]:
    """(n,) whether a run of equal values begins at each place."""
    begins = np.ones(runs.size, dtype=np.bool_)
    np.not_equal(runs[1:], runs[:-1], out=begins[1:])
    return begins
