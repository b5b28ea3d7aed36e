"""One cycle of the descent: from latents to smaller ones within ε, the rounding soft at first and hard at the end.

A cycle minimises d + λ·R over the latents by Adam, with R the differentiable rate (`nncomplexity.search.rate`), gradients of d on batches,
and λ led by the distortion (`nncomplexity.search.dual`). Over its first half the rounding sets in, from none to all; the learning rate rises
over its first twentieth and falls along a cosine. From where the rounding is complete the running mean of the latents
(`nncomplexity.search.average`) is a candidate at every step. Some are measured on all examples: those within ε are kept, the smallest last. A
cycle that ends without one goes on with another λ until it has one; a cycle that has collapsed is given up.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.linalg import vector_norm

from nncomplexity.errors import FormatError
from nncomplexity.file import Piece
from nncomplexity.network import GRADIENT_COST
from nncomplexity.search.average import Average
from nncomplexity.search.batches import Batches, Minibatch
from nncomplexity.search.blocks import Block, blocks_of
from nncomplexity.search.contract import DESCENT
from nncomplexity.search.dual import Dual
from nncomplexity.search.latent import Latent, candidate_of
from nncomplexity.search.settings import Settings
from nncomplexity.search.trials import Trials

_WARMUP, _LAST_RATE = 0.05, 0.02
"""The share of a cycle in which the learning rate rises, and its last value over its highest."""
_REWEIGH = 10
"""Steps between two updates of the rate's slopes."""
_WINDOW = 4.0
"""Steps over which the distortion of batches is averaged."""
_FAR = 20.0
"""How many ε a single distortion counts for at most."""
_EXTENSION, _LONGEST, _SHIFT = 0.05, 1.5, 0.7
"""The extensions of a cycle without a candidate within ε: their least length as a share of its steps, the length of the cycle with all of
them as a multiple of its steps, and by how much each changes log λ."""
CHECKS, _BETWEEN = 30, 4
"""The most candidates that a cycle measures, and the least effort between two as a multiple of a measurement's."""
_AS_BAD, _COLLAPSED = 0.9, 32
"""A cycle has collapsed if its distortion was at least this share of that of all weights zero, for so many steps in a row. It hardly recovers:
where a layer or both factors of a matrix are zero, most gradients are zero, too.
"""
_BIASES = tuple(index / 50 for index in range(20, -11, -1))
"""By how much less than they are magnitudes are taken for when the end of a cycle is rounded once more, in step sizes."""


