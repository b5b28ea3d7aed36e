"""The project's own search: rank, step and symbols of every tensor, found by descending bits and distortion together.

It has an answer from the first evaluations on and makes it smaller:

1. Uniform quantization, one step size for all weights; then bit allocation (`nncomplexity.search.allocate`).
2. Two starts: the forms and step sizes that bit allocation chooses at about ε, and factors of matrices, if low ranks cost a few ε. Cycles of
   descent (`nncomplexity.search.descent`) begin at the one with the smaller file, then as many at the other.
3. If no descent has found the smallest file by then, as many begin at the weights, in the coarsest step sizes that cost a few ε. If none has
   found it by then, either, local steps of bit allocation. The start whose cycles have found the smallest file goes on alone.
4. Each of its cycles is as long as all before it together, so that it doubles the effort. It begins where the last cycle within ε has ended.
   If it ends beyond ε, it is tried once more with a smaller λ at its begin.
5. Uniform quantization once more, for every step size whose file would be smaller.

Without a budget the search stops after `most` steps of a start, with many examples after `passes` over them, or earlier after two doublings in
a row that saved less than `gain` of the bits. What it does doesn't depend on the budget but for where it ends: a larger one never gives a
larger file. A loss without a gradient is searched by uniform quantization and bit allocation.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nncomplexity.network import GRADIENT_COST
from nncomplexity.search.allocate import Allocate, Allocation, curves_of
from nncomplexity.search.batches import Batches
from nncomplexity.search.contract import Found
from nncomplexity.search.descent import CHECKS, Conditions, Cycle
from nncomplexity.search.fallback import Fallback
from nncomplexity.search.layouts import with_layouts
from nncomplexity.search.operating_points import OperatingPoints
from nncomplexity.search.problem import Problem
from nncomplexity.search.settings import Settings
from nncomplexity.search.starts import Start, Starts
from nncomplexity.search.stopping import UntilStopped
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.trials import Trials

_STARTS = 3
"""The most starts of a search: at bit allocation's choice, at factors, and at the weights."""
_TRIED = 2
"""The steps for which every start is tried, in lengths of the first cycle. After half as many the better start is often behind."""
_JUDGED = 8
"""The least number of steps of a search that has converged, in lengths of the first cycle. Before, doublings that save nothing are often
followed by one that saves a tenth to a half."""
_WITHOUT_GRADIENT = 400.0
"""Evaluations of a search without a gradient and without a budget."""
_SCANNED = 64
"""The most tensors for bit allocation before descents, if the network isn't large. To scan each takes some tens of milliseconds."""
_RETRIES, _SLOWER = 4, 0.5
"""The most tries of a cycle that collapses, and the factor of the start's learning rate after each."""
_NEARLY = 2.0
"""A cycle that has ended beyond ε, but within this many ε by its last batches, is continued by the next one."""


Curves = Callable[[], Sequence[OperatingPoints]]
"""Gives the operating points of all tensors that may change, for bit allocation."""


@dataclass(frozen=True)
class Tight(Settings):
    """The search for the smallest file within each ε. `Settings` has its attributes.

    >>> Tight().budget is None, Tight(budget=400).budget
    (True, 400)
    """

    name = "tight"
    codec = "entropy"

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        """The smallest file found within each ε. The searches for several ε share decompositions and operating points, and nothing else."""
        problem = with_layouts(problem)
        tensors = Tensors(problem)
        curves = functools.cache(lambda: curves_of(problem, tensors))
        found: dict[float, Found] = {}
        # From the smallest ε on: its file is within all others, if the searches are stopped before they get there.
        for done, value in enumerate(ordered := sorted(set(eps))):
            if problem.deadline:
                problem.deadline.share(len(ordered) - done)
            trials = Trials(problem, tensors, value, self.budget or math.inf, self.expected(problem))
            found[value] = self._found(trials, curves)
        return [found[value] for value in eps]

    def _found(self, trials: Trials, curves: Curves) -> Found:
        search = Search(self, trials, curves)
        with UntilStopped(trials.problem.progress) as until:
            search.run()
        found = trials.found(until.stopped)
        return replace(found, last_gain=search.last_gain, converged=search.converged and not until.stopped)

    def expected(self, problem: Problem) -> float:
        """Evaluations that a search without a budget may take."""
        share = Batches(problem.distortion, self.batch, problem.seed).share
        # One start goes on. The others have been tried for as many steps as it had before.
        steps = self.longest(share) + (_STARTS - 1) * _TRIED * self.first
        return GRADIENT_COST * share * steps + 4 * CHECKS + _for_allocation(self, share)


