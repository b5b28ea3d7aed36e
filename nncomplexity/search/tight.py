"""The project's own search: rank, steps and symbols of every tensor, found by descending bits and loss together.

A bisection over ranks and one over steps find the lowest start from which the loss can be won back; in a small network moves of single
tensors (`nncomplexity.search.moves`) find it. Uniform quantization is tried where its file could be smaller than what there is by
then. The rest of the budget are gradients of a descent on bits and loss (`nncomplexity.search.descent`), every one of which measures a
candidate. A loss without a gradient is searched by uniform quantization and by moves alone.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count, repeat

import torch
from torch import Tensor

from nncomplexity.coarse import CoarseTensor, Constant, exact
from nncomplexity.distortion import GRADIENT_COST
from nncomplexity.errors import FormatError, InputError
from nncomplexity.payload import weigh
from nncomplexity.search.contract import Candidate, Found, Problem, StopSearch
from nncomplexity.search.descent import Schedule, descend
from nncomplexity.search.latent import Latent
from nncomplexity.search.moves import Plan, improve
from nncomplexity.search.start import (
    COARSENESS,
    FINEST,
    Factors,
    Shape,
    first_that,
    grid_step,
    latents_at,
    ranks_that_pay,
    uniformly_quantized,
)
from nncomplexity.weights import TensorSpec

_STEPS = [2.0 ** (-quarter / 4) for quarter in range(-12, 52)]
"""Uniform steps to bisect, from coarse to fine, relative to the root mean square of all weights."""
_BRIEF = 60
"""Evaluations below which every other one of them does."""

_SMALL = 4096
"""Parameters below which a descent starts where moves ended: their price is by the tensor, that of what a gradient learns is not."""
_MOVES = 0.5
"""The share of the budget for these moves; all of it where too few gradients would be left."""
_COARSER = tuple(2.0 ** (half / 2) for half in range(4, -1, -1))
"""How much coarser than the moves left it a descent may start."""
_SHORT = 30
"""Gradients below which a descent can win nothing back: it starts within ε, and where moves are an alternative there is none."""
_DIVIDED, _GROWTH = 1000, 2.5
"""Evaluations from which on a budget is divided among several descents, and how many times as many have been spent at each one's end."""
_DIVIDED_SMALL, _GROWTH_SMALL = 500, 2.0
"""The same for a small network, whose moves begin anew with each descent."""
_LOST = 0.8
"""The share of the distortion of all weights zero at which a descent is lost: its gradients are about to vanish."""
_LOST_FOR = 0.1
"""The share of its steps for which a descent must have been lost to be given up."""
_BIASES = tuple(i / 40 for i in range(14, -6, -1))
"""How much less than they are magnitudes may be taken for when a descent's end is rounded once more."""
_PRESSES = 5
"""Evaluations which that takes."""
_CHECKS = 10
"""Measurements on all examples along a descent over parts of them, and as many again at its end."""


@dataclass(frozen=True)
class Tight:
    """Settings of the search; the budget is the one that matters.

    Attributes:
        budget: loss evaluations for each ε; a gradient counts three.
        reach: how far beyond ε a start may be, in ε, when the descent has `long` gradients or more to win it back.
        long: gradients that make a long descent.
        ruin: how far a start may be, as a share of the distortion of all weights zero.
        part: the share of the examples that a gradient is over, where the loss can be divided (`nncomplexity.losses.Divisible`).
        least: the fewest examples of such a part; a smaller one is not taken.
        patience: the share of a descent after which one still 4 ε away, or lost, is given up for a cautious start.
        schedule: the descent's settings.
    """

    budget: float = 400
    reach: float = 4.0
    long: int = 90
    ruin: float = 0.4
    patience: float = 1 / 3
    part: float = 0.125
    least: int = 128
    schedule: Schedule = field(default_factory=Schedule)

    name = "tight"
    codec = "entropy"

    def __post_init__(self) -> None:
        if isinstance(self.budget, bool) or not isinstance(self.budget, (int, float)) or not self.budget >= 1:
            raise InputError(f"budget: expected a number of loss evaluations, at least 1, got {self.budget!r}")

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        shared = _Shared(problem)
        return [_Run(self, shared, value).found() for value in eps]


