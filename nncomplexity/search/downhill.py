"""Running a descent within a budget: whole or in parts of the examples, given up where it is lost, pressed to ε at its end."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, repeat

import torch
from torch import Tensor

from nncomplexity.file import Piece
from nncomplexity.network import GRADIENT_COST
from nncomplexity.search.contract import DESCENT
from nncomplexity.search.descent import descend
from nncomplexity.search.latent import Latent, coarse_of
from nncomplexity.search.schedule import Schedule
from nncomplexity.search.start import first_that
from nncomplexity.search.trials import Trials

_LOST = 0.8
"""The share of the distortion of all weights zero at which a descent is lost: its gradients are about to vanish."""
_LOST_FOR = 0.1
"""The share of its steps for which a descent must have been lost to be given up."""
_NEAR = 1.5
"""How near ε, in ε, a descent must have been before it is late."""
_EASED = 0.1
"""The share of the pressure at which a descent begins that is eased."""
_NO_FURTHER = 2.0
"""The distortion, in ε, from which it takes a step back."""
_SLOWED = 2 / 3
"""The share of the rate of one that is slowed."""
_BIASES = tuple(i / 40 for i in range(14, -6, -1))
"""How much less than they are magnitudes may be taken for when a descent's end is rounded once more."""
_PRESSES = 5
"""Evaluations which that takes."""
_CHECKS = 10
"""Measurements on all examples along a descent over parts of them, and as many again at its end."""
_EVERY = 5
"""Of the visits in the first part of a long descent, one in so many is weighed: they are seldom the smallest."""
_SELDOM = 2
"""The same in its last third, and all along one whose ε moves, where several ε are to be answered and there are many more to come."""
_AWAKE, _BRISK = 0.05, 0.3
"""The share of its steps in which the rate of one that slides rises, and the last rate over the first: it is to get somewhere all along."""


