"""The forms of a coarse tensor: against exact arithmetic, and the lossless ones bit for bit."""

import math
import struct
import warnings
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nncomplexity.errors import FormatError
from nncomplexity.file import CoarseTensor, Constant, Dense, LowRank, Pieces, exact, form_of, matrix_shape, narrow
from nncomplexity.file import coarse as coarse_module
from nncomplexity.file.coarse import INTEGERS, Lossless, decoded_together, dense, lossless, overflows
from nncomplexity.linalg import waves
from nncomplexity.network import Blocks, Folding, TensorSpec
from tests.golden.reference import rounded

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
STEPS = st.floats(2.0**-40, 2.0**40)


def spec(*shape: int, dtype: torch.dtype = torch.float32) -> TensorSpec:
    return TensorSpec(("w",), shape, dtype)


def data(tensor: torch.Tensor) -> bytes:
    return lossless(tensor).data.tobytes()


def float64(exact: Fraction) -> float:
    return exact.numerator / exact.denominator  # Python rounds this quotient of integers correctly


@given(st.lists(st.integers(-(2**31) + 1, 2**31 - 1) | st.integers(-9, 9), max_size=6), STEPS, st.sampled_from(DTYPES))
def test_dense_symbols_times_the_step_are_rounded_once(symbols: list[int], step: float, dtype: torch.dtype) -> None:
    expected = b"".join(
        rounded(float64(Fraction(symbol) * Fraction(step)), str(dtype).removeprefix("torch.")) for symbol in symbols
    )
    decoded = Dense(np.array(symbols, dtype=np.int64), step).decode(spec(len(symbols), dtype=dtype))
    assert decoded.dtype == dtype
    assert data(decoded) == expected


def test_factors_whose_products_may_not_be_exact_are_refused_together_as_they_are_alone() -> None:
    sure = LowRank(np.full((4, 3), 2**25), np.full((3, 4), 2**25), 1.0, 2.0**-50)
    beyond = LowRank(np.full((4, 3), 2**26), np.full((3, 4), 2**26), 1.0, 2.0**-50)
    specs = [replace(spec(4, 4), names=(name,)) for name in "ab"]
    together = decoded_together(specs, [sure, sure])
    assert all(torch.equal(together[one.names[0]], sure.decode(one)) for one in specs)
    with pytest.raises(FormatError, match=r"b: factors reach 1.35e\+16, beyond 2\^53"):
        decoded_together(specs, [sure, beyond])


@pytest.mark.parametrize("bits", [7, 15, 31])
def test_narrow_symbols_are_the_same_numbers(bits: int) -> None:
    for largest in (2**bits - 1, 2**bits):
        for symbols in ([largest, 0], [0, -largest]):
            narrowed = narrow(torch.tensor(symbols))
            assert narrowed.tolist() == symbols
            assert np.negative(narrowed).tolist() == [-symbol for symbol in symbols]
            assert narrowed.itemsize == (bits + 1) // 8 * (1 if largest < 2**bits else 2)
    assert narrow(torch.empty(0, 3)).shape == (0, 3)


@pytest.mark.parametrize(("rows", "columns"), [(10, 5), (3, 30), (50, 1), (1, 50)])
@pytest.mark.parametrize("with_base", [False, True])
def test_only_a_part_of_a_large_tensor_is_in_float64_at_once(
    rows: int, columns: int, with_base: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    one = replace(spec(rows, columns), base=torch.randn(rows, columns, generator=generator) if with_base else None)
    several = (
        Dense(rng.integers(-9, 10, (rows, columns)), 0.3),
        LowRank(*(rng.integers(-9, 10, s) for s in ((rows, 2), (2, columns))), 0.3, 0.7),
    )
    whole = [coarse.decode(one) for coarse in several]
    sizes, rounding = [], coarse_module._rounded

    def noted(values: torch.Tensor, *more: Any) -> torch.Tensor:
        sizes.append(values.numel())
        return rounding(values, *more)

    monkeypatch.setattr(coarse_module, "_AT_ONCE", 12)
    monkeypatch.setattr(coarse_module, "_rounded", noted)
    assert all(torch.equal(coarse.decode(one), expected) for coarse, expected in zip(several, whole, strict=True))
    assert sum(sizes) == 2 * rows * columns
    assert max(sizes) <= 12


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.data(), STEPS, STEPS, st.sampled_from(DTYPES))
def test_products_of_factors_are_exact_before_they_are_rounded(m, k, n, draw, step_a, step_b, dtype) -> None:
    elements = st.integers(-(2**24), 2**24)
    A, B = (draw.draw(hnp.arrays(np.int64, shape, elements=elements)) for shape in ((m, k), (k, n)))
    coarse = LowRank(A, B, step_a, step_b)
    exact = [[sum(int(A[i, r]) * int(B[r, j]) for r in range(k)) for j in range(n)] for i in range(m)]
    expected = b"".join(
        rounded(float(value) * (step_a * step_b), str(dtype).removeprefix("torch.")) for row in exact for value in row
    )
    assert coarse.rank == k
    assert data(coarse.decode(spec(m, n, dtype=dtype))) == expected


