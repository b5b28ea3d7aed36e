"""The choices of the Lagrangian as candidates of a search: their coarse tensors, their bits, their distortions, and the best within ε."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch

from nncomplexity.file import CoarseTensor, Dense
from nncomplexity.network import Moment
from nncomplexity.search.compensated import Rounding
from nncomplexity.search.contract import ALLOCATION, COMPENSATED
from nncomplexity.search.forms import entropy_bits
from nncomplexity.search.lagrangian import Choice, Lagrangian
from nncomplexity.search.scans import Floats
from nncomplexity.search.trials import Trials


class Best(NamedTuple):
    """The smallest choice within ε.

    Attributes:
        choice: the choice.
        c: (tensors, 3) the sensitivities for which it was made.
    """

    choice: Choice
    c: Floats


class Choices:
    """The choices that one search has measured.

    Args:
        trials: measures candidates.
        lagrangian: makes the choices.

    Attributes:
        trials: the same.
        lagrangian: the same.
        best: the smallest choice within ε so far; None if there is none.
    """

    def __init__(self, trials: Trials, lagrangian: Lagrangian) -> None:
        self.trials, self.lagrangian = trials, lagrangian
        self.best: Best | None = None
        self._measured: dict[bytes, float] = {}
        self._entropies: dict[tuple[int, int, int], float | None] = {}
        self._rounding = Rounding({})

    def compensate(self, moments: Mapping[str, Moment]) -> None:
        """Compensate the errors of choices with a scale from now on, for inputs with these moments, by first name of the weights."""
        self._rounding = Rounding(moments, lean=self.trials.tensors.large)

    def is_measured(self, choice: Choice) -> bool:
        """Whether the distortion of a choice is known, so that it costs no evaluation."""
        return choice.key in self._measured

    def distortion(self, choice: Choice, c: Floats) -> float:
        """The measured distortion of a choice. Each is measured once, and kept if it is the best one within ε so far.

        Args:
            choice: the choice.
            c: (tensors, 3) the sensitivities for which it was made.

        Returns:
            The distortion on all examples. It is infinite if the budget is spent.
        """
        if choice.key not in self._measured:
            if self.trials.left < 1:
                return math.inf
            pieces, before = self.pieces(choice), self.trials.best
            # In a large network counting bits takes longer than the loss, so estimates decide which candidate is the smaller.
            bits = self._estimate(choice, pieces) if self.trials.tensors.large else None
            origin = ALLOCATION if choice.scale is None else COMPENSATED
            distortion = self._measured[choice.key] = self.trials.measure(pieces, origin, bits)
            if choice.scale is None:
                smaller = self.best is None or self.lagrangian.bits(choice) < self.lagrangian.bits(self.best.choice)
            else:  # the bits of the symbols aren't known before they are counted
                smaller = self.trials.best < before
            if distortion <= self.trials.limit and smaller:
                self.best = Best(choice, c)
        return self._measured[choice.key]

    def pieces(self, choice: Choice) -> dict[str, CoarseTensor]:
        """The coarse tensors of a choice, by first name."""
        chosen = zip(self.lagrangian.curves, choice.points.tolist(), strict=True)
        if choice.scale is None:
            return {curve.spec.name: curve.piece(point, choice.precision) for curve, point in chosen}
        return {
            curve.spec.name: self._rounding.piece(curve.spec.name, curve.forms[point], curve.weight, choice.precision, choice.scale)
            for curve, point in chosen
        }

    def _estimate(self, choice: Choice, pieces: Mapping[str, CoarseTensor]) -> float:
        """The estimated bits of a choice. With compensated errors they are lower by the change of the symbols' entropy."""
        bits = self.lagrangian.bits(choice)
        for index, point in enumerate(choice.points.tolist()) if choice.scale is not None else ():
            compensated = pieces[self.lagrangian.curves[index].spec.name]
            nearest = self._nearest_entropy(index, point, choice.precision)
            if isinstance(compensated, Dense) and nearest is not None:
                bits += entropy_bits(torch.from_numpy(compensated.symbols)) - nearest
        return bits

    def _nearest_entropy(self, index: int, point: int, precision: int) -> float | None:
        """The entropy of a tensor's symbols at a point without compensated errors; None if it is not dense. Each is computed once."""
        key = index, point, precision
        if key not in self._entropies:
            nearest = self.lagrangian.curves[index].piece(point, precision)
            self._entropies[key] = entropy_bits(torch.from_numpy(nearest.symbols)) if isinstance(nearest, Dense) else None
        return self._entropies[key]
