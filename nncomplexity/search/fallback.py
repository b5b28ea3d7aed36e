"""Uniform quantization, for first answers and last ones, and tensors without a gradient."""

from collections.abc import Sequence

from nncomplexity.file import CoarseTensor, Constant, Piece, decoded_together
from nncomplexity.network import TensorSpec
from nncomplexity.search.bisection import first_that
from nncomplexity.search.contract import UNIFORM
from nncomplexity.search.factorizations import COARSENESS
from nncomplexity.search.latent import candidate_of, on_grid
from nncomplexity.search.quantize import Quantize
from nncomplexity.search.trials import Trials

_SILENT = 0.25
"""The share of ε that tensors without a gradient may use. The descent has the rest."""
_FREE = 0.01
"""If removing these tensors takes less than this share of ε, they are removed without further evaluations."""

_EARLY = (2.0**-5, 2.0**-8, 2.0**-12)
"""The relative step sizes of the first answer."""


class Fallback:
    """The parts of one search that need no gradient.

    Args:
        trials: measures candidates.
    """

    def __init__(self, trials: Trials) -> None:
        self.trials, self.tensors = trials, trials.tensors
        self._steps = Quantize().grid()[::-1]
        self._grid_bits: dict[int, float] = {}
        self._measured: set[int] = set()

    def early(self) -> None:
        """A first answer if the time is limited: every tensor dense, with ever finer step sizes until it is within ε."""
        if self.trials.problem.deadline is None:
            return
        for coarseness in _EARLY:
            if self.trials.measure(self._coarse(self.tensors.moving, coarseness)) <= self.trials.limit:
                return

    def without_gradient(self) -> dict[str, Piece]:
        """Tensors without a gradient: zero if the loss doesn't need them, otherwise quantized so that they take a share of ε at most."""
        silent = self.tensors.without_gradient()

        def quantized(index: int) -> dict[str, Piece]:
            return self._coarse(silent, COARSENESS[index])

        def holds(coarse: dict[str, Piece], share: float) -> bool:
            if self.trials.left < 1:
                return False
            distortion = self.trials.distortion
            decoded = distortion.weights | decoded_together(silent, [coarse[spec.name] for spec in silent], distortion.device)
            return abs(distortion.loss(decoded) - distortion.original) <= share * self.trials.limit

        # Most of them, such as counters and unused buffers, don't change the loss at all.
        gone: dict[str, Piece] = {spec.name: Constant(0) for spec in silent}
        if not silent or holds(gone, _FREE):
            return gone
        return quantized(first_that(lambda index: holds(quantized(index), _SILENT), len(COARSENESS)))

    def _coarse(self, specs: Sequence[TensorSpec], coarseness: float) -> dict[str, Piece]:
        """These tensors, dense, in steps of so many typical weights."""
        return candidate_of(on_grid(self.tensors.latents(specs, coarseness)))

    def first_answer(self) -> float:
        """All weights zero; then uniform quantization with the coarsest of Algorithm 2's step sizes that a bisection finds within ε.

        Returns:
            The distortion of all weights zero.
        """
        limit = self.trials.limit
        zero = self.trials.measure({spec.name: Constant(0) for spec in self.tensors.moving}, UNIFORM)
        first_that(lambda index: self._measure(index) <= limit, len(self._steps))
        return zero

    def quantize(self) -> None:
        """Algorithm 2, as far as it can improve the answer: all its step sizes whose file would be smaller than the best. This needs no loss.

        The finest step sizes come first, because they are the likeliest to be within ε. This ends when the budget is spent or when nothing is
        left of the network. If the budget suffices, the answer is then not larger than Algorithm 2's.
        """
        if self.trials.left < 1:
            return  # counting bits takes time, too
        smaller = first_that(lambda index: self._bits_at(index) >= self.trials.best, len(self._steps))
        for index in range(smaller - 1, -1, -1):
            if self.trials.left < 1 or self._bits_at(index) <= self._bits_at(0):
                break  # the coarsest step size leaves nothing, or almost nothing
            if index not in self._measured:
                self._measure(index)

    def _measure(self, index: int) -> float:
        """The distortion of the network with one of Algorithm 2's step sizes."""
        self._measured.add(index)
        return self.trials.measure(self._quantized(index), UNIFORM, lambda tensors: self._bits_of(index, tensors))

    def _quantized(self, index: int) -> dict[str, Piece]:
        return self.trials.problem.all_quantized(self.tensors.moving, self._steps[index])

    def _bits_at(self, index: int) -> float:
        """Bits of the network with one of Algorithm 2's step sizes, computed once."""
        return self._bits_of(index, None)

    def _bits_of(self, index: int, tensors: Sequence[CoarseTensor] | None) -> float:
        """The same, if the coarse tensors for that step size may exist already."""
        if index not in self._grid_bits:
            self._grid_bits[index] = self.trials.bits(tensors or self.trials.whole(self._quantized(index)))
        return self._grid_bits[index]