def test_large_products_do_not_depend_on_the_order_of_summation() -> None:
    rng = np.random.default_rng(0)
    A, B = rng.integers(-(2**22), 2**22, (300, 64)), rng.integers(-(2**22), 2**22, (64, 200))
    order = rng.permutation(64)
    one = LowRank(A, B, 0.1, 0.3).decode(spec(300, 200, dtype=torch.float64))
    other = LowRank(A[:, order], B[order], 0.1, 0.3).decode(spec(300, 200, dtype=torch.float64))
    assert torch.equal(one, other)
    assert (one.numpy() == (A @ B).astype(np.float64) * (0.1 * 0.3)).all()


def test_products_beyond_exactness_are_refused() -> None:
    big = np.full((1, 1), 2**27)
    LowRank(big, big // 2 - 1, 1.0, 1.0).decode(spec(1, 1))
    with pytest.raises(FormatError, match=r"w: factors reach 1\.8e\+16, beyond 2\^53, where products are no longer exact"):
        LowRank(big, big, 1.0, 1.0).decode(spec(1, 1))


def test_bases_multiply_the_factors_exactly() -> None:
    rng = np.random.default_rng(0)
    A, B = rng.integers(-9, 9, (7, 3)), rng.integers(-9, 9, (3, 6))
    T, S = (waves(rows, period).numpy().astype(object).astype(int).astype(object) for rows, period in ((7, 5), (6, 6)))
    expected = (T @ A @ B @ S.T).astype(np.float64) * (0.1 * 0.3 * 2.0**-22)
    decoded = LowRank(A, B, 0.1, 0.3, (5, 6)).decode(spec(7, 6, dtype=torch.float64))
    assert np.array_equal(decoded.numpy(), expected)


def test_products_with_a_basis_beyond_exactness_are_refused() -> None:
    big = np.full((4, 1), 2**31 - 1)
    LowRank(big, np.ones((1, 4), dtype=np.int64), 1.0, 1.0, (4, 0)).decode(spec(4, 4))
    with pytest.raises(FormatError, match=r"w: factors reach .*, beyond 2\^53"):
        LowRank(big, big.T, 1.0, 1.0, (4, 0)).decode(spec(4, 4))
    with pytest.raises(FormatError, match=r"w: factors reach .*, beyond 2\^53"):
        LowRank(np.full((1000, 1), 2**31 - 1), np.ones((1, 4), dtype=np.int64), 1.0, 1.0, (1000, 0)).decode(spec(1000, 4))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_their_own_symbols(dtype: torch.dtype) -> None:
    values = torch.tensor([0, 1, 1, 0]) if dtype == torch.bool else torch.tensor([0, 1, 100, 7])
    tensor = values.to(dtype).reshape(2, 2)
    coarse = exact(tensor)
    assert isinstance(coarse, Dense)
    decoded = coarse.decode(spec(2, 2, dtype=dtype))
    assert decoded.dtype == dtype
    assert data(decoded) == data(tensor)


def test_integers_beyond_symbols_are_kept_as_bytes() -> None:
    for tensor in (torch.tensor([2**31]), torch.tensor([-(2**31)]), torch.tensor([2**63 + 5], dtype=torch.uint64)):
        assert isinstance(exact(tensor), Lossless)
    assert isinstance(exact(torch.tensor([2**31 - 1, 1 - 2**31])), Dense)


@pytest.mark.parametrize(("symbol", "dtype"), [(256, torch.uint8), (-1, torch.uint16), (2, torch.bool), (-129, torch.int8)])
def test_symbols_beyond_the_dtype_are_refused(symbol: int, dtype: torch.dtype) -> None:
    with pytest.raises(FormatError, match=f"w: symbols go beyond what {dtype} holds: the payload is damaged"):
        Dense(np.array([symbol])).decode(spec(1, dtype=dtype))


def test_steps_without_a_finite_product_are_refused() -> None:
    zeros = np.zeros((1, 1), dtype=np.int64)
    with pytest.raises(FormatError, match=r"w: steps 8\.99e\+307 and 4 have no finite product: the payload is damaged"):
        LowRank(zeros, zeros, 2.0**1023, 4.0).decode(spec(1, 1))


def test_a_zero_is_positive_whatever_it_is_the_product_of() -> None:
    for k in (1, 2, 40):
        A, B = -np.ones((3, k), dtype=np.int64), np.zeros((k, 2), dtype=np.int64)
        assert data(LowRank(A, B, 0.5, 0.5).decode(spec(3, 2))) == bytes(24)
    assert data(Dense(np.array([0, 0]), 0.5).decode(spec(2))) == bytes(8)


@pytest.mark.parametrize(("dtype", "largest"), [(torch.float16, 65504.0), (torch.float32, 3.4028234663852886e38)])
def test_what_exceeds_the_dtype_becomes_infinite_without_a_warning(dtype: torch.dtype, largest: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = Dense(np.array([1, 2, -2]), largest).decode(spec(3, dtype=dtype))
        assert decoded.tolist() == [largest, math.inf, -math.inf]
        assert Dense(np.array([2**31 - 1]), 2.0**1023).decode(spec(1, dtype=torch.float64)).tolist() == [math.inf]


def test_sixteen_bits_are_not_rounded_by_way_of_float32() -> None:
    # 1 + 2^-11 + 2^-40 is just above the middle of two float16 numbers. As a float32, it is exactly the middle.
    symbols, step = np.array([2**30 + 2**19 + 1]), 2.0**-30
    assert Dense(symbols, step).decode(spec(1, dtype=torch.float16)).item() == 1 + 2**-10
    assert torch.tensor(2**30 + 2**19 + 1, dtype=torch.float64).mul(step).to(torch.float16).item() == 1


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3), (2, 1, 3, 2)])
@pytest.mark.parametrize("value", [0, 1])
def test_constants_fill_any_shape(shape: tuple[int, ...], value: int) -> None:
    for dtype in (*DTYPES, torch.int64, torch.bool, torch.float8_e4m3fn, torch.uint16, torch.complex64):
        decoded = Constant(value).decode(spec(*shape, dtype=dtype))
        assert (decoded.shape, decoded.dtype) == (shape, dtype)
        assert decoded.to(torch.complex128).eq(value).all()


