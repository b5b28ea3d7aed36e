"""Bit allocation: a step, a form and a rank for each tensor by the Lagrangian, without a gradient.

Each tensor has operating points, with bits and squared errors (`nncomplexity.search.operating_points`). What a squared error costs is measured
by losses (`nncomplexity.search.sensitivity`), and the Lagrangian (`nncomplexity.search.lagrangian`) chooses points for all tensors at one λ,
which is bisected on the measured distortion of the decoded candidates. Near ε it is measured what each group of tensors contributes there, and
the allocation is made again; what is left of the budget are local steps.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from nncomplexity.coarse import CoarseTensor, Decoded
from nncomplexity.search.contract import Found, Problem, StopSearch, checked_budget
from nncomplexity.search.lagrangian import Choice, Lagrangian
from nncomplexity.search.looks import layouts_of
from nncomplexity.search.operating_points import Curve, Floats, curve_of
from nncomplexity.search.sensitivity import Sensitivities, groups_of
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.trials import Trials

_WEIGHED = 1 << 22
"""Symbols that the coder weighs to find the operating points of a network, about."""
_CHANGE = 16.0
"""The most by which a measured contribution changes a sensitivity."""


@dataclass(frozen=True)
class Allocate:
    """The search by bit allocation.

    Attributes:
        budget: loss evaluations for each ε. A larger budget continues the search of a smaller one.
        groups: the most groups of tensors with a sensitivity of their own.
        spread: standard deviation of the logarithm by which local steps vary sensitivities.
        gain: the share of its bits that a local step is to save.

    >>> Allocate().budget
    100
    """

    budget: float = 100
    groups: int = 16
    spread: float = 0.35
    gain: float = 0.003

    name = "allocate"
    codec = "entropy"

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", checked_budget(self.budget, least=1))

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        tensors = Tensors(problem)
        curves = curves_of(problem, tensors)
        found = []
        for done, value in enumerate(eps):
            if problem.deadline:
                problem.deadline.share(len(eps) - done)
            trials = Trials(problem, tensors, [value], self.budget)
            with suppress(StopSearch):
                Allocation(self, trials, curves, value).run()
            found.append(trials.found()[0])
        return found


def curves_of(problem: Problem, tensors: Tensors) -> list[Curve]:
    """The operating points of all tensors that move; they serve every ε."""
    weights, layouts = problem.weights, layouts_of(problem)
    weighings = _WEIGHED / max(sum(spec.count for spec in tensors.moving), 1)
    return [curve_of(spec, weights[spec.name], weighings, layouts.get(spec.name)) for spec in tensors.moving]


class Allocation:
    """The search for one ε among the operating points of all tensors that move.

    Args:
        method: its settings.
        trials: where candidates are measured.
        curves: the operating points.
        eps: the distortion bound.
    """

    def __init__(self, method: Allocate, trials: Trials, curves: Sequence[Curve], eps: float) -> None:
        self._method, self._trials, self._lagrangian = method, trials, Lagrangian(curves)
        self._limit = trials.limit(eps)
        self._specs = [curve.spec for curve in curves]
        self._groups = groups_of(self._specs, method.groups)
        self._measured: dict[bytes, float] = {}
        self._best: Choice | None = None

    def run(self) -> None:
        """Allocate under equal sensitivities, measured ones, and contributions; then local steps, until the budget is spent."""
        if not self._specs:
            self._trials.measure({})
            return
        c = np.ones(len(self._specs))
        self._bisect(c)
        for better in (self._sensitivities, self._contributions):
            c = better(c)
            self._bisect(c)
        self._shorter_steps()
        self._local(c)

    def _sensitivities(self, _: Floats) -> Floats:
        return Sensitivities(self._trials, self._specs, self._groups, self._limit).measured()

    def _bisect(self, c: Floats) -> None:
        """Measure choices along λ: from where ε is expected, in growing leaps until it lies between two, then by bisection."""
        path = self._lagrangian.path(c)
        expected = [float((c * self._lagrangian.errors(choice)).sum()) for choice in path]
        within, beyond = -1, len(path)
        place, leap = int(np.searchsorted(expected, self._limit)), 1
        while beyond - within > 1 and self._trials.left >= 1:
            place = min(max(place, within + 1), beyond - 1)
            if self._distortion(path[place]) <= self._limit:
                within = place
                place = within + leap if beyond == len(path) else (within + beyond) // 2
            else:
                beyond = place
                place = beyond - leap if within == -1 else (within + beyond) // 2
            leap *= 2

    def _distortion(self, choice: Choice) -> float:
        """The measured distortion of a choice, each measured once; infinite where the budget is spent."""
        if choice.key not in self._measured:
            if self._trials.left < 1:
                return math.inf
            self._measured[choice.key] = self._trials.measure(self._pieces(choice))
            if self._measured[choice.key] <= self._limit and (self._best is None or self._bits(choice) < self._bits(self._best)):
                self._best = choice
        return self._measured[choice.key]

    def _bits(self, choice: Choice) -> float:
        return self._lagrangian.bits(choice)

    def _pieces(self, choice: Choice) -> dict[str, CoarseTensor]:
        chosen = zip(self._lagrangian.curves, choice.points.tolist(), strict=True)
        return {curve.spec.name: curve.piece(point, choice.precision) for curve, point in chosen}

    def _contributions(self, c: Floats) -> Floats:
        """The sensitivities, corrected by what each group of tensors contributes to the distortion of the best choice.

        That is how much of it goes where the group is put back to the original.
        """
        if self._best is None:
            return c
        trials, corrected = self._trials, c.copy()
        distortion, specs = trials.distortion, trials.problem.skeleton.tensors
        decoded = Decoded(specs, trials.whole(self._pieces(self._best)), distortion.device)
        held: Mapping[str, Tensor] = decoded if trials.tensors.large else dict(decoded)
        whole = self._measured[self._best.key]
        errors = self._lagrangian.errors(self._best)
        for group in self._groups:
            if trials.left < 1:
                break
            restored = Restored(held, distortion.weights, {self._specs[index].name for index in group})
            contribution = whole - abs(distortion.loss(restored) - distortion.original)
            expected = float((c[group] * errors[group]).sum())
            if expected > 0 and math.isfinite(contribution):
                corrected[group] *= min(_CHANGE, max(1 / _CHANGE, contribution / expected))
        return corrected

    def _shorter_steps(self) -> None:
        """Fewer mantissa bits for the best choice's steps, while that is within ε."""
        while self._best and self._best.precision and self._trials.left >= 1:
            if not self._distortion(replace(self._best, precision=self._best.precision - 1)) <= self._limit:
                break

    def _local(self, c: Floats) -> None:
        """Choices of slightly fewer bits under sensitivities that differ at random; one within ε is where it goes on."""
        generator = np.random.default_rng(self._trials.problem.seed)
        for _ in range(4 * int(self._method.budget)):
            if self._best is None or self._trials.left < 1:
                break
            factors = np.ones(len(c))
            for group in self._groups:
                factors[group] = math.exp(self._method.spread * generator.standard_normal())
            wanted = (1 - self._method.gain) * self._bits(self._best)
            choice = next((choice for choice in self._lagrangian.path(c * factors) if self._bits(choice) <= wanted), None)
            if choice is not None and choice.key not in self._measured and self._distortion(choice) <= self._limit:
                c = c * factors


class Restored(Mapping[str, Tensor]):
    """Decoded tensors, some of them put back to the original."""

    def __init__(self, decoded: Mapping[str, Tensor], originals: Mapping[str, Tensor], names: set[str]) -> None:
        self._decoded, self._originals, self._names = decoded, originals, names

    def __getitem__(self, name: str) -> Tensor:
        return self._originals[name] if name in self._names else self._decoded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded)

    def __len__(self) -> int:
        return len(self._decoded)
