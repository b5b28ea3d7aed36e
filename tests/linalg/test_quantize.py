"""Uniform quantization against exact rational arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nncomplexity.errors import InputError
from nncomplexity.linalg import LARGEST_SYMBOL, capacity, dequantize, quantize, round_once, symbols

STEPS = st.floats(1e-6, 1e3)
WEIGHTS = st.floats(-100, 100, width=32)
ONE_HALF_ULP_AND_A_BIT = {
    torch.float16: 1 + 2**-11 + 2**-40,
    torch.bfloat16: 1 + 2**-8 + 2**-40,
    torch.float8_e4m3fn: 1 + 2**-4 + 2**-40,
}


@given(st.lists(WEIGHTS, min_size=1, max_size=20), STEPS)
def test_no_bin_is_nearer(values: list[float], step: float) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    for value, index in zip(x.tolist(), symbols(x, step).tolist(), strict=True):
        # The quotient is rounded once to float64, so a value may be beyond the middle between two bins by this much.
        assert abs(Fraction(value) / Fraction(step) - index) <= Fraction(1, 2) + Fraction(abs(index) + 1, 2**52)


def test_ties_go_to_the_even_index() -> None:
    assert symbols(torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]) / 4, 0.25).tolist() == [-2, -2, 0, 0, 2, 2]


def test_float32_is_divided_in_float64() -> None:
    x = torch.tensor([16777215.0], dtype=torch.float32)
    assert symbols(x, 0.1).item() == round(Fraction(16777215) / Fraction(0.1)) != (x / 0.1).round().long().item()


@given(
    st.lists(WEIGHTS, min_size=1, max_size=20),
    STEPS,
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
def test_quantizing_twice_changes_nothing_that_the_symbols_say(values: list[float], step: float, dtype: torch.dtype) -> None:
    x = torch.tensor(values, dtype=dtype)
    indices = symbols(x, step)
    coarse = quantize(x, step)
    assert coarse.dtype == dtype
    assert torch.equal(coarse, dequantize(indices, step, dtype))
    if dtype == torch.float64:
        assert torch.equal(quantize(coarse, step), coarse)


def test_zeros_are_positive() -> None:
    coarse = quantize(torch.tensor([-0.0, -0.1, 0.1]), 1.0)
    assert not coarse.signbit().any()
    assert not dequantize(torch.tensor([0]), 0.5, torch.float16).signbit().any()


def test_shapes_and_empty_tensors_are_kept() -> None:
    assert symbols(torch.zeros(2, 0, 3), 0.1).shape == quantize(torch.zeros(2, 0, 3), 0.1).shape == (2, 0, 3)
    assert quantize(torch.tensor(0.3), 0.5).item() == 0.5


def test_gradients_are_left_out() -> None:
    assert not quantize(torch.ones(2, requires_grad=True), 0.1).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_dtypes_are_rounded_once(dtype: torch.dtype) -> None:
    # Read as integers, the bits of consecutive positive 16-bit floats are consecutive, and an even one has a last bit of 0.
    last = torch.tensor(torch.finfo(dtype).max, dtype=dtype).view(torch.int16).item()
    for below in torch.randint(0, int(last), (500,), generator=torch.Generator().manual_seed(0)).tolist():
        low, high = torch.tensor([below, below + 1], dtype=torch.int16).view(dtype).double().tolist()
        middle = (low + high) / 2
        values = [math.nextafter(middle, -math.inf), middle, math.nextafter(middle, math.inf)]
        expected = [low, low if below % 2 == 0 else high, high]
        assert round_once(torch.tensor(values, dtype=torch.float64), dtype).tolist() == expected
        assert round_once(-torch.tensor(values, dtype=torch.float64), dtype).tolist() == [-x for x in expected]


@given(st.floats(allow_nan=False))
def test_float16_agrees_with_numpy(value: float) -> None:
    with np.errstate(over="ignore"):
        expected = np.float64(value).astype(np.float16)
    assert round_once(torch.tensor([value], dtype=torch.float64), torch.float16).numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize(("dtype", "value"), ONE_HALF_ULP_AND_A_BIT.items())
def test_what_two_roundings_would_lose(dtype: torch.dtype, value: float) -> None:
    up = 1 + torch.finfo(dtype).eps
    assert torch.tensor(value, dtype=torch.float64).to(dtype).item() == 1.0  # the reason for round_once
    assert dequantize(torch.tensor([1, -1]), value, dtype).tolist() == [up, -up]


def test_nan_stays_nan() -> None:
    assert round_once(torch.tensor([math.nan], dtype=torch.float64), torch.bfloat16).isnan().all()


def test_capacity() -> None:
    assert capacity(1.0, 2**-10) == 10
    assert capacity(1e300, 1e-300) == pytest.approx(600 * math.log2(10))
    assert capacity(0.1, 0.2) == 0


@pytest.mark.parametrize("step", [0, -1.0, math.nan, math.inf, "wide", None])
def test_a_step_must_be_finite_and_positive(step: float) -> None:
    for call in (lambda: symbols(torch.ones(1), step), lambda: dequantize(torch.tensor([1]), step, torch.float32)):
        with pytest.raises(InputError, match="step: expected a finite number above 0, got"):
            call()


def test_indices_must_fit() -> None:
    assert symbols(torch.tensor([float(LARGEST_SYMBOL)], dtype=torch.float64), 1.0).item() == LARGEST_SYMBOL
    with pytest.raises(InputError, match=r"step: expected .* got step 1, 2.15e\+09 steps; use a larger step"):
        symbols(torch.tensor([2.0**31]), 1.0)
    with pytest.raises(InputError, match="use a larger step"):
        symbols(torch.ones(1), 5e-324)
    for bad in (math.nan, math.inf):
        with pytest.raises(InputError, match="x: expected finite values, got a NaN or an infinity"):
            symbols(torch.tensor([1.0, bad]), 1.0)


def test_wrong_dtypes_are_named() -> None:
    with pytest.raises(InputError, match=r"x: expected a floating-point tensor, got torch\.int64"):
        symbols(torch.ones(1, dtype=torch.int64), 1.0)
    with pytest.raises(InputError, match=r"symbols: expected an integer tensor, .* got torch\.float32"):
        dequantize(torch.ones(1), 1.0, torch.float32)
    with pytest.raises(InputError, match=r"dtype: expected a floating-point one, got torch\.int8"):
        dequantize(torch.tensor([1]), 1.0, torch.int8)
    with pytest.raises(InputError, match="scale: expected a finite number above 0, got 0"):
        capacity(0, 1.0)


def test_what_is_beyond_the_range_of_eight_bits() -> None:
    """float8_e4m3fn has no infinity, and versions of PyTorch differ in the value that they use instead."""
    values = torch.tensor([448, 463, 480, -1e6, torch.inf, -torch.inf], dtype=torch.float64)
    assert round_once(values, torch.float8_e4m3fn).float().tolist() == [448, 448, 448, -448, 448, -448]
    assert round_once(values, torch.float8_e5m2).float().tolist() == [448, 448, 512, -torch.inf, torch.inf, -torch.inf]
    assert round_once(torch.tensor([torch.nan], dtype=torch.float64), torch.float8_e4m3fn).isnan().all()