ALL = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32", "int16", "int8", "uint8")
ALL += ("uint16", "uint32", "uint64", "complex64", "complex128")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (0, 3), (3, 2), (2, 2, 1, 3)])
def test_lossless_tensors_keep_every_bit(name: str, shape: tuple[int, ...]) -> None:
    dtype = getattr(torch, name)
    original = spec(*shape, dtype=dtype)
    content = np.random.default_rng(0).integers(0, 256, original.raw_bytes, dtype=np.uint8)
    decoded = Lossless(content).decode(original)
    assert (decoded.shape, decoded.dtype) == (shape, dtype)
    assert data(decoded) == content.tobytes()


def test_lossless_keeps_signed_zeros_infinities_and_payloads_of_nans() -> None:
    content = struct.pack("<5I", 0x80000000, 0x7F800000, 0x7FC00001, 0xFFA5A5A5, 0x00000001)
    tensor = torch.frombuffer(bytearray(content), dtype=torch.float32)
    assert data(lossless(tensor).decode(spec(5))) == content


def test_lossless_takes_views_as_what_they_show() -> None:
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    for view in (base.T, base[:, ::2], base[1], base[2, 3]):
        assert torch.equal(lossless(view).decode(spec(*view.shape)), view)
    numbers = torch.tensor([1 + 2j, 3 - 4j])
    assert torch.equal(lossless(numbers.conj()).decode(spec(2, dtype=torch.complex64)), numbers.conj())
    assert torch.equal(lossless(numbers.conj().imag).decode(spec(2)), -numbers.imag)


