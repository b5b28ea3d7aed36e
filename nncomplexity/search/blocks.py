"""The arithmetic of a descent: all latents are in one vector, so that one operation serves all tensors.

The weights of a step are the scale times u + f·(Q(u) − u). The firmness f goes from 0, no rounding, to 1, complete rounding. Gradients pass
through Q as if it were the identity (the straight-through estimator of Bengio et al. 2013). Adam (Kingma and Ba 2015) moves the latents and the
logarithms of the scales. Its second moment is the sum of the squares of the two gradients, and not the square of their sum: near the optimum
the two cancel, and their sum would give steps that are far too long.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from nncomplexity.codecs import SYMBOL_LIMIT
from nncomplexity.network import TensorSpec, added, stacked
from nncomplexity.search.latent import Latent, alike, for_each, rounded, scaled_basis, sums
from nncomplexity.search.rate import Rate

_MEAN, _SQUARES = 0.95, 0.99
_TINY = 1e-20
_SCALES = 1e-12, 1e12
"""The range of scales whose products with gradients are computed in float32. Outside it they may overflow, and are computed in float64."""

Weighted = tuple[Tensor, float]
"""A gradient, and the factor that it is multiplied by."""


class Adam:
    """The state of Adam for one vector. Its moments may have fewer bits than the vector."""

    def __init__(self, like: Tensor, dtype: torch.dtype) -> None:
        self._mean, self._square, self._count = torch.zeros_like(like, dtype=dtype), torch.zeros_like(like, dtype=dtype), 0

    def move(self, vector: Tensor, gradients: Sequence[Weighted], rate: float) -> None:
        """One step of the vector against the sum of these gradients. Each of them alone is squared for the second moment."""
        self._count += 1
        mean, square = self._mean.to(vector.dtype).mul_(_MEAN), self._square.to(vector.dtype).mul_(_SQUARES)
        # Factors go into the operations: a pass over the vector for each of them would take as long as the operation.
        for gradient, factor in gradients:
            mean.add_(gradient, alpha=(1 - _MEAN) * factor)
            square.addcmul_(gradient, gradient, value=(1 - _SQUARES) * factor**2)
        unbiased = math.sqrt(1 - _SQUARES**self._count) / (1 - _MEAN**self._count)
        vector.addcdiv_(mean, square.sqrt().add_(_TINY), value=-rate * unbiased)
        self._mean.copy_(mean)  # nothing is copied where they are the same tensors
        self._square.copy_(square)


class Block:
    """Some latents. From now on they are views of the block's vector.

    Args:
        latents: latents of tensors on one device.
        lean: whether to save memory, for large networks: moments are in bfloat16, and rounded numbers are computed twice instead of kept.

    Attributes:
        latents: the latents in the order of the vector.
        firmness: f.
    """

    def __init__(self, latents: Sequence[Latent], lean: bool) -> None:
        groups = alike(latents)
        self._groups = [group.latents for group in groups]
        self.latents = [latent for group in self._groups for latent in group]
        self._lean, self.firmness = lean, 1.0
        self._shapes = [[part.shape for part in group.parts] for group in groups]
        self._sizes = [part.numel() for group in groups for part in group.parts]
        self._u = torch.cat([part.float().reshape(-1) for group in groups for part in group.parts])
        for group, parts in zip(self._groups, self._views(self._u), strict=True):
            for latent, own in zip(group, zip(*parts, strict=True), strict=True):
                latent.parts = list(own)
        moments = torch.bfloat16 if lean else torch.float32
        self._adam = Adam(self._u, moments)
        self._adam_scale = Adam(torch.zeros(len(latents), dtype=torch.float32, device="cpu"), torch.float32)
        self._rate = Rate()
        self._kept: Tensor | None = None

    def weigh(self) -> None:
        """Compute the slopes of the rate for the present symbols."""
        self._rate.update([part for parts in self._views(rounded(self._u)) for part in parts])

    def forget(self) -> None:
        """Discard the rounded numbers, because the latents or the firmness have changed."""
        self._kept = None

    def weights(self, device: torch.device) -> Iterator[tuple[TensorSpec, Tensor]]:
        """The weights of each tensor, in its dtype."""
        for latents, values in zip(self._groups, self._views(self._values()), strict=True):
            yield from zip([latent.spec for latent in latents], _weights(latents, values, device), strict=True)

    def pulls(self, gradients: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """∂d/∂u, flat, and ∂d/∂log s of each latent, from ∂d/∂W by first name. A tensor without a gradient has zeros."""
        pulls, scales = list[Tensor](), list[float]()
        for latents, values in zip(self._groups, self._views(self._values()), strict=True):
            found = _pulls(latents, values, gradients)
            pulls += found
            # W is linear in its scale and in each of its parts, so that s·∂d/∂s = Σ u·∂d/∂u over one part.
            scales += sums(found[0] * values[0])
        flat = torch.cat([pull.reshape(-1) for pull in pulls]).nan_to_num_(0.0, 0.0, 0.0)
        return flat, torch.tensor(scales, dtype=torch.float32, device="cpu").nan_to_num_(0.0, 0.0, 0.0)

    def pressure(self) -> Tensor:
        """∂R/∂u, flat."""
        return self._rate.gradient(self._u)

    def move(self, gradients: Sequence[Weighted], rate: float) -> None:
        """One step of the latents against the sum of gradients, flat."""
        self._adam.move(self._u, gradients, rate)
        self.forget()

    def scale(self, gradients: Sequence[Weighted], rate: float) -> None:
        """One step of the logarithms of the scales."""
        change = torch.zeros(len(self.latents), dtype=torch.float32, device="cpu")
        self._adam_scale.move(change, gradients, rate)
        for latent, one in zip(self.latents, change.tolist(), strict=True):
            latent.log_scale += one

    def _values(self) -> Tensor:
        """u + f·(Q(u) − u), flat."""
        flat = self._kept
        if flat is None:
            flat = rounded(self._u)
            if self.firmness < 1:
                flat = self._u.lerp(flat, self.firmness)
            self._kept = None if self._lean else flat
        return flat

    def _views(self, flat: Tensor) -> list[list[Tensor]]:
        """The parts (T, ...) of each group of T latents, as views of a vector."""
        pieces = iter(torch.split(flat, self._sizes))
        return [[next(pieces).view(shape) for shape in shapes] for shapes in self._shapes]


def _weights(latents: Sequence[Latent], values: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
    """The tensors that are decoded from numbers (T, ...) in the places of T latents of one shape and form."""
    spec, scales = latents[0].spec, [latent.scale for latent in latents]
    left, right, _, _ = _sides(latents[0], values)
    product = (left if right is None else left @ right).to(_precision(spec, scales))
    weights = (product * for_each(scales, product)).reshape(-1, *spec.shape).to(device)
    if spec.base is not None:  # alone in its group
        return [added(spec.base.to(device), weights[0], spec.dtype)]
    # Out of its range a number would be infinite, and the loss would tell nothing about the others.
    return (weights.clamp_(-spec.room, spec.room) if weights.dtype == torch.float64 else weights).to(spec.dtype).unbind()


def _pulls(latents: Sequence[Latent], values: Sequence[Tensor], gradients: Mapping[str, Tensor]) -> list[Tensor]:
    """∂d/∂u of each part (T, ...) of T latents of one shape and form, from ∂d/∂W by first name."""
    spec, scales = latents[0].spec, [latent.scale for latent in latents]
    left, right, F_a, F_b = _sides(latents[0], values)
    nothing = torch.zeros(spec.shape, dtype=left.dtype, device=left.device)
    whole = stacked([gradients.get(latent.spec.name, nothing) for latent in latents]).to(left.device, _precision(spec, scales))
    pull = (whole * for_each(scales, whole)).to(left.dtype)
    if right is None:
        return [pull.reshape(left.shape)]
    pull = pull.reshape(len(latents), left.shape[1], right.shape[2])
    pull_a, pull_b = pull @ right.mT, left.mT @ pull
    return [pull_a if F_a is None else F_a.T @ pull_a, pull_b if F_b is None else pull_b @ F_b]


def _sides(latent: Latent, values: Sequence[Tensor]) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """F_A·A (T, m, k), B·F_Bᵀ (T, k, n), and the bases of the sides, None where there is none. A dense tensor has only the first."""
    if len(values) == 1:
        return values[0], None, None, None
    A, B = values
    F_a, F_b = (
        scaled_basis(side, period, A.device) if period else None
        for side, period in zip((A.shape[1], B.shape[2]), latent.periods, strict=True)
    )
    return A if F_a is None else F_a @ A, B if F_b is None else B @ F_b.T, F_a, F_b


def _precision(spec: TensorSpec, scales: Sequence[float]) -> torch.dtype:
    """The dtype of products with these scales: float64 where they may overflow in float32 or in the tensor's dtype, or are rounded once more."""
    usual = _SCALES[0] < min(scales) and max(scales) < min(_SCALES[1], spec.room / SYMBOL_LIMIT)
    return torch.float32 if usual and spec.base is None and spec.dtype != torch.float64 else torch.float64


def blocks_of(latents: Sequence[Latent], large: bool) -> list[Block]:
    """Blocks of latents: one for all, or of a large network one for each tensor."""
    groups = [[latent] for latent in latents] if large else [list(latents)] if latents else []
    return [Block(group, large) for group in groups]
