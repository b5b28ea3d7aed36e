"""The starts of the descents of one search: which there are, and in which order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nncomplexity.network import GRADIENT_COST
from nncomplexity.search.allocate import Allocation
from nncomplexity.search.batches import Batches
from nncomplexity.search.descent import Conditions
from nncomplexity.search.initial import (
    DENSE,
    FARTHEST_CHOICE,
    Ranks,
    at_an_answer,
    at_the_weights,
    farthest,
    farthest_ranks,
    jittered,
    lowest_ranks,
    near,
)
from nncomplexity.search.latent import Latent, candidate_of
from nncomplexity.search.settings import Settings
from nncomplexity.search.trials import Trials

_FINER = 0.6
"""The factor of a start's step sizes after a cycle that has not ended within ε."""


@dataclass
class Start:
    """A start of descents, and how far they have come.

    Attributes:
        make: a function of a factor that gives the latents of the start, their step sizes multiplied by it.
        factor: this factor. It falls after each cycle that ends far beyond ε, until one has ended within ε.
        latents: the latents with which the next cycle begins: those of the last cycle that ended within ε, or nearly; before that, the start's.
        integral: the integral part of the controller at that point.
        rate: the factor of the learning rate. It falls after each cycle that has collapsed.
        feasible: whether a cycle has ended within ε.
    """

    make: Callable[[float], list[Latent]]
    latents: list[Latent]
    factor: float = 1.0
    integral: float = 0.0
    rate: float = 1.0
    feasible: bool = False

    def finer(self) -> None:
        """Begin again with finer step sizes."""
        self.factor *= _FINER
        self.latents = self.make(self.factor)


class Starts:
    """The starts of one search. Each is made when it is needed, because it may depend on what the others have led to.

    Args:
        settings: those of the search.
        trials: where candidates are measured and kept.
        conditions: those of the search.
        batches: the examples of a step.
        allocation: bit allocation, as the search has run it; None where it isn't tried.
    """

    def __init__(
        self, settings: Settings, trials: Trials, conditions: Conditions, batches: Batches, allocation: Allocation | None
    ) -> None:
        self._settings, self._trials, self._batches, self._allocation = settings, trials, batches, allocation
        self._conditions = conditions

    def in_order(self) -> Iterator[Start]:
        """All starts, that with the smallest file first; the weights last, if they are needed."""
        makers = self._of_allocation, self._of_low_rank
        if self._trials.tensors.large:  # there is memory for one at a time
            yield from filter(None, (make() for make in makers))
        else:
            starts = [start for make in makers if (start := make())]
            yield from sorted(starts, key=self._size) if len(starts) > 1 else starts
        yield from filter(None, [self._of_weights()])

    def _size(self, start: Start) -> float:
        """The bits of the file that a start would be, whatever its distortion."""
        return self._trials.bits(self._trials.whole({**self._conditions.fixed, **candidate_of(start.latents)}))

    def _of_allocation(self) -> Start | None:
        """The weights in the forms and step sizes that bit allocation chooses at about ε; where it isn't tried, in coarse step sizes."""
        if self._allocation is None:
            return self._coarse()
        coarse = self._allocation.coarser(FARTHEST_CHOICE * self._trials.limit)
        return self._begin(lambda finer: at_an_answer(self._trials, coarse, finer)) if coarse else None

    def _of_low_rank(self) -> Start | None:
        """Factors of the lowest ranks that cost a few ε, in the coarsest step sizes that cost about twice as much."""
        # Factors begin farther from ε than bit allocation's choice, and need more steps to come within: more than a short first cycle has.
        needed = self._settings.soft * self._settings.first
        if self._trials.left < GRADIENT_COST * self._batches.share * needed:
            return None
        ranks = lowest_ranks(self._trials, self._batches, self._most(farthest_ranks))
        return self._coarse(ranks) if ranks else None

    def _of_weights(self) -> Start | None:
        """The weights in coarse step sizes, if neither bit allocation nor a low rank has led a descent to the smallest file."""
        return None if self._allocation is None or self._trials.by_descent else self._coarse()

    def _coarse(self, ranks: Ranks = DENSE) -> Start:
        """The weights, or factors of these ranks, in the coarsest step sizes that cost a few ε."""
        most = self._most(farthest_ranks if ranks else farthest)
        coarseness = near(self._trials, self._conditions.fixed, self._batches, most, ranks)
        return self._begin(lambda finer: at_the_weights(self._trials, finer * coarseness, ranks))

    def _most(self, distance: Callable[[float, float], float]) -> float:
        """The largest distortion of a start by one of the two functions."""
        return distance(self._trials.limit, self._conditions.zero)

    def _begin(self, make: Callable[[float], list[Latent]]) -> Start:
        def jittery(finer: float) -> list[Latent]:
            return jittered(make(finer), self._trials.problem.seed)

        return Start(jittery, jittery(1.0))
