"""Latents: continuous numbers that a descent changes, and whose rounded values are the symbols of a coarse tensor.

A latent holds u in units of the step size, and one scale s. Its symbols are Q(u), which is round(u) with a dead zone around zero:

    W = s · Q(u)            dense,       u in the tensor's matrix view (m, n) or (n,)
    W = s · F_A · Q(u_A) · Q(u_B) · F_Bᵀ   low rank,    u_A (m, k), u_B (k, n)

with F the basis of a side, scaled to columns of a norm near 1 (`nncomplexity.linalg.basis`), or the identity where it has none.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from nncomplexity.codecs import SYMBOL_LIMIT, Integers
from nncomplexity.file import Constant, Dense, LowRank, Piece, narrow, overflows
from nncomplexity.linalg import SMALL, shift, waves
from nncomplexity.network import TensorSpec, stacked

_LOGARITHMS = (-744.0, 708.0)
"""The least and the largest logarithm of a scale: within the range of float64, also after rounding to the grid of step sizes."""
PRECISION = 6
"""Mantissa bits of the step sizes of a candidate."""
DEAD_ZONE = 0.6
"""Magnitudes below this are rounded to zero, although that is nearest only below 0.5: zero is the cheapest symbol.

The descent sees the cost in loss, and moves numbers out of the zone if they matter.
"""


@dataclass
class Latent:
    """The latents u of one tensor, one matrix or two factors, and the logarithm of the scale s."""

    spec: TensorSpec
    parts: list[Tensor]
    log_scale: float
    periods: tuple[int, int] = (0, 0)
    """The periods of the two sides' bases, 0 for none."""
    precision: int | None = None
    """Mantissa bits of the step sizes in a file; None while a descent still changes the scale, which is then any float64."""

    @property
    def step(self) -> float:
        """The step of each part: √s for two factors."""
        low, high = _LOGARITHMS
        # Both factors have one step. Only the product matters, and a difference between the two would have to be learned, too.
        step = math.exp(min(max(self.log_scale, low), high) / len(self.parts))
        return step if self.precision is None else snapped(step, self.precision)

    @property
    def scale(self) -> float:
        """s, the product of the steps of all parts."""
        return self.step ** len(self.parts)

    def copy(self) -> "Latent":
        """A copy with tensors of its own: a descent that changes one of the two leaves the other as it is."""
        return replace(self, parts=[part.clone() for part in self.parts])

    def fitting(self, coarse: Piece) -> Piece:
        """The coarse tensor with a smaller scale if an element is beyond the range of its dtype.

        With a base it stays: the decoded element is a sum with the base's, so that no one scale can be told from the coarse tensor alone.
        """
        if self.spec.base is not None or not overflows(coarse, self.spec):
            return coarse
        # In float64 nothing overflows, so the largest element tells by how much the scale must shrink.
        wide = coarse.decode(replace(self.spec, dtype=torch.float64))
        smaller = (self.spec.room / float(wide.abs().max())) ** (1 / len(self.parts))
        if isinstance(coarse, LowRank):
            step = self._snapped(coarse.step_a * smaller)
            return replace(coarse, step_a=step, step_b=step)
        return replace(coarse, step=self._snapped(coarse.step * smaller)) if isinstance(coarse, Dense) else coarse

    def _snapped(self, step: float) -> float:
        """The largest step of the file's grid that is at most `step`."""
        if self.precision is None:
            return step
        snap = snapped(step, self.precision)
        return snap if snap <= step else snapped(step * (1 - 2.0**-self.precision), self.precision)


def alike(latents: Sequence[Latent]) -> list[list[Latent]]:
    """Latents in groups of one shape and form, so that one operation serves all of a group.

    Only small tensors on the CPU, without a base or a basis of waves, share a group. Each other tensor is a group of its own.
    """
    groups: dict[object, list[Latent]] = {}
    for latent in latents:
        spec, shapes = latent.spec, [part.shape for part in latent.parts]
        together = spec.count <= SMALL and spec.base is None and latent.periods == (0, 0) and latent.parts[0].device.type == "cpu"
        key = (spec.shape, spec.dtype, *shapes) if together else id(latent)
        groups.setdefault(key, []).append(latent)
    return list(groups.values())


def stacks(latents: Sequence[Latent]) -> list[Tensor]:
    """Each part of T latents of one shape and form, (T, ...)."""
    return [stacked(parts) for parts in zip(*(latent.parts for latent in latents), strict=True)]