class _Shared:
    """What the searches for all ε have in common: decompositions, and which tensors have a gradient."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.factors = Factors(problem.weights)
        specs = problem.skeleton.tensors
        self.moving = tuple(spec for spec in specs if problem.quantizable(spec) and spec.count)
        self.held: dict[str, CoarseTensor] = {
            spec.name: exact(problem.weights[spec.name]) for spec in specs if spec not in self.moving
        }
        self.gradient_names: frozenset[str] | None = None

    def with_gradient(self) -> tuple[TensorSpec, ...]:
        """The tensors that a gradient reaches; none for a loss without one. Costs a gradient, once."""
        if self.gradient_names is None:
            measured = self.problem.distortion.gradient(self.problem.weights)
            self.gradient_names = frozenset(measured[1]) if measured else frozenset()
        return tuple(spec for spec in self.moving if spec.name in self.gradient_names)


class _Run:
    """The search for one ε."""

    def __init__(self, method: Tight, shared: _Shared, eps: float) -> None:
        self.method, self.shared, self.eps = method, shared, eps
        self.problem, self.distortion = shared.problem, shared.problem.distortion
        self.limit = self.distortion.tolerance(eps)
        self.kept: list[tuple[float, list[CoarseTensor]]] = []
        self.start, self.wall, self.cpu = self.distortion.evaluations, time.perf_counter(), time.process_time()

    @property
    def left(self) -> float:
        """Evaluations of the budget not yet spent, but for the last one, which measures the answer."""
        return self.method.budget - 1 - (self.distortion.evaluations - self.start)

    def found(self) -> Found:
        with suppress(StopSearch):
            specs = self.shared.with_gradient() if self.left >= 6 * GRADIENT_COST else ()
            if specs:
                self._descend(specs)
            else:
                self._quantize()
                self._move(self.method.budget)
        best = self._confirmed()
        spent = self.distortion.evaluations - self.start
        return Found(best, spent, time.perf_counter() - self.wall, time.process_time() - self.cpu)

    def _quantize(self) -> None:
        """Uniform quantization, at the coarsest step within ε that a bisection finds, unless its file is larger than the best so far."""
        specs, weights = self.shared.moving, self.problem.weights
        square = sum(float(weights[spec.name].double().square().sum()) for spec in specs)
        scale = math.sqrt(square / max(1, sum(spec.count for spec in specs))) or 1.0
        steps = _STEPS if self.method.budget >= _BRIEF else _STEPS[::2]

        def quantized(index: int) -> dict[str, CoarseTensor]:
            return uniformly_quantized(specs, weights, grid_step(scale * steps[index]))

        def holds(index: int) -> bool:
            return self._try(quantized(index)) <= self.limit

        finest = len(steps)
        if self.kept:
            best = self.kept[0][0]
            finest = first_that(lambda index: self._bits(self._whole(quantized(index))) > best, len(steps))
            if not finest or not holds(finest - 1):
                return
        first_that(holds, finest)

    def _without_gradient(self, specs: Sequence[TensorSpec]) -> dict[str, CoarseTensor]:
        """Tensors that no gradient reaches, such as running statistics: gone where the loss doesn't need them, else quantized finely.

        They may take a quarter of ε, the descent has the rest.
        """
        weights, factors = self.problem.weights, self.shared.factors
        silent = [spec for spec in self.shared.moving if spec not in specs]

        def quantized(index: int) -> dict[str, CoarseTensor]:
            latents = latents_at(Shape(0, COARSENESS[index]), silent, weights, factors)
            return {latent.spec.name: replace(latent, precision=self.method.schedule.precision).coarse() for latent in latents}

        def holds(coarse: dict[str, CoarseTensor], share: float) -> bool:
            decoded = weights | {spec.name: coarse[spec.name].decode(spec) for spec in silent}
            return abs(self.distortion.loss(decoded) - self.distortion.original) <= share * self.limit

        gone: dict[str, CoarseTensor] = {spec.name: Constant(0) for spec in silent}
        if not silent or holds(gone, 0.01):
            return gone
        return quantized(first_that(lambda index: holds(quantized(index), 0.25), len(COARSENESS)))

    def _descend(self, specs: Sequence[TensorSpec]) -> None:
        """Descents over growing shares of the budget, the last over three fifths of it, each from a start of its own.

        A divided budget begins with all that its part does, so that it never gives a larger file; and the best of several descents of a
        loss with many valleys is more even than one.
        """
        small = sum(spec.count for spec in self.shared.moving) < _SMALL
        fixed: dict[str, CoarseTensor] = {} if small else self._without_gradient(specs)
        nothing = self._try({spec.name: Constant(0) for spec in self.shared.moving} | fixed)
        budgets = self._budgets(*((_DIVIDED_SMALL, _GROWTH_SMALL) if small else (_DIVIDED, _GROWTH)))
        for budget in budgets:
            moving, plans = specs, list[Plan]()
            if small:
                gradients = (1 - _MOVES) * self._left_of(budget) / GRADIENT_COST
                plans = self._move(self._left_of(budget) * (_MOVES if gradients >= _SHORT else 1.0))
                fixed = {plan.spec.name: self._coarsen(plan) for plan in plans if plan.gone or plan.spec not in specs}
                moving = [spec for spec in specs if spec.name not in fixed]
            for reach, patience in ((self.method.reach, self.method.patience), (0.0, 1.0)):
                steps = self._left_of(budget) / GRADIENT_COST
                if steps < 1:
                    break
                bold = reach * self.eps * min(1.0, max(0.0, (steps - _SHORT) / (self.method.long - _SHORT)))
                allowed = max(min(bold, self.method.ruin * nothing), self.limit / 2)
                latents = self._start_from(plans, moving, fixed, allowed) if plans else self._start(moving, fixed, allowed)
                if budget == budgets[0] and reach:
                    self._quantize()
                if self._descent(latents, fixed, self._left_of(budget), patience, min(4 * self.eps, _LOST * nothing)):
                    break

    def _left_of(self, budget: float) -> float:
        """Evaluations of a part of the budget, counted from the search's start, that are not yet spent."""
        return self.left - self.method.budget + budget

    def _budgets(self, divided: float, growth: float) -> list[float]:
        """What may be spent by the end of each descent."""
        budgets: list[float] = [self.method.budget]
        while budgets[0] >= divided:
            budgets.insert(0, budgets[0] / growth)
        return budgets

    def _descent(self, latents: list[Latent], fixed: dict[str, CoarseTensor], left: float, patience: float, far: float) -> bool:
        """One descent; False where it was given up, as far away as `far` for a while after `patience` of its steps."""
        steps, parts = self._parts(left)
        schedule = self.method.schedule
        near = 0
        for done, visit in enumerate(descend(self.distortion, latents, self.shared.held | fixed, self.eps, steps, schedule, parts)):
            self._report("descending")
            distortion = abs(visit.loss - self.distortion.original)
            if self.partial:
                if done * _CHECKS % steps < _CHECKS or steps - done <= _CHECKS:
                    self._try_tensors(visit.tensors)
            elif distortion <= self.limit and (done % 5 == 0 or 3 * done >= 2 * steps or steps < self.method.long):
                self._keep(visit.tensors)
            near = done if visit.loss - self.distortion.original < far else near
            if done >= patience * steps and done - near >= _LOST_FOR * steps:
                return False
        self._press(latents, fixed)
        return True

    def _press(self, latents: list[Latent], fixed: dict[str, CoarseTensor]) -> None:
        """Round what a descent ends with towards zero, by as much as ε still allows: latents far from the next symbol are the last to go."""

        def holds(index: int) -> bool:
            return self._try(fixed | {x.spec.name: x.coarse(_BIASES[index]) for x in latents}) <= self.limit

        first_that(holds, len(_BIASES))

    @property
    def partial(self) -> bool:
        """Whether gradients are over parts of the examples, so that visits must be measured once more on all."""
        examples = self.distortion.examples
        return examples is not None and examples * self.method.part >= self.method.least

    def _parts(self, left: float) -> tuple[int, Iterator[Tensor | None]]:
        """How many gradients fit into what is left, and the examples of each."""
        examples = self.distortion.examples
        if not self.partial or examples is None:
            return int((left - _PRESSES) / GRADIENT_COST), repeat(None)
        rows = round(examples * self.method.part)
        generator = torch.Generator().manual_seed(self.problem.seed)
        steps = int((left - 2 * _CHECKS - _PRESSES) / (GRADIENT_COST * rows / examples))
        return max(1, steps), (torch.randperm(examples, generator=generator)[:rows] for _ in count())

    def _start(self, specs: Sequence[TensorSpec], fixed: dict[str, CoarseTensor], allowed: float) -> list[Latent]:
        """Latents of the lowest rank, then of the coarsest steps, whose distortion is within what is allowed."""
        weights, factors = self.problem.weights, self.shared.factors

        def distortion(shape: Shape) -> float:
            return self._try(fixed | {latent.spec.name: latent.coarse() for latent in latents_at(shape, specs, weights, factors)})

        ranks = ranks_that_pay(specs)
        rank = ranks[first_that(lambda index: distortion(Shape(ranks[index], FINEST)) <= allowed, len(ranks))]
        index = first_that(lambda index: distortion(Shape(rank, COARSENESS[index])) <= 2 * allowed, len(COARSENESS))
        return latents_at(Shape(rank, COARSENESS[index]), specs, weights, factors)

    def _start_from(
        self, plans: Sequence[Plan], specs: Sequence[TensorSpec], fixed: dict[str, CoarseTensor], allowed: float
    ) -> list[Latent]:
        """Latents of the plans that moves ended with, with all steps coarser by the factor whose distortion is within what is allowed."""

        def latents(index: int) -> list[Latent]:
            coarser = (plan.coarser(_COARSER[index]) for plan in plans if plan.spec in specs)
            return [plan.latent(self.problem.weights, self.shared.factors) for plan in coarser]

        def holds(index: int) -> bool:
            precision = self.method.schedule.precision
            return self._try(fixed | {x.spec.name: replace(x, precision=precision).coarse() for x in latents(index)}) <= allowed

        return latents(first_that(holds, len(_COARSER)))

    def _move(self, budget: float) -> list[Plan]:
        """Moves over so many evaluations, from where all tensors are dense; the plans that they end with."""
        begin = self.distortion.evaluations

        def start(index: int) -> list[Plan]:
            return [Plan(spec, Shape(0, COARSENESS[index])) for spec in self.shared.moving]

        def holds(index: int) -> bool:
            return self._try({plan.spec.name: self._coarsen(plan) for plan in start(index)}) <= self.limit / 4

        def spent() -> float:
            return 1.0 if self.left < 1 else (self.distortion.evaluations - begin) / budget

        return improve(start(first_that(holds, len(COARSENESS))), self._coarsen, self._try, self.limit, spent)

    def _coarsen(self, plan: Plan) -> CoarseTensor:
        return plan.coarse(self.problem.weights, self.shared.factors, self.method.schedule.precision)

    def _whole(self, moving: dict[str, CoarseTensor]) -> list[CoarseTensor]:
        """All tensors, in their order: those that move, and those that the search keeps as they are."""
        coarse = self.shared.held | moving
        return [coarse[spec.name] for spec in self.problem.skeleton.tensors]

    def _bits(self, tensors: list[CoarseTensor]) -> float:
        return sum(weigh(self.problem.skeleton, tensors))

    def _try(self, moving: dict[str, CoarseTensor]) -> float:
        """The distortion of a candidate, kept where it is within ε and the smallest yet; infinite when the budget is spent."""
        return self._try_tensors(self._whole(moving))

    def _try_tensors(self, tensors: list[CoarseTensor]) -> float:
        if self.left < 1:
            return math.inf
        specs = self.problem.skeleton.tensors
        try:
            decoded = {spec.name: coarse.decode(spec) for spec, coarse in zip(specs, tensors, strict=True)}
        except FormatError:  # symbols so large that the product of factors is no longer exact
            return math.inf
        distortion = abs(self.distortion.loss(decoded) - self.distortion.original)
        if distortion <= self.limit:
            self._keep(tensors)
        self._report("starting")
        return distortion if math.isfinite(distortion) else math.inf

    def _keep(self, tensors: list[CoarseTensor]) -> None:
        """Remember a candidate within ε if it is smaller than the last kept."""
        bits = self._bits(tensors)
        if not self.kept or bits < self.kept[0][0]:
            self.kept.insert(0, (bits, tensors))
            del self.kept[3:]

    def _confirmed(self) -> Candidate | None:
        """The smallest kept candidate, written, decoded and measured again."""
        for _, tensors in self.kept:
            candidate = self.problem.candidate(tensors)
            if self.problem.feasible(candidate, self.eps):
                return candidate
        return None

    def _report(self, what: str) -> None:
        self.problem.progress(self.method.budget - self.left - 1, self.method.budget, f"ε = {self.eps:g}: {what}")