@dataclass(frozen=True)
class Conditions:
    """What the cycles of one search have in common.

    Attributes:
        zero: the distortion of all weights zero.
        fixed: coarse tensors that don't move, in addition to those that no search changes.
    """

    zero: float = math.inf
    fixed: Mapping[str, Piece] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a cycle has ended.

    Attributes:
        within: whether a candidate of it was within ε.
        distortion: the distortion on its last batches, as a running mean.
        integral: the integral part of the controller. Another cycle may begin with it.
        collapsed: whether it was given up, because its distortion stayed at that of all weights zero.
        below: whether its last candidate had a loss below the original's by more than ε.
    """

    within: bool
    distortion: float
    integral: float
    collapsed: bool = False
    below: bool = False


class Cycle:
    """One cycle over latents, which it moves.

    Args:
        trials: where candidates are measured and kept.
        settings: those of the search.
        conditions: those of the search.
        latents: the latents to move.
        batches: the examples of its steps.
        steps: the number of steps.
    """

    def __init__(
        self,
        trials: Trials,
        settings: Settings,
        conditions: Conditions,
        latents: Sequence[Latent],
        batches: Batches,
        steps: int,
    ) -> None:
        self._trials, self._settings, self._latents, self._batches, self._steps = trials, settings, latents, batches, steps
        self._eps, self._fixed = trials.eps, dict(conditions.fixed)
        self._dual = Dual(settings, self._eps, steps, zero=conditions.zero)
        self._large = trials.tensors.large
        specs = trials.problem.skeleton.tensors
        # Decoded once, because no step changes them.
        self._held = {
            spec.name: piece.decode(spec, trials.distortion.device)
            for spec in specs
            if (piece := (trials.tensors.held | self._fixed).get(spec.name)) is not None
        }
        self._mean: float | None = None
        self._steps_lost, self._lost_from = 0, _AS_BAD * conditions.zero
        self._within, self._below = False, False
        self._average: Average | None = None

    def run(self, integral: float = 0.0) -> Ended:
        """All steps, the extensions that are needed, and the last rounding.

        Args:
            integral: where the dual variable goes on from.

        Returns:
            How the cycle has ended.
        """
        trials, settings = self._trials, self._settings
        blocks = blocks_of(self._latents, self._large)
        self._dual.integral = integral
        between = max(1, round(self._steps * (1 - settings.soft) / CHECKS), round(_BETWEEN / (GRADIENT_COST * self._batches.share)))
        # Each extension is measured, too.
        extension = max(2, round(_EXTENSION * self._steps), min(between, round((_LONGEST - 1) * self._steps)))
        step, end = 0, self._steps
        while step < end and trials.left >= self._batches.cost and not self._has_collapsed():
            trials.report("descending")
            self._step(blocks, step)
            step += 1
            if step >= settings.soft * self._steps:
                self._follow()
                if step % between == 0 or step == end:
                    self._calibrate(self._measure())
            if step == end and not self._within and end + extension <= _LONGEST * self._steps:
                end += extension
                self._dual.shift(_SHIFT if self._below else -_SHIFT)
        trials.descended |= step >= self._steps  # a cycle that was cut short hasn't failed
        if self._within:
            self._round_again()
        if self._average is not None:
            self._average.replace()
        mean = math.inf if self._mean is None else self._mean
        return Ended(self._within, mean, self._dual.integral, self._has_collapsed(), self._below)

    def _has_collapsed(self) -> bool:
        return self._steps_lost >= _COLLAPSED

    def _step(self, blocks: Sequence[Block], step: int) -> None:
        settings, share = self._settings, min(1.0, step / self._steps)
        for block in blocks:
            # From none to all: rounded at once, most weights would be zero before the others could make up for them.
            block.firmness = min(1.0, share / settings.soft) if settings.soft else 1.0
            block.forget()
            if step % _REWEIGH == 0:  # slopes are means over rows and columns, which change slowly
                block.weigh()
        batch = self._batches.next()
        distortion, gradients = self._gradient(blocks, batch)
        value = self._dual.at(self._averaged(distortion))
        rate = self._rate(step)
        outside = float(self._mean is None or self._mean > 0)  # nothing is gained by a loss below the original's
        norms: list[tuple[float, float]] = []
        for block in blocks:
            pull, along = block.pulls(gradients)
            pressure = block.pressure()
            norms.append((float(vector_norm(pull)), float(vector_norm(pressure))))
            if step:  # the first step tells the norms, and moves nothing
                block.move([(pull, outside), (pressure, value)], rate)
                block.scale([(along, outside)], rate * settings.scale_rate / settings.learning_rate)
        self._dual.observe(*(math.hypot(*(pair[side] for pair in norms)) for side in (0, 1)))

    def _gradient(self, blocks: Sequence[Block], batch: Minibatch) -> tuple[float, dict[str, torch.Tensor]]:
        """The distortion on a batch and its gradients by first name; where the loss is no number there are none."""
        device = self._trials.distortion.device
        weights = self._held | {spec.name: weight for block in blocks for spec, weight in block.weights(device)}
        measured = self._trials.distortion.gradient(weights, batch.rows)
        assert measured is not None  # a loss without a gradient isn't searched by descent
        distortion = measured[0] - batch.original
        return (distortion, measured[1]) if math.isfinite(distortion) else (math.inf, {})

    def _averaged(self, distortion: float) -> float:
        """The running mean over a few batches."""
        self._steps_lost = self._steps_lost + 1 if distortion >= self._lost_from else 0
        window = 1.0 if self._batches.share == 1 else _WINDOW
        # One batch far beyond ε would otherwise rule the mean for many steps.
        distortion = min(distortion, _FAR * self._eps)
        self._mean = distortion if self._mean is None else self._mean + (distortion - self._mean) / window
        return self._mean

    def _rate(self, step: int) -> float:
        """The learning rate of a step."""
        share = step / self._steps if step < self._steps else 0.9  # an extension needs more than the least rate
        cosine = _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * share))
        return self._settings.learning_rate * cosine * min(1.0, (step + 1) / (_WARMUP * self._steps + 1))

    def _follow(self) -> None:
        """Update the mean of the latents. A large network has no memory for one: its candidates are the latents themselves."""
        if self._large:
            return
        if self._average is None:
            self._average = Average(self._latents)
        self._average.update()

    def _measure(self, bias: float = 0.0) -> float:
        """The distortion of the candidate on all examples, as a file would hold it; below 0 if its loss is below the original's."""
        latents = self._latents if self._average is None else self._average.latents
        try:
            distortion = self._trials.measure(self._fixed | candidate_of(latents, bias), DESCENT)
        except FormatError:  # a candidate that no file can hold; later ones may be fine
            distortion = math.inf
        self._within |= self._is_within(distortion)
        below = math.isfinite(distortion) and self._trials.last_change < 0
        self._below = below and not self._is_within(distortion)
        return -distortion if below else distortion

    def _is_within(self, distortion: float) -> bool:
        return distortion <= self._trials.limit

    def _calibrate(self, distortion: float) -> None:
        """Tell the dual variable the distortion of the candidate, which is what has to be within ε."""
        assert self._mean is not None  # there was a step
        self._dual.calibrate(min(distortion, _FAR * self._eps), self._mean)

    def _round_again(self) -> None:
        """Round the end towards zero by as much as ε allows: latents far from the next symbol are the last to go."""
        low, high = 0, len(_BIASES) - 1
        while low < high and self._trials.left >= 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._is_within(abs(self._measure(_BIASES[middle]))) else (middle + 1, high)
