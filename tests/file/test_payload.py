"""The payload: the bits of tensors, the two parts of a step, and what a decoder of an entropy-coded payload refuses."""

import contextlib
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomplexity.codecs import CODECS, Bits, Categorical, Natural, Signed, Tally, codec_named, length_tally, single
from nncomplexity.codecs.coder import Encoder
from nncomplexity.errors import FormatError
from nncomplexity.file import CoarseTensor, Constant, Dense, LowRank, Pieces, count_bits, encode
from nncomplexity.file.coarse import Lossless, lossless, multiplications
from nncomplexity.file.payload import _Walk, decode, split_step
from nncomplexity.network import Blocks, Skeleton, TensorSpec

ENTROPY = codec_named("entropy")
ZERO, DENSE, LOW_RANK, ONE, LOSSLESS, PIECES = range(6)
ROW_BLOCKS, COLUMN_BLOCKS, FOLDING = range(3)


def skeleton(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Skeleton:
    return Skeleton(tuple(TensorSpec((f"w{index}",), shape, dtype) for index, shape in enumerate(shapes)))


def laplace(*shape: int, scale: float = 2.0) -> np.ndarray:
    return np.rint(np.random.default_rng(shape).laplace(size=shape) * scale).astype(np.int64)


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("shape", [(), (1,), (1000, 1000), (2**40,)])
def test_a_tensor_of_zeros_or_ones_costs_at_most_a_byte(value: int, shape: tuple[int, ...]) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.bool):
        spec = skeleton(shape, dtype=dtype)
        assert count_bits(spec, [Constant(value)])[0] <= 8
        assert len(encode(spec, [Constant(value)], ENTROPY)) <= 2  # in addition to the precision of steps
    spec = skeleton(shape)
    assert len(encode(spec, [Constant(value)], ENTROPY)) <= 1


def test_zeros_among_many_tensors_cost_a_fraction_of_a_bit() -> None:
    spec = skeleton(*[(3, 3)] * 200)
    in_order = sorted(range(200), key=lambda index: spec.tensors[index].name)  # the order of coding
    weighed = count_bits(spec, [Constant(0)] * 200)
    bits = [weighed[index] for index in in_order]
    assert all(later <= earlier for earlier, later in itertools.pairwise(bits))
    assert sum(bits) < 25
    assert len(encode(spec, [Constant(0)] * 200, ENTROPY)) == 0  # the most likely file of all


def test_tensors_and_what_they_share_add_up() -> None:
    tensors: list[CoarseTensor] = [
        LowRank(laplace(60, 4, scale=9), laplace(4, 50, scale=9), 0.375, 0.5),
        Dense(laplace(30, 20), 0.25),
        Constant(1),
        lossless(torch.randn(5, generator=torch.Generator().manual_seed(0))),
    ]
    spec = skeleton((60, 50), (30, 20), (9,), (5,))
    layers, total = count_bits(spec, tensors), 8 * len(encode(spec, tensors, ENTROPY))
    assert len(layers) == 4
    assert all(bits > 0 for bits in layers)
    assert -8 < total - sum(layers) < 32  # the end may be cut to a byte that still identifies the interval


def test_many_dense_tensors_weigh_the_same_at_once_and_one_by_one() -> None:
    """The last tensor that is coded is kept as bytes, so the test goes through all fields."""
    rng = np.random.default_rng(5)
    shapes = [(8, 8), (3, 12), (5,), (), (0, 4), (70, 70), (4, 3, 2)] * 9
    tensors: list[CoarseTensor] = [
        Constant(index % 2) if index % 5 == 4 else Dense(rng.integers(-6, 7, shape), 1.5 * 2.0 ** rng.integers(-9, 9))
        for index, shape in enumerate(shapes)
    ]
    alone = Skeleton(tuple(TensorSpec((f"{index:02}",), shape, torch.float32) for index, shape in enumerate(shapes)))
    with_bytes = Skeleton((*alone.tensors, TensorSpec(("z",), (3,), torch.float32)))
    one_by_one = count_bits(with_bytes, [*tensors, lossless(torch.tensor([0.1, 0.2, 0.3]))])
    np.testing.assert_allclose(count_bits(alone, tensors), one_by_one[:-1], rtol=1e-12)


