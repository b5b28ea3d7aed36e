"""The arithmetic of a descent: all latents are in one vector, so that one operation serves all tensors.

The weights of a step are the scale times u + f·(Q(u) − u). The firmness f goes from 0, no rounding, to 1, complete rounding. Gradients pass
through Q as if it were the identity (the straight-through estimator of Bengio et al. 2013). Adam (Kingma and Ba 2015) moves the latents and the
logarithms of the scales. Its second moment is the sum of the squares of the two gradients, and not the square of their sum: near the optimum
the two cancel, and their sum would give steps that are far too long.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from nncomplexity.codecs import SYMBOL_LIMIT
from nncomplexity.network import TensorSpec, added
from nncomplexity.search.latent import Alike, Latent, alike, rounded, scaled_basis
from nncomplexity.search.rate import Rate

_MEAN, _SQUARES = 0.95, 0.99
_TINY = 1e-20
_FEW = 32
"""Up to this number of tensors, their sums are computed one by one. That is as fast as all at once, and has smaller rounding errors."""
_SCALES = 1e-12, 1e12
"""The range of scales whose products with gradients are computed in float32. Outside it they may overflow, and are computed in float64."""


class Adam:
    """The state of Adam for one vector. Its moments may have fewer bits than the vector."""

    def __init__(self, like: Tensor, dtype: torch.dtype) -> None:
        self._mean, self._square, self._count = torch.zeros_like(like, dtype=dtype), torch.zeros_like(like, dtype=dtype), 0

    def direction(self, gradient: Tensor, squares: Tensor) -> Tensor:
        """m / √v after one more gradient. `squares` is what enters v, in place of the square of the gradient."""
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
        self._groups = _groups(latents)
        self.latents = [latent for group in self._groups for latent in group.latents]
        self._lean, self.firmness = lean, 1.0
        parts = [part for group in self._groups for part in group.parts]
        self._shapes, self._sizes = [part.shape for part in parts], [part.numel() for part in parts]
        self._lengths = [sum(part.numel() for part in group.parts) for group in self._groups]
        self._u = torch.cat([part.reshape(-1) for part in parts])
        for group, flat in zip(self._groups, torch.split(self._u, self._lengths), strict=True):
            group.hold(flat)
        moments = torch.bfloat16 if lean else torch.float32
        self._adam = Adam(self._u, moments)
        self._adam_scale = Adam(torch.zeros(len(latents), dtype=torch.float32, device="cpu"), torch.float32)
        self._rate = Rate()
        self._kept: Tensor | None = None

    @property
    def bits(self) -> float:
        """The rate of the symbols at the last call of `weigh`: an estimate of their bits."""
        return self._rate.bits

    def weigh(self) -> None:
        """Compute the rate and its slopes for the present symbols."""
        flat = rounded(self._u)
        self._rate.update([part.view(shape) for part, shape in zip(torch.split(flat, self._sizes), self._shapes, strict=True)])

    def forget(self) -> None:
        """Discard the rounded numbers, because the latents or the firmness have changed."""
        self._kept = None

    def weights(self, device: torch.device) -> Iterator[tuple[TensorSpec, Tensor]]:
        """The weights of each tensor, in its dtype."""
        for group, values in zip(self._groups, self._values(), strict=True):
            specs = [latent.spec for latent in group.latents]
            yield from zip(specs, group.weights(values, device), strict=True)

    def pulls(self, gradients: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """∂d/∂u, flat, and ∂d/∂log s of each latent, from ∂d/∂W by first name."""
        pulls, scales = list[Tensor](), list[float]()
        for group, values in zip(self._groups, self._values(), strict=True):
            found, along = group.chain(values, gradients)
            pulls.append(found)
            scales += along
        flat = torch.nan_to_num_(torch.cat(pulls), 0.0, 0.0, 0.0)
        return flat, torch.tensor(scales, dtype=torch.float32, device="cpu").nan_to_num_(0.0, 0.0, 0.0)

    def pressure(self) -> Tensor:
        """∂R/∂u, flat."""
        return self._rate.gradient(self._u)

    def move(self, pull: Tensor, pressure: Tensor, rate: float) -> None:
        """One step against ∂d/∂u + λ·∂R/∂u."""
        squares = pull.square().add_(pressure.square())
        self._u.sub_(self._adam.direction(pull.add(pressure), squares), alpha=rate)
        self.forget()

    def scale(self, along: Tensor, rate: float) -> None:
        """One step of the logarithms of the scales."""
        for latent, change in zip(self.latents, self._adam_scale.direction(along, along.square()).tolist(), strict=True):
            latent.log_scale -= rate * change

    def _values(self) -> tuple[Tensor, ...]:
        """u + f·(Q(u) − u) of each group, as a vector."""
        flat = self._kept
        if flat is None:
            flat = rounded(self._u)
            if self.firmness < 1:
                flat = self._u.lerp(flat, self.firmness)
            self._kept = None if self._lean else flat
        return torch.split(flat, self._lengths)


class Group(Protocol):
    """Latents of T tensors, which are one slice of the vector.

    Attributes:
        latents: the latents.
        parts: their numbers before they are views of the vector, float32, in its order. The first axis counts tensors.
    """

    latents: list[Latent]
    parts: list[Tensor]

    def hold(self, flat: Tensor) -> None:
        """Make the latents views of this vector."""

    def weights(self, values: Tensor, device: torch.device) -> Sequence[Tensor]:
        """The T tensors that are decoded from a vector."""
        ...

    def chain(self, values: Tensor, gradients: Mapping[str, Tensor]) -> tuple[Tensor, list[float]]:
        """∂d/∂u as a vector, and ∂d/∂log s of each tensor, from ∂d/∂W by first name. A tensor without a gradient has zeros."""
        ...


class Plain:
    """Dense latents of any shapes. Each operation serves all of them."""

    def __init__(self, latents: Sequence[Latent]) -> None:
        shapes: dict[object, list[Latent]] = {}
        for place, latent in enumerate(latents):
            # The rate of many tensors of one shape is computed together.
            shapes.setdefault(latent.parts[0].shape if len(latents) > _FEW else place, []).append(latent)
        self.latents = [latent for group in shapes.values() for latent in group]
        self.parts = [torch.stack([latent.parts[0].float() for latent in group]) for group in shapes.values()]
        self._sizes = [latent.parts[0].numel() for latent in self.latents]
        self._lengths = torch.tensor(self._sizes, device="cpu")

    def hold(self, flat: Tensor) -> None:
        """Make the latents views of this vector."""
        for latent, part in zip(self.latents, torch.split(flat, self._sizes), strict=True):
            latent.parts = [part.view(latent.parts[0].shape)]

    def weights(self, values: Tensor, device: torch.device) -> Sequence[Tensor]:
        """The tensors that are decoded from a vector."""
        scales = [latent.scale for latent in self.latents]
        if any(scale * SYMBOL_LIMIT > latent.spec.room for scale, latent in zip(scales, self.latents, strict=True)):
            parts = zip(self.latents, torch.split(values, self._sizes), strict=True)
            return [_weight(latent, [part.view(latent.parts[0].shape)], device) for latent, part in parts]
        products = self._scaled(torch.split(values, self._sizes), scales)
        return [
            part.view(latent.spec.shape).to(device, latent.spec.dtype) for latent, part in zip(self.latents, products, strict=True)
        ]

    def chain(self, values: Tensor, gradients: Mapping[str, Tensor]) -> tuple[Tensor, list[float]]:
        """∂d/∂u as a vector, and ∂d/∂log s of each tensor."""
        nothing = torch.zeros_like(values)
        given = [
            nothing[:size] if (one := gradients.get(latent.spec.name)) is None else one.reshape(-1).to(values)
            for latent, size in zip(self.latents, self._sizes, strict=True)
        ]
        pull = torch.cat(self._scaled(given, [latent.scale for latent in self.latents]))
        if len(self.latents) > _FEW and values.device.type == "cpu":
            return pull, torch.segment_reduce(pull * values, "sum", lengths=self._lengths).tolist()
        pairs = zip(torch.split(pull, self._sizes), torch.split(values, self._sizes), strict=True)
        return pull, [float(torch.dot(one, other)) for one, other in pairs]

    def _scaled(self, parts: Sequence[Tensor], scales: Sequence[float]) -> tuple[Tensor, ...]:
        """The part of the vector of each latent, times its scale."""
        if len(parts) <= _FEW:
            return tuple(torch._foreach_mul(list(parts), list(scales)))
        flat = torch.cat(list(parts))
        factors = torch.tensor(scales, dtype=torch.float32, device="cpu").repeat_interleave(self._lengths)
        return torch.split(flat.mul_(factors.to(flat.device)), self._sizes)


class Similar:
    """Latents of one shape and form (`nncomplexity.search.latent.alike`), or a single one of any kind. Each operation serves all of them."""

    def __init__(self, latents: Sequence[Latent]) -> None:
        self.latents = list(latents)
        self.parts = [part.float() for part in Alike(latents).parts]
        self._shapes = [part.shape for part in self.parts]
        self._sizes = [part.numel() for part in self.parts]

    def hold(self, flat: Tensor) -> None:
        """Make the latents views of this vector."""
        for latent, parts in zip(self.latents, zip(*(part.unbind() for part in self._views(flat)), strict=True), strict=True):
            latent.parts = list(parts)

    def weights(self, values: Tensor, device: torch.device) -> Sequence[Tensor]:
        """The tensors that are decoded from a vector."""
        views = self._views(values)
        first, scales = self.latents[0].spec, [latent.scale for latent in self.latents]
        if len(scales) == 1 or max(scales) * SYMBOL_LIMIT > first.room:
            return [_weight(latent, [part[row] for part in views], device) for row, latent in enumerate(self.latents)]
        product = views[0] if len(views) == 1 else views[0] @ views[1]
        weights = product * torch.tensor(scales, dtype=product.dtype, device="cpu").reshape(-1, *[1] * (product.dim() - 1))
        return weights.reshape(-1, *first.shape).to(device, first.dtype).unbind()

    def chain(self, values: Tensor, gradients: Mapping[str, Tensor]) -> tuple[Tensor, list[float]]:
        """∂d/∂u as a vector, and ∂d/∂log s of each tensor."""
        pulls, along = self._chain(self._views(values), gradients)
        return torch.cat([pull.reshape(-1) for pull in pulls]), along

    def _chain(self, values: Sequence[Tensor], gradients: Mapping[str, Tensor]) -> tuple[list[Tensor], list[float]]:
        specs = [latent.spec for latent in self.latents]
        given = [gradients.get(spec.name) for spec in specs]
        if len(given) == 1:
            if given[0] is None:
                return [torch.zeros_like(part) for part in values], [0.0]
            pulls, along = _chain(self.latents[0], [part[0] for part in values], given[0])
            return pulls, [along]
        scales = torch.tensor([latent.scale for latent in self.latents], dtype=torch.float64, device="cpu")
        nothing = torch.zeros(specs[0].shape, dtype=torch.float32, device="cpu")
        stack = torch.stack([nothing if one is None else one for one in given]).reshape(len(given), -1)
        pull = (stack.double() * scales[:, None]).to(values[0])
        if len(values) == 1:
            pull = pull.reshape(values[0].shape)
            return [pull], (pull * values[0]).flatten(1).sum(1).tolist()
        A, B = values
        pull = pull.reshape(len(given), A.shape[1], B.shape[2])
        pull_a, pull_b = pull @ B.mT, A.mT @ pull
        return [pull_a, pull_b], (pull_a * A).flatten(1).sum(1).tolist()

    def _views(self, flat: Tensor) -> list[Tensor]:
        return [part.view(shape) for part, shape in zip(torch.split(flat, self._sizes), self._shapes, strict=True)]


def _groups(latents: Sequence[Latent]) -> list[Group]:
    """One group of the dense latents, then groups of the others that have one shape and form."""
    plain = [latent for latent in latents if _is_plain(latent)]
    others = [latent for latent in latents if not _is_plain(latent)]
    groups: list[Group] = [Plain(plain)] if plain else []
    return groups + [Similar(group.latents) for group in alike(others)]


def _is_plain(latent: Latent) -> bool:
    """Whether a tensor is dense, has no base, and can be computed in float32."""
    wide = latent.spec.dtype == torch.float64 or not _SCALES[0] < latent.scale < _SCALES[1]
    return len(latent.parts) == 1 and latent.spec.base is None and not wide


def _weight(latent: Latent, values: Sequence[Tensor], device: torch.device) -> Tensor:
    """The tensor that is decoded from these numbers."""
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
    """∂d/∂u of each part and ∂d/∂log s, from ∂d/∂W."""
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
