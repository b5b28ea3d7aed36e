"""`tight` for the checkpoints of a training, each search begun where that of the checkpoint before has ended.

It is what `track` would do if it handed results on in the order of training, measured by benchmarks/measuring/dynamics.py beside what it does.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from nncomplexity.file import Constant, LowRank, Piece
from nncomplexity.network import TensorSpec
from nncomplexity.search import Found, StopSearch, Tight
from nncomplexity.search.latent import Latent
from nncomplexity.search.run import Run
from nncomplexity.search.start import FIRST_COARSENESS, Shape, latents_at
from nncomplexity.search.trials import Trials


@dataclass(frozen=True)
class FromTheLast(Tight):
    """The search, which remembers for each ε the coarse tensors with which it ended. The first is cold; so is one after all weights zero.

    The last answer is measured on the new loss. From there the whole budget is one descent, of the rate and with the halving that links
    of a chain have; tensors that were gone come back at the coarsest steps of a start.
    """

    ended: dict[float, Mapping[str, Piece]] = field(default_factory=dict)

    def _found(self, trials: Trials, eps: float) -> Found:
        last = self.ended.get(eps)
        if last is None or all(isinstance(piece, Constant) for piece in last.values()):
            found = super()._found(trials, eps)
        else:
            with suppress(StopSearch):
                self._go_on(trials, eps, last)
            found = trials.found()[0]
        if trials.kept[eps]:
            names = [spec.name for spec in trials.problem.skeleton.tensors]
            self.ended[eps] = dict(zip(names, trials.kept[eps][0][1], strict=True))
        return found

    def _go_on(self, trials: Trials, eps: float, last: Mapping[str, Piece]) -> None:
        trials.pace()
        run = Run(self, trials, eps)
        run.fixed = run.opening.without_gradient(trials.limit(eps))
        run.latents = [_latent(spec, last[spec.name], trials) for spec in trials.tensors.with_gradient()]
        if trials.measure({spec.name: last[spec.name] for spec in trials.tensors.moving}) > trials.limit(eps):
            run.halve()
        run.downhill.slowed().run(run.latents, run.fixed, eps, trials.left - 2, presses=[eps])
        run.opening.quantize(eps)


def _latent(spec: TensorSpec, piece: Piece, trials: Trials) -> Latent:
    """What rounds to a coarse tensor."""
    if isinstance(piece, Constant):
        return latents_at(Shape(0, FIRST_COARSENESS), [spec], trials.tensors.weights, trials.tensors.factors)[0]
    if isinstance(piece, LowRank):
        factors = [torch.tensor(symbols, dtype=torch.float32) for symbols in (piece.A, piece.B)]
        return Latent(spec, factors, math.log(piece.step_a) + math.log(piece.step_b), piece.periods)
    symbols = torch.tensor(piece.symbols, dtype=torch.float32)
    return Latent(spec, [symbols.reshape(len(symbols), -1) if symbols.dim() > 1 else symbols], math.log(piece.step))
