"""What the searches of one network share: which of its tensors move, which have a gradient, and their decompositions."""

import functools

from torch import Tensor

from nncomplexity.file import Constant, Piece
from nncomplexity.linalg import large_network
from nncomplexity.network import Moment, TensorSpec
from nncomplexity.search.contract import Problem
from nncomplexity.search.start import Factors, of_low_rank

_STEEP = 1e15
"""The product of a tensor's largest number and largest gradient from which on the gradient is of no use: a mask, whose least change in units
of its own size is a step over a cliff. The squares of larger ones float32 doesn't hold.
"""
_MANY = 750_000
"""Parameters of which the gradients of a default budget can't put each in its place: those of factors are fewer."""


class Tensors:
    """The tensors of a network, as searches see them.

    Attributes:
        moving: those that may be coarse-grained, but for zeros and ones.
        held: the others, as they are, by first name. Those that are all 0 or all 1, as biases and gains are made, cost next to nothing.
            And they have no sizes to tell a step from: moved, all their elements change at once.
        factors: decompositions of those that move.
    """

    def __init__(self, problem: Problem) -> None:
        specs = problem.skeleton.tensors
        self.weights = problem.weights
        free = [spec for spec in specs if problem.quantizable(spec) and spec.count]
        as_made = {spec.name: Constant(value) for spec in free if (value := _constant(self.weights[spec.name])) is not None}
        free_names = {spec.name for spec in free}
        self.moving = tuple(spec for spec in free if spec.name not in as_made)
        self.held: dict[str, Piece] = {
            **as_made,
            **{spec.name: problem.exact(spec) for spec in specs if spec.name not in free_names},
        }
        self.factors = Factors(problem.weights)
        self._distortion, self._largest = problem.distortion, problem.largest
        self._gradient_names: frozenset[str] | None = None

    @property
    def large(self) -> bool:
        """Whether candidates are to be held once and decoded tensor by tensor."""
        return large_network(sum(spec.count for spec in self.moving))

    @functools.cached_property
    def factored(self) -> bool:
        """Whether a descent begins with factors however long it is: its network is of low rank, or has too many numbers to put in order."""
        specs = self.with_gradient()
        return sum(spec.count for spec in specs) > _MANY or of_low_rank(specs, self.factors)

    @functools.cached_property
    def moments(self) -> dict[str, Moment]:
        """The moments of what the tensors that move are multiplied by, of those where that can be watched. Costs an evaluation, once, unless
        there are none.
        """
        names = {spec.name for spec in self.moving}
        return {name: moment for name, moment in self._distortion.moments().items() if name in names}

    def with_gradient(self) -> tuple[TensorSpec, ...]:
        """The tensors that a gradient reaches which a descent can follow; none for a loss without one. Costs a gradient, once."""
        if self._gradient_names is None:
            measured = self._distortion.gradient(self._distortion.weights)
            grads = measured[1] if measured else {}
            steep = {spec.name for spec in self.moving if spec.name in grads and self._steepness(spec, grads[spec.name]) > _STEEP}
            self._gradient_names = frozenset(grads) - steep
        return tuple(spec for spec in self.moving if spec.name in self._gradient_names)

    def without_gradient(self) -> tuple[TensorSpec, ...]:
        """The others that move, such as running statistics and masks."""
        reached = {spec.name for spec in self.with_gradient()}
        return tuple(spec for spec in self.moving if spec.name not in reached)

    def _steepness(self, spec: TensorSpec, grad: Tensor) -> float:
        return self._largest[spec.name] * float(grad.abs().max())


def _constant(weight: Tensor) -> int | None:
    """0 or 1 where all elements are that. The first one rules most tensors out."""
    first = float(weight.reshape(-1)[0])
    return int(first) if first in (0, 1) and bool((weight == first).all()) else None
