"""Bit allocation: a step size, a form and a rank for each tensor by the Lagrangian, without a gradient.

Each tensor has operating points, with bits and squared errors (`nncomplexity.search.operating_points`). Losses under noise measure the
distortion for each unit of squared error (`nncomplexity.search.sensitivity`). The Lagrangian (`nncomplexity.search.lagrangian`) chooses points
for all tensors for one λ, and a bisection finds the λ at which the measured distortion of the decoded candidate is just within ε. If the
inputs of layers can be recorded, weights are then rounded with compensated errors (`nncomplexity.search.compensated`), with step sizes that are
larger by a common factor, found by bisection in the same way. Local steps (`nncomplexity.search.local_steps`) spend the rest of the budget.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nncomplexity.file import CoarseTensor
from nncomplexity.network import Moment
from nncomplexity.search.batches import Minibatch
from nncomplexity.search.bisection import first_that, last_that
from nncomplexity.search.choices import Best, Choices
from nncomplexity.search.contract import ALLOCATION, Found, checked_budget
from nncomplexity.search.lagrangian import Choice, Lagrangian
from nncomplexity.search.layouts import layouts_of
from nncomplexity.search.local_steps import LocalSteps
from nncomplexity.search.operating_points import OperatingPoints, curve_of
from nncomplexity.search.problem import Problem
from nncomplexity.search.scans import Floats
from nncomplexity.search.sensitivity import Sensitivities, groups_of
from nncomplexity.search.stopping import UntilStopped
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.trials import Trials

_WEIGHED = 1 << 22
"""About the number of symbols whose bits the coder counts to find the operating points of a network."""
_ROUGH = 0.1
"""The relative gap in bits at which the first bisection ends."""
_OVERHEAD = 1 << 12
"""The cost of counting a tensor's bits apart from its symbols, as a number of symbols."""
_LEAST, _HUGE = 1e-4, 1e300
"""The least and the largest distortion of a low rank that sensitivities are computed from, the least as a share of ε."""
_PROBED, _NEAREST = 40, 60
"""Evaluations for sensitivities, and for all stages before errors are compensated, if they can be. They don't depend on the budget, so that a
search with a larger budget continues one with a smaller budget.
"""
_LARGEST_SCALE, _SCALES, _FEW_SCALES = 8.0, 128, 16
"""The largest factor of the steps where errors are compensated, and how many factors there are, for a large network fewer."""
_COARSER = tuple(half / 2 for half in range(24, -1, -1))
"""Binary logarithms of the factors of λ with which a choice becomes coarser."""
_FINE = 20
"""Mantissa bits of step sizes at which their rounding doesn't matter."""


@dataclass(frozen=True)
class Allocate:
    """The search by bit allocation.

    Attributes:
        budget: loss evaluations for each ε. A larger budget continues the search of a smaller one.
        groups: the most groups of tensors with a sensitivity of their own.
        spread: the standard deviation of the logarithm of the factors by which local steps change sensitivities.
        gain: a step is measured only if it is expected to save at least this share of the bits.

    >>> Allocate().budget
    100
    """

    budget: float = 100
    groups: int = 16
    spread: float = 0.35
    gain: float = 0.001

    name = "allocate"
    codec = "entropy"

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", checked_budget(self.budget, least=1))

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        """The smallest file found for each ε, in the order of `eps`."""
        tensors = Tensors(problem)
        curves = curves_of(problem, tensors)
        found = []
        for done, value in enumerate(eps):
            if problem.deadline:
                problem.deadline.share(len(eps) - done)
            trials = Trials(problem, tensors, value, self.budget)
            with UntilStopped(problem.progress) as search:
                allocation = Allocation(self, trials, curves, Minibatch(None, problem.distortion.original))
                allocation.run()
                allocation.refine()
            found.append(trials.found(search.stopped))
        return found


def curves_of(problem: Problem, tensors: Tensors) -> list[OperatingPoints]:
    """The operating points of all tensors that may change. They are the same for every ε."""
    weights, layouts = problem.weights, layouts_of(problem)
    weighings = _WEIGHED / max(sum(spec.count + _OVERHEAD for spec in tensors.moving), 1)
    return [curve_of(spec, weights[spec.name].cpu(), weighings, layouts.get(spec.name)) for spec in tensors.moving]


