"""Latents side by side in one vector, which one operation rounds and one moves: the arithmetic of a descent.

The weights of a step are u + f·(Q(u) − u), times the scale, with f the share to which the rounding Q has set in. Gradients pass through as if
the rounding were the identity (the straight-through estimator of Bengio et al. 2013), taken at these weights. Adam (Kingma and Ba 2015)
moves the latents and the logarithms of the scales. Its running mean of squares holds those of the two gradients apart, as where both are
about equal and opposed their sum says little of how far a step may go.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nncomplexity.codecs import SYMBOL_LIMIT
from nncomplexity.network import TensorSpec, added
from nncomplexity.search.latent import Alike, Latent, alike, rounded, scaled_basis
from nncomplexity.search.rate import Rate

_MEAN, _SQUARES = 0.95, 0.99
_TINY = 1e-20
_FEW = 32
"""Latents of a block of which each is by itself, however alike they are."""


class Adam:
    """Adam's state for one vector; its moments may be held in fewer bits."""

    def __init__(self, like: Tensor, dtype: torch.dtype) -> None:
        self._mean, self._square, self._count = torch.zeros_like(like, dtype=dtype), torch.zeros_like(like, dtype=dtype), 0

    def reset(self) -> None:
        """Forget all gradients."""
        self._mean.zero_()
        self._square.zero_()
        self._count = 0

    def direction(self, gradient: Tensor, squares: Tensor) -> Tensor:
        """m / √v after one more gradient, `squares` being what goes into v."""
        self._count += 1
        mean, square = self._mean, self._square
        if mean.dtype != gradient.dtype:
            mean, square = mean.to(gradient.dtype), square.to(gradient.dtype)
        mean.lerp_(gradient, 1 - _MEAN)
        square.mul_(_SQUARES).add_(squares, alpha=1 - _SQUARES)
        if mean.dtype != self._mean.dtype:
            self._mean.copy_(mean)
            self._square.copy_(square)
        root = (square / (1 - _SQUARES**self._count)).sqrt_().add_(_TINY)
        return (mean / (1 - _MEAN**self._count)).div_(root)


class Saved(NamedTuple):
    """A copy of a block's latents: the vector u and the logarithm of each scale."""

    u: Tensor
    log_scales: list[float]


