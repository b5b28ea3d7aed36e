"""The models of small integers: round trips, what they learn, and lengths that were calculated by hand."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncomplexity.codecs import (
    Bits,
    Categorical,
    Meter,
    Model,
    Natural,
    Planes,
    Signed,
    Tally,
    length_tally,
    single,
    within,
)
from nncomplexity.codecs.coder import Decoder, Encoder
from nncomplexity.codecs.learning import weigh_contexts
from nncomplexity.codecs.models import FIRST_BLOCK, FIRST_OF_OWN, adaptive, flat_tally, naturals, wide_uniform
from nncomplexity.errors import FormatError

NATURALS = st.integers(0, 40) | st.integers(0, 2**31 - 1)
SIGNED = st.integers(-40, 40) | st.integers(-(2**31) + 1, 2**31 - 1)


class Sum:
    """A meter without optimizations, which counts one decision after another."""

    def __init__(self) -> None:
        self.bits = 0.0

    def categorical(self, values: np.ndarray, frequencies: np.ndarray, count: int) -> np.ndarray:
        for index, value in enumerate(values.tolist()):
            table = frequencies if frequencies.ndim == 1 else frequencies[index]
            self.bits += math.log2(math.fsum(table) / table[value])
        assert count == len(values)
        return values

    def uniform(self, values: np.ndarray, size: int, count: int) -> np.ndarray:
        self.bits += count * math.log2(size)
        return values

    def equal(self, value: int, size: int) -> int:
        self.uniform(np.array([value]), size, 1)
        return value

    def learned(self, value: int, frequencies: np.ndarray, gain: int) -> int:
        self.categorical(np.array([value]), frequencies, 1)
        frequencies[value] += gain
        return value


def check(models: Callable[[], list[Model]], records: list[list[int]]) -> float:
    """Write and read records with new models, and count their bits in two ways. Returns the bits."""
    encoder, meter, total = Encoder(), Meter(), Sum()
    for coder in (encoder, meter, total):
        for model, symbols in zip(models(), records, strict=True):
            assert model.count == len(symbols)
            assert model.bounds[0] <= min(symbols, default=0) <= max(symbols, default=0) <= model.bounds[1]
            model.code(coder, np.array(symbols, dtype=np.int64))
    payload = encoder.finish()
    decoder = Decoder(payload)
    for model, symbols in zip(models(), records, strict=True):
        assert model.code(decoder, None).tolist() == symbols
    assert meter.bits == pytest.approx(total.bits, rel=1e-9, abs=1e-9)
    assert 8 * len(payload) <= total.bits * 1.001 + 16
    return total.bits


def shared(model: Callable[[Tally], Model], tally: Callable[[], Tally], count: int) -> Callable[[], list[Model]]:
    def models() -> list[Model]:
        one = tally()
        return [model(one) for _ in range(count)]

    return models


@given(st.lists(st.integers(0, 6), max_size=30))
def test_choices(symbols: list[int]) -> None:
    check(shared(Categorical, lambda: flat_tally(7, 3), len(symbols)), [[symbol] for symbol in symbols])


@given(st.lists(NATURALS, max_size=30))
def test_naturals(symbols: list[int]) -> None:
    check(shared(Natural, length_tally, len(symbols)), [[symbol] for symbol in symbols])


@given(st.lists(SIGNED, max_size=30))
def test_signed_integers(symbols: list[int]) -> None:
    check(shared(Signed, length_tally, len(symbols)), [[symbol] for symbol in symbols])


@given(st.integers(1, 52).flatmap(lambda width: st.tuples(st.just(width), st.integers(0, 2**width - 1))))
def test_bits_cost_their_width(case: tuple[int, int]) -> None:
    width, value = case
    assert check(lambda: [Bits(width)], [[value]]) == width


@given(st.integers(1, 9), st.integers(0, 60), st.randoms(use_true_random=False))
def test_planes(width: int, count: int, random) -> None:
    symbols = [random.choice([0, 255, random.randrange(256)]) for _ in range(width * count)]
    check(lambda: [Planes(width * count, width)], [symbols])


@given(st.lists(NATURALS, max_size=200))
def test_many_naturals(symbols: list[int]) -> None:
    values = np.array(symbols, dtype=np.int64)
    encoder, meter, total = Encoder(), Meter(), Sum()
    for coder in (encoder, meter, total):
        assert naturals(coder, values, values.size, length_tally()).tolist() == symbols
    assert naturals(Decoder(encoder.finish()), None, values.size, length_tally()).tolist() == symbols
    assert meter.bits == pytest.approx(total.bits, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("value", [0, 1, 2, 3, 2**16 - 1, 2**16, 2**17, 2**31 - 1])
def test_a_natural_costs_its_length_and_the_bits_below_the_leading_one(value: int) -> None:
    tally = length_tally(3)
    length = math.log2(tally.frequencies.sum() / tally.frequencies[value.bit_length()])
    assert check(lambda: [Natural(length_tally(3))], [[value]]) == pytest.approx(length + max(value.bit_length() - 1, 0))


def test_what_comes_again_gets_cheaper() -> None:
    tally, costs = flat_tally(5, 8), []
    for _ in range(20):
        meter = Meter()
        Categorical(tally).code(meter, single(2))
        costs.append(meter.bits)
    assert costs[0] == pytest.approx(math.log2(5))
    assert all(later < earlier for earlier, later in itertools.pairwise(costs))
    assert costs[-1] < 0.1


def test_length_tallies_peak_where_they_are_told() -> None:
    for typical in range(6):
        frequencies = length_tally(typical).frequencies
        assert frequencies.argmax() == typical
        assert frequencies.min() >= 1
        assert frequencies[typical] / frequencies[typical + 1] == 2


def test_a_copied_tally_learns_on_its_own() -> None:
    tally = flat_tally(3, 5)
    copy = tally.copy()
    copy.add(np.array([1, 1]))
    assert (tally.frequencies.tolist(), copy.frequencies.tolist(), copy.gain) == ([1, 1, 1], [1, 11, 1], 5)


@given(st.lists(st.integers(0, 9), max_size=400), st.integers(1, 40), st.sampled_from([FIRST_BLOCK, FIRST_OF_OWN]))
def test_adaptive_symbols_find_the_frequencies_from_before_their_block(symbols: list[int], gain: int, first: int) -> None:
    values = np.array(symbols, dtype=np.int64)
    prior = np.arange(1, 11)
    encoder, meter = Encoder(), Meter()
    adaptive(encoder, values, values.size, Tally(prior, gain), first)
    learned = Tally(prior, gain)
    adaptive(meter, values, values.size, learned, first)
    expected, start = 0.0, 0
    while start < len(symbols):
        stop = min(len(symbols), start + max(first, start // 2))
        for symbol in symbols[start:stop]:
            count = symbols[:start].count(symbol)
            expected += math.log2((55 + gain * start) / (prior[symbol] + gain * count))
        start = stop
    assert meter.bits == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert learned.frequencies.tolist() == [p + gain * symbols.count(s) for s, p in enumerate(prior.tolist())]
    assert adaptive(Decoder(encoder.finish()), None, values.size, Tally(prior, gain), first).tolist() == symbols


def test_an_adaptive_table_costs_little_more_than_the_entropy() -> None:
    rng = np.random.default_rng(1)
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    values = rng.choice(4, size=50_000, p=probabilities)
    meter = Meter()
    adaptive(meter, values, values.size, flat_tally(4, 2))
    shares = np.bincount(values) / values.size
    entropy = -values.size * float(shares @ np.log2(shares))
    assert entropy < meter.bits < entropy + 100


@given(st.integers(0, 60), st.lists(st.integers(0, 2**60 - 1), max_size=5))
def test_wide_integers(width: int, symbols: list[int]) -> None:
    values = np.array([symbol % 2**width for symbol in symbols], dtype=np.int64)
    encoder, meter = Encoder(), Meter()
    wide_uniform(encoder, values, width, values.size)
    wide_uniform(meter, values, width, values.size)
    assert wide_uniform(Decoder(encoder.finish()), None, width, values.size).tolist() == values.tolist()
    assert meter.bits == width * len(symbols)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 1)), max_size=60), st.integers(1, 9))
def test_weighing_tables_by_context_is_weighing_block_after_block(steps: list[tuple[int, int, int]], gain: int) -> None:
    symbols, contexts, ends = (np.array(part, dtype=np.int64) for part in (list(zip(*steps, strict=True)) or [(), (), ()]))
    blocks = np.cumsum(ends) - ends
    initial = np.arange(1.0, 25.0).reshape(6, 4)
    learned = initial.copy()
    bits = weigh_contexts(symbols, contexts, blocks, learned, gain)
    tables, expected = initial.copy(), 0.0
    for block in sorted(set(blocks.tolist())):
        mine = [(c, s) for c, s, b in zip(contexts.tolist(), symbols.tolist(), blocks.tolist(), strict=True) if b == block]
        expected += sum(math.log2(tables[c].sum() / tables[c, s]) for c, s in mine)
        for place in mine:
            tables[place] += gain
    assert bits == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert (learned == tables).all()


def test_counts_are_refused_outside_their_range() -> None:
    assert within(3, 3, 5, "a rank") == 3
    assert within(5, 3, 5, "a rank") == 5
    for value in (2, 6):
        with pytest.raises(FormatError, match=f"a rank is {value}, outside 3 to 5: the payload is damaged"):
            within(value, 3, 5, "a rank")


def test_a_magnitude_beyond_the_limit_is_never_coded_as_another() -> None:
    for coder in (Encoder(), Meter()):
        with pytest.raises((IndexError, KeyError, ValueError)):
            Natural(length_tally()).code(coder, single(2**31))