def test_a_tensors_bits_are_what_it_adds_to_the_file() -> None:
    tensors: list[CoarseTensor] = [Dense(laplace(100, 80), 0.5) for _ in range(3)]
    spec = skeleton(*[(100, 80)] * 3)
    bits = count_bits(spec, tensors)
    for count in range(1, 4):
        part = Skeleton(spec.tensors[:count])
        assert 8 * len(encode(part, tensors[:count], ENTROPY)) == pytest.approx(sum(bits[:count]), abs=32)


@pytest.mark.parametrize("step", [1.0, 0.1, 3.0, 2.0**-1074, 2.0**1023, 5e-324 * 3, 1.7976931348623157e308, math.pi])
def test_any_positive_float64_is_a_step(step: float) -> None:
    spec = skeleton((3,), dtype=torch.float64)
    _, decoded = decode(spec, encode(spec, [Dense(np.array([1, 0, 1]), step)], ENTROPY))
    assert isinstance(decoded[0], Dense)
    assert decoded[0].step == step


@given(st.floats(min_value=5e-324, allow_infinity=False, allow_nan=False))
def test_steps_split_into_mantissa_and_exponent(step: float) -> None:
    mantissa, exponent = split_step(step)
    assert 0 <= mantissa < 2**52
    assert math.ldexp(2**52 + mantissa, exponent - 52) == step


def test_a_step_off_the_grid_is_refused() -> None:
    assert split_step(0.75, 1) == (1, -1)
    with pytest.raises(ValueError, match=r"step 0\.1 has more than 3 bits behind its leading one"):
        split_step(0.1, 3)


def test_steps_on_a_coarse_grid_take_fewer_bits() -> None:
    spec = skeleton(*[(4,)] * 20)

    def bits(factor: float) -> int:
        return 8 * len(encode(spec, [Dense(np.array([1, 2, 0, 1]), factor * 2.0**-index) for index in range(20)], ENTROPY))

    assert bits(1.25) - bits(1.0) == pytest.approx(2 * 20, abs=8)
    assert bits(1 / 3) - bits(1.0) == pytest.approx(52 * 20, abs=8)