def coarse_of(latents: Sequence[Latent], bias: float = 0.0) -> dict[str, Piece]:
    """The coarse tensors of latents, by first name. A component that is all zeros in one factor is left out of both."""
    found: dict[str, Piece] = {}
    for group in alike(latents):
        symbols = [narrow(rounded(part, bias).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)) for part in stacks(group)]
        pieces = map(_factors, group, *symbols) if len(symbols) == 2 else _dense(group, symbols[0].reshape(len(group), -1))
        found |= {latent.spec.name: latent.fitting(piece) for latent, piece in zip(group, pieces, strict=True)}
    return found


def _dense(latents: Sequence[Latent], symbols: Integers) -> Iterator[Piece]:
    """T tensors of one shape from their symbols (T, n)."""
    # Asked of all tensors at once, because there may be thousands.
    low, high = ([0] * len(symbols),) * 2 if not symbols.size else (symbols.min(axis=1).tolist(), symbols.max(axis=1).tolist())
    for latent, one, least, most in zip(latents, symbols, low, high, strict=True):
        if most <= 0 <= least:
            yield Constant(0)
        elif least == most and least * latent.step == 1.0:
            yield Constant(1)
        else:
            yield Dense(one.reshape(latent.spec.shape), latent.step)


def candidate_of(latents: Sequence[Latent], bias: float = 0.0) -> dict[str, Piece]:
    """The coarse tensors of latents with steps of `PRECISION` mantissa bits, as a candidate has them. The latents do not change."""
    # Not by `dataclasses.replace`, which takes five times as long.
    return coarse_of([Latent(one.spec, one.parts, one.log_scale, one.periods, PRECISION) for one in latents], bias)


def on_grid(latents: Sequence[Latent]) -> Sequence[Latent]:
    """Put latents in steps that a candidate may have, for the same weights. Rounding a step size alone changes its weights by up to 0.8 %.

    The latents change: a copy of all would need the memory of a network.
    """
    for latent in latents:
        step = snapped(latent.step, PRECISION)
        for part in latent.parts:
            part.mul_(latent.step / step)
        latent.log_scale = len(latent.parts) * math.log(step)
    return latents


def sums(values: Tensor) -> list[float]:
    """The sum of each of T tensors (T, ...)."""
    return [float(values.sum())] if len(values) == 1 else values.sum(tuple(range(1, values.dim()))).tolist()


def for_each(numbers: Sequence[float], like: Tensor) -> Tensor | float:
    """T numbers in a shape that multiplies or divides a tensor (T, ...). One number stays a number, which is the quickest."""
    if len(numbers) == 1:
        return numbers[0]
    return torch.tensor(numbers, dtype=like.dtype, device="cpu").to(like.device).reshape(-1, *[1] * (like.dim() - 1))


def rounded(u: Tensor, bias: float = 0.0) -> Tensor:
    """Q(u), the symbols as floats. A bias > 0 is subtracted from the magnitudes first, which gives smaller symbols and more zeros."""
    # Comparisons of elements would take several times as long as this.
    shown = hardshrink(u, DEAD_ZONE + bias)
    return shown.sign() * (shown.abs() - bias).round_() if bias else shown.round_()


def _factors(latent: Latent, A: Integers, B: Integers) -> Piece:
    """Factors (m, k) and (k, n) without the components that are all zeros in one of them."""
    kept = A.any(axis=0) & B.any(axis=1)
    if not kept.any():
        return Constant(0)
    # Large components come first, because the codec adapts from column to column, and neighbours should be alike.
    order = np.flatnonzero(kept)[np.argsort(-np.abs(A[:, kept]).sum(axis=0), kind="stable")]
    # Both factors have the step √s: only the product of the steps matters, and an equal step takes few bits.
    return LowRank(A[:, order], B[order], latent.step, latent.step, latent.periods)


@functools.lru_cache(maxsize=8)
def scaled_basis(rows: int, period: int, device: torch.device) -> Tensor:
    """F (rows, rows), float32: the basis of a side, scaled to columns with a norm near 1, as the decoder uses it."""
    return (waves(rows, period) * 2.0 ** -shift(period)).float().to(device)


def snapped(step: float, precision: int) -> float:
    """The nearest step of the grid (1 + j / 2^precision) · 2^e."""
    fraction, exponent = math.frexp(step)
    return math.ldexp(round(math.ldexp(fraction, precision + 1)), exponent - precision - 1)
