"""What the searches of one network have in common: which tensors may change, which have a gradient, and their decompositions."""

import functools
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from nncomplexity.file import Constant, Piece
from nncomplexity.linalg import large_network
from nncomplexity.network import Moment, TensorSpec
from nncomplexity.search.factorizations import Factorizations, Shape, latents_at
from nncomplexity.search.latent import Latent
from nncomplexity.search.problem import Problem

_STEEP = 1e15
"""If the product of a tensor's largest number and largest gradient is above this, a descent ignores the gradient.

Such a tensor is a mask: the smallest change relative to its size changes the loss completely. Squares of larger products overflow in float32.
"""


class Tensors:
    """The tensors of a network, as searches see them.

    Attributes:
        moving: the tensors that may change. A tensor of only 0 or only 1 is not among them.
        held: the other tensors, unchanged, by first name. Tensors of only 0 or only 1, as new biases and gains are, cost almost no bits. They
            also have no spread from which a step size could be chosen: one step too large changes all elements at once.
        factors: the decompositions of the moving tensors.
    """

    def __init__(self, problem: Problem) -> None:
        specs = problem.skeleton.tensors
        self.weights = problem.weights
        free = [spec for spec in specs if problem.quantizable(spec) and spec.count]
        # Found before the search, because a candidate with thousands of such tensors would test each of them each time.
        as_made = {spec.name: Constant(value) for spec in free if (value := _constant(self.weights[spec.name])) is not None}
        free_names = {spec.name for spec in free}
        self.moving = tuple(spec for spec in free if spec.name not in as_made)
        self.held: dict[str, Piece] = {
            **as_made,
            **{spec.name: problem.exact(spec) for spec in specs if spec.name not in free_names},
        }
        self.factors = Factorizations(problem.weights)
        self._distortion, self._largest = problem.distortion, problem.largest
        self._gradient_names: frozenset[str] | None = None

    @property
    def large(self) -> bool:
        """Whether the network is so large that a candidate is decoded tensor by tensor, to save memory."""
        return large_network(sum(spec.count for spec in self.moving))

    @functools.cached_property
    def moments(self) -> dict[str, Moment]:
        """The input moments of the tensors that may change and whose inputs can be recorded.

        They cost one evaluation, once; none if there are no such tensors.
        """
        names = {spec.name for spec in self.moving}
        return {name: moment for name, moment in self._distortion.moments().items() if name in names}

    def latents(self, specs: Sequence[TensorSpec], coarseness: float, rank: int = 0) -> list[Latent]:
        """The latents of some tensors in relative step sizes; matrices in factors of a rank where that pays, if it is above 0."""
        return latents_at(Shape(rank, coarseness), specs, self.weights, self.factors)

    def with_gradient(self) -> tuple[TensorSpec, ...]:
        """The moving tensors with a gradient that a descent can follow; none if the loss has no gradient.

        The first call measures a gradient.
        """
        if self._gradient_names is None:
            measured = self._distortion.gradient(self._distortion.weights)
            grads = measured[1] if measured else {}
            # A descent can't follow them, and their gradients would hide those of the others.
            steep = {spec.name for spec in self.moving if spec.name in grads and self._steepness(spec, grads[spec.name]) > _STEEP}
            self._gradient_names = frozenset(grads) - steep
        return tuple(spec for spec in self.moving if spec.name in self._gradient_names)

    def without_gradient(self) -> tuple[TensorSpec, ...]:
        """The other moving tensors, such as running statistics and masks."""
        reached = {spec.name for spec in self.with_gradient()}
        return tuple(spec for spec in self.moving if spec.name not in reached)

    def _steepness(self, spec: TensorSpec, grad: Tensor) -> float:
        return self._largest[spec.name] * float(grad.abs().max())


def _constant(weight: Tensor) -> int | None:
    """0 or 1 if all elements have this value; otherwise None. The first element alone decides for most tensors, which saves time."""
    first = float(weight.reshape(-1)[0])
    return int(first) if first in (0, 1) and bool((weight == first).all()) else None


class Overlaid(Mapping[str, Tensor]):
    """The tensors of `under`, with those of `over` in their place."""

    def __init__(self, over: Mapping[str, Tensor], under: Mapping[str, Tensor]) -> None:
        self._over, self._under = over, under

    def __getitem__(self, name: str) -> Tensor:
        return self._over[name] if name in self._over else self._under[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._under)

    def __len__(self) -> int:
        return len(self._under)