def test_lossless_holds_a_copy() -> None:
    tensor = torch.zeros(3)
    held = lossless(tensor)
    tensor += 1
    decoded = held.decode(spec(3))
    decoded += 5
    assert held.decode(spec(3)).tolist() == [0, 0, 0]


def test_truth_values_are_kept() -> None:
    tensor = torch.tensor([[True, False], [False, True]])
    assert torch.equal(lossless(tensor).decode(spec(2, 2, dtype=torch.bool)), tensor)


def test_forms_have_names() -> None:
    symbols = np.zeros((1, 1), dtype=np.int64)
    forms: list[CoarseTensor] = [
        Constant(0),
        Constant(1),
        Dense(symbols, 1.0),
        LowRank(symbols, symbols, 1.0, 1.0),
        Lossless(np.zeros(0, dtype=np.uint8)),
        Pieces(Blocks(0, 2), (Constant(0), Dense(symbols, 1.0))),
        Pieces(Folding(1), (Dense(symbols, 1.0),)),
    ]
    assert [form_of(form) for form in forms] == ["zero", "constant", "dense", "low_rank", "lossless", "blocks", "dense"]


def test_only_what_has_two_extents_and_entries_is_a_matrix() -> None:
    shapes = {(): None, (4,): None, (3, 0): None, (3, 4): (3, 4), (8, 3, 2, 2): (8, 12)}
    assert {shape: matrix_shape(spec(*shape)) for shape in shapes} == shapes


@pytest.mark.parametrize(
    ("symbols", "step", "value"),
    [([0, 0], 0.1, 0), ([1, 1], 1.0, 1), ([2, 2], 0.5, 1), ([1, 0], 1.0, None), ([2, 2], 1.0, None), ([-1, -1], 1.0, None)],
)
def test_symbols_that_are_all_zero_or_all_one_are_a_constant(symbols: list[int], step: float, value: int | None) -> None:
    coarse = dense(np.array(symbols), step)
    assert coarse == Constant(value) if value is not None else isinstance(coarse, Dense)
    assert coarse.decode(spec(2)).tolist() == [symbol * step for symbol in symbols]


@pytest.mark.parametrize(
    ("dtype", "base"), [(torch.int16, [2, -3, 7]), (torch.uint8, [200, 0, 255]), (torch.bool, [True, False, True])]
)
def test_integers_are_added_to_their_base(dtype: torch.dtype, base: list[int]) -> None:
    original = torch.tensor([0, 5, 9]).to(dtype)
    relative = TensorSpec(("w",), (3,), dtype, base=torch.tensor(base, dtype=dtype))
    coarse = exact(original, relative.base)
    assert isinstance(coarse, Dense)
    assert torch.equal(coarse.decode(relative), original)


def test_a_single_symbol_may_be_a_constant() -> None:
    assert [dense(np.array([one]), 1.0) for one in (0, 1)] == [Constant(0), Constant(1)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16, torch.bool])
def test_a_tensor_that_is_its_base_takes_no_symbols(dtype: torch.dtype) -> None:
    tensor = torch.tensor([0, 1, 1], dtype=dtype)
    assert exact(tensor, tensor.clone()) == Constant(0)
    relative = TensorSpec(("w",), (3,), dtype, base=tensor)
    assert torch.equal(Constant(0).decode(relative), tensor)


def test_the_largest_number_of_a_dtype_does_not_overflow() -> None:
    largest = torch.finfo(torch.float16).max
    assert not overflows(Dense(np.array([1, -1]), largest), spec(2, dtype=torch.float16))
    assert overflows(Dense(np.array([1, -2]), largest), spec(2, dtype=torch.float16))
