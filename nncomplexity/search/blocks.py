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
from nncomplexity.network import TensorSpec, added
from nncomplexity.search.latent import Latent, alike, rounded, scaled_basis, stacks
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
        if mean is not self._mean:
            self._mean.copy_(mean)
            self._square.copy_(square)


class Group:
    """T latents of one shape and form.

    The numbers of a part are one tensor (T, ...), or (...) if T is 1: for small tensors, the number of operations counts.
    """

    def __init__(self, latents: Sequence[Latent], parts: Sequence[Tensor]) -> None:
        self.latents, self._spec, self._alone = latents, latents[0].spec, len(latents) == 1
        self.shapes = [part.shape[1:] if self._alone else part.shape for part in parts]
        self._matrix = (*self.shapes[0][:-1], *self.shapes[-1][-1:])
        self._bases = [
            scaled_basis(side, period, parts[0].device) if period else None
            for side, period in zip(self._matrix[-2:], latents[0].periods, strict=False)
        ]
        spec, scales = self._spec, [latent.scale for latent in latents]
        usual = _SCALES[0] < min(scales) and max(scales) < min(_SCALES[1], spec.room / SYMBOL_LIMIT)
        # Products that may overflow in float32 or in the tensor's dtype, or that are rounded only later.
        self._wide = not usual or spec.base is not None or spec.dtype == torch.float64

    def hold(self, values: Sequence[Tensor]) -> None:
        """Make the latents views of these tensors."""
        for latent, parts in zip(self.latents, [values] if self._alone else zip(*values, strict=True), strict=True):
            latent.parts = list(parts)

    def factors(self, scales: Tensor) -> Tensor:
        """A vector of T scales in a shape that multiplies `product`."""
        return scales.view(()) if self._alone else scales.view(-1, *[1] * (len(self._matrix) - 1))

    def product(self, values: Sequence[Tensor]) -> Tensor:
        """The tensors without their scales, in the shape of matrices."""
        left, *right = self._sides(values)
        product = left @ right[0] if right else left
        return product.double() if self._wide else product

    def weights(self, scaled: Tensor, device: torch.device) -> Sequence[Tensor]:
        """Each of the T tensors as the loss gets it, from `product` times the scales."""
        spec = self._spec
        if spec.base is not None:
            return [added(spec.base.to(device), scaled.reshape(spec.shape).to(device), spec.dtype)]
        # Out of its range a number would be infinite, and the loss would tell nothing about the others.
        scaled = (scaled.clamp_(-spec.room, spec.room) if self._wide else scaled).to(device, spec.dtype)
        return [scaled.reshape(spec.shape)] if self._alone else scaled.reshape(-1, *spec.shape).unbind()

    def gradient(self, gradients: Mapping[str, Tensor], device: torch.device) -> Tensor:
        """∂d/∂W by first name as one tensor, in the shape of `product`. A tensor without a gradient has zeros."""
        found = [gradients.get(latent.spec.name) for latent in self.latents]
        given = [torch.zeros(self._spec.shape, dtype=torch.float32, device=device) if one is None else one for one in found]
        together = given[0] if self._alone else torch.stack(given)
        return together.to(device, torch.float64 if self._wide else torch.float32).reshape(self._matrix)

    def pulls(self, scaled: Tensor, values: Sequence[Tensor]) -> list[Tensor]:
        """∂d/∂u of each part, from `gradient` times the scales."""
        pull = scaled.to(values[0].dtype)
        left, *right = self._sides(values)
        if not right:
            return [pull]
        of_left, of_right = pull @ right[0].mT, left.mT @ pull
        F_a, F_b = self._bases
        return [of_left if F_a is None else F_a.T @ of_left, of_right if F_b is None else of_right @ F_b]

    def sums(self, one: Tensor, other: Tensor) -> Tensor:
        """The inner products (T,) of the numbers of a part with others in their places."""
        if self._alone:
            return torch.dot(one.reshape(-1), other.reshape(-1))[None]
        return (one * other).flatten(1).sum(1)

    def _sides(self, values: Sequence[Tensor]) -> Sequence[Tensor]:
        """F_A·A (..., m, k) and B·F_Bᵀ (..., k, n) of factors; dense numbers as they are."""
        if len(values) == 1:
            return values
        (A, B), (F_a, F_b) = values, self._bases
        return A if F_a is None else F_a @ A, B if F_b is None else B @ F_b.T


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
        together = alike(latents)
        parts = [stacks(group) for group in together]
        self._groups = [Group(*one) for one in zip(together, parts, strict=True)]
        self.latents = [latent for group in self._groups for latent in group.latents]
        self._lean, self.firmness = lean, 1.0
        self._u = torch.cat([part.float().reshape(-1) for of_group in parts for part in of_group])
        self._stacks = [part.shape for of_group in parts for part in of_group]
        self._sizes = [math.prod(shape) for shape in self._stacks]
        for group, values in zip(self._groups, self._views(self._u), strict=True):
            group.hold(values)
        self._scales = torch.ones(len(latents), dtype=torch.float64, device=self._u.device)
        self._counts = [len(group.latents) for group in self._groups]
        self._factors = [
            group.factors(own) for group, own in zip(self._groups, torch.split(self._scales, self._counts), strict=True)
        ]
        self._adam = Adam(self._u, torch.bfloat16 if lean else torch.float32)
        self._adam_scale = Adam(torch.zeros(len(latents), dtype=torch.float32, device="cpu"), torch.float32)
        self._rate = Rate()
        self._kept: list[list[Tensor]] | None = None

    def weigh(self) -> None:
        """Compute the slopes of the rate for the present symbols."""
        parts = torch.split(rounded(self._u), self._sizes)
        self._rate.update([part.view(shape) for part, shape in zip(parts, self._stacks, strict=True)])

    def forget(self) -> None:
        """Discard the rounded numbers, because the latents, their scales or the firmness have changed."""
        self._kept = None

    def weights(self, device: torch.device) -> Iterator[tuple[TensorSpec, Tensor]]:
        """The weights of each tensor, in its dtype."""
        products = [group.product(own) for group, own in zip(self._groups, self._values(), strict=True)]
        # One call for all tensors, because for small ones a call takes longer than its arithmetic.
        scaled = torch._foreach_mul(products, self._factors)
        for group, one in zip(self._groups, scaled, strict=True):
            yield from zip([latent.spec for latent in group.latents], group.weights(one, device), strict=True)

    def pulls(self, gradients: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """∂d/∂u, flat, and ∂d/∂log s of each latent, from ∂d/∂W by first name. A tensor without a gradient has zeros."""
        values, device = self._values(), self._u.device
        scaled = torch._foreach_mul([group.gradient(gradients, device) for group in self._groups], self._factors)
        found = [group.pulls(one, own) for group, one, own in zip(self._groups, scaled, values, strict=True)]
        pull = torch.cat([part.reshape(-1) for parts in found for part in parts]).nan_to_num_(0.0, 0.0, 0.0)
        # W is linear in the scale and in each part, so that ∂d/∂log s is Σ u·∂d/∂u over one part.
        along = [group.sums(one[0], own[0]) for group, one, own in zip(self._groups, found, values, strict=True)]
        return pull, torch.cat(along).cpu().nan_to_num_(0.0, 0.0, 0.0)

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
        self.forget()

    def _values(self) -> list[list[Tensor]]:
        """u + f·(Q(u) − u), the parts of each group. The scales are brought up to date, too."""
        if self._kept is not None:
            return self._kept
        self._scales.copy_(torch.tensor([latent.scale for latent in self.latents], dtype=torch.float64, device="cpu"))
        flat = rounded(self._u)
        values = self._views(self._u.lerp(flat, self.firmness) if self.firmness < 1 else flat)
        self._kept = None if self._lean else values
        return values

    def _views(self, flat: Tensor) -> list[list[Tensor]]:
        """The parts of each group as views of a vector."""
        pieces = iter(torch.split(flat, self._sizes))
        return [[next(pieces).view(shape) for shape in group.shapes] for group in self._groups]


def blocks_of(latents: Sequence[Latent], large: bool) -> list[Block]:
    """Blocks of latents: one for all, or of a large network one for each tensor."""
    groups = [[latent] for latent in latents] if large else [list(latents)] if latents else []
    return [Block(group, large) for group in groups]
