"""The contract of every codec: all tensors come back unchanged, and all bytes are decoded or refused."""

import bz2
import contextlib
import math
import tracemalloc
import zlib
from collections.abc import Callable
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nncomplexity.codecs import (
    CODECS,
    Bits,
    Categorical,
    Codec,
    General,
    Matrix,
    MatrixState,
    Planes,
    Signed,
    codec_named,
    length_tally,
)
from nncomplexity.codecs.general import AT_ONCE
from nncomplexity.codecs.models import flat_tally
from nncomplexity.errors import FormatError, InputError
from nncomplexity.file import CoarseTensor, Constant, Dense, LowRank, Piece, Pieces, encode, matrix_shape, read, write
from nncomplexity.file.coarse import INTEGERS, Lossless, lossless
from nncomplexity.file.payload import decode, lengths
from nncomplexity.linalg import MOST_ROWS
from nncomplexity.network import Blocks, Folding, Layout, Skeleton, TensorSpec, foldings, pieces_of
from tests.golden import reference

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
OTHERS = (torch.bool, torch.int64, torch.int32, torch.int8, torch.uint8, torch.uint16, torch.complex64, torch.complex128)
OTHERS += (torch.float8_e4m3fn, torch.float8_e5m2)
BYTE_CODECS = [codec for codec in CODECS if isinstance(codec, General)]
every_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
every_byte_codec = pytest.mark.parametrize("codec", BYTE_CODECS, ids=lambda codec: codec.name)
thorough = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def steps(draw: st.DrawFn) -> float:
    precision = draw(st.sampled_from([0, 1, 3, 20, 52]))
    return float(np.ldexp(1 + draw(st.integers(0, 2**precision - 1)) / 2**precision, draw(st.integers(-60, 60))))


def symbols(*shape: int) -> st.SearchStrategy[np.ndarray]:
    ranges = [st.integers(-1, 1), st.integers(-30, 30), st.integers(1000, 1003), st.integers(-(2**20), 2**20)]
    return st.sampled_from(ranges).flatmap(lambda elements: hnp.arrays(np.int64, shape, elements=elements, fill=elements))


@st.composite
def coarse_tensors(draw: st.DrawFn, spec: TensorSpec) -> CoarseTensor:
    """A whole tensor or, in one case of four and if it has other layouts, a tensor in pieces."""
    layouts = layouts_of(spec)
    if layouts and draw(st.sampled_from([True, False, False, False])):
        layout = draw(st.sampled_from(layouts))
        return Pieces(layout, tuple(draw(whole_tensors(piece)) for piece in pieces_of(spec, layout)))
    return draw(whole_tensors(spec))


def layouts_of(spec: TensorSpec) -> list[Layout]:
    if not spec.quantizable or matrix_shape(spec) is None:
        return []
    blocks = [Blocks(axis, count) for axis in (0, 1) for count in (2, 3, 5, 9)]
    return [*(one for one in blocks if one.fits(spec.shape)), *(Folding(mask) for mask in range(foldings(spec.shape)))]


@st.composite
def whole_tensors(draw: st.DrawFn, spec: TensorSpec) -> Piece:
    forms = ["constant", "lossless", *(["dense"] if spec.quantizable or spec.dtype in INTEGERS else [])]
    shape = matrix_shape(spec)
    match draw(st.sampled_from([*forms, *(["low rank"] if spec.quantizable and shape else [])])):
        case "constant":
            return Constant(draw(st.integers(0, 1)))
        case "dense" if not spec.quantizable:
            return Dense(draw(hnp.arrays(np.int64, spec.shape, elements=st.integers(0, 1))))
        case "dense":
            wide = st.integers(-(2**31) + 1, 2**31 - 1)
            return Dense(draw(symbols(*spec.shape) | hnp.arrays(np.int64, spec.shape, elements=wide)), draw(steps()))
        case "low rank":
            assert shape is not None
            rank = draw(st.integers(1, min(shape)))
            step = draw(steps())
            periods = tuple(
                draw(st.sampled_from([0, extent, max(extent - 1, 2)])) if 1 < extent <= MOST_ROWS else 0 for extent in shape
            )
            few = {"elements": st.integers(-30, 30), "fill": st.integers(-30, 30)}  # products with a basis stay exact
            A, B = (
                draw(hnp.arrays(np.int64, sides, **few) if any(periods) else symbols(*sides))
                for sides in ((shape[0], rank), (rank, shape[1]))
            )
            return LowRank(A, B, step, draw(st.just(step) | steps()), periods)
        case _:
            top = 1 if spec.dtype == torch.bool else 255
            return Lossless(draw(hnp.arrays(np.uint8, spec.raw_bytes, elements=st.integers(0, top))))


