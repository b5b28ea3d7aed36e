"""`tight` for many ε at once: a chain of descents from the coarsest ε to the finest, each from where the last one ended.

A network that was brought to a coarse ε holds little, and what it holds is in order: from there a few gradients lead to the next finer
ε, and the file is often smaller than one that was sought for that ε alone. Every candidate on the way serves every ε that it is
within. An ε so coarse that next to nothing of the network is left is no place to go on from: the chain begins at the first ε below those,
and a shorter one leads from there outwards.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from nncomplexity.errors import InputError
from nncomplexity.search.contract import Found, Problem, StopSearch
from nncomplexity.search.latent import Latent
from nncomplexity.search.start import FIRST_COARSENESS, Shape, latents_at
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.tight import Run, Tight
from nncomplexity.search.trials import Trials

_COARSE = 0.25
"""The share of the distortion of all weights zero above which an ε leaves too little to go on from."""
_LINK = 0.36
"""Single searches that one link of the chain is worth."""
_OUTWARD = 0.2
"""The same for a link outwards, to an ε too coarse for the chain."""


@dataclass(frozen=True)
class Sweep:
    """Settings of the search for many ε.

    Attributes:
        method: the search for one ε, with its budget.
        cost: what all ε together may take, in single searches. So many ε or fewer are searched one by one.
        finer: how many times finer the steps are for the next link, for each halving of ε.
    """

    method: Tight = field(default_factory=Tight)
    cost: float = 2.9
    finer: float = 1.3

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
        trials = Trials(problem, Tensors(problem), ordered, self.cost * self.budget)
        with suppress(StopSearch):
            _Chain(self, trials).search(ordered)
        found = dict(zip(ordered, trials.found(), strict=True))
        return [found[value] for value in eps]


class _Chain:
    """The descents of one sweep."""

    def __init__(self, sweep: Sweep, trials: Trials) -> None:
        self.sweep, self.trials, self.tensors = sweep, trials, trials.tensors
        self.run = Run(sweep.method, trials, max(trials.kept))
        self.opening = self.run.opening

    def search(self, eps: Sequence[float]) -> None:
        """All ε, from the coarsest to the finest."""
        if self.tensors.with_gradient():
            self._descend(eps)
        else:
            self._move(eps)
        for value in eps:
            self.opening.quantize(value)

    def _descend(self, eps: Sequence[float]) -> None:
        budget = self.sweep.budget
        nothing = self.opening.nothing({})
        coarse = [value for value in eps[:-1] if value > _COARSE * nothing]
        fine = eps[len(coarse) :]
        self.run = Run(self.sweep.method, self.trials, fine[0])
        self.run.descend(self.trials.spent + budget)
        if self.run.latents:
            begin = self.run.state()
            self._links(fine, self.trials.left - min(0.5 * self.trials.left, len(coarse) * _OUTWARD * budget))
            self.run.restore(begin)
            self._outwards(coarse[::-1])

    def _links(self, fine: Sequence[float], left: float) -> None:
        """To finer ε, by as many links as the budget allows, evenly spaced among them."""
        links = min(len(fine) - 1, max(1, round(left / (_LINK * self.sweep.budget))))
        end = self.trials.spent + left
        for link in range(links):
            last, to = (round((link + at) * (len(fine) - 1) / links) for at in (0, 1))
            if self.tensors.without_gradient():
                self.run.fixed |= self.opening.without_gradient(self.trials.limit(fine[to]))
            self._reopen()
            for latent in self.run.latents:
                latent.refine(self.sweep.finer ** math.log2(fine[last] / fine[to]))
            self.run.downhill.run(
                self.run.latents,
                self.run.fixed,
                fine[to],
                (end - self.trials.spent) / (links - link),
                presses=fine[last + 1 : to + 1],
            )

    def _outwards(self, coarse: Sequence[float]) -> None:
        """To coarser ε, one after the other."""
        for done, value in enumerate(coarse):
            self.run.downhill.run(self.run.latents, self.run.fixed, value, self.trials.left / (len(coarse) - done), presses=[value])

    def _reopen(self) -> None:
        """Let tensors that moves have taken away come back: they begin at zero, under a coarse step."""
        specs = [spec for spec in self.tensors.with_gradient() if spec.name in self.run.fixed]
        for latent in latents_at(Shape(0, FIRST_COARSENESS), specs, self.tensors.weights, self.tensors.factors):
            self.run.latents.append(Latent(latent.spec, [torch.zeros_like(part) for part in latent.parts], latent.log_scale))
            del self.run.fixed[latent.spec.name]

    def _move(self, eps: Sequence[float]) -> None:
        """By moves alone, which only ever make a network coarser: from the finest ε to the coarsest."""
        plans = None
        for done, value in enumerate(reversed(eps)):
            self.opening.quantize(value)
            plans = self.opening.moves(value, self.trials.left / (len(eps) - done), plans)
