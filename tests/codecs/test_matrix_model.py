"""The model of quantized matrices: round trips, and lengths against sources whose entropy is known."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nncomplexity.codecs import (
    SYMBOL_LIMIT,
    Categorical,
    Matrix,
    MatrixState,
    Meter,
    Natural,
    Signed,
    length_tally,
    single,
    weigh_each,
    weigh_together,
)
from nncomplexity.codecs.coder import Decoder, Encoder
from nncomplexity.codecs.matrix import KnownKind, span_limit
from nncomplexity.codecs.models import adaptive, flat_tally, naturals
from nncomplexity.codecs.scales import Magnitudes, fresh_levels, fresh_tables
from nncomplexity.errors import FormatError


@dataclass(frozen=True)
class Case:
    """Symbols (rows, columns) in column-major order, and the expected profile of the columns."""

    rows: int
    columns: int
    symbols: np.ndarray
    profile: np.ndarray | None = None

    def model(self, state: MatrixState) -> Matrix:
        return Matrix(self.rows, self.columns, state, self.profile)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    columns = draw(st.integers(0, 7))
    rows = draw(st.integers(columns, 150))
    elements = draw(
        st.sampled_from(
            [st.integers(-2, 2), st.integers(-40, 40), st.integers(990, 1010), st.integers(-SYMBOL_LIMIT, SYMBOL_LIMIT), st.just(0)]
        )
    )
    symbols = draw(hnp.arrays(np.int64, rows * columns, elements=elements, fill=elements))
    scales = draw(st.none() | hnp.arrays(np.float64, columns, elements=st.floats(0.01, 100)))
    return Case(rows, columns, symbols, scales)


def alike(seed: int) -> Case:
    """A matrix like the many small ones of a network. For some of these, tables of their own are best."""
    rng = np.random.default_rng(seed)
    symbols = np.rint(rng.normal(size=64) * 2.0 ** rng.uniform(-2, 6)).astype(np.int64)
    return Case(8, 8, symbols * 13 + 4 if seed % 5 == 0 else symbols)


def written(cases: list[Case]) -> bytes:
    encoder, state = Encoder(), MatrixState()
    for case in cases:
        case.model(state).code(encoder, case.symbols)
    return encoder.finish()


def weighed(cases: list[Case]) -> tuple[float, MatrixState]:
    meter, state = Meter(), MatrixState()
    for case in cases:
        case.model(state).code(meter, case.symbols)
    return meter.bits, state


@given(st.lists(cases() | st.builds(alike, st.integers(0, 99)), max_size=30))
@settings(max_examples=60)
def test_matrices_weigh_together_what_they_weigh_one_after_another(drawn: list[Case]) -> None:
    singly, together = MatrixState(), MatrixState()
    bits = []
    for case in drawn:
        meter = Meter()
        case.model(singly).code(meter, case.symbols)
        bits.append(meter.bits)
    matrices = [case.symbols.reshape(case.columns, case.rows).T for case in drawn]
    weighed = weigh_together([case.model(together) for case in drawn], matrices, together, keep=True)
    np.testing.assert_allclose(weighed.bits, bits, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(together.tables, singly.tables)
    for name in ("kinds", "signs", "levels", "peaks"):
        np.testing.assert_array_equal(getattr(together, name).frequencies, getattr(singly, name).frequencies)
    writer, reader, encoder = MatrixState(), MatrixState(), Encoder()
    for case, known in zip(drawn, weighed.known, strict=True):
        replace(case.model(writer), known=known).code(encoder, case.symbols)
    payload = encoder.finish()
    assert payload == written(drawn)
    decoder = Decoder(payload)
    for case in drawn:
        assert (case.model(reader).code(decoder, None) == case.symbols).all()


@given(st.lists(cases() | st.builds(alike, st.integers(0, 99)), max_size=30))
@settings(max_examples=30)
def test_each_matrix_weighs_what_it_weighs_alone_in_a_file(drawn: list[Case]) -> None:
    alone = [weighed([replace(case, profile=None)])[0] for case in drawn]
    np.testing.assert_allclose(weigh_each([case.symbols.reshape(case.columns, case.rows).T for case in drawn]), alone, rtol=1e-9)


def test_matrices_with_dead_lines_weigh_together_what_they_weigh_one_after_another() -> None:
    """Some have so few dead lines that the marks of earlier matrices decide whether theirs pay."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(150):
        grid = rng.integers(-3, 4, (6, 16))
        grid[:, rng.random(16) < rng.choice([0.0, 0.06, 0.15])] = 0
        drawn.append(Case(16, 6, grid.reshape(-1)))
    singly, together, bits = MatrixState(), MatrixState(), []
    for case in drawn:
        meter = Meter()
        case.model(singly).code(meter, case.symbols)
        bits.append(meter.bits)
    matrices = [case.symbols.reshape(6, 16).T for case in drawn]
    found = weigh_together([case.model(together) for case in drawn], matrices, together, keep=True)
    np.testing.assert_allclose(found.bits, bits, rtol=1e-9)
    assert together.lines.marked.frequencies.tolist() == singly.lines.marked.frequencies.tolist()
    assert len({one.whole for one in found.known}) == 2


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_values_as_far_apart_as_a_table_may_have_weigh_together_what_they_weigh_alone(more: int) -> None:
    """Away from zero and all different, they are best coded under a table of all values between them, up to its largest span."""
    symbols = 10**6 + np.append(np.random.default_rng(0).permutation(400)[:99], [span_limit(100) + more])
    (bits,) = weigh_each([symbols[:, None]])
    assert bits == pytest.approx(weighed([Case(100, 1, symbols)])[0], rel=1e-9)


