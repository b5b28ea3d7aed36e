"""The continuous numbers behind a coarse tensor: what a descent moves, and what rounds to symbols.

A latent holds u in units of the step, so that its symbols are round(u) with a dead zone around zero, and one scale s:

    W = s · Q(u)            dense,       u in the tensor's matrix view (m, n) or (n,)
    W = s · F_A · Q(u_A) · Q(u_B) · F_Bᵀ   low rank,    u_A (m, k), u_B (k, n)

with F the basis of a side, scaled to columns of a norm near 1 (`nncomplexity.linalg.basis`), or the identity where it has none.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nncomplexity.codecs import SYMBOL_LIMIT, Integers
from nncomplexity.file import Constant, Dense, LowRank, Piece, narrow, overflows
from nncomplexity.linalg import SMALL, shift, waves
from nncomplexity.network import TensorSpec, stacked

_LOGARITHMS = (-744.0, 708.0)
"""Those of the scales that float64 holds, and that may grow by being snapped to a grid."""
PRECISION = 6
"""Mantissa bits of the step sizes of a candidate."""
DEAD_ZONE = 0.6
"""Magnitudes below this round to zero: a zero is the cheapest symbol, and what it costs in loss the descent sees."""


@dataclass
class Latent:
    """One tensor's latents u (a dense one, or a pair of factors) and the logarithm of its scale."""

    spec: TensorSpec
    parts: list[Tensor]
    log_scale: float
    periods: tuple[int, int] = (0, 0)
    """The periods of the two sides' bases, 0 for none."""
    precision: int | None = None
    """Mantissa bits of the steps that the file may hold; None leaves them free while the descent still moves them."""

    @property
    def step(self) -> float:
        """The step of each part: √s for two factors."""
        low, high = _LOGARITHMS
        step = math.exp(min(max(self.log_scale, low), high) / len(self.parts))
        return step if self.precision is None else snapped(step, self.precision)

    @property
    def scale(self) -> float:
        return self.step ** len(self.parts)

    def copy(self) -> "Latent":
        """The same latents, which no descent of these moves."""
        return replace(self, parts=[part.clone() for part in self.parts])

    def coarse(self, bias: float = 0.0) -> Piece:
        """The tensor as a file would hold it; components that one factor has lost are dropped from both."""
        return Alike([self]).coarse(bias)[0]

    def fitting(self, coarse: Piece) -> Piece:
        """The coarse tensor, its scale made smaller where it has an element beyond the dtype's range; on a base, where the base decides how
        much smaller, it stays.
        """
        if self.spec.base is not None or not overflows(coarse, self.spec):
            return coarse
        wide = coarse.decode(replace(self.spec, dtype=torch.float64))
        smaller = (self.spec.room / float(wide.abs().max())) ** (1 / len(self.parts))
        if isinstance(coarse, LowRank):
            step = self._snapped(coarse.step_a * smaller)
            return replace(coarse, step_a=step, step_b=step)
        return replace(coarse, step=self._snapped(coarse.step * smaller)) if isinstance(coarse, Dense) else coarse

    def _snapped(self, step: float) -> float:
        """A step of the file's grid that isn't larger."""
        if self.precision is None:
            return step
        snap = snapped(step, self.precision)
        return snap if snap <= step else snapped(step * (1 - 2.0**-self.precision), self.precision)


class Alike:
    """Latents of tensors of one shape and form, side by side, so that one operation does for all of them.

    Attributes:
        latents: of T tensors.
        parts: their parts, each (T, ...).
    """

    def __init__(self, latents: Sequence[Latent]) -> None:
        self.latents, self._first = latents, latents[0]
        self.parts = [stacked(parts) for parts in zip(*(latent.parts for latent in latents), strict=True)]

    def coarse(self, bias: float = 0.0) -> list[Piece]:
        """Each tensor as a file would hold it; of factors, components that one of them has lost are dropped from both."""
        symbols = [_integers(rounded(part, bias)) for part in self.parts]
        if len(symbols) == 2:
            return [latent.fitting(_factors(latent, A, B)) for latent, A, B in zip(self.latents, *symbols, strict=True)]
        flat = symbols[0].reshape(len(self.latents), -1)
        low, high = (flat.min(axis=1).tolist(), flat.max(axis=1).tolist()) if flat.size else ([0] * len(flat), [0] * len(flat))
        shape, found = self._first.spec.shape, list[Piece]()
        for latent, one, least, most in zip(self.latents, flat, low, high, strict=True):
            step = latent.step
            if most <= 0 <= least:
                found.append(Constant(0))
            elif least == most and least * step == 1.0:
                found.append(Constant(1))
            else:
                found.append(latent.fitting(Dense(one.reshape(shape), step)))
        return found


def alike(latents: Sequence[Latent]) -> list[Alike]:
    """Latents in groups of those that are alike: small ones, on the CPU, without a base or a basis of waves. Others are by themselves."""
    groups: dict[object, list[Latent]] = {}
    for latent in latents:
        spec, shapes = latent.spec, [part.shape for part in latent.parts]
        together = spec.count <= SMALL and spec.base is None and latent.periods == (0, 0) and latent.parts[0].device.type == "cpu"
        key = (spec.shape, spec.dtype, *shapes) if together else id(latent)
        groups.setdefault(key, []).append(latent)
    return [Alike(group) for group in groups.values()]


def coarse_of(latents: Sequence[Latent], bias: float = 0.0) -> dict[str, Piece]:
    """The coarse tensors of latents, by first name."""
    return {
        latent.spec.name: piece for group in alike(latents) for latent, piece in zip(group.latents, group.coarse(bias), strict=True)
    }


def candidate_of(latents: Sequence[Latent], bias: float = 0.0) -> dict[str, Piece]:
    """The coarse tensors of latents as a candidate has them, in step sizes of few mantissa bits; the latents stay as they are."""
    return coarse_of([replace(latent, precision=PRECISION) for latent in latents], bias)


def sums(values: Tensor) -> list[float]:
    """The sum of each of T tensors (T, ...)."""
    return [float(values.sum())] if len(values) == 1 else values.sum(tuple(range(1, values.dim()))).tolist()


def rounded(u: Tensor, bias: float = 0.0) -> Tensor:
    """Q(u), symbols as floats: with a bias, magnitudes are rounded as if they were less by so much."""
    return torch.where(u.abs() < DEAD_ZONE + bias, 0.0, u.sign() * (u.abs() - bias).round())


def _factors(latent: Latent, A: Integers, B: Integers) -> Piece:
    """Factors (m, k) and (k, n) without the components that one of them has lost."""
    kept = A.any(axis=0) & B.any(axis=1)
    if not kept.any():
        return Constant(0)
    # Strong components first: the codec expects of a column what the ones before it showed.
    order = np.flatnonzero(kept)[np.argsort(-np.abs(A[:, kept]).sum(axis=0), kind="stable")]
    return LowRank(A[:, order], B[order], latent.step, latent.step, latent.periods)


@functools.lru_cache(maxsize=8)
def scaled_basis(rows: int, period: int, device: torch.device) -> Tensor:
    """F (rows, rows), float32: the basis as a file's factors meet it, with columns of a norm near 1."""
    return (waves(rows, period) * 2.0 ** -shift(period)).float().to(device)


def snapped(step: float, precision: int) -> float:
    """The nearest step of the grid (1 + j / 2^precision) · 2^e."""
    fraction, exponent = math.frexp(step)
    return math.ldexp(round(math.ldexp(fraction, precision + 1)), exponent - precision - 1)


def _integers(values: Tensor) -> Integers:
    return narrow(values.clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT))
