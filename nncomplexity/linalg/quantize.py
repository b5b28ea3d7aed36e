"""Uniform quantization: real numbers as integer multiples of one bin size (DeMoss et al. 2025, Eqs. 9 and 11).

An encoder needs the integers, so quantization has two parts: `symbols` finds the nearest bins, and `dequantize` gives the real
numbers. Both compute in float64 and round once to the tensor's dtype, so every machine gets the same bits.
"""

import math

import torch
from torch import Tensor

from nncomplexity.errors import InputError
from nncomplexity.words import checked_number

LARGEST_SYMBOL = 2**31 - 1
_PART = 1 << 20
"""The number of values that `round_once` converts at one time."""


def symbols(x: Tensor, step: float) -> Tensor:
    """The index of the nearest bin, round(x/Δ), with ties to even: the integers of Eq. 11.

    Args:
        x: a floating-point tensor of any shape.
        step: the bin size Δ > 0, in the units of x.

    Returns:
        An int64 tensor of x's shape, on x's device, with entries in ±(2³¹ − 1).

    Raises:
        InputError: `step` isn't a finite number above 0, or `x` isn't floating-point, contains a NaN or an infinity, or has an index beyond
            2³¹ − 1.

    >>> symbols(torch.tensor([0.26, -0.74, 0.75, 1.25]), step=0.5).tolist()
    [1, -1, 2, 2]
    """
    step = _positive("step", step)
    if not isinstance(x, Tensor):
        raise InputError(f"x: expected a floating-point tensor, got {type(x).__name__}; use torch.tensor")
    if not x.is_floating_point():
        raise InputError(f"x: expected a floating-point tensor, got {x.dtype}, which is stored as it is instead")
    indices = (x.detach().double() / step).round_()
    largest = indices.abs().amax().item() if indices.numel() else 0.0
    if not largest <= LARGEST_SYMBOL:
        if not torch.isfinite(x.double()).all():
            raise InputError("x: expected finite values, got a NaN or an infinity, which lies in no bin")
        raise InputError(f"step: expected |x/step| <= {LARGEST_SYMBOL}, got step {step:g}, {largest:.3g} steps; use a larger step")
    return indices.long()


def dequantize(symbols: Tensor, step: float, dtype: torch.dtype) -> Tensor:
    """The real numbers of the indices, symbols·Δ, computed in float64 and rounded once to `dtype`.

    Every zero is +0. A value beyond the range of `dtype` becomes an infinity, as in IEEE 754.

    Args:
        symbols: an int64 tensor of any shape.
        step: the bin size Δ > 0.
        dtype: the floating-point dtype of the result.

    Returns:
        The tensor of multiples, of the same shape, in `dtype`.

    Raises:
        InputError: `step` isn't a finite number above 0, or `symbols` is no integer tensor.

    >>> dequantize(torch.tensor([1, -1, 0]), step=0.1, dtype=torch.float64).tolist()
    [0.1, -0.1, 0.0]
    """
    step = _positive("step", step)
    if not isinstance(symbols, Tensor) or symbols.is_floating_point() or symbols.is_complex():
        came = symbols.dtype if isinstance(symbols, Tensor) else type(symbols).__name__
        raise InputError(f"symbols: expected an integer tensor, as quantize.symbols gives, got {came}")
    return round_once(symbols.double() * step, dtype)


def quantize(x: Tensor, step: float) -> Tensor:
    """Q(x, Δ) = round(x/Δ)·Δ (Eq. 11), in x's own dtype and shape, with every zero positive.

    Raises:
        InputError: in the cases of `symbols`.

    >>> quantize(torch.tensor([0.26, -0.1, 0.8]), step=0.5).tolist()
    [0.5, 0.0, 1.0]
    """
    return dequantize(symbols(x, step), step, x.dtype)


def round_once(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Float64 `values` in `dtype`, each rounded once to the nearest number, with ties to even.

    A value beyond the dtype's range becomes an infinity. In float8_e4m3fn, which has no infinity, it becomes the largest number.

    PyTorch converts float64 to 8- and 16-bit types through float32, and so rounds twice: 1 + 2⁻¹¹ + 2⁻⁴⁰ becomes 1 in
    float16, although the next larger number is nearer. Here the first rounding is to odd (Boldo and Melquiond 2008), and the result is then
    the same as with a single rounding.

    Raises:
        InputError: `dtype` isn't a floating-point one.

    >>> round_once(torch.tensor([1 + 2**-11 + 2**-40], dtype=torch.float64), torch.float16).item()
    1.0009765625
    """
    if not dtype.is_floating_point:
        raise InputError(f"dtype: expected a floating-point one, got {dtype}")
    if torch.finfo(dtype).bits >= 32:
        return values.to(dtype)
    rounded = torch.empty(values.shape, dtype=dtype, device=values.device)
    # In parts, because a conversion takes six times the memory of its values.
    for part, into in zip(torch.split(values.reshape(-1), _PART), torch.split(rounded.view(-1), _PART), strict=True):
        into.copy_(_rounded_to_odd(part, dtype))
    return rounded


def _rounded_to_odd(values: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype == torch.float8_e4m3fn:  # this dtype has no infinity, and PyTorch's result for large values depends on its version
        values = values.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max)
    nearest = values.float()
    back = nearest.double()
    # Read as an integer, a float minus one is the next float towards zero. So a value that was rounded away from zero is taken back, and
    # the last bit is set if the value is not exact: this is rounding to odd.
    beyond = (back.abs() > values.abs()).int()
    inexact = (back != values).int()
    return ((nearest.view(torch.int32) - beyond) | inexact).view(torch.float32).to(dtype)


def capacity(scale: float, step: float) -> float:
    """Bits in one positive parameter up to λ that is known with precision δ: I = log₂(λ/δ) (Eq. 9), and 0 if δ exceeds λ.

    Args:
        scale: the largest value λ > 0.
        step: the precision δ > 0, in the same units.

    Returns:
        The capacity, in bits per number.

    Raises:
        InputError: `scale` or `step` isn't a finite number above 0.

    >>> capacity(scale=8.0, step=0.5)
    4.0
    """
    return max(0.0, math.log2(_positive("scale", scale)) - math.log2(_positive("step", step)))


def _positive(name: str, value: float) -> float:
    return checked_number(name, value, "a finite number above 0", lambda number: number > 0)
