"""One search by descents: from a measured start to ε, by the network's outline where the start is mostly noise or made of factors."""

from nncomplexity.file import Piece
from nncomplexity.network import GRADIENT_COST
from nncomplexity.search.downhill import Downhill
from nncomplexity.search.latent import Latent, coarse_of
from nncomplexity.search.opening import Opening
from nncomplexity.search.settings import Settings
from nncomplexity.search.trials import Trials

_SHORT = 30
"""Gradients below which a descent can win nothing back: it starts within ε."""
_DIVIDED, _GROWTH = 1000, 2.5
"""Evaluations from which on a budget is divided among several descents, and how many times as many have been spent at each one's end."""
_SOUND = 0.6
"""The share of the distortion of all weights zero within which a descent starts: from beyond it first loses what is left."""
_FAR = 4.0
"""How far beyond its ε, in ε, a descent is lost; one from an outline may be so far squared, until it is late."""
_AHEAD = 256.0
"""How far ahead of ε, in ε, an outline may be: from further a descent can't be sure to arrive."""
_AHEAD_OF_FACTORS = 6.0
"""The same where matrices are factors: a coarser outline would lose components that belong to it, and they don't come back."""
_HALF = 0.6
"""The share of a descent by which one from a bold start must have been near ε; the rest is enough for a cautious or gentle one."""
_LATE = 0.85
"""The share of a descent after which it is late."""
_FLOOR = 0.01
"""The share of the budget kept for uniform quantization at the end."""
_FLOOR_SHORT = 0.125
"""The same where what is left makes a short descent, which uniform quantization often beats."""


State = tuple[list[Latent], dict[str, Piece]]
"""Latents, and coarse tensors that don't move."""


class Run:
    """The search for one ε among the trials of one or several.

    Args:
        method: its settings.
        trials: where candidates are measured.
        eps: where it leads.
        begin: evaluations that were spent before, for the sake of other ε: until what end a descent may go is counted from there.

    Attributes:
        latents: where the last descent ended; empty before.
        fixed: the coarse tensors that did not move in it.
    """

    def __init__(self, method: Settings, trials: Trials, eps: float, begin: float = 0.0) -> None:
        self.method, self.trials, self.tensors, self.eps, self.begin = method, trials, trials.tensors, eps, begin
        self.opening = Opening(trials, method.schedule.precision)
        self.downhill = Downhill(trials, method.schedule, method.long, method.part, method.least)
        self.latents: list[Latent] = []
        self.fixed: dict[str, Piece] = {}

    def descend(self, until: float) -> None:
        """Descents over growing shares of the evaluations until so many are spent, each from a start of its own.

        The last one takes three fifths of them. A divided budget begins with all that its part does, so that it never gives a larger
        file; and the best of several descents of a loss with many valleys is more even than one.
        """
        self.fixed = self.opening.without_gradient(self.trials.limit(self.eps))
        nothing = self.opening.nothing(self.fixed)
        for end in _ends(self.trials.spent, until):
            for bold in (True, False):
                few = self.trials.last(GRADIENT_COST) or self._left(end) < GRADIENT_COST
                if few or self._stages(self._left(end), nothing, bold):
                    break

    @property
    def ended(self) -> bool:
        """Whether a descent has begun and ended, so that another can go on from there."""
        return len(self.latents) + len(self.fixed) == len(self.tensors.moving)

    def bits(self) -> float:
        """Bits of what the latents and the fixed tensors are."""
        return self.trials.bits(self.trials.whole(self.fixed | coarse_of(self.latents)))

    def state(self) -> State:
        """A copy of where the last descent ended, to be restored."""
        return [latent.copy() for latent in self.latents], dict(self.fixed)

    def restore(self, state: State) -> None:
        """Return there; the copy stays as it is."""
        self.latents, self.fixed = [latent.copy() for latent in state[0]], dict(state[1])

    def halve(self) -> None:
        """Halve all steps; the weights stay what they are."""
        for latent in self.latents:
            latent.halve()

    def _stages(self, left: float, nothing: float, bold: bool) -> bool:
        """A descent to ε; where its start is mostly noise or made of factors, one to the network's outline, and one to ε from there, which a
        gentle one with half the steps follows where it doesn't come near.
        """
        method, end, long = self.method, self.trials.spent + left, bold and left / GRADIENT_COST >= self.method.long
        rank = self._start(self.eps, left / GRADIENT_COST if bold else 0.0, nothing, long)
        factored = self.tensors.factored
        outline = min(method.outline * nothing, (_AHEAD_OF_FACTORS if factored else _AHEAD) * self.eps)
        staged = long and outline > _FAR * self.eps and (factored or self._noisy())
        if staged:
            left = end - self.trials.spent
            self._start(outline, method.sketch * left / GRADIENT_COST, nothing, long, rank if factored else None)
            self.downhill.run(self.latents, self.fixed, outline, method.sketch * (end - self.trials.spent))
            self.halve()
        patience, far = (_LATE, _FAR**2) if staged else (method.patience if bold else 1.0, _FAR)
        direct = bold and not staged
        downhill = self.downhill if bold else self.downhill.eased()
        arrived = downhill.run(
            self.latents,
            self.fixed,
            self.eps,
            end - self.trials.spent,
            patience=patience,
            far=far * self.eps,
            nothing=nothing,
            late=_HALF if bold else 1.0,
            stalls=not direct,
            presses=[self.eps],
        )
        if not staged or arrived or downhill.reached <= self.trials.limit(self.eps):
            return arrived
        self.halve()
        return self.downhill.slowed().eased().run(self.latents, self.fixed, self.eps, end - self.trials.spent, presses=[self.eps])

    def _start(self, eps: float, steps: float, nothing: float, patient: bool, rank: int | None = None) -> int:
        """Go to where a descent of so many gradients to an ε begins: beyond it as far as they may win back. The rank that matrices have there,
        which is to be found unless it is given.
        """
        method = self.method
        reach = method.reach * eps * min(1.0, max(0.0, (steps - _SHORT) / (method.long - _SHORT)))
        allowed = max(min(reach, method.ruin * nothing), self.trials.limit(eps) / 2)
        specs, rounded = self.tensors.with_gradient(), min(2 * allowed, _SOUND * nothing)
        rank = self.opening.rank(specs, self.fixed, allowed, patient) if rank is None else rank
        self.latents = self.opening.latents(specs, self.fixed, rank, rounded)
        self.tensors.factors.release()
        return rank

    def _noisy(self) -> bool:
        """Whether the latents take more than `noise` bits for each parameter, which a hundred gradients can't shed."""
        return self.bits() > self.method.noise * sum(latent.spec.count for latent in self.latents)

    def _left(self, end: float) -> float:
        """Evaluations up to an end that may be spent on descents."""
        end, spent = end - self.begin, self.trials.spent - self.begin
        left = min(self.trials.left, end * (1 - _FLOOR) - spent)
        return left if left >= _SHORT * GRADIENT_COST else min(left, end * (1 - _FLOOR_SHORT) - spent)


def _ends(begin: float, until: float) -> list[float]:
    """How many evaluations may be spent by the end of each descent."""
    shares = [until - begin]
    while shares[0] >= _DIVIDED:
        shares.insert(0, shares[0] / _GROWTH)
    return [begin + share for share in shares]