class Downhill:
    """Descents of one search.

    Args:
        trials: where candidates are kept.
        schedule: the descents' settings.
        long: gradients that make a long descent.
        part: the share of the examples that a gradient is over, where the loss can be divided.
        least: the fewest examples of such a part; a smaller one is not taken.

    Attributes:
        reached: the least distortion that the last descent has measured with weights that a file holds, on all examples.
    """

    def __init__(self, trials: Trials, schedule: Schedule, long: int, part: float, least: int) -> None:
        self.trials, self.schedule, self.long, self.part, self.least = trials, schedule, long, part, least
        self.reached = math.inf

    def pressed(self, factor: float) -> "Downhill":
        """The same, with descents that begin at so many times the pressure and change it so many times as fast."""
        return self._by(replace(self.schedule, pressure=factor * self.schedule.pressure, gain=factor * self.schedule.gain))

    def sliding(self) -> "Downhill":
        """The same, with descents for an ε that moves: they begin at twice the pressure and are rounded from the first step on, so that each
        step is a candidate.
        """
        schedule = self.schedule
        return self._by(replace(schedule, pressure=2 * schedule.pressure, longest_soft=0, warmup=_AWAKE, final_rate=_BRISK))

    def slowed(self) -> "Downhill":
        """The same, with descents of smaller steps: from where another has ended, which holds little that may be lost."""
        return self._by(replace(self.schedule, rate=_SLOWED * self.schedule.rate))

    def eased(self) -> "Downhill":
        """The same, with descents that begin at little pressure, give way twice as much and leap less: from within ε, which they must not
        lose.
        """
        schedule = self.schedule
        return self._by(replace(schedule, pressure=_EASED * schedule.pressure, release=2 * schedule.release, leap=_NO_FURTHER))

    def _by(self, schedule: Schedule) -> "Downhill":
        return Downhill(self.trials, schedule, self.long, self.part, self.least)

    @property
    def partial(self) -> bool:
        """Whether gradients are over parts of the examples, so that visits must be measured once more on all."""
        examples = self.trials.distortion.examples
        return examples is not None and examples * self.part >= self.least

    def run(
        self,
        latents: list[Latent],
        fixed: dict[str, Piece],
        eps: float,
        budget: float,
        *,
        patience: float = 1.0,
        far: float = math.inf,
        nothing: float = math.inf,
        late: float = 1.0,
        near: float = _NEAR,
        stalls: bool = True,
        presses: Sequence[float] = (),
        until: float | None = None,
        thorough: bool = True,
    ) -> bool:
        """One descent to ε over so many evaluations, in which the latents move.

        Args:
            latents: where it begins, and afterwards where it ended.
            fixed: the coarse tensors that don't move.
            eps: where it leads.
            budget: evaluations.
            patience: the share of its steps after which it is given up where, for a while, it has been
            far: as far away as this distortion, or as most of
            nothing: the distortion of all weights zero. Single steps that lead beyond it are taken back.
            late: the share of its steps after which it is given up where it has not once been
            near: as near as so many ε.
            stalls: whether it goes on after a stall, and isn't given up there.
            presses: the ε to each of which its end is pressed, a few evaluations each.
            until: the ε that it ends at, if that is another: every step of it is then aimed at an ε on the way.
            thorough: whether all candidates near its end are weighed, and not every other one; those within an ε that has none yet always are.

        False where it was given up, also as the last evaluations are needed for an answer.
        """
        trials, distortion = self.trials, self.trials.distortion
        trials.pace()
        budget = min(budget, trials.left)
        steps, parts = self._parts(budget - len(presses) * _PRESSES)
        limit = trials.limit(max(trials.kept))
        late_every = 1 if thorough else _SELDOM
        every = late_every if until else 1 if thorough and steps < self.long else _EVERY
        held, lowest, far = 0, math.inf, min(far, _LOST * nothing)
        self.reached = math.inf
        descent = descend(distortion, latents, trials.tensors.held | fixed, eps, steps, self.schedule, parts, until, nothing)
        for done, visit in enumerate(descent):
            trials.descended = True
            trials.report("descending")
            rise = visit.loss - distortion.original
            held = done if rise < far else held
            if visit.tensors is not None:  # weights that aren't wholly rounded may be near where no file gets
                lowest = min(lowest, rise)
                if self.partial:
                    if self._checked(done, steps, until):
                        self.reached = min(self.reached, trials.measure_whole(visit.tensors, DESCENT))
                else:
                    self.reached = min(self.reached, abs(rise))
                    weighed = done % (late_every if 3 * done >= 2 * steps else every) == 0
                    if abs(rise) <= limit and (weighed or trials.awaits(abs(rise))):
                        trials.keep(visit.tensors, abs(rise), DESCENT)
            lost = done >= patience * steps and done - held >= _LOST_FOR * steps
            stuck = (visit.stalls and not stalls) or (done >= late * steps and lowest > near * eps)
            if lost or stuck or trials.last(GRADIENT_COST):
                return False
        for value in presses:
            if trials.last(_PRESSES):
                return False
            self._press(latents, fixed, value)
        return True

    def _checked(self, done: int, steps: int, until: float | None) -> bool:
        """Whether a visit on part of the examples is measured on all: most near the end, if that is where the descent leads."""
        if until:
            return done * 2 * _CHECKS % steps < 2 * _CHECKS
        return done * _CHECKS % steps < _CHECKS or steps - done <= _CHECKS

    def _press(self, latents: list[Latent], fixed: dict[str, Piece], eps: float) -> None:
        """Round what a descent ends with towards zero, by as much as ε still allows: latents far from the next symbol are the last to go."""
        limit = self.trials.limit(eps)

        def holds(index: int) -> bool:
            return self.trials.measure(fixed | coarse_of(latents, _BIASES[index]), DESCENT) <= limit

        first_that(holds, len(_BIASES))

    def _parts(self, budget: float) -> tuple[int, Iterator[Tensor | None]]:
        """How many gradients the budget has, and the examples of each."""
        examples = self.trials.distortion.examples
        if not self.partial or examples is None:
            return max(0, int(budget / GRADIENT_COST)), repeat(None)
        rows = round(examples * self.part)
        generator = torch.Generator().manual_seed(self.trials.problem.seed)
        steps = int((budget - 2 * _CHECKS) / (GRADIENT_COST * rows / examples))
        return max(1, steps), (torch.randperm(examples, generator=generator, device="cpu")[:rows] for _ in count())
