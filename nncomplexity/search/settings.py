"""The settings of `tight`."""

from dataclasses import dataclass, field

from nncomplexity.search.contract import checked_budget
from nncomplexity.search.schedule import Schedule


@dataclass(frozen=True)
class Settings:
    """The budget is the one that matters.

    Attributes:
        budget: loss evaluations for each ε; a gradient counts three.
        reach: how far beyond ε a start may be, in ε, when the descent has `long` gradients or more to win it back.
        long: gradients that make a long descent.
        ruin: how far a start may be, as a share of the distortion of all weights zero.
        outline: the distortion of a network's outline, as a share of that of all weights zero. A first descent leads there where ε is
            less than a quarter of it and the start is noisy or has factors, and where the budget is large enough for a chain.
        noise: bits for each parameter above which a start is noisy.
        sketch: the share of the gradients for the descent to the outline.
        chained: evaluations from which on the way from the outline to ε is a chain of descents.
        part: the share of the examples that a gradient is over, where the loss can be divided (`nncomplexity.network.losses.Divisible`).
        least: the fewest examples of such a part; a smaller one is not taken.
        patience: the share of a descent after which one still 4 ε away, or lost, is given up for a cautious start.
        schedule: the descent's settings.
    """

    budget: float = 400
    reach: float = 4.0
    long: int = 45
    ruin: float = 0.4
    outline: float = 0.2
    noise: float = 1.0
    sketch: float = 0.4
    chained: float = 800
    part: float = 0.125
    least: int = 128
    patience: float = 1 / 3
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", checked_budget(self.budget, least=1))
