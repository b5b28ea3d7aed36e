"""`tight` for many ε at once: a chain of descents, of which every candidate serves every ε that it is within.

It begins at the coarsest ε as a search for that one does. The chain leads from there to the finest ε in a few links, each of which adds
what the next ε needs and lands with more than that. What is left are slides back outwards, one from the end of each link to the next,
which shed it ε by ε. A chain that doesn't arrive leaves the rest to a search for the finest ε. An ε so coarse that next to nothing of the
network is left is no place to go on from: the chain begins at the first ε below those, and links outwards lead to them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from nncomplexity.errors import InputError
from nncomplexity.linalg import lower_hull
from nncomplexity.search.chain import LINK, Link, inwards, outwards, slide, thinned
from nncomplexity.search.contract import Found, Method, Problem, UntilStopped
from nncomplexity.search.looks import with_looks
from nncomplexity.search.moves import Plan
from nncomplexity.search.opening import Opening
from nncomplexity.search.run import Run, State
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.tight import Tight
from nncomplexity.search.trials import Trials

_COARSE = 0.6
"""The share of the distortion of all weights zero above which an ε leaves too little to go on from."""
_INWARDS = 0.7
"""The share of what the first descent leaves that links inwards take."""
_MOST, _NEEDED = 0.85, 300
"""The same where it is no more than so many evaluations: from a chain that misses its end there is little to slide from."""
_SHORT, _JUMP = 68, 8.0
"""Evaluations that are enough for a link where longer ones would lead more than so many times finer."""
_BEND = 1.75
"""How much closer together the rungs of the ladder are at its coarse end, where a network gains most from one ε to the next."""
_LATE, _HOPELESS = 0.6, 8.0
"""The share of a link's steps after which, if others follow, it is given up where it has not been within so many ε; from there a gentle one
lands."""
_NEAR = 2.0
"""From how many ε away a slide can begin."""
_BRIEF, _QUANTIZED = 100, 20
"""Evaluations for each ε below which descents are so short that uniform quantization may beat them, and how many are kept for it, which
serve all ε."""
_FEW = 24
"""Evaluations below which there is no search for the finest ε."""
_BEYOND = 1.5
"""How many times as much a link outwards to an ε beyond the chain needs as a slide over as long a way."""
_EACH = 0.1
"""What one ε on its way counts in the share of a slide, beside the logarithm of how many times smaller the network becomes."""
_SMALLEST = 64
"""Bits; to be smaller is nothing to go for."""

Place = tuple[float, State]
"""Bits of where a link has ended, and a copy of it."""


@dataclass(frozen=True)
class Sweep:
    """Settings of the search for many ε.

    Attributes:
        method: the search for one ε, with its budget.
        cost: what all ε together may take, in single searches. So many ε or fewer are searched one by one.
    """

    method: Tight = field(default_factory=Tight)
    cost: float = 2.85

    name = "tight"
    codec = "entropy"

    def __post_init__(self) -> None:
        if not 1 <= self.cost < math.inf:
            raise InputError(f"cost: expected a number of single searches, at least 1, got {self.cost!r}")

    @property
    def budget(self) -> float:
        """Loss evaluations for each ε, were each searched by itself."""
        return self.method.budget

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        ordered = sorted(set(eps), reverse=True)
        if len(ordered) <= self.cost:
            return self.method.search(problem, eps)
        problem = with_looks(problem)
        if problem.deadline:
            problem.deadline.share(1)  # what went before says nothing of how fast evaluations are
        trials = Trials(problem, Tensors(problem), ordered, self.cost * self.budget)
        with UntilStopped(problem.progress) as search:
            opening = Opening(trials, self.method.schedule.precision)
            opening.early(ordered[-1])
            if trials.tensors.with_gradient():
                trials.pace()
                self._descend(trials, ordered, opening)
            else:
                plans: list[Plan] | None = None  # moves only ever make a network coarser: from the finest ε to the coarsest
                for done, value in enumerate(reversed(ordered)):
                    opening.quantize(value)
                    plans = opening.moves(value, trials.left / (len(ordered) - done), plans)
            # First the finest that has no answer: its own serves all the others.
            for value in sorted(ordered, key=lambda value: (bool(trials.kept[value]), value)):
                opening.quantize(value)
        found = dict(zip(ordered, trials.found(search.stopped), strict=True))
        return [found[value] for value in eps]

    def _descend(self, trials: Trials, eps: Sequence[float], opening: Opening) -> None:
        spent = trials.spent
        nothing = opening.nothing({})
        begin = trials.spent - spent
        fine = [value for value in eps[:-1] if value <= _COARSE * nothing] + [eps[-1]]
        affordable = trials.budget / (self.cost * self.budget)  # 1 unless the time is limited
        run = self.method.approach(trials, fine[0], begin + affordable * self.budget, begin)
        if run.ended:
            self._outwards(run, self._inwards(run, fine), eps, fine[0], nothing)

    def _inwards(self, run: Run, fine: Sequence[float]) -> dict[float, Place]:
        """The chain, and what follows where it has missed its end. The places from which slides may begin, by their ε."""
        trials, places, last = run.trials, {fine[0]: _place(run)}, fine[-1]

        def keep(eps: float) -> None:
            if trials.tensors.large:
                places.clear()  # each is as long as the network
            places[eps] = _place(run)

        def missed(links: Iterable[Link]) -> float:
            """How far the last of them has been from its ε; 0 where it has landed."""
            away = 0.0
            for link in links:
                if link.reached <= _NEAR * link.eps:
                    keep(link.eps)
                away = 0.0 if link.landed else link.reached
            return away

        left = self._left(trials)
        share = max(_INWARDS * left, min(_MOST * left, _NEEDED))
        ladder = thinned(fine, _links(share, fine), _BEND)
        by = missed(inwards(run, ladder, share, [last], late=_LATE, near=_HOPELESS))
        if 0 < by <= _HOPELESS * last:
            by = missed(inwards(run, [_NEAR * last, last], min(LINK, self._left(trials) / 2), [last], landed=False))
        if by and self._left(trials) > _FEW:
            search = Run(self.method, trials, last)
            search.descend(trials.spent + self._left(trials))
            if search.ended:
                run.latents, run.fixed = search.latents, search.fixed
                keep(last)
        return places

    def _left(self, trials: Trials) -> float:
        """Evaluations that descents may still spend."""
        return max(0.0, trials.left - (_QUANTIZED if trials.budget < self.cost * _BRIEF else 0))

    def _outwards(self, run: Run, places: dict[float, Place], eps: Sequence[float], first: float, nothing: float) -> None:
        """Slides from each place to the next, and links from where the chain began to each ε beyond.

        One goes on from where the last one ended if that is smaller than the place it has come to.
        """
        trials = run.trials
        stops = sorted({*places, *(value for value in eps if value >= first)})
        ways = [Way(begin, [value for value in reversed(eps) if begin < value < end]) for begin, end in pairwise(stops)]
        ways = [way for way in ways if way.over] + [Way(begin, [end]) for begin, end in pairwise(stops) if begin >= first]
        for done, way in enumerate(ways):
            if way.begin in places:
                bits, state = places[way.begin]
                if not done or bits <= run.bits():
                    run.restore(state)
            sizes = {value: trials.best(value) for value in eps if trials.kept[value]}
            heights = hull_heights(sizes, nothing)
            lengths = [(1.0 if each.begin < first else _BEYOND) * each.length(sizes, heights) for each in ways[done:]]
            budget = self._left(trials) * lengths[0] / sum(lengths)
            if way.begin < first:
                slide(run, way.begin, way.over[-1], budget)
            else:
                outwards(run, way.over[-1], budget)


@dataclass(frozen=True)
class Way:
    """The way outwards from one ε over others."""

    begin: float
    over: Sequence[float]

    def length(self, sizes: dict[float, float], heights: dict[float, float]) -> float:
        """What there is to shed, as a logarithm, if the hull of all sizes is where it leads, and how many ε there are."""
        shed, end = 0.0, self.over[-1]
        if self.begin in sizes and end in heights:
            shed = max(0.0, math.log(sizes[self.begin] / max(heights[end], _SMALLEST)))
        return shed + _EACH * len(self.over)


def _links(share: float, ladder: Sequence[float]) -> int:
    """How many links a chain over a ladder of ε has in so many evaluations."""
    wanted = math.ceil(math.log(ladder[0] / ladder[-1], _JUMP))
    return max(round(share / LINK), min(round(share / _SHORT), wanted))


def _place(run: Run) -> Place:
    return run.bits(), run.state()


def hull_heights(sizes: dict[float, float], nothing: float) -> dict[float, float]:
    """The height of the lower convex hull of all sizes, over log ε, at each ε.

    The hull goes down to no bits at the distortion of all weights zero.

    >>> {eps: round(height) for eps, height in hull_heights({0.01: 400, 0.1: 380, 1: 100}, nothing=10).items()}
    {0.01: 400, 0.1: 250, 1: 100}
    """
    end = max(nothing if math.isfinite(nothing) else 0.0, 1.01 * max(sizes))
    points = [(math.log(eps), size) for eps, size in (sizes | {end: 0.0}).items()]
    hull = [points[index] for index in lower_hull(points)]
    heights = np.interp([math.log(eps) for eps in sizes], [at for at, _ in hull], [size for _, size in hull])
    return {eps: float(height) for eps, height in zip(sizes, heights, strict=True)}


def for_many_eps(method: Method) -> Method:
    """`Tight` as the sweep that answers many ε by one chain; any other method as it is."""
    return Sweep(method) if isinstance(method, Tight) else method
