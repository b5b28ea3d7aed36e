"""The continuous numbers behind a coarse tensor: what a descent moves, and what rounds to symbols.

A latent holds u in units of the step, so that its symbols are round(u) with a dead zone around zero, and one scale s:

    W = s · Q(u)            dense,       u in the tensor's matrix view (m, n) or (n,)
    W = s · F_A · Q(u_A) · Q(u_B) · F_Bᵀ   low rank,    u_A (m, k), u_B (k, n)

with F the basis of a side, scaled to columns of a norm near 1 (`nncomplexity.basis`), or the identity where it has none.

Gradients pass through Q as if it were the identity (the straight-through estimator of Bengio et al. 2013), taken at the rounded
weights, which are those that the file decodes to.
"""

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nncomplexity.basis import shift, waves
from nncomplexity.coarse import Constant, Dense, LowRank, Piece, dense, narrow, overflows
from nncomplexity.codecs.contract import SYMBOL_LIMIT, Integers
from nncomplexity.relative import added
from nncomplexity.weights import TensorSpec

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
        return [torch.where(u.abs() < DEAD_ZONE + bias, 0.0, u.sign() * (u.abs() - bias).round()) for u in self.parts]

    def coarse(self, bias: float = 0.0) -> Piece:
        """The tensor as a file would hold it; components that one factor has lost are dropped from both."""
        symbols = [_integers(part) for part in self.rounded(bias)]
        if self.low_rank:
            A, B = symbols
            kept = A.any(axis=0) & B.any(axis=1)
            if not kept.any():
                return Constant(0)
            # Strong components first: the codec expects of a column what the ones before it showed.
            order = np.flatnonzero(kept)[np.argsort(-np.abs(A[:, kept]).sum(axis=0), kind="stable")]
            return self._fitting(LowRank(A[:, order], B[order], self.step, self.step, self.periods))
        return self._fitting(dense(symbols[0].reshape(self.spec.shape), self.step))

    def _fitting(self, coarse: Piece) -> Piece:
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

    def decode(self, spec: TensorSpec, device: torch.device) -> Tensor:
        """The tensor as these latents are, rounded as far as `firmness` says. Only those that are wholly rounded are a file's."""
        parts = self._softened()
        product = parts[0]
        if self.low_rank:
            A, B = self._sides(parts)
            product = A @ B.T
        weight = product.double().mul_(self.scale).reshape(spec.shape)
        if self.scale * SYMBOL_LIMIT > spec.room and spec.base is None:
            weight.clamp_(-spec.room, spec.room)
        return weight.to(device, spec.dtype) if spec.base is None else added(spec.base.to(device), weight.to(device), spec.dtype)

    def limited_gradients(self, grad: Tensor) -> tuple[list[Tensor], float]:
        """The same where float32 doesn't hold them, or their squares: in float64, and none larger than a limit."""
        times = grad.double().mul(self.scale).clamp(-_LIMIT, _LIMIT) / self.scale
        pulls, along = self.gradients(times)
        return [pull.clamp(-_LIMIT, _LIMIT) for pull in pulls], max(-_LIMIT, min(_LIMIT, along))

    def gradients(self, grad: Tensor) -> tuple[list[Tensor], float]:
        """∂L/∂u of each part and ∂L/∂log s, from ∂L/∂W in the shape of the tensor."""
        scale, parts = self.scale, self._softened()
        if self.low_rank:
            A, B = self._sides(parts)
            grad = _times(grad.reshape(A.shape[0], B.shape[0]), scale)
            grads = [grad @ B, grad.T @ A]
            along = float((grads[0] * A).sum())
            grad_a, grad_b = (
                F.T @ part if F is not None else part for F, part in zip(self._bases(grad.device), grads, strict=True)
            )
            return [grad_a, grad_b.T], along
        grad = _times(grad.reshape(parts[0].shape), scale)
        return [grad], float((grad * parts[0]).sum())

    def _softened(self) -> list[Tensor]:
        """u + f·(Q(u) − u) with f the firmness, and 0 where Q(u) is."""
        rounded = self.rounded()
        if self.firmness == 1:
            return rounded
        return [torch.where(q == 0, q, u.lerp(q, self.firmness)) for u, q in zip(self.parts, rounded, strict=True)]

    def _sides(self, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
        """F_A·A (m, k) and F_B·Bᵀ (n, k) of two factors (m, k) and (k, n)."""
        F_a, F_b = self._bases(parts[0].device)
        A, B = parts[0], parts[1].T
        return A if F_a is None else F_a @ A, B if F_b is None else F_b @ B

    def _bases(self, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """The bases of two factors' sides, None for those that have none."""
        sides = self.parts[0].shape[0], self.parts[1].shape[1]
        F_a, F_b = (scaled_basis(side, p, device) if p else None for side, p in zip(sides, self.periods, strict=True))
        return F_a, F_b


@functools.lru_cache(maxsize=8)
def scaled_basis(rows: int, period: int, device: torch.device) -> Tensor:
    """F (rows, rows), float32: the basis as a file's factors meet it, with columns of a norm near 1."""
    return (waves(rows, period) * 2.0 ** -shift(period)).float().to(device)


def snapped(step: float, precision: int) -> float:
    """The nearest step of the grid (1 + j / 2^precision) · 2^e."""
    fraction, exponent = math.frexp(step)
    return math.ldexp(round(math.ldexp(fraction, precision + 1)), exponent - precision - 1)


def _times(grad: Tensor, scale: float) -> Tensor:
    """A gradient by the weights as float32 by what they are multiples of: either may be beyond float32, their product isn't."""
    return (grad if grad.dtype == torch.float64 else grad.float()).mul(scale).float()


def _integers(values: Tensor) -> Integers:
    return narrow(values.clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT))