@pytest.mark.parametrize("low", [0, -1])
def test_values_as_far_apart_as_a_list_may_have_weigh_together_what_they_weigh_alone(low: int) -> None:
    """Up to the largest symbol apart, a list of them is the best way; one farther, there can be none."""
    case = Case(30, 30, np.where(np.random.default_rng(0).random(900) < 0.5, low, SYMBOL_LIMIT))
    (bits,) = weigh_each([case.symbols.reshape(30, 30).T])
    assert bits == pytest.approx(weighed([case])[0], rel=1e-9)
    assert (bits < 1200) == (low == 0)


def entropy_and_table(symbols: np.ndarray) -> tuple[float, float]:
    """Bits of the symbols under their own frequencies, and of a plain table of these: log₂ n for each symbol that occurs."""
    counts = np.unique(symbols, return_counts=True)[1]
    return float(counts @ np.log2(symbols.size / counts)), counts.size * math.log2(symbols.size)


@given(st.lists(cases(), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_matrices_come_back(cases: list[Case]) -> None:
    decoder, state = Decoder(written(cases)), MatrixState()
    for case in cases:
        decoded = case.model(state).code(decoder, None)
        assert decoded.dtype.kind == "i"
        assert decoded.tolist() == case.symbols.tolist()


@pytest.mark.parametrize(("rows", "columns"), [(32, 8), (33, 2), (64, 4), (65, 3), (256, 1), (257, 1)])
def test_small_matrices_come_back_whatever_number_of_blocks_a_column_has(rows: int, columns: int) -> None:
    magnitudes = np.random.default_rng(0).geometric(0.3, rows * columns).clip(max=10) - 1
    model, encoder = Magnitudes(rows, columns, int(magnitudes.max())), Encoder()
    model.code(encoder, magnitudes, fresh_tables(), fresh_levels())
    assert (model.code(Decoder(encoder.finish()), None, fresh_tables(), fresh_levels()) == magnitudes).all()


@given(st.lists(cases(), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_writer_reader_and_meter_learn_the_same(cases: list[Case]) -> None:
    """The writer computes contexts for many blocks at once, the reader for one at a time, and the meter sorts instead of coding."""
    encoder, writer = Encoder(), MatrixState()
    for case in cases:
        case.model(writer).code(encoder, case.symbols)
    payload = encoder.finish()
    decoder, reader = Decoder(payload), MatrixState()
    for case in cases:
        case.model(reader).code(decoder, None)
    bits, meter = weighed(cases)
    for state in (reader, meter):
        assert (state.tables == writer.tables).all()
        for name in ("kinds", "levels", "peaks"):
            assert (getattr(state, name).frequencies == getattr(writer, name).frequencies).all()
    assert 8 * len(payload) <= bits * 1.001 + 16


N = 1_000_000
SOURCES = {
    "geometric": lambda rng: rng.geometric(0.2, N) * rng.choice([-1, 1], N),
    "one-sided geometric": lambda rng: rng.geometric(0.05, N),
    "uniform": lambda rng: rng.integers(-128, 128, N),
    "uniform, wide": lambda rng: rng.integers(-5000, 5001, N),
    "two points away from zero": lambda rng: np.where(rng.random(N) < 0.9, 1000, 1007),
    "two points far apart": lambda rng: np.where(rng.random(N) < 0.9, -(10**6), 10**6),
    "multiples": lambda rng: rng.integers(-500, 500, N) * 100,
    "two heaps far apart": lambda rng: np.rint(rng.normal(size=N) * 10).astype(np.int64) + rng.choice([-100_000, 100_000], N),
    "outliers": lambda rng: np.where(rng.random(N) < 1e-4, rng.integers(-(10**6), 10**6, N), rng.integers(-1, 2, N)),
    "signs": lambda rng: rng.choice([-7, 7], N),
    "Gaussian, fine": lambda rng: np.rint(rng.normal(size=N) * 100).astype(np.int64),
    "Gaussian, coarse": lambda rng: np.rint(rng.normal(size=N) * 0.4).astype(np.int64),
    "Gaussian away from zero": lambda rng: np.rint(12_345 + rng.normal(size=N) * 3).astype(np.int64),
    "sparse": lambda rng: np.where(rng.random(N) < 0.01, rng.integers(-3, 4, N), 0),
    "heavy-tailed": lambda rng: np.rint(rng.standard_t(3, N) * 3).astype(np.int64),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("shape", [(1000, 1000), (N, 1)])
def test_a_million_symbols_take_their_entropy_and_a_table(source: str, shape: tuple[int, int]) -> None:
    symbols = SOURCES[source](np.random.default_rng(3))
    entropy, table = entropy_and_table(symbols)
    bits, _ = weighed([Case(*shape, symbols)])
    assert entropy * 0.99 < bits < entropy * 1.01 + table


@pytest.mark.parametrize("source", ["geometric", "two points away from zero", "heavy-tailed"])
def test_a_million_symbols_come_back_from_as_many_bytes_as_the_meter_says(source: str) -> None:
    case = Case(2000, 500, SOURCES[source](np.random.default_rng(4)))
    payload = written([case])
    bits, _ = weighed([case])
    assert 0 < 8 * len(payload) - bits < bits * 1e-3 + 64
    assert (case.model(MatrixState()).code(Decoder(payload), None) == case.symbols).all()


@pytest.mark.parametrize("value", [1, -5, 1000, -(2**31) + 1])
def test_a_large_matrix_of_one_value_costs_next_to_nothing(value: int) -> None:
    assert weighed([Case(1000, 200, np.full(200_000, value))])[0] < 100


def test_a_matrix_of_zeros_costs_less_than_a_byte() -> None:
    assert weighed([Case(1000, 200, np.zeros(200_000, dtype=np.int64))])[0] < 8


def test_a_matrix_without_entries_costs_nothing() -> None:
    for rows, columns in ((0, 0), (5, 0), (10**15, 0)):
        bits, state = weighed([Case(rows, columns, np.zeros(0, dtype=np.int64))])
        assert bits == 0
        assert Matrix(rows, columns, state).code(Decoder(b"\x7f"), None).size == 0


def test_scales_of_rows_and_columns_are_found() -> None:
    rng = np.random.default_rng(5)
    rows, columns = np.exp(rng.normal(size=(1, 512)) * 1.5), np.exp(rng.normal(size=(64, 1)))
    ordered = np.rint(rng.laplace(size=(64, 512)) * rows * columns * 3).astype(np.int64)
    shuffled = rng.permutation(ordered.reshape(-1))
    assert weighed([Case(512, 64, ordered.reshape(-1))])[0] < 0.9 * weighed([Case(512, 64, shuffled)])[0]


def test_a_profile_that_is_true_helps_and_a_flat_one_changes_nothing() -> None:
    rng = np.random.default_rng(6)
    scales = np.exp(np.linspace(3, -2, 16))
    symbols = np.rint(rng.laplace(size=(16, 64)) * scales[:, None]).astype(np.int64).reshape(-1)
    plain, _ = weighed([Case(64, 16, symbols)])
    told, _ = weighed([Case(64, 16, symbols, scales / scales.mean())])
    flat, _ = weighed([Case(64, 16, symbols, np.ones(16))])
    assert told < plain - 50
    assert flat == plain


def test_tables_learned_from_one_matrix_serve_the_next() -> None:
    rng = np.random.default_rng(7)
    scales = np.exp(rng.normal(size=(12, 1)) * 2) * np.exp(rng.normal(size=(1, 128)))
    matrices = [Case(128, 12, np.rint(rng.uniform(-9, 9, size=(12, 128)) * scales).astype(np.int64).reshape(-1)) for _ in range(2)]
    assert weighed(matrices)[0] < weighed(matrices[:1])[0] + weighed(matrices[1:])[0] - 20


def table_record(low: int, span: int) -> bytes:
    """A record (4, 1) with a table of its own from `low` to `low + span`."""
    encoder, state = Encoder(), MatrixState()
    Natural(state.peaks).code(encoder, single(9))
    Categorical(state.lines.marked).code(encoder, single(0))
    Categorical(state.kinds).code(encoder, single(1))
    Signed(length_tally()).code(encoder, single(low))
    Natural(length_tally()).code(encoder, single(span))
    encoder.categorical(np.zeros(4, dtype=np.int64), flat_tally(min(span, 100) + 1).frequencies, 4)
    return encoder.finish()


def test_a_table_wider_than_it_may_be_is_refused() -> None:
    assert Matrix(4, 1, MatrixState()).code(Decoder(table_record(-2, 80)), None).tolist() == [-2] * 4
    with pytest.raises(FormatError, match="a table's span is 81, outside 0 to 80: the payload is damaged"):
        Matrix(4, 1, MatrixState()).code(Decoder(table_record(-2, 81)), None)
    with pytest.raises(FormatError, match="a table's span is 2147483647, outside 0 to 65536"):
        Matrix(40_000, 1, MatrixState()).code(Decoder(table_record(-2, 2**31 - 1)), None)


def list_record(low: int, gaps: list[int]) -> bytes:
    """A record (4, 1) of zeros with a table of values that have these gaps."""
    encoder, state = Encoder(), MatrixState()
    Natural(state.peaks).code(encoder, single(9))
    Categorical(state.lines.marked).code(encoder, single(0))
    Categorical(state.kinds).code(encoder, single(2))
    Signed(length_tally()).code(encoder, single(low))
    Natural(length_tally()).code(encoder, single(len(gaps)))
    naturals(encoder, np.array(gaps) - 1, len(gaps), length_tally())
    encoder.categorical(np.full(4, len(gaps)), flat_tally(len(gaps) + 1).frequencies, 4)
    return encoder.finish()


def test_a_list_longer_than_the_record_is_refused() -> None:
    assert Matrix(4, 1, MatrixState()).code(Decoder(list_record(-2, [1, 7, 100])), None).tolist() == [106] * 4
    with pytest.raises(FormatError, match="the length of a list of symbols is 4, outside 0 to 3: the payload is damaged"):
        Matrix(4, 1, MatrixState()).code(Decoder(list_record(-2, [1, 1, 1, 1])), None)


def test_a_list_has_as_many_values_as_the_format_allows_and_no_more() -> None:
    symbols = 3 * np.arange(2**16)
    encoder, model = Encoder(), Matrix(2**16, 1, MatrixState())
    model.by_list(encoder, symbols)
    assert (model.by_list(Decoder(encoder.finish()), None) == symbols).all()
    with pytest.raises(FormatError, match="the length of a list of symbols is 65536, outside 0 to 65535"):
        Matrix(80_000, 1, MatrixState()).code(Decoder(list_record(-2, [1] * 2**16)), None)


def test_a_list_beyond_the_largest_symbol_is_refused() -> None:
    with pytest.raises(FormatError, match="a list's largest symbol is 2147483648, outside -2147483647 to 2147483647"):
        Matrix(4, 1, MatrixState()).code(Decoder(list_record(-1, [2**31 - 1, 2])), None)


def test_a_table_beyond_the_largest_symbol_is_refused() -> None:
    with pytest.raises(FormatError, match="a table's largest symbol is 2147483648, outside -2147483647 to 2147483647"):
        Matrix(4, 1, MatrixState()).code(Decoder(table_record(SYMBOL_LIMIT, 1)), None)


@given(st.binary(max_size=200), st.integers(1, 60), st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_symbols_within_the_limit_or_are_refused(payload: bytes, rows: int, columns: int) -> None:
    try:
        symbols = Matrix(rows, columns, MatrixState()).code(Decoder(payload), None)
    except FormatError:
        return
    assert symbols.shape == (rows * columns,)
    assert np.abs(symbols).max() <= SYMBOL_LIMIT


def alive(rows: int, columns: int, live_rows: list[int], live_columns: list[int]) -> np.ndarray:
    """Symbols (columns, rows) that are 0 outside of the lines that are alive."""
    grid = np.zeros((columns, rows), dtype=np.int64)
    grid[np.ix_(live_columns, live_rows)] = np.random.default_rng(0).integers(1, 8, (len(live_columns), len(live_rows)))
    return grid


def coded(grids: list[np.ndarray]) -> tuple[list[float], bytes]:
    """The bits of matrices in one stream, and the stream."""
    encoder, writer, meter, weigher = Encoder(), MatrixState(), Meter(), MatrixState()
    bits = []
    for grid in grids:
        before = meter.bits
        for coder, state in ((encoder, writer), (meter, weigher)):
            Matrix(grid.shape[1], grid.shape[0], state).code(coder, grid.reshape(-1))
        bits.append(meter.bits - before)
    return bits, encoder.finish()


def test_dead_rows_and_columns_cost_next_to_nothing() -> None:
    live = [3, 17, 40, 41, 60]
    grids = [alive(64, 20, live, list(range(20))), alive(64, 64, [5, 6, 33], live), alive(64, 9, [5, 6, 33], list(range(9)))]
    bits, payload = coded(grids)
    parts = [grid[np.ix_(grid.any(1), grid.any(0))] for grid in grids]
    inside = coded([np.ascontiguousarray(part.T if part.shape[0] > part.shape[1] else part) for part in parts])[0]
    first, second, third = (whole - part for whole, part in zip(bits, inside, strict=True))
    choices = [math.log2(math.comb(64, count)) for count in (5, 3)]
    assert first < choices[0] + 20
    assert second < choices[1] + 32  # the matrix before it has shown which columns are alive
    assert third < 20
    decoder, state = Decoder(payload), MatrixState()
    for grid in grids:
        assert (Matrix(grid.shape[1], grid.shape[0], state).code(decoder, None) == grid.reshape(-1)).all()


@pytest.mark.parametrize(("live_rows", "live_columns"), [(range(0, 24, 4), range(20)), (range(24), range(0, 20, 5)), ([7], [0, 1])])
def test_each_matrix_with_dead_lines_weighs_what_it_weighs_alone_in_a_file(
    live_rows: Iterable[int], live_columns: Iterable[int]
) -> None:
    grid = alive(24, 20, list(live_rows), list(live_columns))
    (bits,) = weigh_each([grid.T])
    assert bits == pytest.approx(coded([grid])[0][0], rel=1e-9)
    assert bits < 500


@pytest.mark.parametrize(("columns", "rows"), [(8, 64), (30, 40)])
@pytest.mark.parametrize("dead", [0.02, 0.05, 0.1])
def test_marks_of_dead_lines_never_cost_many_bits_more_than_none(columns: int, rows: int, dead: float) -> None:
    """Whether they pay is estimated."""
    saved = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        grid = np.rint(rng.laplace(size=(columns, rows))).astype(np.int64)
        grid[:, rng.random(rows) < dead] = 0
        bits = []
        for known in (None, KnownKind(0, whole=True)):
            meter = Meter()
            Matrix(rows, columns, MatrixState(), known=known).code(meter, grid.reshape(-1))
            bits.append(meter.bits)
        saved.append(bits[1] - bits[0])
    assert min(saved) > -5


@pytest.mark.parametrize(("live_rows", "live_columns"), [([7], [0, 1, 2, 3]), ([2, 3], [1, 5, 8]), (list(range(12)), [4])])
def test_what_is_alive_may_be_of_any_shape(live_rows: list[int], live_columns: list[int]) -> None:
    grid = alive(12, 9, live_rows, live_columns)
    _, payload = coded([grid])
    assert (Matrix(12, 9, MatrixState()).code(Decoder(payload), None) == grid.reshape(-1)).all()


def marked_record(dead_columns: list[int], dead_rows: list[int], cells: list[int]) -> bytes:
    """A record (4, 2) that marks these lines and has these symbols in the others, under a table of 0 and 1."""
    encoder, state = Encoder(), MatrixState()
    Natural(state.peaks).code(encoder, single(1))
    Categorical(state.lines.marked).code(encoder, single(1))
    for marks in (dead_columns, dead_rows):
        adaptive(encoder, np.array(marks), len(marks), flat_tally(2))
    Categorical(state.kinds).code(encoder, single(1))
    Signed(length_tally()).code(encoder, single(0))
    Natural(length_tally()).code(encoder, single(1))
    adaptive(encoder, np.array(cells), len(cells), flat_tally(2, 4))
    return encoder.finish()


def test_marks_that_leave_nothing_or_miss_a_dead_line_are_refused() -> None:
    found = Matrix(4, 2, MatrixState()).code(Decoder(marked_record([0, 1], [0, 0, 1, 1], [1, 1])), None)
    assert found.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    for columns, rows in (([1, 1], [0, 0, 1, 1]), ([0, 1], [1, 1, 1, 1])):
        with pytest.raises(FormatError, match="all columns or all rows of a matrix that isn't zero are marked as dead"):
            Matrix(4, 2, MatrixState()).code(Decoder(marked_record(columns, rows, [])), None)
    with pytest.raises(FormatError, match="a row or column of a matrix is dead and not marked"):
        Matrix(4, 2, MatrixState()).code(Decoder(marked_record([0, 1], [0, 0, 1, 1], [1, 0])), None)


def test_a_large_matrix_is_written_in_groups_of_columns_and_read_column_by_column() -> None:
    rng = np.random.default_rng(0)
    magnitudes = rng.integers(0, 2 + rng.integers(0, 8, 30_000), (5, 30_000)).reshape(-1)  # rows of several scales
    model, encoder = Magnitudes(30_000, 5, int(magnitudes.max())), Encoder()
    model.code(encoder, magnitudes, fresh_tables(), fresh_levels())
    assert (model.code(Decoder(encoder.finish()), None, fresh_tables(), fresh_levels()) == magnitudes).all()


def test_a_long_column_is_written_and_read_in_parts() -> None:
    """The last block has more symbols than are processed at once, and fewer than two full parts."""
    magnitudes = np.abs(np.random.default_rng(0).integers(-9, 9, 13_000))
    model, encoder = Magnitudes(13_000, 1, 9), Encoder()
    model.code(encoder, magnitudes, fresh_tables(), fresh_levels())
    assert (model.code(Decoder(encoder.finish()), None, fresh_tables(), fresh_levels()) == magnitudes).all()
