"""The range coder against the decoder of tests/golden/reference.py, and its length against the information content."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomplexity.codecs import Coder, Meter
from nncomplexity.codecs.coder import Decoder, Encoder
from nncomplexity.errors import FormatError
from tests.golden.reference import Ranges

FREQUENCIES = st.lists(st.integers(1, 2**20) | st.integers(1, 3), min_size=1, max_size=40)


@st.composite
def decisions(draw: st.DrawFn) -> list[tuple[np.ndarray, np.ndarray | int]]:
    """(values, frequencies) for categorical decisions, under one table or one each; (values, size) for uniform ones."""
    drawn: list[tuple[np.ndarray, np.ndarray | int]] = []
    for kind in draw(st.lists(st.sampled_from(["shared", "own", "uniform"]), max_size=8)):
        count = draw(st.integers(0, 12))
        if kind == "uniform":
            size = 2 ** draw(st.integers(0, 16))
            drawn.append((np.array(draw(st.lists(st.integers(0, size - 1), min_size=count, max_size=count)), dtype=np.int64), size))
            continue
        frequencies = np.array(draw(FREQUENCIES), dtype=np.float64)
        values = draw(st.lists(st.integers(0, frequencies.size - 1), min_size=count, max_size=count))
        if kind == "own":
            frequencies = np.stack([np.roll(frequencies, shift) for shift in range(count)] or [frequencies])[:count]
        drawn.append((np.array(values, dtype=np.int64), frequencies))
    return drawn


def run(coder: Coder, drawn: list[tuple[np.ndarray, np.ndarray | int]], *, decode: bool = False) -> list[list[int]]:
    results = []
    for values, model in drawn:
        given_values = None if decode else values
        if isinstance(model, int):
            results.append(coder.uniform(given_values, model, values.size).tolist())
        else:
            results.append(coder.categorical(given_values, model, values.size).tolist())
    return results


@given(decisions())
def test_every_stream_decodes_to_what_was_coded(drawn: list[tuple[np.ndarray, np.ndarray | int]]) -> None:
    encoder = Encoder()
    coded = run(encoder, drawn)
    assert run(Decoder(encoder.finish()), drawn, decode=True) == coded == [values.tolist() for values, _ in drawn]


@given(decisions())
@settings(max_examples=60)
def test_the_reference_decoder_reads_the_same_stream(drawn: list[tuple[np.ndarray, np.ndarray | int]]) -> None:
    encoder = Encoder()
    encoder.categorical(np.array([0]), np.array([255.0, 1.0]), 1)
    run(encoder, drawn)
    reference = Ranges(encoder.finish())
    for values, model in drawn:
        for index, value in enumerate(values.tolist()):
            if isinstance(model, int):
                assert (reference.uniform(model.bit_length() - 1) if model > 1 else 0) == value
            else:
                assert reference.categorical([int(f) for f in (model if model.ndim == 1 else model[index])]) == value


@given(decisions())
def test_a_stream_is_as_long_as_its_information(drawn: list[tuple[np.ndarray, np.ndarray | int]]) -> None:
    encoder, meter = Encoder(), Meter()
    run(encoder, drawn)
    run(meter, drawn)
    # With 24-bit intervals, a symbol gets at most 2^-24 less than its share. This matters only if the share is as small.
    assert 8 * len(encoder.finish()) <= meter.bits * 1.001 + 16


@given(decisions())
def test_the_meter_adds_up_minus_log_probabilities(drawn: list[tuple[np.ndarray, np.ndarray | int]]) -> None:
    meter, expected = Meter(), 0.0
    run(meter, drawn)
    for values, model in drawn:
        for index, value in enumerate(values.tolist()):
            if isinstance(model, int):
                expected += math.log2(model)
            else:
                table = model if model.ndim == 1 else model[index]
                expected -= math.log2(table[value] / math.fsum(table))
    assert meter.bits == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_long_stream_is_within_bytes_of_its_information() -> None:
    rng = np.random.default_rng(0)
    frequencies = np.array([700.0, 200.0, 90.0, 10.0])
    values = rng.choice(4, size=100_000, p=frequencies / 1000)
    encoder, meter = Encoder(), Meter()
    encoder.categorical(values, frequencies, values.size)
    meter.categorical(values, frequencies, values.size)
    assert meter.bits - 1 < 8 * len(encoder.finish()) < meter.bits + 40


def test_a_stream_without_decisions_is_empty() -> None:
    encoder = Encoder()
    encoder.categorical(np.zeros(5, dtype=np.int64), np.array([3.0]), 5)
    encoder.categorical(np.zeros(0, dtype=np.int64), np.array([3.0, 1.0]), 0)
    encoder.uniform(np.zeros(5, dtype=np.int64), 1, 5)
    assert encoder.finish() == b""


def test_likely_decisions_at_the_beginning_take_no_byte() -> None:
    encoder = Encoder()
    encoder.categorical(np.zeros(100, dtype=np.int64), np.array([1e6, 1.0]), 100)
    assert encoder.finish() == b""


@pytest.mark.parametrize("bits", range(1, 80))
def test_no_tail_is_longer_than_needed_by_more_than_a_byte(bits: int) -> None:
    for value in (0, 1):
        encoder = Encoder()
        encoder.uniform(np.full(bits, value), 2, bits)
        payload = encoder.finish()
        assert not payload.endswith(b"\0")
        assert len(payload) <= (0 if value == 0 else bits // 8 + 1)
        assert Decoder(payload).uniform(None, 2, bits).tolist() == [value] * bits


RUNS = st.lists(st.sampled_from([b"\0" * 9, b"\xff" * 9, b"\x80", b"\x7f"]) | st.binary(max_size=3), max_size=6).map(b"".join)


@given(RUNS, FREQUENCIES)
def test_encoding_what_a_stream_decodes_to_gives_the_stream(payload: bytes, frequencies: list[int]) -> None:
    """The interval has only the stream itself, long after its last byte. This includes carries through runs of 00 and ff."""
    payload = payload.rstrip(b"\0")
    model = np.array([*frequencies, sum(frequencies)], dtype=np.float64)  # each symbol takes at least one bit
    count = 8 * len(payload) + 100
    try:
        values = Decoder(payload).categorical(None, model, count)
    except FormatError:
        return
    encoder = Encoder()
    encoder.categorical(values, model, count)
    assert encoder.finish() == payload


@given(decisions())
@settings(max_examples=60)
def test_no_shorter_stream_decodes(drawn: list[tuple[np.ndarray, np.ndarray | int]]) -> None:
    encoder = Encoder()
    run(encoder, drawn)
    payload = encoder.finish()
    if payload:
        below = int.from_bytes(payload[:-1], "big")
        for number in (below, below + 1):
            shorter = number.to_bytes(len(payload), "big")[1:] if number < 256 ** (len(payload) - 1) else b""
            try:
                assert run(Decoder(shorter), drawn, decode=True) != [values.tolist() for values, _ in drawn]
            except FormatError:
                continue


def test_a_stream_that_points_between_intervals_is_refused() -> None:
    with pytest.raises(FormatError, match="payload points outside every symbol's interval"):
        Decoder(b"\xff" * 12).categorical(None, np.array([3.0, 1.0, 5.0]), 4)
    with pytest.raises(FormatError, match="payload points outside every symbol's interval"):
        Decoder(b"\xff" * 12).uniform(None, 4, 4)


@given(st.binary(max_size=64), FREQUENCIES)
def test_any_bytes_decode_or_are_refused(payload: bytes, frequencies: list[int]) -> None:
    decoder = Decoder(payload)
    try:
        values = decoder.categorical(None, np.array(frequencies, dtype=np.float64), 300)
    except FormatError:
        return
    assert values.dtype == np.int64
    assert 0 <= values.min() <= values.max() < len(frequencies)


@given(st.lists(st.integers(1, 2**45), min_size=2, max_size=60))
def test_intervals_are_those_of_exact_integer_sums(frequencies: list[int]) -> None:
    """Sums of whole numbers below 2^53 are exact, so only one division and one product round. Both are written out here."""
    ratio = (2**24 - len(frequencies)) / sum(frequencies)
    for symbol in {0, len(frequencies) // 2, len(frequencies) - 1}:
        encoder = Encoder()
        encoder.categorical(np.array([symbol]), np.array(frequencies, dtype=np.float64), 1)
        left = math.floor(sum(frequencies[:symbol]) * ratio) + symbol
        right = math.floor(sum(frequencies[: symbol + 1]) * ratio) + symbol + 1 if symbol + 1 < len(frequencies) else 2**24
        scale = (2**64 - 1) >> 24
        assert encoder._stream.pos() in (
            (0, (scale * left, scale * (right - left))),
            (1, (scale * left << 32 & 2**64 - 1, scale * (right - left) << 32)),
        )