class Search:
    """The search for one ε.

    Args:
        settings: its settings.
        trials: where candidates are measured and kept.
        curves: a function that gives the operating points; by default they are computed anew.

    Attributes:
        last_gain: the share of the bits that the last doubling of the effort has saved; None before the first one.
        converged: whether that was less than the setting `gain`.
    """

    def __init__(self, settings: Settings, trials: Trials, curves: Curves | None = None) -> None:
        self._settings, self._trials = settings, trials
        self._curves = curves or (lambda: curves_of(trials.problem, trials.tensors))
        self._fallback = Fallback(trials)
        self._batches = Batches(trials.distortion, settings.batch, trials.problem.seed)
        self._first = settings.first_cycle(self._batches.share)
        self.last_gain: float | None = None
        self.converged = False
        self._allocation: Allocation | None = None
        self._conditions = Conditions()

    def run(self) -> None:
        """All stages; progress may end them."""
        trials, fallback = self._trials, self._fallback
        # A search that is stopped before it has begun takes no evaluation; a limit on time allows one.
        if trials.problem.deadline is None:
            trials.report("starting")
        fallback.early()
        zero = fallback.first_answer()
        has_gradient = trials.left >= GRADIENT_COST and bool(trials.tensors.with_gradient())  # asked early: a warning says if not
        self._allocation = self._allocate(has_gradient)
        if has_gradient:
            self._conditions = Conditions(zero, fallback.without_gradient())
            self._descend()
        else:
            self._refine(_WITHOUT_GRADIENT)
        fallback.quantize()

    def _descend(self) -> None:
        """Try each start, and go on from the one that has led to the smallest file."""
        best, tried = None, _TRIED * self._settings.first
        for start in self._starts().in_order():
            before = self._trials.best
            self._cycles(start, 0, tried)
            if best is None or self._trials.best < before:
                best = start
        if not self._trials.by_descent:
            self._refine(_for_allocation(self._settings, self._batches.share))
        if best is not None:
            self._cycles(best, tried, self._settings.longest(self._batches.share) if self._settings.budget is None else None)

    def _starts(self) -> Starts:
        return Starts(self._settings, self._trials, self._conditions, self._batches, self._allocation)

    def _allocate(self, has_gradient: bool) -> Allocation | None:
        """Bit allocation, None where it isn't tried."""
        trials = self._trials
        takes_long = len(trials.tensors.moving) > _SCANNED and not trials.tensors.large
        if trials.left < 1 or (takes_long and has_gradient):
            return None
        with trials.at_most(_for_allocation(self._settings, self._batches.share)):
            allocation = Allocation(Allocate(), trials, self._curves(), self._batches.sample())
            allocation.run()
        return allocation

    def _refine(self, most: float) -> None:
        """Local steps from bit allocation's choice, for this number of evaluations at most."""
        if self._allocation is not None:
            with self._trials.at_most(most):
                self._allocation.refine()

    def _cycles(self, start: Start, done: int, until: int | None) -> None:
        """Cycles from a start that had `done` steps, each as long as all before, until it has had `until` or the search has converged.

        A cycle that ends beyond ε after one that did not is tried once more.
        """
        settings, trials, again = self._settings, self._trials, False
        while (until is None or done < until) and trials.left >= self._batches.cost:
            before, steps, was_feasible = trials.best, done or self._first, start.feasible
            feasible = self._cycle(start, steps)
            again = was_feasible and not feasible and not again
            if again:
                continue  # the same steps once more, with a smaller λ at their begin
            done += steps
            if math.isfinite(before):
                before_last, self.last_gain = self.last_gain, 1 - trials.best / before
                # An answer of another stage is smaller than what the descent has come to yet.
                idle = feasible and self._trials.by_descent and self.last_gain < settings.gain
                self.converged = idle and done >= _JUDGED * settings.first
                if self.converged and before_last is not None and before_last < settings.gain and settings.budget is None:
                    return

    def _cycle(self, start: Start, steps: int) -> bool:
        """One cycle. If it collapses, it begins again, more slowly.

        If it ends beyond ε, the start goes back to the end of the last cycle that did not, and λ to its least; a start without such a cycle
        becomes finer unless ε was near. If it ends beyond ε with a loss below the original's, the next cycle goes on from there.
        """
        kept = [latent.copy() for latent in start.latents] if start.feasible else None
        for _ in range(_RETRIES):
            settings = replace(self._settings, learning_rate=start.rate * self._settings.learning_rate)
            ended = Cycle(self._trials, settings, self._conditions, start.latents, self._batches, steps).run(start.integral)
            if not ended.collapsed:
                break
            start.rate *= _SLOWER
            start.latents = [latent.copy() for latent in kept] if kept else start.make(start.factor)
        if ended.within:
            start.integral, start.feasible = ended.integral, True
        elif ended.below:  # the network was trained on: λ was too small, and has risen since
            start.integral = ended.integral
        else:
            if kept is not None:
                start.latents, start.integral = kept, -math.log(self._settings.bound)
            elif ended.distortion > _NEARLY * self._trials.eps:
                start.finer()
            else:
                start.integral = ended.integral
            if ended.distortion <= self._trials.eps:  # within ε on its batches, but not on all examples: the batches are too small
                self._batches = self._batches.doubled()
        return ended.within


def _for_allocation(settings: Settings, share: float) -> float:
    """The evaluations of bit allocation, where a step takes this share of the examples.

    A start is worth no more than the steps that it is tried for, which cost less than one evaluation each where there are many examples.
    """
    return min(Allocate().budget, GRADIENT_COST * share * _TRIED * settings.first)