@st.composite
def contents(draw: st.DrawFn) -> tuple[Skeleton, list[CoarseTensor]]:
    """Skeletons of up to five tensors with 0 to 4 extents, some of them 0, some names tied, and a coarse tensor for each."""
    specs = []
    for index in range(draw(st.integers(1, 5))):
        shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 9, 40]), max_size=4)))
        while prod(shape) > 2000:
            shape = tuple(max(1, extent // 2) for extent in shape)
        names = tuple(
            draw(st.sampled_from(["w{}", 'ünïcode "{}"\n', "名前{}"])).format(f"{index}.{tie}")
            for tie in range(draw(st.integers(1, 3)))
        )
        specs.append(TensorSpec(names, shape, draw(st.sampled_from((*FLOATS, *FLOATS, *OTHERS)))))
    return Skeleton(tuple(specs)), [draw(coarse_tensors(spec.real)) for spec in specs]


def same(one: CoarseTensor, other: CoarseTensor) -> bool:
    if isinstance(one, Pieces) and isinstance(other, Pieces):
        return one.layout == other.layout and all(same(*pair) for pair in zip(one.pieces, other.pieces, strict=True))
    fields = [(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__]
    return type(one) is type(other) and all(np.array_equal(a, b) for a, b in fields)


@every_codec
@thorough
@given(content=contents())
def test_whatever_is_written_is_read(codec: Codec, content: tuple[Skeleton, list[CoarseTensor]]) -> None:
    skeleton, tensors = content
    payload = encode(skeleton, tensors, codec)
    found, decoded = decode(skeleton, payload)
    assert found is codec
    assert all(same(one, other) for one, other in zip(tensors, decoded, strict=True))
    assert encode(skeleton, decoded, codec) == payload


@every_codec
@settings(parent=thorough, max_examples=25)
@given(content=contents())
def test_the_reference_decoder_gives_the_same_weights(codec: Codec, content: tuple[Skeleton, list[CoarseTensor]]) -> None:
    file = write(*content, codec)
    expected = reference.decode(file.content)
    weights = file.weights()
    assert list(weights) == list(expected)
    assert all(lossless(tensor).data.tobytes() == expected[name] for name, tensor in weights.items())


@pytest.mark.parametrize(("rows", "columns"), [(3, 20), (20, 3), (8, 8), (1, 25)])
@pytest.mark.parametrize("shape", [(40, 30), (30, 40)])
def test_the_reference_decoder_gives_the_same_weights_of_matrices_with_dead_lines(
    rows: int, columns: int, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    symbols = np.zeros(shape, dtype=np.int64)
    living = np.ix_(rng.permutation(shape[0])[:rows], rng.permutation(shape[1])[:columns])
    symbols[living] = rng.integers(1, 6, (rows, columns))
    file = write(Skeleton((TensorSpec(("w",), shape, torch.float32),)), [Dense(symbols, 0.5)], codec_named("entropy"))
    assert file.bits < 70 + 3 * rows * columns + math.log2(math.comb(shape[0], rows)) + math.log2(math.comb(shape[1], columns))
    assert reference.decode(file.content) == {"w": (0.5 * symbols).astype("<f4").tobytes()}


@every_codec
def test_records_of_every_model_come_back(codec: Codec) -> None:
    rng = np.random.default_rng(0)
    state = MatrixState()
    records = [
        (np.array([3]), lambda: Categorical(flat_tally(9))),
        (np.array([-70_000]), lambda: Signed(length_tally())),
        (np.array([2**51 + 1]), lambda: Bits(52)),
        *((np.array([2**bits]), lambda: Bits(52)) for bits in (7, 8, 15, 16, 31, 32)),
        (np.array([200]), lambda: Bits(9)),
        (np.zeros(0, dtype=np.int64), lambda: Planes(0, 4)),
        (rng.integers(0, 256, 60), lambda: Planes(60, 4)),
        (rng.integers(-5, 6, 60), lambda: Matrix(20, 3, state)),
        (rng.integers(-500, 600, 60), lambda: Matrix(12, 5, state)),
        *(
            (np.array([0, sign * 2**bits - more]), lambda: Matrix(2, 1, state))
            for bits in (7, 15)
            for sign in (-1, 1)
            for more in (-1, 0, 1)
        ),
        *(
            (np.array([size - 1]), lambda size=size: Categorical(flat_tally(size)))
            for bits in (8, 16)
            for size in (2**bits, 2**bits + 1)
        ),
        (rng.integers(-(2**31) + 1, 2**31, 60), lambda: Matrix(60, 1, state)),
        (np.zeros(0, dtype=np.int64), lambda: Matrix(0, 0, state)),
    ]
    writer = codec.writer()
    for values, model in records:
        assert (writer.record(values, model()) == values).all()
    state = MatrixState()
    reader = codec.reader(writer.finish(), 10_000)
    for values, model in records:
        assert reader.record(None, model()).tolist() == values.tolist()
    reader.finish()


@every_codec
def test_the_same_content_gives_the_same_bytes(codec: Codec) -> None:
    skeleton, tensors = example()
    assert write(skeleton, tensors, codec).content == write(skeleton, tensors, codec).content


def test_lengths_under_all_codecs_are_those_of_their_payloads() -> None:
    skeleton, tensors = example()
    assert lengths(skeleton, tensors, CODECS) == [len(encode(skeleton, tensors, codec)) for codec in CODECS]


@every_codec
def test_codecs_are_found_by_name(codec: Codec) -> None:
    assert codec_named(codec.name) is codec


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(InputError, match="codec: expected one of entropy, bzip2, xz, gzip, zstd, got 'rar'"):
        codec_named("rar")


def test_entropy_coding_is_the_smallest_on_weights() -> None:
    rng = np.random.default_rng(1)
    skeleton = Skeleton((TensorSpec(("w",), (256, 128), torch.float32),))
    tensors = [Dense(np.rint(rng.normal(size=(256, 128)) * np.exp(rng.normal(size=(256, 1)))).astype(np.int64), 0.125)]
    sizes = {codec.name: len(encode(skeleton, tensors, codec)) for codec in CODECS}
    assert min(sizes, key=lambda name: sizes[name]) == "entropy"
    assert sizes["entropy"] < 0.85 * min(size for name, size in sizes.items() if name != "entropy")


def example() -> tuple[Skeleton, list[CoarseTensor]]:
    specs = (TensorSpec(("a",), (30, 4), torch.float32), TensorSpec(("b",), (7,), torch.int16))
    values = np.random.default_rng(2).integers(-9, 10, (30, 4))
    return Skeleton(specs), [Dense(values, 0.5), lossless(torch.arange(7, dtype=torch.int16))]


def refused(skeleton: Skeleton, payload: bytes) -> str:
    with pytest.raises(FormatError) as caught:
        decode(skeleton, payload)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@every_byte_codec
def test_a_byte_payload_says_its_codec(codec: General) -> None:
    payload = encode(*example(), codec)
    assert payload[:2] == bytes([0xFF, CODECS.index(codec)])
    data = codec.decompress(payload[2:], 10_000)
    assert payload[2:] == codec.compress(data)
    # precision, form, exponent, one width and 120 symbols; form and 14 bytes
    assert len(data) == 1 + (1 + 4 + 1 + 120) + (1 + 14)


@every_byte_codec
def test_a_cut_or_longer_stream_is_refused(codec: General) -> None:
    skeleton, tensors = example()
    payload = encode(skeleton, tensors, codec)
    for cut in range(3, len(payload)):
        assert f"{codec.name} payload is cut, or followed by something else" in refused(skeleton, payload[:cut])
    for more in (b"\0", b"x" * 9, payload[2:]):
        assert f"{codec.name} payload is cut, or followed by something else" in refused(skeleton, payload + more)


@pytest.mark.parametrize(("number", "name"), [(1, "bzip2"), (2, "xz"), (3, "gzip"), (4, "zstandard")])
def test_a_stream_of_another_kind_is_refused(number: int, name: str) -> None:
    assert f"payload is no {name} stream" in refused(example()[0], bytes([0xFF, number]) + b"something else entirely")


@every_byte_codec
@settings(parent=thorough, max_examples=100)
@given(data=st.data())
def test_damaged_streams_decode_or_are_refused(codec: General, data: st.DataObject) -> None:
    skeleton, tensors = example()
    payload = bytearray(encode(skeleton, tensors, codec))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(2, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FormatError):
        decode(skeleton, bytes(payload))


@every_byte_codec
@settings(parent=thorough, max_examples=60)
@given(content=st.binary(max_size=300))
def test_any_unpacked_bytes_decode_or_are_refused(codec: General, content: bytes) -> None:
    skeleton, _ = example()
    with contextlib.suppress(FormatError):
        decode(skeleton, bytes([0xFF, CODECS.index(codec)]) + codec.compress(content))


@every_byte_codec
def test_a_bomb_is_not_unpacked(codec: General) -> None:
    bomb = bytes([0xFF, CODECS.index(codec)]) + codec.compress(bytes(1 << 25))
    skeleton, _ = example()
    tracemalloc.start()
    message = refused(skeleton, bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"{codec.name} payload unpacks to more than the" in message
    assert peak < 1 << 24


@pytest.mark.parametrize("codec", [codec for codec in BYTE_CODECS if codec.name in ("bzip2", "xz")], ids=lambda codec: codec.name)
def test_no_byte_more_than_asked_for_is_unpacked(codec: General) -> None:
    most = AT_ONCE + 10
    assert len(codec.decompress(codec.compress(bytes(3 * AT_ONCE)), most)) == most


def test_an_xz_stream_that_needs_more_than_128_mib_is_refused() -> None:
    stream = codec_named("xz").compress(bytes(100))
    first, last = 12, 12 + 4 * (stream[12] + 1)  # the header of the block, which ends with its checksum
    assert stream[first + 2 : first + 4] == b"\x21\x01"  # LZMA2, with one byte that says how large its window is

    def with_window(code: int) -> bytes:
        header = stream[first : first + 4] + bytes([code]) + stream[first + 5 : last - 4]
        return stream[:first] + header + zlib.crc32(header).to_bytes(4, "little") + stream[last:]

    assert codec_named("xz").decompress(with_window(29), 1000) == bytes(100)  # 96 MiB
    with pytest.raises(FormatError, match="payload is no xz stream"):
        codec_named("xz").decompress(with_window(30), 1000)  # 128 MiB, besides what the decoder itself needs


def test_a_zstandard_frame_with_a_window_above_128_mib_is_refused() -> None:
    def frame(exponent: int, eighths: int) -> bytes:
        """100 zeros in one raw block of a frame whose window is 2^exponent · (1 + eighths / 8) bytes (RFC 8878, section 3.1.1)."""
        block = (100 << 3 | 1).to_bytes(3, "little") + bytes(100)
        return b"\x28\xb5\x2f\xfd\0" + bytes([exponent - 10 << 3 | eighths]) + block

    assert codec_named("zstd").decompress(frame(27, 0), 1000) == bytes(100)
    with pytest.raises(FormatError, match="payload is no zstandard stream"):
        codec_named("zstd").decompress(frame(27, 1), 1000)


def forged(data: bytes) -> bytes:
    return b"\xff\x01" + bz2.compress(data)


UNPACKED: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("precision", lambda data: b"\x35" + data[1:], "a record holds symbols outside 0 to 52: the payload is damaged"),
    ("form", lambda data: data[:1] + b"\x06" + data[2:], "a record holds symbols outside 0 to 5: the payload is damaged"),
    (
        "exponent",
        lambda data: data[:2] + b"\xff\xff\xff\x7f" + data[6:],
        "the exponent of a step is 2147483643, outside -1074 to 1023",
    ),
    (
        "least exponent",
        lambda data: data[:2] + b"\0\0\0\x80" + data[6:],
        "a record holds symbols outside -2147483647 to 2147483647",
    ),
    ("width", lambda data: data[:6] + b"\x08" + data[7:], "a record says its symbols take 8 bytes each: the payload is damaged"),
    ("symbol", lambda data: data[:6] + b"\x04" + b"\0\0\0\x80" * 120 + data[127:], "a record holds symbols outside -2147483647 to"),
    ("cut", lambda data: data[:-1], "payload ends before its last tensor: it is cut"),
    ("empty", lambda data: data[:0], "payload ends before its last tensor: it is cut"),
    ("longer", lambda data: data + b"\0\0", "2 bytes are left over after the last tensor"),
    ("rank", lambda data: data[:1] + b"\x02" + b"\x01\0\0\0" + data[6:], "a: rank is 9, outside 1 to 4: the payload is damaged"),
    (
        "factors for integers",
        lambda data: data[:127] + b"\x02" + data[128:],
        "b: no form for a tensor of torch.int16, which is kept as it is",
    ),
]


@pytest.mark.parametrize(("change", "words"), [case[1:] for case in UNPACKED], ids=[case[0] for case in UNPACKED])
def test_unpacked_records_are_checked(change: Callable[[bytes], bytes], words: str) -> None:
    skeleton, tensors = example()
    data = bz2.decompress(encode(skeleton, tensors, codec_named("bzip2"))[2:])
    decode(skeleton, forged(data))
    assert words in refused(skeleton, forged(change(data)))


@every_codec
def test_files_of_every_codec_tell_their_size_and_codec(codec: Codec) -> None:
    file = write(*example(), codec)
    assert (file.codec, file.bits, file.file_bits) == (codec, 8 * len(file.payload), 8 * len(file.content))
    assert read(file.content).payload == file.payload