class Block:
    """Some latents, which hold views of the block's vector from now on.

    Args:
        latents: of tensors on one device.
        lean: whether moments are held in bfloat16, and rounded numbers aren't kept: for those of large networks.

    Attributes:
        latents: in the order of the vector.
        firmness: f.
    """

    def __init__(self, latents: Sequence[Latent], lean: bool) -> None:
        # Few latents are by themselves, whatever they are like: sums over the vector hang on its order.
        groups = [group.latents for group in alike(latents)] if len(latents) > _FEW else [[latent] for latent in latents]
        self._groups = [Group(group) for group in groups]
        self.latents = [latent for group in groups for latent in group]
        self._lean, self.firmness = lean, 1.0
        parts = [part for group in self._groups for part in group.parts]
        self._shapes, self._sizes = [part.shape for part in parts], [part.numel() for part in parts]
        self._u = torch.cat([part.reshape(-1) for part in parts])
        for group, views in self._views(self._u):
            group.hold(views)
        moments = torch.bfloat16 if lean else torch.float32
        self._adam = Adam(self._u, moments)
        self._adam_scale = Adam(torch.zeros(len(latents), dtype=torch.float32, device="cpu"), torch.float32)
        self._rate = Rate()
        self._kept: Tensor | None = None

    @property
    def bits(self) -> float:
        """About what the symbols take, as of the last `weigh`."""
        return self._rate.bits

    def weigh(self) -> None:
        """Work out the rate's slopes anew."""
        self._rate.update([part for _, parts in self._views(rounded(self._u)) for part in parts])

    def forget(self) -> None:
        """Let go of the rounded numbers: the latents or the firmness have changed."""
        self._kept = None

    def weights(self, device: torch.device) -> Iterator[tuple[TensorSpec, Tensor]]:
        """The weights of each tensor, in its dtype."""
        for group, values in self._values():
            yield from zip(group.specs, group.weights(values, device), strict=True)

    def pulls(self, gradients: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """∂d/∂u, flat, and ∂d/∂log s of each latent, from ∂d/∂W by first name."""
        pulls, scales = list[Tensor](), list[float]()
        for group, values in self._values():
            found, along = group.chain(values, gradients)
            pulls += [pull.reshape(-1) for pull in found]
            scales += along
        flat = torch.nan_to_num_(torch.cat(pulls), 0.0, 0.0, 0.0)
        return flat, torch.tensor(scales, dtype=torch.float32, device="cpu").nan_to_num_(0.0, 0.0, 0.0)

    def pressure(self) -> Tensor:
        """∂R/∂u, flat."""
        parts = [part for _, parts in self._views(self._u) for part in parts]
        return torch.cat([self._rate.gradient(index, part).reshape(-1) for index, part in enumerate(parts)])

    def move(self, pull: Tensor, pressure: Tensor, rate: float) -> None:
        """One step against ∂d/∂u + λ·∂R/∂u."""
        squares = pull.square().add_(pressure.square())
        self._u.sub_(self._adam.direction(pull.add(pressure), squares), alpha=rate)
        self.forget()

    def scale(self, along: Tensor, rate: float) -> None:
        """One step of the logarithms of the scales."""
        for latent, change in zip(self.latents, self._adam_scale.direction(along, along.square()).tolist(), strict=True):
            latent.log_scale -= rate * change

    def save(self) -> Saved:
        """A copy of the latents and their scales."""
        return Saved(self._u.clone(), [latent.log_scale for latent in self.latents])

    def restore(self, saved: Saved) -> None:
        """Go back to a copy, and forget Adam's moments."""
        self._u.copy_(saved.u)
        for latent, log_scale in zip(self.latents, saved.log_scales, strict=True):
            latent.log_scale = log_scale
        self._adam.reset()
        self._adam_scale.reset()
        self.forget()

    def _values(self) -> Iterator[tuple["Group", list[Tensor]]]:
        """Each group with the numbers of its parts, as far rounded as `firmness` says."""
        flat = self._kept
        if flat is None:
            flat = rounded(self._u)
            if self.firmness < 1:
                flat = self._u.lerp(flat, self.firmness)
            self._kept = None if self._lean else flat
        return self._views(flat)

    def _views(self, flat: Tensor) -> Iterator[tuple["Group", list[Tensor]]]:
        """Each group with its parts of a vector, each (T, ...)."""
        parts = (one.view(shape) for one, shape in zip(torch.split(flat, self._sizes), self._shapes, strict=True))
        return ((group, [next(parts) for _ in group.parts]) for group in self._groups)


class Group:
    """Latents that are alike (`nncomplexity.search.latent.alike`), or one, which operations do for at once.

    Attributes:
        specs: of T tensors.
        parts: what they hold side by side, each (T, ...), float32.
    """

    def __init__(self, latents: Sequence[Latent]) -> None:
        self._latents, self.specs = latents, [latent.spec for latent in latents]
        self.parts = [part.float() for part in Alike(latents).parts]

    def hold(self, views: Sequence[Tensor]) -> None:
        """Let the latents hold these numbers from now on, each (T, ...)."""
        self.parts = list(views)
        for latent, parts in zip(self._latents, zip(*(part.unbind() for part in views), strict=True), strict=True):
            latent.parts = list(parts)

    def weights(self, values: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
        """The tensors that these numbers, each (T, ...), stand for."""
        first, scales = self.specs[0], [latent.scale for latent in self._latents]
        if len(scales) == 1 or max(scales) * SYMBOL_LIMIT > first.room:
            return [_weight(latent, [part[row] for part in values], device) for row, latent in enumerate(self._latents)]
        product = values[0] if len(values) == 1 else values[0] @ values[1]
        weights = product * torch.tensor(scales, dtype=product.dtype, device="cpu").reshape(-1, *[1] * (product.dim() - 1))
        return weights.reshape(-1, *first.shape).to(device, first.dtype).unbind()

    def chain(self, values: Sequence[Tensor], gradients: Mapping[str, Tensor]) -> tuple[list[Tensor], list[float]]:
        """∂d/∂u of each part (T, ...), and ∂d/∂log s of each tensor, from ∂d/∂W by first name; zeros for those that have none."""
        given = [gradients.get(spec.name) for spec in self.specs]
        if len(given) == 1:
            if given[0] is None:
                return [torch.zeros_like(part) for part in values], [0.0]
            pulls, along = _chain(self._latents[0], [part[0] for part in values], given[0])
            return pulls, [along]
        scales = torch.tensor([latent.scale for latent in self._latents], dtype=torch.float64, device="cpu")
        nothing = torch.zeros(self.specs[0].shape, dtype=torch.float32, device="cpu")
        stack = torch.stack([nothing if one is None else one for one in given]).reshape(len(given), -1)
        pull = (stack.double() * scales[:, None]).to(values[0])
        if len(values) == 1:
            pull = pull.reshape(values[0].shape)
            return [pull], (pull * values[0]).flatten(1).sum(1).tolist()
        A, B = values
        pull = pull.reshape(len(given), A.shape[1], B.shape[2])
        pull_a, pull_b = pull @ B.mT, A.mT @ pull
        return [pull_a, pull_b], (pull_a * A).flatten(1).sum(1).tolist()


def _weight(latent: Latent, values: Sequence[Tensor], device: torch.device) -> Tensor:
    """The tensor that these numbers stand for."""
    spec, product = latent.spec, values[0]
    if len(values) == 2:
        A, B, _, _ = _sides(latent, values)
        product = A @ B
    scale = latent.scale
    weight = product.double().mul_(scale) if spec.base is not None or scale * SYMBOL_LIMIT > spec.room else product * scale
    if spec.base is not None:
        return added(spec.base.to(device), weight.reshape(spec.shape).to(device), spec.dtype)
    if scale * SYMBOL_LIMIT > spec.room:
        weight.clamp_(-spec.room, spec.room)
    return weight.reshape(spec.shape).to(device, spec.dtype)


def _chain(latent: Latent, values: Sequence[Tensor], gradient: Tensor) -> tuple[list[Tensor], float]:
    """∂d/∂u of each part and ∂d/∂log s, from ∂d/∂W. The product of gradient and scale is a number of ordinary size where neither need be."""
    pull = (gradient.double() * latent.scale).to(values[0])
    if len(values) == 1:
        pull = pull.reshape(values[0].shape)
        return [pull], float((pull * values[0]).sum())
    A, B, F_a, F_b = _sides(latent, values)
    pull = pull.reshape(len(A), B.shape[1])
    pull_a, pull_b = pull @ B.T, A.T @ pull
    along = float((pull_a * A).sum())
    return [pull_a if F_a is None else F_a.T @ pull_a, pull_b if F_b is None else pull_b @ F_b], along


def _sides(latent: Latent, values: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """F_A·A (m, k), B·F_Bᵀ (k, n), and the bases of the sides, None where there is none."""
    A, B = values
    F_a, F_b = (
        scaled_basis(side, period, A.device) if period else None
        for side, period in zip((A.shape[0], B.shape[1]), latent.periods, strict=True)
    )
    return A if F_a is None else F_a @ A, B if F_b is None else B @ F_b.T, F_a, F_b


def blocks_of(latents: Sequence[Latent], large: bool) -> list[Block]:
    """Blocks of latents: one for all, or of a large network one for each tensor."""
    groups = [[latent] for latent in latents] if large else [list(latents)] if latents else []
    return [Block(group, large) for group in groups]


def norm(values: Tensor) -> float:
    """√Σx²."""
    return math.sqrt(float(values.square().sum()))
