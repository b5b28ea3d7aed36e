"""The continuous numbers behind a coarse tensor: what a descent moves, and what rounds to symbols.

A latent holds u in units of the step, so that its symbols are round(u) with a dead zone around zero, and one scale s:

    W = s · Q(u)            dense,       u in the tensor's matrix view (m, n) or (n,)
    W = s · F_A · Q(u_A) · Q(u_B) · F_Bᵀ   low rank,    u_A (m, k), u_B (k, n)

with F the basis of a side, scaled to columns of a norm near 1 (`nncomplexity.linalg.basis`), or the identity where it has none.

Gradients pass through Q as if it were the identity (the straight-through estimator of Bengio et al. 2013), taken at the rounded
weights, which are those that the file decodes to.
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
from nncomplexity.network import TensorSpec, added, stacked

_LIMIT = 1e15
"""The largest size of a gradient of latents: float32 holds the squares of these, and their sums."""
_LOGARITHMS = (-744.0, 708.0)
"""Those of the scales that float64 holds, and that may grow by being snapped to a grid."""
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
    firmness: float = 1.0
    """How far the weights of `decode` and `gradients` are rounded."""

    @property
    def low_rank(self) -> bool:
        return len(self.parts) == 2

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

    def halve(self) -> None:
        """Half the steps, and the same rounded numbers: a factor that is no whole number would disturb what is in order, most of all ones.

        What rounds to zero stays where it is in units of the step, so that none of it comes up.
        """
        for part, rounded in zip(self.parts, self.rounded(), strict=True):
            part.copy_(torch.where(rounded == 0, part, 2 * rounded))
        self.log_scale -= len(self.parts) * math.log(2)

    def rounded(self, bias: float = 0.0) -> list[Tensor]:
        """Q(u): symbols as floats, in the shapes of the parts; with a bias, magnitudes are rounded as if they were less by so much."""
        return [_rounded(part, bias) for part in self.parts]

    def coarse(self, bias: float = 0.0) -> Piece:
        """The tensor as a file would hold it; components that one factor has lost are dropped from both."""
        return Alike([self]).coarse(bias)[0]

    def decode(self, spec: TensorSpec, device: torch.device) -> Tensor:
        """The tensor as these latents are, rounded as far as `firmness` says. Only those that are wholly rounded are a file's."""
        assert spec is self.spec or spec == self.spec
        return Alike([self]).decode(device)[0]

    def gradients(self, grad: Tensor) -> tuple[list[Tensor], float]:
        """∂L/∂u of each part and ∂L/∂log s, from ∂L/∂W in the shape of the tensor."""
        pulls, along = Alike([self]).gradients(grad[None])
        return [pull[0] for pull in pulls], along[0]

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

    def bind(self) -> None:
        """Have the latents hold views of these parts from now on, so that what changes them changes those."""
        if len(self.latents) > 1:  # those of one are views of its own
            for latent, *parts in zip(self.latents, *(part.unbind() for part in self.parts), strict=True):
                latent.parts = list(parts)

    def rounded(self) -> list[Tensor]:
        """Q(u) of each part."""
        return [_rounded(part) for part in self.parts]

    def coarse(self, bias: float = 0.0) -> list[Piece]:
        """Each tensor as a file would hold it; of factors, components that one of them has lost are dropped from both."""
        symbols = [_integers(_rounded(part, bias)) for part in self.parts]
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

    def decode(self, device: torch.device) -> Sequence[Tensor]:
        """Each tensor as its latents are, rounded as far as `firmness` says."""
        parts, spec = self._softened(), self._first.spec
        product = parts[0]
        if len(parts) == 2:
            A, B = self._sides(parts)
            product = A @ B.mT
        scales = [latent.scale for latent in self.latents]
        weights = product.double().mul_(_column(scales, product, torch.float64))
        if max(scales) * SYMBOL_LIMIT > spec.room and spec.base is None:
            weights.clamp_(-spec.room, spec.room)
        weights = weights.reshape(-1, *spec.shape)
        if spec.base is not None:
            return [added(spec.base.to(device), weights[0].to(device), spec.dtype)]
        return weights.to(device, spec.dtype).unbind()

    def gradients(self, grads: Tensor, limited: bool = False) -> tuple[list[Tensor], list[float]]:
        """∂L/∂u of each part (T, ...), and ∂L/∂log s of each tensor, from ∂L/∂W (T, *shape).

        `limited` ones are for gradients of which float32 doesn't hold the squares: none is larger than a limit.
        """
        parts = self._softened()
        scales = [latent.scale for latent in self.latents]
        if limited:
            grads = grads.double()
            scale = _column(scales, grads, torch.float64)
            grads = grads.mul(scale).clamp(-_LIMIT, _LIMIT) / scale
        elif (
            grads.dtype != torch.float64
        ):  # a gradient by the weights or what they are multiples of may be beyond float32, their product isn't
            grads = grads.float()
        grads = grads.mul(_column(scales, grads, grads.dtype)).float()
        if len(parts) == 2:
            A, B = self._sides(parts)
            grads = grads.reshape(len(scales), A.shape[1], B.shape[1])
            pulls = [grads @ B, grads.mT @ A]
            along = sums(pulls[0] * A)
            pull_a, pull_b = (F.T @ part if F is not None else part for F, part in zip(self._bases(), pulls, strict=True))
            pulls = [pull_a, pull_b.mT]
        else:
            pulls = [grads.reshape(parts[0].shape)]
            along = sums(pulls[0] * parts[0])
        if limited:
            return [pull.clamp(-_LIMIT, _LIMIT) for pull in pulls], [max(-_LIMIT, min(_LIMIT, slope)) for slope in along]
        return pulls, along

    def _softened(self) -> list[Tensor]:
        """u + f·(Q(u) − u) with f the firmness, and 0 where Q(u) is."""
        rounded = self.rounded()
        if self._first.firmness == 1:
            return rounded
        return [torch.where(q == 0, q, u.lerp(q, self._first.firmness)) for u, q in zip(self.parts, rounded, strict=True)]

    def _sides(self, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
        """F_A·A (T, m, k) and F_B·Bᵀ (T, n, k) of two factors (T, m, k) and (T, k, n)."""
        F_a, F_b = self._bases()
        A, B = parts[0], parts[1].mT
        return A if F_a is None else F_a @ A, B if F_b is None else F_b @ B

    def _bases(self) -> tuple[Tensor | None, Tensor | None]:
        """The bases of two factors' sides, None for those that have none."""
        device, sides = self.parts[0].device, (self.parts[0].shape[1], self.parts[1].shape[2])
        F_a, F_b = (scaled_basis(side, p, device) if p else None for side, p in zip(sides, self._first.periods, strict=True))
        return F_a, F_b


def alike(latents: Sequence[Latent]) -> list[Alike]:
    """Latents in groups of those that are alike: small ones, on the CPU, without a base or a basis of waves. Others are by themselves."""
    groups: dict[object, list[Latent]] = {}
    for latent in latents:
        spec, shapes = latent.spec, [part.shape for part in latent.parts]
        together = spec.count <= SMALL and spec.base is None and latent.periods == (0, 0) and latent.parts[0].device.type == "cpu"
        key = (spec.shape, spec.dtype, latent.firmness, *shapes) if together else id(latent)
        groups.setdefault(key, []).append(latent)
    return [Alike(group) for group in groups.values()]


def coarse_of(latents: Sequence[Latent], bias: float = 0.0) -> dict[str, Piece]:
    """The coarse tensors of latents, by first name."""
    return {
        latent.spec.name: piece for group in alike(latents) for latent, piece in zip(group.latents, group.coarse(bias), strict=True)
    }


def sums(values: Tensor) -> list[float]:
    """The sum of each of T tensors (T, ...)."""
    return [float(values.sum())] if len(values) == 1 else values.sum(tuple(range(1, values.dim()))).tolist()


def _rounded(u: Tensor, bias: float = 0.0) -> Tensor:
    return torch.where(u.abs() < DEAD_ZONE + bias, 0.0, u.sign() * (u.abs() - bias).round())


def _factors(latent: Latent, A: Integers, B: Integers) -> Piece:
    """Factors (m, k) and (k, n) without the components that one of them has lost."""
    kept = A.any(axis=0) & B.any(axis=1)
    if not kept.any():
        return Constant(0)
    # Strong components first: the codec expects of a column what the ones before it showed.
    order = np.flatnonzero(kept)[np.argsort(-np.abs(A[:, kept]).sum(axis=0), kind="stable")]
    return LowRank(A[:, order], B[order], latent.step, latent.step, latent.periods)


def _column(values: Sequence[float], like: Tensor, dtype: torch.dtype) -> Tensor | float:
    """Numbers of T tensors, to multiply (T, ...) by; of one tensor the number."""
    return values[0] if len(values) == 1 else torch.tensor(values, dtype=dtype).reshape(-1, *[1] * (like.dim() - 1))


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
