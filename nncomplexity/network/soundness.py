"""Whether a loss can be relied on: one number for the same weights, another for others, and that of the weights that it was given.

A search looks for weights at which the loss is as before. Whatever makes it so besides the weights is taken for success: a draw of noise,
a module that goes on with what it computed from other weights, a closure that measures another network. So the loss is looked at before a
search and after it, for a few evaluations, which aren't counted. What can't be measured is refused; what may not be meant is said, in a
sentence each.
"""

import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.network.loading import Cache
from nncomplexity.network.modes import depends_on_mode, evaluating, of_torch
from nncomplexity.network.probes import Probe, changed, random
from nncomplexity.network.target import Target
from nncomplexity.words import listed

_SCATTER, _SCATTER_OF_ZERO = 1e-3, 1e-6
"""How far apart two losses of the same weights may be, relatively and at zero, whatever ε is: accelerators add in another order each
time."""
_SHARE = 0.05
"""The same in ε."""
_DRAWS = 3
"""Further losses of the original, where two of the same weights aren't one."""
_ROUNDING = 1e-5
"""Relative difference of losses that are the same but for the order of their sums."""
_ONE_BY_ONE = 3
"""Attributes up to which each is looked at for itself, where not all of them together are computed again."""
_NOISE = 4.0
"""How many times as far apart as two losses in fresh copies one in a used copy may be from them."""


def margin(eps: float, original: float) -> float:
    """By how much a distortion must be below ε: above the rounding of a float32 mean."""
    return min(eps / 2, 1e-6 * (abs(original) + eps))


class MeasuredLoss(Protocol):
    """A loss and its original weights."""

    original: float
    """Their loss, as it was first measured."""
    weights: dict[str, Tensor]
    """By first name."""

    def again(self, weights: Mapping[str, Tensor], *, seed: int = 0) -> float:
        """The loss of weights, uncounted; with another seed from other random states."""
        ...