class Allocation:
    """The search among the operating points of all tensors that may change.

    Args:
        method: its settings.
        trials: measures candidates.
        curves: the operating points.
        sample: the examples on which sensitivities are measured. Candidates are measured on all.
    """

    def __init__(self, method: Allocate, trials: Trials, curves: Sequence[OperatingPoints], sample: Minibatch) -> None:
        self._method, self._trials, self._lagrangian, self._sample = method, trials, Lagrangian(curves), sample
        self._choices = Choices(trials, self._lagrangian)
        self._specs = [curve.spec for curve in curves]
        self._groups = groups_of(self._specs, method.groups)

    def run(self) -> None:
        """Allocate with equal sensitivities, then with measured ones; then compensate errors."""
        if not self._specs:
            self._trials.measure({}, ALLOCATION)
            return
        moments = self._trials.tensors.moments if self._trials.left >= 1 else {}
        with self._trials.at_most(_NEAREST if moments else self._trials.left):
            self._with_sensitivities(_PROBED if moments else self._trials.left)
        best = self._choices.best
        if moments and best is not None:
            self._compensate(best, moments)
        self._trials.weigh()

    def _with_sensitivities(self, most: float) -> None:
        """Choices with measured sensitivities, for which this number of evaluations may be spent at most."""
        sensitivities = Sensitivities(self._trials, self._specs, self._groups, self._trials.limit, self._sample)
        # With equal sensitivities first, so that there is an answer if the budget ends while they are measured.
        self._bisect(sensitivities.equal(), _ROUGH)
        with self._trials.at_most(most):
            c = sensitivities.measured()
        self._bisect(c)
        best = self._choices.best
        if best is not None:
            self._bisect(self._of_low_rank(best))

    def refine(self) -> None:
        """Shorter step sizes, then local steps until the budget is spent.

        A large network has so many tensors and step sizes that λ alone comes near ε.
        """
        if not self._trials.tensors.large:
            LocalSteps(self._choices, self._groups, self._method.spread, self._method.gain).run()

    def _compensate(self, best: Best, moments: Mapping[str, Moment]) -> None:
        """Round the best choice with compensated errors, with the largest common factor of the step sizes that is within ε."""
        self._choices.compensate(moments)
        # Ratios of one factor, because what a step size costs depends on its ratio to the best one.
        scales = np.geomspace(1, _LARGEST_SCALE, (_FEW_SCALES if self._trials.tensors.large else _SCALES) + 1)[1:]
        self._search([replace(best.choice, scale=scale) for scale in scales.tolist()], best.c, None)

    def coarser(self, distortion: float) -> dict[str, CoarseTensor]:
        """The choice with the largest λ, not below that of the best one within ε, whose distortion is at most this one.

        Args:
            distortion: the most, on the sample.

        Returns:
            Its tensors by first name; empty where nothing is within ε.
        """
        best = self._choices.best
        if best is None:
            return {}
        choice, c = best

        def pieces(power: float) -> dict[str, CoarseTensor]:
            return self._choices.pieces(self._lagrangian.choice(c, choice.multiplier * 2.0**power))

        def near(index: int) -> bool:
            return self._trials.on_batch(pieces(_COARSER[index]), self._sample) <= distortion

        # From coarse to fine, so the first choice that is near enough is the coarsest.
        return pieces(_COARSER[first_that(near, len(_COARSER))])

    def _of_low_rank(self, best: Best) -> Floats:
        """Sensitivities of the best choice, with those to the part that a low rank leaves out.

        The latter are measured on the points with the least Lagrangian.
        """
        device, curves = self._trials.distortion.device, self._lagrangian.curves
        corrected = best.c.copy()
        for _ in range(2):  # A second pass, nearer to the λ that the measured sensitivities now predict.
            points = self._lagrangian.of_low_rank(corrected, best.choice.multiplier)
            for group in self._groups:
                factored = [index for index in group if index in points]
                error = sum(curves[index].errors[points[index], 2] for index in factored)
                if factored and self._trials.left >= 1:
                    coarse = {curves[index].spec: curves[index].piece(points[index], _FINE) for index in factored}
                    over = {spec.name: piece.decode(spec, device) for spec, piece in coarse.items()}
                    cost = abs(self._trials.change(over, self._sample))
                    # A loss that is no finite number says nothing of how the distortion grows: the noise's sensitivity stays.
                    if math.isfinite(cost):
                        # All tensors of a group get one cost, because they were measured together.
                        corrected[factored, 2] = max(min(cost, _HUGE), _LEAST * self._trials.eps) / error
        return corrected

    def _bisect(self, c: Floats, gap: float = 0.0) -> None:
        """Search along λ, from the λ that predicts ε."""
        path = self._lagrangian.path(c)
        self._search(path, c, int(np.searchsorted(path.distortions, self._trials.limit)), gap)

    def _search(self, path: Sequence[Choice], c: Floats, place: int | None, gap: float = 0.0) -> None:
        """Find the last choice of a path that is within ε, first by its distortion on the sample, then on all examples.

        Args:
            path: choices, from the least distortion to the largest.
            c: sensitivities.
            place: where it is expected, to begin there; None to bisect the whole path.
            gap: the share by which the bits of the choice and of the next one may differ.
        """
        limit, bits = self._trials.limit, self._lagrangian.bits

        def enough(within: int, beyond: int) -> bool:
            if self._trials.left < 1:
                return True
            return within >= 0 and beyond < len(path) and bits(path[within]) < (1 + gap) * bits(path[beyond])

        def within_on_sample(index: int) -> bool:
            return self._trials.on_batch(self._choices.pieces(path[index]), self._sample) <= limit

        if self._sample.rows is not None:
            place = last_that(within_on_sample, len(path), place, enough)
        last_that(lambda index: self._choices.distortion(path[index], c) <= limit, len(path), place, enough)
