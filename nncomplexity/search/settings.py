"""The settings of `tight`."""

import math
from dataclasses import dataclass

from nncomplexity.errors import InputError
from nncomplexity.network import GRADIENT_COST
from nncomplexity.search.contract import checked_budget

_FIRST_COST = 500.0
"""The most evaluations of a first cycle. A loss that can't be divided would otherwise have no descent within the budget of `track`."""


@dataclass(frozen=True)
class Settings:
    """What the search trades, one sentence each.

    Attributes:
        budget: loss evaluations for each ε, a gradient counting three; None searches for `most` steps or `passes`.
        first: steps of the first cycle; fewer where steps are expensive. Fewer end beyond ε more often; more delay the first answer.
        most: steps of the start that goes on, in a search without a budget. More give smaller files and take longer.
        passes: how often these steps see each example, at least: with many examples `most` steps are few passes over them.
        gain: the share of the bits that a doubling of the effort must save, or else the search has converged.
        batch: examples of a step, where the loss can be divided. Fewer are faster, and tell the distortion less well.
        learning_rate: Adam's rate at its peak, in step sizes. A lower one needs more steps; a higher one strays from ε.
        scale_rate: the same for the logarithm of the step sizes.
        soft: the share of a cycle in which the rounding is not complete yet.
        target: the distortion that the dual variable aims at, as a share of ε. The rest is for what rounding and batches add.
        response: how strongly the dual variable answers the newest distortion.
        integral: how far it moves over a cycle while the distortion stays on one side of its target, in units of its logarithm.
        bound: the most by which it may be above or below the ratio of the two gradients' norms, as a factor, before the response.

    Raises InputError where one isn't a number of its range.
    """

    budget: float | None = None
    first: int = 512
    most: int = 4096
    passes: int = 64
    gain: float = 0.03
    batch: int = 256
    learning_rate: float = 0.25
    scale_rate: float = 0.01
    soft: float = 0.5
    target: float = 0.95
    response: float = 1.0
    integral: float = 40.0
    bound: float = 5.0

    def __post_init__(self) -> None:
        if self.budget is not None:
            object.__setattr__(self, "budget", checked_budget(self.budget, least=1))
        for name, least in (("first", 1), ("most", 1), ("batch", 1), ("passes", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InputError(f"{name}: expected a whole number of at least {least}, got {value!r}")
        for name in ("gain", "learning_rate", "scale_rate", "response", "integral"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InputError(f"{name}: expected a finite number of at least 0, got {value!r}")
        if not 0 < self.target <= 1 or not 0 <= self.soft <= 1 or not self.bound >= 1:
            raise InputError(
                "settings: expected target in (0, 1], soft in [0, 1] and bound of at least 1, got "
                f"{self.target!r}, {self.soft!r} and {self.bound!r}"
            )

    def first_cycle(self, share: float) -> int:
        """The steps of the first cycle, if a step takes this share of the examples: `first`, halved until the cycle isn't too expensive."""
        steps = self.first
        while steps > 1 and GRADIENT_COST * share * steps > _FIRST_COST:
            steps //= 2
        return steps

    def longest(self, share: float) -> int:
        """The steps of the start that goes on, in a search without a budget whose steps take this share of the examples."""
        return max(self.most, math.ceil(self.passes / share))