@dataclass
class Soundness:
    """What was seen of a loss.

    Attributes:
        measured: the loss.
        target: what it is called on.
        modules: others that it calls, as far as they are known.
        eps: the smallest ε above 0 that is asked for; None where there is none.
        scatter: how far apart the losses of the same weights were.
        warnings: a sentence on each thing that may not be meant, by what it is about.
        refusal: why the last loss that nobody asked for couldn't be taken.
        probed: the loss of changed weights before the search, to be taken again after it; None where it wasn't or couldn't be.
    """

    measured: MeasuredLoss
    target: Target
    modules: Sequence[nn.Module]
    eps: float | None
    scatter: float = 0.0
    warnings: dict[str, str] = field(default_factory=dict)
    refusal: str = ""
    probed: float | None = None

    def begin(self, drawn: bool) -> None:
        """Look at the loss once that of the original has been measured; `drawn` says whether random numbers were.

        Raises:
            InputError: it isn't a function of the weights.
        """
        renewable, other = self.target.renewable, Probe(self.measured.weights, changed)
        if self.eps == 0 or not renewable:
            self._repeat(1)
        # In dictionaries nothing is left from other weights; whether they are ignored is for those to know who ask for an ε.
        if self.eps or (renewable and self.eps is None):
            self._empty_caches()
            seen = self._loss_or_none(other)
            if renewable:
                again = self._loss_or_none(other, fresh=True)
                if seen is None:
                    self._repeat(1)
                if not _same(seen, again):
                    self._reconcile(other, seen, again, forgets=True)
                    seen = again
            if seen == self.measured.original:
                self._check_depends_on_weights()
            self.probed = seen
        if drawn:
            self._warn_of_random_numbers()
        self._warn_of_training_mode()

    def set_smallest_eps(self, eps: float | None) -> None:
        """Take this for the smallest ε, once it is known; raises InputError where the losses measured so far are too far apart for it."""
        if eps and self.eps is None and self.probed is None:
            self.probed = self._loss_or_none(Probe(self.measured.weights, changed), fresh=True)
            if self.probed == self.measured.original:
                self._check_depends_on_weights()
        self.eps = eps
        self.check(self.measured.original, self.measured.original + self.scatter)

    def end(self, answers: Sequence[tuple[Mapping[str, Tensor], float]]) -> list[float]:
        """The losses of answers, each in a fresh copy of its own, and once more that of the original.

        Raises:
            InputError: they aren't those that the search went by.
        """
        found = [loss for _, loss in answers]
        if self.eps == 0:
            return found
        if self.target.renewable:
            for index, (weights, loss) in enumerate(answers):
                found[index] = self._fresh(weights)
                if not near(found[index], loss):
                    self._reconcile(weights, loss, found[index])
                self.check(loss, found[index])
        self._repeat(1)
        self._probe_again()
        return found

    def _probe_again(self) -> None:
        """Take the loss of changed weights once more.

        That of the original may be as ever, and that of the answers too: a loss that goes on with one number once it was called a few times
        says of every file that nothing was lost.

        Raises:
            InputError: it isn't what it was before the search.
        """
        if self.probed is None:
            return
        again = self._loss_or_none(Probe(self.measured.weights, changed), fresh=True)
        largest = max(abs(self.probed), abs(self.measured.original))
        if not near(again, self.probed, max(_SCATTER * largest + _SCATTER_OF_ZERO, _NOISE * self.scatter)):
            told = f"none ({self.refusal})" if again is None else f"{again:.9g}"
            raise InputError(
                f"loss_fn: expected the same loss of the same weights each time, got {self.probed:.9g} of slightly changed ones before the "
                f"search and {told} after it; let it hang on nothing but the weights that it is given"
            )

    def check(self, one: float, other: float) -> None:
        """Raises InputError where two losses of the same weights are further apart than sums in another order, or than ε lets pass."""
        apart, original = abs(one - other), self.measured.original
        self.scatter = max(self.scatter, apart)
        allowed = most = _SCATTER * abs(original) + _SCATTER_OF_ZERO
        where = advice = ""
        if self.eps:
            allowed = max(margin(self.eps, original), min(_SHARE * self.eps, most))
            if math.isfinite(apart):
                where = f", {apart:.2g} apart where ε is {self.eps:g}"
                advice = f", or ask for an ε of at least {apart / _SHARE:.2g}" if apart <= most else ""
        if not apart <= allowed:
            raise InputError(
                f"loss_fn: expected the same loss of the same weights each time, got {one:.9g} and then {other:.9g}{where}; let it see "
                "the same examples at every call, seed the generators that it draws from, and let modules keep nothing between calls"
                f"{advice}"
            )
        if self.eps and self.scatter > margin(self.eps, original):
            self.warnings["scatter"] = (
                f"Losses of the same weights are up to {self.scatter:.2g} apart, {100 * self.scatter / self.eps:.2g} % of ε = "
                f"{self.eps:g}: candidates are accepted within ε less that, and another run may find another file."
            )

    def tolerance(self, eps: float) -> float:
        """The largest distortion that is accepted at ε: less by what rounding or noise may have taken from it."""
        return eps - max(margin(eps, self.measured.original), min(eps / 2, self.scatter))

    def _repeat(self, count: int) -> None:
        """Measure the original again so many times; more often where it isn't the same."""
        for _ in range(count):
            loss = self._fresh(self.measured.weights)
            self.check(self.measured.original, loss)
            if count < _DRAWS and loss != self.measured.original:
                self._repeat(_DRAWS)

    def _fresh(self, weights: Mapping[str, Tensor]) -> float:
        """The loss of weights in a module that has seen no others."""
        self.target.renew()
        return self.measured.again(weights)

    def _loss_or_none(self, weights: Mapping[str, Tensor], *, fresh: bool = False, seed: int = 0) -> float | None:
        """The loss of weights that nobody asked for; None where it can't be taken."""
        try:
            return self._fresh(weights) if fresh else self.measured.again(weights, seed=seed)
        except InputError as error:
            self.refusal = str(error)
            return None

    def _reconcile(self, weights: Mapping[str, Tensor], used: float | None, fresh: float | None, *, forgets: bool = False) -> None:
        """Find out why the loss of the same weights differs in a copy that was used before and in a fresh one.

        It may be noise. Or parts of the module keep something between calls: at the beginning, what they hold is then put back before
        each one, if that `forgets` it.

        Raises:
            InputError: neither explains it, or the noise is beyond what ε lets pass.
        """
        told = [f"none ({self.refusal})" if loss is None else f"{loss:.6g}" for loss in (used, fresh)]
        self._repeat(_DRAWS)
        again = self._loss_or_none(weights, fresh=True)
        # Without noise at the original two fresh copies may differ as well: what is kept by identity may be found by one made later.
        noise = 0.0 if not self.scatter or again is None or fresh is None else _NOISE * abs(again - fresh)
        if near(used, fresh, noise):
            return
        if forgets:
            self.target.forget_between()
            before = self._loss_or_none(self.measured.weights, fresh=True)
            if near(before, self.measured.original, noise) and near(self._loss_or_none(weights), fresh, noise):
                return
        raise InputError(
            f"model: its loss doesn't follow its weights: of the same ones it is {told[1]} in a fresh copy of the module and "
            f"{told[0]} in one that was used before{self._retained()}"
        )

    def _retained(self) -> str:
        kept = listed(self.target.retained_state())
        return f"; {kept or 'it keeps something'} between calls: compute that anew in each, or clear it in _load_from_state_dict()"

    def _empty_caches(self) -> None:
        """Empty attributes with tensors that the module computes again, to the same loss, where it finds them empty."""
        held = [[one, replace(one, gone=True)] for one in self.target.caches()]
        if not held:
            return
        together = [[ways[0] for ways in held], [ways[1] for ways in held]]
        found = next((some for some in together if self._computes_again(some)), [])
        if not found and 1 < len(held) <= _ONE_BY_ONE:
            found = [one for ways in held for one in ways if self._computes_again([one])]
        self.target.empty(list({(one.kind, one.name): one for one in found}.values()))
        self._loss_or_none(self.measured.weights, fresh=True)

    def _computes_again(self, found: Sequence[Cache]) -> bool:
        self.target.empty(found)
        try:
            return near(self._fresh(self.measured.weights), self.measured.original)
        except (InputError, AttributeError):  # one that is gone may be missed
            return False

    def _check_depends_on_weights(self) -> None:
        """Raises InputError where a module gives the same whatever its weights are, and warns where the loss alone does."""
        weights, original = self.measured.weights, self.measured.original
        others = [Probe(weights, random, seed) for seed in (1, 2)]
        if not any(map(others[0].moves, weights)) or any(self._loss_or_none(other) != original for other in others):
            return
        part_digests = self._part_digests(weights)
        if part_digests and part_digests == self._part_digests(others[0]) and not self.target.opaque:
            raise InputError(
                f"model: its loss doesn't follow its weights: with random ones every part gives what it gave before{self._retained()}"
            )
        self.warnings["weights"] = (
            f"The loss ignores the weights that it is given: it is {original:.6g} for random ones, too. It must measure what it is "
            "called with, not another network, what one has computed before, or weights that aren't in a state dict."
        )

    def check_unreached(self, missed: Set[str], parameters: Collection[str]) -> None:
        """Look at those of the parameters that no gradient reaches, by name.

        Raises:
            InputError: a part gives the same whatever its weights are, and has no others.
        """
        weights, random_ones = self.measured.weights, Probe(self.measured.weights, random)
        others = {name: random_ones[name] if name in missed else tensor for name, tensor in weights.items()}
        if not self.target.renewable or self.target.opaque or self._loss_or_none(others) != self.measured.original:
            return
        before, after = self._part_digests(weights), self._part_digests(others)
        for part in before:
            own = {name for name in parameters if name.startswith(f"{part}.")}
            if own and own <= missed and before[part] and before[part] == after.get(part):
                raise InputError(
                    f"model: its loss doesn't follow its weights: with random ones {part} gives what it gave before{self._retained()}"
                )

    def _part_digests(self, weights: Mapping[str, Tensor]) -> dict[str, list[int]]:
        """Digests of what the parts of a fresh copy give when the loss is taken of these weights."""
        self.target.renew()
        with self.target.part_digests() as given:
            self._loss_or_none(weights)
        return given

    def _warn_of_random_numbers(self) -> None:
        other = self._loss_or_none(self.measured.weights, seed=1)
        if other is not None and not near(other, self.measured.original):
            self.warnings["random"] = (
                f"The loss draws random numbers: it is {self.measured.original:.7g} from one state of the generators and {other:.7g} from "
                "another. Every call begins from the same state, so that one draw of many is measured. Shut dropout off by eval(), or fix "
                "what is drawn."
            )

    def _warn_of_training_mode(self) -> None:
        parts = [part for module in self.target.called_on() for part in module.modules()]
        # Of networks that are the user's own nothing is touched that may do more in eval mode than be in it.
        parts += [part for module in self.modules for part in module.modules() if of_torch(part)]
        if not any(map(depends_on_mode, parts)):
            return
        with evaluating(parts):
            loss = self._loss_or_none(self.measured.weights)
        self.target.renew()
        if loss is not None and not near(loss, self.measured.original):
            self.warnings["mode"] = (
                f"The network is in training mode, where its loss is {self.measured.original:.7g}; in eval mode it is {loss:.7g}. Call "
                "eval() on it, or in the loss, if that is meant."
            )


def _same(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and math.isnan(one) and math.isnan(other))


def near(one: float | None, other: float | None, noise: float = 0.0) -> bool:
    """Whether two losses are the same but for rounding and noise."""
    if one is None or other is None or not math.isfinite(one) or not math.isfinite(other):
        return _same(one, other)
    return abs(one - other) <= max(noise, _ROUNDING * abs(other) + 1e-9)