def test_a_square_factor_of_full_rank_comes_back() -> None:
    spec = skeleton((5, 5))
    coarse = LowRank(laplace(5, 5), laplace(5, 5), 1.0, 1.0)
    _, [decoded] = decode(spec, encode(spec, [coarse], ENTROPY))
    assert isinstance(decoded, LowRank)
    assert (decoded.A == coarse.A).all()
    assert (decoded.B == coarse.B).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_an_entropy_payload_never_begins_with_the_escape(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = skeleton((4, 3))
    payload = encode(spec, [Dense(rng.integers(-1000, 1000, (4, 3)), float(rng.uniform(0.1, 1)))], ENTROPY)
    assert payload[:1] != b"\xff"
    assert not payload.endswith(b"\0")
    assert decode(spec, payload)[0] is ENTROPY


@pytest.mark.parametrize("payload", [b"\xff", b"\xff\x00", b"\xff\x05", b"\xff\xff\x01"])
def test_a_codec_that_does_not_exist_is_refused(payload: bytes) -> None:
    number = payload[1] if len(payload) > 1 else 0
    with pytest.raises(FormatError, match=f"payload names codec {number}, and this version knows 1 to {len(CODECS) - 1}"):
        decode(skeleton((1,)), payload)


def test_a_payload_that_ends_in_zeros_is_refused() -> None:
    with pytest.raises(FormatError, match="payload ends in zero bytes, which a writer cuts: it is damaged"):
        decode(skeleton((1,)), b"\x10\x00")


def test_the_sliver_between_entropy_and_escape_is_refused() -> None:
    with pytest.raises(FormatError, match="the first decision is 1, outside 0 to 0: the payload is damaged"):
        decode(skeleton((1,)), b"\xfe\xff\xff\x01")


class Forger:
    """Writes an entropy-coded payload one decision after another, correct or not."""

    def __init__(self, precision: int = 0) -> None:
        self.encoder = Encoder()
        self.encoder.categorical(single(0), np.array([255.0, 1.0]), 1)
        prior = np.ones(53, dtype=np.int64)
        prior[[0, 1, 2, 3, 52]] = 64
        self.precision = precision
        self.code(Categorical(Tally(prior)), precision)
        self.forms, self.kept = Tally(np.array([64, 64, 64, 32, 32, 1]), 64), Tally(np.array([8, 32, 1, 8, 16]), 8)
        self.ranks, self.exponents = length_tally(3), length_tally(2)
        self.layouts, self.layout_numbers = Tally(np.array([8, 8, 8]), 8), length_tally(2)
        self.bases, self.margins = Tally(np.array([48, 4, 4]), 8), length_tally(3)

    def code(self, model: Categorical | Signed | Bits, value: int) -> None:
        model.code(self.encoder, single(value))

    def form(self, form: int, *, kept: bool = False) -> None:
        self.code(Categorical(self.kept if kept else self.forms), form)

    def step(self, exponent: int) -> None:
        self.code(Signed(self.exponents), exponent)
        if self.precision:
            self.code(Bits(self.precision), 0)

    def rank(self, difference: int) -> None:
        self.code(Signed(self.ranks), difference)

    def basis(self, kind: int, margin: int | None = None) -> None:
        self.code(Categorical(self.bases), kind)
        if margin is not None:
            Natural(self.margins).code(self.encoder, single(margin))

    def layout(self, kind: int, number: int) -> None:
        self.form(PIECES)
        self.code(Categorical(self.layouts), kind)
        Natural(self.layout_numbers).code(self.encoder, single(number))

    def refused(self, spec: Skeleton) -> str:
        with pytest.raises(FormatError) as caught:
            decode(spec, self.encoder.finish())
        return str(caught.value)


@pytest.mark.parametrize("difference", [-9, -8, -(2**31) + 1, 3, 1000, 2**31 - 1])
def test_ranks_outside_the_matrix_are_refused(difference: int) -> None:
    forger = Forger()
    forger.form(LOW_RANK)
    forger.rank(difference)
    assert f"w0: rank is {8 + difference}, outside 1 to 10: the payload is damaged" in forger.refused(skeleton((10, 30)))


@pytest.mark.parametrize("shape", [(), (7,), (0, 3), (0, 10**12)])
def test_factors_of_what_is_no_matrix_are_refused(shape: tuple[int, ...]) -> None:
    forger = Forger()
    forger.form(LOW_RANK)
    words = f"w0: factors for a tensor of shape {shape}, which is no matrix"
    assert words in forger.refused(skeleton(shape))


@pytest.mark.parametrize("difference", [-1071, 1028, 2**31 - 1, -(2**31) + 1])
def test_exponents_outside_float64_are_refused(difference: int) -> None:
    forger = Forger(precision=3)
    forger.form(DENSE)
    forger.step(difference)
    words = f"the exponent of a step is {difference - 4}, outside -1074 to 1023: the payload is damaged"
    assert words in forger.refused(skeleton((3,)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_forms_that_a_dtype_does_not_have_are_refused(dtype: torch.dtype) -> None:
    forger = Forger()
    forger.form(LOW_RANK, kept=True)
    assert f"w0: no form for a tensor of {dtype}, which is kept as it is" in forger.refused(skeleton((3, 3), dtype=dtype))


@pytest.mark.parametrize(("kind", "margin", "period"), [(1, None, 0), (2, 9, 1), (2, 10, 0), (2, 2**31 - 1, 11 - 2**31)])
def test_periods_outside_the_side_are_refused(kind: int, margin: int | None, period: int) -> None:
    forger = Forger()
    forger.form(LOW_RANK)
    forger.rank(0)
    forger.basis(kind, margin)
    assert f"w0: the period of a basis is {period}, outside 2 to 10: the payload is damaged" in forger.refused(skeleton((10, 30)))


@pytest.mark.parametrize("shape", [(), (7,), (0, 3), (0, 10**12)])
def test_pieces_of_what_is_no_matrix_are_refused(shape: tuple[int, ...]) -> None:
    forger = Forger()
    forger.form(PIECES)
    assert f"w0: pieces of a tensor of shape {shape}, which is no matrix" in forger.refused(skeleton(shape))


@pytest.mark.parametrize(
    ("kind", "number", "what"),
    [
        (ROW_BLOCKS, 3, "3 blocks along axis 0"),  # 10 rows
        (ROW_BLOCKS, 1, "1 blocks along axis 0"),
        (ROW_BLOCKS, 0, "0 blocks along axis 0"),
        (COLUMN_BLOCKS, 390, "390 blocks along axis 1"),  # more than is allowed
        (FOLDING, 3, "folding 3"),
        (FOLDING, 2**31 - 1, "folding 2147483647"),
    ],
)
def test_layouts_that_a_shape_does_not_have_are_refused(kind: int, number: int, what: str) -> None:
    forger = Forger()
    forger.layout(kind, number)
    words = f"w0: a tensor of shape (10, 390, 5) has no {what}: the payload is damaged"
    assert words in forger.refused(skeleton((10, 390, 5)))


def test_pieces_in_pieces_are_refused() -> None:
    forger = Forger()
    forger.layout(ROW_BLOCKS, 2)
    forger.form(PIECES)
    assert "w0: a piece of it is in pieces: the payload is damaged" in forger.refused(skeleton((4, 3)))


def test_blocks_cost_a_few_bits_beside_what_is_in_them() -> None:
    """As one tensor, it takes the bits of its two blocks. In pieces, it also takes a layout and a second form."""
    top, spec = LowRank(laplace(60, 4, scale=9), laplace(4, 50, scale=9), 0.5, 0.5), skeleton((120, 50))
    apart = Pieces(Blocks(0, 2), (top, Constant(0)))
    below = np.concatenate([top.A, np.zeros_like(top.A)])
    whole = LowRank(below, top.B, 0.5, 0.5)
    alone = count_bits(skeleton((60, 50)), [top])[0]
    assert 0 < count_bits(spec, [apart])[0] - alone < 24
    assert count_bits(spec, [apart])[0] < count_bits(spec, [whole])[0]


def test_truth_values_other_than_0_and_1_are_refused() -> None:
    forger = Forger()
    forger.form(LOSSLESS, kept=True)
    forger.encoder.categorical(np.array([0, 1, 2]), np.ones(256), 3)
    words = "w0: a truth value is stored as 2, neither 0 nor 1: the payload is damaged"
    assert forger.refused(skeleton((3,), dtype=torch.bool)) == words


@given(
    st.binary(max_size=300), st.lists(st.tuples(st.lists(st.sampled_from([0, 1, 2, 5, 33]), max_size=3), st.booleans()), max_size=5)
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_decode_to_tensors_or_are_refused(payload: bytes, tensors: list[tuple[list[int], bool]]) -> None:
    dtypes = {True: torch.float32, False: torch.bool}
    spec = Skeleton(tuple(TensorSpec((f"w{i}",), tuple(shape), dtypes[real]) for i, (shape, real) in enumerate(tensors)))
    with contextlib.suppress(FormatError):
        _, decoded = decode(spec, payload)
        for coarse, one in zip(decoded, spec.tensors, strict=True):
            tensor = coarse.decode(one)
            assert (tuple(tensor.shape), tensor.dtype) == (one.shape, one.dtype)
            assert isinstance(coarse, Lossless) or not tensor.isnan().any()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_payloads_decode_or_are_refused(data: st.DataObject) -> None:
    """The damage comes after a correct beginning, which random bytes seldom have."""
    spec = skeleton((40, 12), (30, 8), (6,))
    tensors = [
        LowRank(laplace(40, 3), laplace(3, 12), 0.5, 0.5),
        Dense(laplace(30, 8, scale=200), 0.1),
        lossless(torch.zeros(6) + 0.1),
    ]
    payload = bytearray(encode(spec, tensors, ENTROPY))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FormatError):
        for coarse, one in zip(decode(spec, bytes(payload))[1], spec.tensors, strict=True):
            assert coarse.decode(one).shape == one.shape


# --- what a writer must not choose


def test_nothing_may_follow_a_payload_or_stand_in_the_place_of_its_end() -> None:
    spec, tensors = skeleton((12, 8)), [Dense(laplace(12, 8), 0.5)]
    payload = encode(spec, tensors, ENTROPY)
    decode(spec, payload)
    for longer in (payload + b"\1", payload + bytes(range(1, 21)), payload[:-1] + bytes([payload[-1] ^ 1]) + b"\1"):
        with pytest.raises(FormatError, match="payload goes on or ends otherwise than its decisions do"):
            decode(spec, longer)
        decode(spec, longer, version=1)  # this version didn't mark the end of its payloads


def test_the_order_of_tensors_says_nothing() -> None:
    spec = skeleton((12, 8), (30, 4), (9,))
    tensors: list[CoarseTensor] = [Dense(laplace(12, 8), 0.5), Dense(laplace(30, 4), 0.5), Constant(1)]
    payload = encode(spec, tensors, ENTROPY)
    for order in itertools.permutations(range(3)):
        permuted = Skeleton(tuple(spec.tensors[index] for index in order))
        assert encode(permuted, [tensors[index] for index in order], ENTROPY) == payload
        assert [type(coarse) for coarse in decode(permuted, payload)[1]] == [type(tensors[index]) for index in order]


def test_factors_may_not_ask_for_more_work_than_a_payload_pays_for() -> None:
    side = 1750  # the cube of this number is more than the free work
    spec = skeleton((side, side))
    ones = np.ones((side, side), dtype=np.int8)
    payload = encode(spec, [LowRank(ones, ones, 1.0, 1.0)], ENTROPY)
    assert len(payload) < 100
    with pytest.raises(FormatError, match="factors of rank 1750 take more work than a payload of this length may ask for"):
        decode(spec, payload)
    low = LowRank(ones[:, :200], ones[:200], 1.0, 1.0)
    assert isinstance(decode(spec, encode(spec, [low], ENTROPY))[1][0], LowRank)


def test_zeros_in_factors_are_no_work() -> None:
    A, B = np.zeros((60, 40), dtype=np.int8), np.zeros((40, 50), dtype=np.int8)
    A[:9, :4], B[2:7, :3] = 5, 7
    assert multiplications(A, B, (0, 0)) == 2 * 9 * 3  # components 2 and 3 are used
    assert multiplications(A, B, (60, 0)) == 2 * 60 * 3 + (2 + 32) * 60 * 60
    spec = TensorSpec(("w",), (60, 50), torch.float32)
    decoded = LowRank(A, B, 0.5, 1.0).decode(spec)
    assert decoded.tolist() == (0.5 * A.astype(float) @ B.astype(float)).tolist()
    assert not decoded.signbit().any()
    full = LowRank(np.zeros((2000, 2000), dtype=np.int8), np.zeros((2000, 2000), dtype=np.int8), 1.0, 1.0)
    large = skeleton((2000, 2000))
    assert isinstance(decode(large, encode(large, [full], ENTROPY))[1][0], LowRank)


def test_an_unsigned_tensor_has_no_negative_symbols() -> None:
    for dtype in (torch.uint8, torch.uint64):
        with pytest.raises(FormatError, match=r"symbols go beyond what torch\.uint"):
            Dense(np.array([3, -1])).decode(TensorSpec(("n",), (2,), dtype))


def test_a_payload_may_have_as_many_parts_as_its_length_allows_and_no_more() -> None:
    walk, spec = _Walk(Encoder(), parts=3), TensorSpec(("w",), (2,), torch.float32)
    walk.count(2, spec)
    walk.count(1, spec)
    with pytest.raises(FormatError, match="w: more tensors and pieces than a payload of this length may have"):
        walk.count(1, spec)
