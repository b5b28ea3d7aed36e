"""The project's own search: rank, steps and symbols of every tensor, found by descending bits and loss together.

Bisections over ranks and steps find the lowest start from which the loss can be won back (`nncomplexity.search.opening`); in a small
network moves of single tensors (`nncomplexity.search.moves`) find it. The rest of the budget are gradients of descents on bits and
loss (`nncomplexity.search.descent`), every one of which measures a candidate: the first to the network's outline, some way above a
small ε, the next from there to ε. Uniform quantization is tried wherever its file could be smaller. A loss without a gradient is
searched by uniform quantization and by moves alone.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field

from nncomplexity.coarse import CoarseTensor
from nncomplexity.distortion import GRADIENT_COST
from nncomplexity.errors import InputError
from nncomplexity.search.contract import Found, Problem, StopSearch
from nncomplexity.search.descent import Schedule
from nncomplexity.search.downhill import LOST, Downhill
from nncomplexity.search.latent import Latent
from nncomplexity.search.moves import Plan
from nncomplexity.search.opening import Opening
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.trials import Trials
from nncomplexity.weights import TensorSpec

_MOVES = 0.5
"""The share of a small network's budget for its moves; all of it where too few gradients would be left."""
_SHORT = 30
"""Gradients below which a descent can win nothing back: it starts within ε, and where moves are an alternative there is none."""
_FEW = 6
"""Gradients below which there is no descent at all."""
_DIVIDED, _GROWTH = 1000, 2.5
"""Evaluations from which on a budget is divided among several descents, and how many times as many have been spent at each one's end."""
_DIVIDED_SMALL, _GROWTH_SMALL = 500, 2.0
"""The same for a small network, whose moves begin anew with each descent."""
_FAR = 4.0
"""How far beyond its ε, in ε, a descent is lost; one from an outline may be so far squared, until it is late."""
_LATE = 0.85
"""The share of a descent after which it is late."""
_FLOOR = 0.01
"""The share of the budget kept for uniform quantization at the end."""


@dataclass(frozen=True)
class Tight:
    """Settings of the search; the budget is the one that matters.

    Attributes:
        budget: loss evaluations for each ε; a gradient counts three.
        reach: how far beyond ε a start may be, in ε, when the descent has `long` gradients or more to win it back.
        long: gradients that make a long descent.
        ruin: how far a start may be, as a share of the distortion of all weights zero.
        outline: the distortion to which a first descent leads, as a share of that of all weights zero, where ε is less than a quarter of it
            and the start is noisy.
        noise: bits for each parameter above which a start is.
        sketch: the share of the gradients for that first descent.
        finer: how many times finer the steps are for the second one, for each halving of the distortion on the way.
        part: the share of the examples that a gradient is over, where the loss can be divided (`nncomplexity.losses.Divisible`).
        least: the fewest examples of such a part; a smaller one is not taken.
        patience: the share of a descent after which one still 4 ε away, or lost, is given up for a cautious start.
        schedule: the descent's settings.
    """

    budget: float = 400
    reach: float = 4.0
    long: int = 90
    ruin: float = 0.4
    outline: float = 0.15
    noise: float = 1.0
    sketch: float = 0.4
    finer: float = 1.15
    part: float = 0.125
    least: int = 128
    patience: float = 1 / 3
    schedule: Schedule = field(default_factory=Schedule)

    name = "tight"
    codec = "entropy"

    def __post_init__(self) -> None:
        if isinstance(self.budget, bool) or not isinstance(self.budget, (int, float)) or not self.budget >= 1:
            raise InputError(f"budget: expected a number of loss evaluations, at least 1, got {self.budget!r}")

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        tensors = Tensors(problem)
        return [self._found(Trials(problem, tensors, [value], self.budget), value) for value in eps]

    def _found(self, trials: Trials, eps: float) -> Found:
        run = Run(self, trials, eps)
        with suppress(StopSearch):
            if trials.left >= _FEW * GRADIENT_COST and run.tensors.with_gradient():
                run.descend(self.budget)
            else:
                run.opening.quantize(eps)
                run.opening.moves(eps, self.budget)
            run.opening.quantize(eps)
        return trials.found()[0]


