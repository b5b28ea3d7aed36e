"""Bit allocation: a step size, a form and a rank for each tensor by the Lagrangian, without a gradient.

Each tensor has operating points, with bits and squared errors (`nncomplexity.search.operating_points`). Losses under noise measure the
distortion for each unit of squared error (`nncomplexity.search.sensitivity`). The Lagrangian (`nncomplexity.search.lagrangian`) chooses points
for all tensors for one λ, and a bisection finds the λ at which the measured distortion of the decoded candidate is just within ε. If the
inputs of layers can be recorded, weights are then rounded with compensated errors (`nncomplexity.search.compensated`), with step sizes that are
larger by a common factor, found by bisection in the same way. Local steps spend the rest of the budget.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from nncomplexity.file import CoarseTensor, Dense
from nncomplexity.network import Moment
from nncomplexity.search.batches import Minibatch
from nncomplexity.search.bisection import first_that
from nncomplexity.search.compensated import Rounding
from nncomplexity.search.contract import ALLOCATION, COMPENSATED, Found, checked_budget
from nncomplexity.search.forms import entropy_bits
from nncomplexity.search.lagrangian import Choice, Lagrangian
from nncomplexity.search.layouts import layouts_of
from nncomplexity.search.operating_points import OperatingPoints, curve_of
from nncomplexity.search.problem import Problem
from nncomplexity.search.scans import Floats
from nncomplexity.search.sensitivity import Sensitivities, groups_of
from nncomplexity.search.stopping import UntilStopped
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.trials import Trials

_WEIGHED = 1 << 22
"""About the number of symbols whose bits the coder counts to find the operating points of a network."""
_LEAP, _ROUGH = 3, 0.1
"""The factor by which the steps along λ grow, and the relative gap in bits at which the first bisection ends."""
_OVERHEAD = 1 << 12
"""The cost of counting a tensor's bits apart from its symbols, as a number of symbols."""
_LEAST, _HUGE = 1e-4, 1e300
"""Measured distortions are clipped to this range, as shares of ε."""
_IDLE, _HALVINGS = 12, 14
"""Local steps without a new choice after which they end, and halvings of the range of λ to find a new one."""
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
            trials = Trials(problem, tensors, [value], self.budget)
            with UntilStopped(problem.progress) as search:
                allocation = Allocation(self, trials, curves, Minibatch(None, problem.distortion.original))
                allocation.run(value)
                allocation.refine(value)
            found.append(trials.found(search.stopped)[0])
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
        self._specs = [curve.spec for curve in curves]
        self._groups = groups_of(self._specs, method.groups)
        self._measured: dict[bytes, float] = {}
        self._best: dict[float, tuple[Choice, Floats]] = {}
        self._entropies: dict[tuple[int, int, int], float | None] = {}
        self._rounding = Rounding({})
        self._last: Floats | None = None

    def run(self, eps: float) -> None:
        """Allocate with equal sensitivities, then with measured ones; then compensate errors. Another ε uses the same sensitivities."""
        if not self._specs:
            self._trials.measure({}, ALLOCATION)
            return
        moments = self._trials.tensors.moments if self._trials.left >= 1 else {}
        with self._trials.at_most(_NEAREST if moments else self._trials.left):
            if self._last is None:
                self._with_sensitivities(eps, _PROBED if moments else self._trials.left)
            else:
                self._bisect(eps, self._last)
        if moments and eps in self._best:
            self._compensate(eps, moments)
        self._trials.weigh()

    def _with_sensitivities(self, eps: float, most: float) -> None:
        """Choices with measured sensitivities, for which this number of evaluations may be spent at most."""
        sensitivities = Sensitivities(self._trials, self._specs, self._groups, self._trials.limit(eps), self._sample)
        # With equal sensitivities first, so that there is an answer if the budget ends while they are measured.
        self._bisect(eps, sensitivities.equal(), _ROUGH)
        with self._trials.at_most(most):
            self._last = sensitivities.measured()
        self._bisect(eps, self._last)
        if eps in self._best:
            self._last = self._of_low_rank(eps)
            self._bisect(eps, self._last)

    def refine(self, eps: float) -> None:
        """Shorter step sizes, then local steps until the budget is spent.

        A large network has so many tensors and step sizes that λ alone comes near ε.
        """
        if not self._trials.tensors.large:
            self._shorter_steps(eps)
            self._local(eps)

    def _compensate(self, eps: float, moments: Mapping[str, Moment]) -> None:
        """Round the best choice with compensated errors, with the largest common factor of the step sizes that is within ε."""
        self._rounding = Rounding(moments, lean=self._trials.tensors.large)
        best, c = self._best[eps]
        # Ratios of one factor, because what a step size costs depends on its ratio to the best one.
        scales = np.geomspace(1, _LARGEST_SCALE, (_FEW_SCALES if self._trials.tensors.large else _SCALES) + 1)[1:]
        self._search([replace(best, scale=scale) for scale in scales.tolist()], c, eps, None)

    def coarser(self, eps: float, distortion: float) -> dict[str, CoarseTensor]:
        """The choice with the largest λ, not below that of the best one within ε, whose distortion is at most this one.

        Args:
            eps: ε.
            distortion: the most, on the sample.

        Returns:
            Its tensors by first name; empty where nothing is within ε.
        """
        if eps not in self._best:
            return {}
        best, c = self._best[eps]

        def pieces(power: float) -> dict[str, CoarseTensor]:
            return self._pieces(self._lagrangian.choice(c, best.multiplier * 2.0**power))

        def near(index: int) -> bool:
            return self._trials.on_batch(pieces(_COARSER[index]), self._sample) <= distortion

        # From coarse to fine, so the first choice that is near enough is the coarsest.
        return pieces(_COARSER[first_that(near, len(_COARSER))])

    def _of_low_rank(self, eps: float) -> Floats:
        """Sensitivities of the best choice, with those to the part that a low rank leaves out.

        The latter are measured on the points with the least Lagrangian.
        """
        device, curves = self._trials.distortion.device, self._lagrangian.curves
        best, c = self._best[eps]
        corrected = c.copy()
        for _ in range(2):  # A second pass, nearer to the λ that the measured sensitivities now predict.
            points = self._lagrangian.of_low_rank(corrected, best.multiplier)
            for group in self._groups:
                factored = [index for index in group if index in points]
                error = sum(curves[index].errors[points[index], 2] for index in factored)
                if factored and self._trials.left >= 1:
                    coarse = {curves[index].spec: curves[index].piece(points[index], _FINE) for index in factored}
                    over = {spec.name: piece.decode(spec, device) for spec, piece in coarse.items()}
                    cost = abs(self._trials.change(over, self._sample))
                    # All tensors of a group get one cost, because they were measured together.
                    corrected[factored, 2] = max(min(cost, _HUGE), _LEAST * eps) / error
        return corrected

    def _bisect(self, eps: float, c: Floats, gap: float = 0.0) -> None:
        """Search along λ, from the λ that predicts ε."""
        path = self._lagrangian.path(c)
        self._search(path, c, eps, int(np.searchsorted(path.distortions, self._trials.limit(eps))), gap)

    def _search(self, path: Sequence[Choice], c: Floats, eps: float, place: int | None, gap: float = 0.0) -> None:
        """Find the last choice of a path that is within ε, first by its distortion on the sample, then on all examples.

        Args:
            path: choices, from the least distortion to the largest.
            c: sensitivities.
            eps: ε.
            place: where it is expected, to begin there; None to bisect the whole path.
            gap: the share by which the bits of the choice and of the next one may differ.
        """
        if self._sample.rows is not None:
            place = self._last_within(
                path, eps, place, gap, lambda choice: self._trials.on_batch(self._pieces(choice), self._sample)
            )
        self._last_within(path, eps, place, gap, lambda choice: self._distortion(choice, c))

    def _last_within(
        self, path: Sequence[Choice], eps: float, place: int | None, gap: float, measured: Callable[[Choice], float]
    ) -> int:
        """The last place within ε: growing steps until ε is between two choices, then bisection. It is −1 if there is none."""
        within, beyond, leap, limit = -1, len(path), 1, self._trials.limit(eps)
        between = place is None  # whether ε is known to be between two choices
        place = len(path) // 2 if place is None else place
        while beyond - within > 1 and self._trials.left >= 1:
            if within >= 0 and beyond < len(path) and self._bits(path[within]) < (1 + gap) * self._bits(path[beyond]):
                break
            place = min(max(place, within + 1), beyond - 1)
            if measured(path[place]) <= limit:
                within = place
                place = (within + beyond) // 2 if between or beyond < len(path) else within + leap
            else:
                beyond = place
                place = (within + beyond) // 2 if between or within >= 0 else beyond - leap
            # Growing steps leave a wrong prediction behind in a few evaluations.
            leap *= _LEAP
        return within

    def _smaller(self, c: Floats, multiplier: float, wanted: float) -> Choice | None:
        """The choice with the smallest λ that takes at most the wanted bits; None if even 2^16 times the given λ takes more."""
        low, high = -16.0, 16.0
        found = self._lagrangian.choice(c, multiplier * 2**high)
        if self._bits(found) > wanted:
            return None
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            choice = self._lagrangian.choice(c, multiplier * 2**middle)
            if self._bits(choice) <= wanted:
                found, high = choice, middle
            else:
                low = middle
        return found

    def _distortion(self, choice: Choice, c: Floats) -> float:
        """The measured distortion of a choice for some sensitivities. Each is measured once. It is infinite if the budget is spent."""
        if choice.key not in self._measured:
            if self._trials.left < 1:
                return math.inf
            pieces, before = self._pieces(choice), {eps: self._trials.best(eps) for eps in self._trials.kept}
            # In a large network counting bits takes longer than the loss, so estimates decide which candidate is the smaller.
            bits = self._estimate(choice, pieces) if self._trials.tensors.large else None
            origin = ALLOCATION if choice.scale is None else COMPENSATED
            distortion = self._measured[choice.key] = self._trials.measure(pieces, origin, bits)
            for eps in self._trials.kept:
                if choice.scale is None:
                    smaller = eps not in self._best or self._bits(choice) < self._bits(self._best[eps][0])
                else:  # the bits of the symbols aren't known before they are counted
                    smaller = self._trials.best(eps) < before[eps]
                if distortion <= self._trials.limit(eps) and smaller:
                    self._best[eps] = choice, c
        return self._measured[choice.key]

    def _bits(self, choice: Choice) -> float:
        return self._lagrangian.bits(choice)

    def _pieces(self, choice: Choice) -> dict[str, CoarseTensor]:
        chosen = zip(self._lagrangian.curves, choice.points.tolist(), strict=True)
        if choice.scale is None:
            return {curve.spec.name: curve.piece(point, choice.precision) for curve, point in chosen}
        return {
            curve.spec.name: self._rounding.piece(curve.spec.name, curve.forms[point], curve.weight, choice.precision, choice.scale)
            for curve, point in chosen
        }

    def _estimate(self, choice: Choice, pieces: Mapping[str, CoarseTensor]) -> float:
        """The estimated bits of a choice. With compensated errors they are lower by the change of the symbols' entropy."""
        bits = self._bits(choice)
        for index, point in enumerate(choice.points.tolist()) if choice.scale is not None else ():
            compensated = pieces[self._specs[index].name]
            nearest = self._nearest_entropy(index, point, choice.precision)
            if isinstance(compensated, Dense) and nearest is not None:
                bits += entropy_bits(torch.from_numpy(compensated.symbols)) - nearest
        return bits

    def _nearest_entropy(self, index: int, point: int, precision: int) -> float | None:
        """The entropy of a tensor's symbols at a point without compensated errors; None if it is not dense. Each is computed once."""
        key = index, point, precision
        if key not in self._entropies:
            nearest = self._lagrangian.curves[index].piece(point, precision)
            self._entropies[key] = entropy_bits(torch.from_numpy(nearest.symbols)) if isinstance(nearest, Dense) else None
        return self._entropies[key]

    def _shorter_steps(self, eps: float) -> None:
        """Fewer mantissa bits for the step sizes of the best choice, as long as it stays within ε and the saving is worth an evaluation."""
        while eps in self._best and self._best[eps][0].precision and self._trials.left >= 1:
            best, c = self._best[eps]
            shorter = replace(best, precision=best.precision - 1)
            worth = self._bits(shorter) <= (1 - self._method.gain) * self._bits(best)
            if not worth or self._distortion(shorter, c) > self._trials.limit(eps) or self._best[eps][0] is best:
                break

    def _local(self, eps: float) -> None:
        """Choices of fewer bits, for sensitivities that differ at random from those of the best choice.

        The saving that is tried grows after a success and shrinks after a failure.
        """
        generator = np.random.default_rng(self._trials.problem.seed)
        gain, idle = 16 * self._method.gain, 0
        while eps in self._best and self._trials.left >= 1:
            best, c = self._best[eps]
            factors = np.ones((len(self._specs), 1))
            for group in self._groups:
                # One factor for a group: its tensors have one sensitivity, and so one error of it.
                factors[group] = math.exp(self._method.spread * generator.standard_normal())
            wanted = (1 - gain) * self._bits(best)
            choice = self._smaller(c * factors, best.multiplier, wanted)
            choice = choice and replace(choice, scale=best.scale)
            if choice is None or choice.key in self._measured:
                idle += 1
                if idle == _IDLE:
                    break
            else:
                idle = 0
                within = self._distortion(choice, c * factors) <= self._trials.limit(eps)
                gain = 1.5 * gain if within else max(0.8 * gain, self._method.gain)
