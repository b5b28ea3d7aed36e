"""Weighing symbols whose tables learn after each block, without coding them.

A coder must take block after block, because each changes the frequencies of the next. What they add up to needs only how often
each symbol came in earlier blocks under its context, which one sort tells. Searches weigh small matrices thousands of times, and
there the overhead of coding block after block would be nearly all of the time.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nncomplexity.codecs.contract import Frequencies, Integers

_RADIX_LIMIT = 1 << 16
"""Keys below this are sorted as 16-bit integers, for which numpy has a radix sort."""


def weigh_table(symbols: Integers, edges: Sequence[int], frequencies: Frequencies, gain: int) -> float:
    """Bits of symbols (n,) under one table (alphabet,), which learns at each of the blocks' edges, from 0 to n.

    The table is changed: each symbol has added `gain` to its entry in the end. Here the first symbol finds frequencies 1 : 1, the
    second 3 : 1 after a gain of 2.

    >>> weigh_table(np.array([0, 1]), [0, 1, 2], np.ones(2), 2)
    3.0
    """
    bits, total = 0.0, float(frequencies.sum())
    for start, stop in itertools.pairwise(edges):
        counts = np.bincount(symbols[start:stop], minlength=frequencies.size)
        used = np.flatnonzero(counts)
        bits += (stop - start) * math.log2(total) - float((counts[used] * np.log2(frequencies[used])).sum())
        frequencies += gain * counts
        total += gain * (stop - start)
    return bits


def weigh_contexts(symbols: Integers, contexts: Integers, blocks: Integers, tables: Frequencies, gain: int) -> float:
    """Bits of symbols (n,), each under the table of its context as it stood when its block began.

    `tables` (contexts, alphabet) are changed as in `weigh_table`; `contexts` (n,) picks a row of them for each symbol, and `blocks`
    (n,) numbers the blocks in ascending order.

    >>> weigh_contexts(np.array([0, 1]), np.array([0, 0]), np.array([0, 1]), np.ones((1, 2)), 2)
    3.0
    """
    keys = contexts * tables.shape[1] + symbols
    flat = tables.reshape(-1)
    bits = _log_frequencies(contexts, blocks, tables.sum(axis=1), gain) - _log_frequencies(keys, blocks, flat, gain)
    flat += gain * np.bincount(keys, minlength=flat.size)
    return bits


def _log_frequencies(keys: Integers, blocks: Integers, initial: Frequencies, gain: int) -> float:
    """Σ log₂(initial[key] + gain · times that the key came in earlier blocks), over keys (n,)."""
    order = np.argsort(keys.astype(np.uint16) if initial.size <= _RADIX_LIMIT else keys, kind="stable")
    keys, blocks = keys[order], blocks[order]
    firsts = np.flatnonzero(_starts(keys) | _starts(blocks))
    counts = np.diff(firsts, append=keys.size)
    keys = keys[firsts]
    earlier = firsts - np.maximum.accumulate(np.where(_starts(keys), firsts, 0))
    return float((counts * np.log2(initial[keys] + gain * earlier)).sum())


def _starts(runs: Integers) -> NDArray[np.bool_]:
    """(n,) true where a run of equal values begins."""
    begins = np.ones(runs.size, dtype=np.bool_)
    np.not_equal(runs[1:], runs[:-1], out=begins[1:])
    return begins
