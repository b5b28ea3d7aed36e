"""Counting the bits of many blocks at once gives the same as coding one block after another, for tables of any size."""

import numpy as np
import pytest

from nncomplexity.codecs.learning import weigh_contexts, weigh_table


def block_by_block(symbols: np.ndarray, contexts: np.ndarray, blocks: np.ndarray, tables: np.ndarray, gain: int) -> float:
    """−log₂ of each symbol under its context's table, which learns after each block."""
    tables, bits = tables.copy(), 0.0
    for block in np.unique(blocks):
        here = blocks == block
        rows = tables[contexts[here]]
        bits -= float(np.log2(rows[np.arange(len(rows)), symbols[here]] / rows.sum(1)).sum())
        np.add.at(tables, (contexts[here], symbols[here]), gain)
    return bits


@pytest.mark.parametrize(("contexts", "alphabet"), [(3, 5), (2, 1 << 15), (3, 40_000)])
def test_tables_of_any_size_are_weighed_as_they_learn(contexts: int, alphabet: int) -> None:
    """Keys for tables with few entries are sorted as 16-bit integers. With more entries, different keys would become equal."""
    generator = np.random.default_rng(0)
    used = generator.choice(alphabet, size=5, replace=False)
    used[0] = alphabet - 1  # the largest key of all
    if 0 < (apart := (1 << 16) - alphabet) < alphabet:
        used[1:3] = 0, apart  # keys under the first and the second context with equal remainders
    symbols, blocks = used[generator.integers(0, 5, 60)], np.sort(generator.integers(0, 6, 60))
    contexts_ = generator.integers(0, contexts, 60)
    tables = np.ones((contexts, alphabet))
    expected = block_by_block(symbols, contexts_, blocks, tables, 3)
    assert weigh_contexts(symbols, contexts_, blocks, tables, 3) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("alphabet", [4, 400])
def test_one_table_learns_at_the_edges_of_blocks(alphabet: int) -> None:
    generator = np.random.default_rng(1)
    symbols, edges = generator.integers(0, alphabet, 50), [0, 7, 8, 30, 50]
    blocks = np.searchsorted(edges, np.arange(50), side="right")
    tables = np.ones((1, alphabet))
    expected = block_by_block(symbols, np.zeros(50, dtype=np.int64), blocks, tables, 2)
    assert weigh_table(symbols, edges, tables[0], 2) == pytest.approx(expected, rel=1e-12)
    assert tables[0].tolist() == [1 + 2 * np.count_nonzero(symbols == symbol) for symbol in range(alphabet)]
    assert weigh_table(symbols[:0], [0], tables[0], 2) == 0.0
