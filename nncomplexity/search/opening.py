"""How a search opens: bisections that measure where a descent may begin, and what there is without one."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from nncomplexity.file import Constant, Piece, decoded_together, matrix_shape
from nncomplexity.network import TensorSpec
from nncomplexity.search.contract import MOVES, UNIFORM
from nncomplexity.search.latent import Latent, coarse_of
from nncomplexity.search.moves import Plan, improve
from nncomplexity.search.quantize import Quantize
from nncomplexity.search.start import COARSENESS, FINEST, Shape, first_that, latents_at, ranks_that_pay
from nncomplexity.search.trials import Trials

_JITTER = 0.01
"""Standard deviation, in steps, by which seeds move a start."""
_SILENT = 0.25
"""The share of ε that tensors without a gradient may take; a descent has the rest."""
_FREE = 0.01
"""The share of ε below which they are gone without a further look."""

_EARLY = (2.0**-5, 2.0**-8, 2.0**-12)
"""Relative steps of a first answer."""


class Opening:
    """The openings of one search.

    Args:
        trials: where candidates are measured.
        precision: mantissa bits of the steps of a candidate.
    """

    def __init__(self, trials: Trials, precision: int) -> None:
        self.trials, self.tensors, self.precision = trials, trials.tensors, precision
        self._steps = Quantize().grid()[::-1]
        self._grid_bits: dict[int, float] = {}
        self._measured: set[int] = set()

    def early(self, eps: float) -> None:
        """Where the time is limited, a first answer before all else: every tensor dense, at steps that are finer until it is within ε."""
        if self.trials.problem.deadline is None:
            return
        weights, factors = self.tensors.weights, self.tensors.factors
        for coarseness in _EARLY:
            latents = latents_at(Shape(0, coarseness), self.tensors.moving, weights, factors)
            rounded = coarse_of([replace(x, precision=self.precision) for x in latents])
            if self.trials.measure(rounded) <= self.trials.limit(eps):
                return

    def nothing(self, fixed: dict[str, Piece]) -> float:
        """The distortion of all weights zero.

        Where it is no number, as of a network that divides by a norm of its weights, it is that of the coarsest steps of
        its matrices with one.
        """
        moving, problem = self.tensors.moving, self.trials.problem
        zeros: dict[str, Piece] = {spec.name: Constant(0) for spec in moving}
        distortion = self.trials.measure(zeros | fixed)
        kept = {spec.name: problem.exact(spec) for spec in moving if matrix_shape(spec) is None} | fixed
        matrices = [spec for spec in moving if matrix_shape(spec)]
        for coarseness in COARSENESS:
            if math.isfinite(distortion) or self.trials.left < 1:
                break
            latents = latents_at(Shape(0, coarseness), matrices, self.tensors.weights, self.tensors.factors)
            distortion = self.trials.measure(coarse_of(latents) | kept)
        return distortion

    def rank(self, specs: Sequence[TensorSpec], fixed: dict[str, Piece], cut: float, patient: bool) -> int:
        """The lowest rank whose distortion is within `cut`; 0 where matrices stay whole.

        A `patient` descent has the gradients to shed what matrices hold too much: it begins with them whole, unless the network is one to be
        factored or has sides that waves gather.
        """
        ranks = ranks_that_pay(specs)
        rank = ranks[first_that(lambda index: self._distortion(Shape(ranks[index], FINEST), specs, fixed) <= cut, len(ranks))]
        if patient and rank and not self.tensors.factored:
            waves = any(any(latent.periods) for latent in self._latents_at(Shape(rank, FINEST), specs))
            rank = rank if waves else 0
        return rank

    def latents(self, specs: Sequence[TensorSpec], fixed: dict[str, Piece], rank: int, rounded: float) -> list[Latent]:
        """Latents of this rank under the coarsest steps with which their distortion is within `rounded`."""
        shapes = [Shape(rank, coarseness) for coarseness in COARSENESS]
        index = first_that(lambda index: self._distortion(shapes[index], specs, fixed) <= rounded, len(shapes))
        return self._jittered(self._latents_at(shapes[index], specs))

    def _distortion(self, shape: Shape, specs: Sequence[TensorSpec], fixed: dict[str, Piece]) -> float:
        return self.trials.measure(fixed | coarse_of(self._latents_at(shape, specs)))

    def _latents_at(self, shape: Shape, specs: Sequence[TensorSpec]) -> list[Latent]:
        return latents_at(shape, specs, self.tensors.weights, self.tensors.factors)

    def _jittered(self, latents: list[Latent]) -> list[Latent]:
        """The latents a hundredth of a step away for every seed but 0: enough for descents to part, so that seeds show their spread."""
        seed = self.trials.problem.seed
        if seed:
            generator = torch.Generator().manual_seed(seed)
            for part in (part for latent in latents for part in latent.parts):
                noise = torch.randn(part.shape, generator=generator, dtype=torch.float32, device="cpu")
                part.add_(noise.to(part.device), alpha=_JITTER)
        return latents

    def without_gradient(self, limit: float) -> dict[str, Piece]:
        """Tensors that no gradient reaches: gone where the loss doesn't need them, else quantized as finely as `limit` asks."""
        weights, factors = self.tensors.weights, self.tensors.factors
        silent = self.tensors.without_gradient()

        def quantized(index: int) -> dict[str, Piece]:
            latents = latents_at(Shape(0, COARSENESS[index]), silent, weights, factors)
            return coarse_of([replace(x, precision=self.precision) for x in latents])

        def holds(coarse: dict[str, Piece], share: float) -> bool:
            distortion = self.trials.distortion
            decoded = distortion.weights | decoded_together(silent, [coarse[spec.name] for spec in silent], distortion.device)
            return abs(distortion.loss(decoded) - distortion.original) <= share * limit

        gone: dict[str, Piece] = {spec.name: Constant(0) for spec in silent}
        if not silent or holds(gone, _FREE):
            return gone
        return quantized(first_that(lambda index: holds(quantized(index), _SILENT), len(COARSENESS)))

    def quantize(self, eps: float) -> None:
        """Algorithm 2 as far as it can matter: where there is no candidate yet a bisection over its steps; then the coarser ones.

        Steps whose file is larger than the best are known without a loss. Of the others the finest come first, as they are the likeliest
        to be within ε; they go on while the budget lasts and anything is left of the network. Where it does last, what is kept then
        isn't larger than Algorithm 2's answer.
        """
        limit, count = self.trials.limit(eps), len(self._steps)
        if not self.trials.kept[eps]:
            first_that(lambda index: self.trials.measure(self._quantized(index), UNIFORM) <= limit, count)
        smaller = first_that(lambda index: self._bits_at(index) >= self.trials.best(eps), count)
        for index in range(smaller - 1, -1, -1):
            if self.trials.left < 1 or self._bits_at(index) <= self._bits_at(0):
                break  # the coarsest step leaves nothing, or next to it
            if index not in self._measured:
                self._measured.add(index)
                self.trials.measure(self._quantized(index), UNIFORM)

    def _quantized(self, index: int) -> dict[str, Piece]:
        return self.trials.problem.all_quantized(self.tensors.moving, self._steps[index])

    def _bits_at(self, index: int) -> float:
        """Bits of the network under one of Algorithm 2's steps, worked out once for all ε."""
        if index not in self._grid_bits:
            self._grid_bits[index] = self.trials.bits(self.trials.whole(self._quantized(index)))
        return self._grid_bits[index]

    def moves(self, eps: float, budget: float, plans: Sequence[Plan] | None = None) -> list[Plan]:
        """Moves over so many evaluations, from plans or from where all tensors are dense; the plans that they end with."""
        limit, begin = self.trials.limit(eps), self.trials.spent

        def start(index: int) -> list[Plan]:
            return [Plan(spec, Shape(0, COARSENESS[index])) for spec in self.tensors.moving]

        def holds(index: int) -> bool:
            return measured({plan.spec.name: self.coarsen(plan) for plan in start(index)}) <= limit / 4

        def measured(coarse: dict[str, Piece]) -> float:
            return self.trials.measure(coarse, MOVES)

        def spent() -> float:
            return 1.0 if self.trials.left < 1 or self.trials.last(1) else (self.trials.spent - begin) / budget

        if plans is None:
            plans = start(first_that(holds, len(COARSENESS)))
        return improve(plans, self.coarsen, measured, limit, spent)

    def coarsen(self, plan: Plan) -> Piece:
        return plan.coarse(self.tensors.weights, self.tensors.factors, self.precision)