class Run:
    """The search for one ε among the trials of one or several.

    Attributes:
        latents: where the last descent ended; empty before.
        fixed: the coarse tensors that did not move in it.
    """

    def __init__(self, method: Tight, trials: Trials, eps: float) -> None:
        self.method, self.trials, self.tensors, self.eps = method, trials, trials.tensors, eps
        self.opening = Opening(trials, method.schedule.precision)
        self.downhill = Downhill(trials, method.schedule, method.long, method.part, method.least)
        self.latents: list[Latent] = []
        self.fixed: dict[str, CoarseTensor] = {}

    def descend(self, until: float) -> None:
        """Descents over growing shares of the evaluations until so many are spent, each from a start of its own.

        The last one takes three fifths of them. A divided budget begins with all that its part does, so that it never gives a larger
        file; and the best of several descents of a loss with many valleys is more even than one.
        """
        specs, small = self.tensors.with_gradient(), self.tensors.small
        if not small:
            self.fixed = self.opening.without_gradient(self.trials.limit(self.eps))
        nothing = self.opening.nothing(self.fixed)
        for end in _ends(self.trials.spent, until, *((_DIVIDED_SMALL, _GROWTH_SMALL) if small else (_DIVIDED, _GROWTH))):
            moving, plans = specs, list[Plan]()
            if small:
                left = self._left(end)
                moves = left * (_MOVES if (1 - _MOVES) * left / GRADIENT_COST >= _SHORT else 1.0)
                plans = self.opening.moves(self.eps, moves)
                self.fixed = {plan.spec.name: self.opening.coarsen(plan) for plan in plans if plan.gone or plan.spec not in specs}
                moving = tuple(spec for spec in specs if spec.name not in self.fixed)
            for bold in (True, False):
                if self._left(end) < GRADIENT_COST or self._stages(moving, plans, self._left(end), nothing, bold):
                    break

    def state(self) -> tuple[list[Latent], dict[str, CoarseTensor]]:
        """A copy of where the last descent ended, to be restored."""
        return deepcopy(self.latents), dict(self.fixed)

    def restore(self, state: tuple[list[Latent], dict[str, CoarseTensor]]) -> None:
        self.latents, self.fixed = state

    def _stages(self, moving: Sequence[TensorSpec], plans: Sequence[Plan], left: float, nothing: float, bold: bool) -> bool:
        """A descent to ε; where its start is mostly noise, one to the network's outline, and one to ε from there."""
        method, end = self.method, self.trials.spent + left
        self.latents = self._start(self.eps, moving, plans, left / GRADIENT_COST if bold else 0.0, nothing)
        outline = method.outline * nothing
        staged = bold and not plans and left / GRADIENT_COST >= method.long and outline > _FAR * self.eps and self._noisy()
        if staged:
            left = end - self.trials.spent
            self.latents = self._start(outline, moving, plans, method.sketch * left / GRADIENT_COST, nothing)
            self.downhill.run(self.latents, self.fixed, outline, method.sketch * (end - self.trials.spent))
            for latent in self.latents:
                latent.refine(method.finer ** math.log2(outline / self.eps))
        patience, far = (_LATE, _FAR**2) if staged else (method.patience if bold else 1.0, _FAR)
        return self.downhill.run(
            self.latents,
            self.fixed,
            self.eps,
            end - self.trials.spent,
            patience=patience,
            far=min(far * self.eps, LOST * nothing),
            presses=[self.eps],
        )

    def _start(self, eps: float, moving: Sequence[TensorSpec], plans: Sequence[Plan], steps: float, nothing: float) -> list[Latent]:
        """Where a descent of so many gradients to an ε begins: beyond it as far as they may win back."""
        method = self.method
        reach = method.reach * eps * min(1.0, max(0.0, (steps - _SHORT) / (method.long - _SHORT)))
        allowed = max(min(reach, method.ruin * nothing), self.trials.limit(eps) / 2)
        if plans:
            return self.opening.latents_of(plans, moving, self.fixed, allowed)
        return self.opening.latents(moving, self.fixed, allowed)

    def _noisy(self) -> bool:
        """Whether the latents take more than `noise` bits for each parameter, which a hundred gradients can't shed."""
        bits = self.trials.bits(self.trials.whole(self.fixed | {x.spec.name: x.coarse() for x in self.latents}))
        return bits > self.method.noise * sum(latent.spec.count for latent in self.latents)

    def _left(self, end: float) -> float:
        """Evaluations up to an end that may be spent on descents."""
        return min(self.trials.left, end * (1 - _FLOOR) - self.trials.spent)


def _ends(begin: float, until: float, divided: float, growth: float) -> list[float]:
    """How many evaluations may be spent by the end of each descent."""
    shares = [until - begin]
    while shares[0] >= divided:
        shares.insert(0, shares[0] / growth)
    return [begin + share for share in shares]
