"""Local steps of bit allocation: small changes of the best choice within ε that take fewer bits.

λ alone reaches only the choices for the measured sensitivities, and these are rough: a group of tensors has one, measured with noise. So each
step draws others near them, and measures a choice for them that takes a little fewer bits than the best one.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nncomplexity.search.choices import Choices
from nncomplexity.search.lagrangian import Choice
from nncomplexity.search.scans import Floats

_IDLE, _HALVINGS = 12, 14
"""Local steps without a new choice after which they end, and halvings of the range of λ to find a new one."""


class LocalSteps:
    """The local steps of one search.

    Args:
        choices: measures choices, and has the best one within ε.
        groups: the tensors that have one sensitivity together, as indices.
        spread: the standard deviation of the logarithm of the factors by which steps change sensitivities.
        gain: a step is measured only if it is expected to save at least this share of the bits.
    """

    def __init__(self, choices: Choices, groups: Sequence[list[int]], spread: float, gain: float) -> None:
        self._choices, self._groups, self._spread, self._gain = choices, groups, spread, gain
        self._trials, self._lagrangian = choices.trials, choices.lagrangian

    def run(self) -> None:
        """Shorter step sizes, then choices for other sensitivities, until the budget is spent or no new choice is found."""
        self._shorten()
        self._vary()

    def _shorten(self) -> None:
        """Fewer mantissa bits for the step sizes of the best choice, as long as it stays within ε and the saving is worth an evaluation."""
        while (best := self._choices.best) is not None and best.choice.precision and self._trials.left >= 1:
            shorter = replace(best.choice, precision=best.choice.precision - 1)
            worth = self._lagrangian.bits(shorter) <= (1 - self._gain) * self._lagrangian.bits(best.choice)
            if not worth or self._choices.distortion(shorter, best.c) > self._trials.limit or self._choices.best is best:
                break

    def _vary(self) -> None:
        """Choices of fewer bits, for sensitivities that differ at random from those of the best choice.

        The saving that is tried grows after a success and shrinks after a failure.
        """
        generator = np.random.default_rng(self._trials.problem.seed)
        gain, idle = 16 * self._gain, 0
        while (best := self._choices.best) is not None and self._trials.left >= 1:
            factors = np.ones((len(self._lagrangian.curves), 1))
            for group in self._groups:
                # One factor for a group: its tensors have one sensitivity, and so one error of it.
                factors[group] = math.exp(self._spread * generator.standard_normal())
            c = best.c * factors
            wanted = (1 - gain) * self._lagrangian.bits(best.choice)
            choice = self._smaller(c, best.choice.multiplier, wanted)
            choice = choice and replace(choice, scale=best.choice.scale)
            if choice is None or self._choices.is_measured(choice):
                idle += 1
                if idle == _IDLE:
                    break
            else:
                idle = 0
                within = self._choices.distortion(choice, c) <= self._trials.limit
                gain = 1.5 * gain if within else max(0.8 * gain, self._gain)

    def _smaller(self, c: Floats, multiplier: float, wanted: float) -> Choice | None:
        """The choice with the smallest λ that takes at most the wanted bits; None if even 2^16 times the given λ takes more."""
        low, high = -16.0, 16.0
        found = self._lagrangian.choice(c, multiplier * 2**high)
        if self._lagrangian.bits(found) > wanted:
            return None
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            choice = self._lagrangian.choice(c, multiplier * 2**middle)
            if self._lagrangian.bits(choice) <= wanted:
                found, high = choice, middle
            else:
                low = middle
        return found
