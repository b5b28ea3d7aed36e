"""Checks of a loss: it must be the same for the same weights, and must depend on the weights that it is given.

A search finds weights with nearly the same loss. It would be misled if the loss stayed the same for another reason than the weights: a module
that uses values computed from earlier weights, or a loss that measures another network. Noise would mislead it too. So the loss is checked
before and after a search, with a few evaluations that are not counted. A loss that can't be measured is refused. A possible mistake
gives a warning.
"""

import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.network.loading import Cache, Emptying
from nncomplexity.network.modes import depends_on_mode, evaluating, of_torch
from nncomplexity.network.probes import Probe, random, slightly_changed
from nncomplexity.network.target import Target
from nncomplexity.words import listed

_SCATTER, _SCATTER_OF_ZERO = 1e-3, 1e-6
"""The largest difference between two losses of the same weights that is allowed for any ε, relative to the loss and at zero. It is not 0,
because accelerators add in another order each time."""
_SHARE = 0.05
"""The largest difference as a share of ε."""
_DRAWS = 3
"""More losses of the original, if two losses of the same weights differ."""
_ROUNDING = 1e-5
"""The largest relative difference that another order of additions can cause."""
_TRIALS = 16
"""The largest number of evaluations that find out which attributes of a module are caches."""
_NOISE = 4.0
"""The loss in a used copy may differ from that in a fresh copy by at most this factor times the difference between two fresh copies."""


def margin(eps: float, original: float) -> float:
    """The margin by which a distortion must be below ε. It is larger than the rounding error of a float32 mean."""
    # At most half of ε. Otherwise no distortion would be allowed for a large loss and a small ε.
    return min(eps / 2, 1e-6 * (abs(original) + eps))


class MeasuredLoss(Protocol):
    """A loss and its original weights."""

    original: float
    """The loss of the original weights, as first measured."""
    weights: dict[str, Tensor]
    """The original weights by first name."""

    def again(self, weights: Mapping[str, Tensor], *, seed: int = 0) -> float:
        """The loss of weights, not counted as an evaluation. Another seed gives other random states."""
        ...


@dataclass
class Soundness:
    """The checks of a loss, and their results.

    Attributes:
        measured: the loss.
        target: the argument of the loss.
        modules: other modules that the loss calls, as far as they are known.
        eps: the smallest ε above 0; None if there is none.
        scatter: the largest difference between losses of the same weights.
        warnings: a sentence on each possible mistake, by its subject.
        refusal: the reason why the last extra evaluation failed.
        probed: the loss of changed weights before the search, which is measured again after it; None if it wasn't measured or failed.
    """

    measured: MeasuredLoss
    target: Target
    modules: Sequence[nn.Module]
    eps: float | None
    scatter: float = 0.0
    warnings: dict[str, str] = field(default_factory=dict)
    refusal: str = ""
    probed: float | None = None
    _trials: int = field(default=0, init=False)

    def begin(self, drawn: bool) -> None:
        """Check the loss after the original's loss has been measured. `drawn` says whether the loss drew random numbers.

        Raises:
            InputError: the loss isn't a function of the weights.
        """
        renewable = self.target.renewable
        if self.eps == 0 or not renewable:
            self._repeat(1)
        # Also if nothing is searched: the risks and outputs of other weights may be asked for.
        self._empty_caches()
        # A dictionary is new for each evaluation, so only modules need the first check. A dictionary that the loss ignores matters only
        # if there is a search.
        if self.eps or (renewable and self.eps is None):
            other = slightly_changed(self.measured.weights)
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
        """Set the smallest ε, when it is known. Raises InputError if the losses so far differ too much for it."""
        if eps and self.eps is None and self.probed is None:
            self.probed = self._loss_or_none(slightly_changed(self.measured.weights), fresh=True)
            if self.probed == self.measured.original:
                self._check_depends_on_weights()
        self.eps = eps
        self.check(self.measured.original, self.measured.original + self.scatter)

    def end(self, answers: Sequence[tuple[Mapping[str, Tensor], float]]) -> list[float]:
        """The losses of the answers, each in a fresh copy. The original's loss is checked again, too.

        Raises:
            InputError: a loss differs from the one that the search used.
        """
        found = [loss for _, loss in answers]
        # Nothing was searched. The lossless file was compared with the original when it was made.
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
        """Measure the loss of changed weights once more.

        The losses of the original and of the answers may both be unchanged although the loss is useless: a loss that returns the same number
        after a few calls would make every file feasible.

        Raises:
            InputError: the loss of the changed weights isn't the same as before the search.
        """
        if self.probed is None:
            return
        again = self._loss_or_none(slightly_changed(self.measured.weights), fresh=True)
        largest = max(abs(self.probed), abs(self.measured.original))
        if not near(again, self.probed, max(_SCATTER * largest + _SCATTER_OF_ZERO, _NOISE * self.scatter)):
            came = f"none ({self.refusal})" if again is None else f"{again:.9g}"
            raise InputError(
                f"loss_fn: expected the same loss for the same weights each time, got {self.probed:.9g} for slightly changed weights before "
                f"the search and {came} after it; let it depend only on the weights that it is given"
            )

    def check(self, one: float, other: float) -> None:
        """Raises InputError if two losses of the same weights differ by more than is allowed for any ε, or for this ε."""
        apart, original = abs(one - other), self.measured.original
        self.scatter = max(self.scatter, apart)
        allowed = most = _SCATTER * abs(original) + _SCATTER_OF_ZERO
        where = advice = ""
        if self.eps:
            allowed = max(margin(self.eps, original), min(_SHARE * self.eps, most))
            if math.isfinite(apart):
                where = f"; the difference is {apart:.2g} and ε is {self.eps:g}"
                advice = f", or ask for an ε of at least {apart / _SHARE:.2g}" if apart <= most else ""
        if not apart <= allowed:
            raise InputError(
                f"loss_fn: expected the same loss for the same weights each time, got {one:.9g} and then {other:.9g}{where}; let it use "
                "the same examples at every call, seed its random generators, and let modules keep nothing between calls"
                f"{advice}"
            )
        if self.eps and self.scatter > margin(self.eps, original):
            self.warnings["scatter"] = (
                f"Losses of the same weights differ by up to {self.scatter:.2g}, {100 * self.scatter / self.eps:.2g} % of ε = "
                f"{self.eps:g}: this difference is subtracted from ε, and another run may find another file."
            )

    def tolerance(self, eps: float) -> float:
        """The largest distortion that is accepted at ε: ε minus a margin for rounding and noise."""
        return eps - max(margin(eps, self.measured.original), min(eps / 2, self.scatter))

    def _repeat(self, count: int) -> None:
        """Measure the original again this many times, and more often if the results differ."""
        for _ in range(count):
            loss = self._fresh(self.measured.weights)
            self.check(self.measured.original, loss)
            # The call with `_DRAWS` doesn't call itself again.
            if count < _DRAWS and loss != self.measured.original:
                self._repeat(_DRAWS)

    def _fresh(self, weights: Mapping[str, Tensor]) -> float:
        """The loss of weights in a fresh module."""
        self.target.renew()
        return self.measured.again(weights)

    def _loss_or_none(self, weights: Mapping[str, Tensor], *, fresh: bool = False, seed: int = 0) -> float | None:
        """The loss of weights in an extra evaluation; None if it fails."""
        try:
            return self._fresh(weights) if fresh else self.measured.again(weights, seed=seed)
        except InputError as error:
            self.refusal = str(error)
            return None

    def _reconcile(self, weights: Mapping[str, Tensor], used: float | None, fresh: float | None, *, forgets: bool = False) -> None:
        """Find out why the loss of the same weights differs between a used copy and a fresh one.

        The reason may be noise. Or parts of the module keep something between calls. With `forgets`, the content of the parts is then
        restored before each call, if that helps.

        Raises:
            InputError: there is another reason, or the noise is too large for ε.
        """
        losses = [f"none ({self.refusal})" if loss is None else f"{loss:.6g}" for loss in (used, fresh)]
        self._repeat(_DRAWS)
        again = self._loss_or_none(weights, fresh=True)
        # Two fresh copies may differ too, although the original has no noise: a cache by `id` may find the entry of an earlier copy.
        noise = 0.0 if not self.scatter or again is None or fresh is None else _NOISE * abs(again - fresh)
        if near(used, fresh, noise):
            return
        if forgets:
            self.target.forget_between()
            before = self._loss_or_none(self.measured.weights, fresh=True)
            if near(before, self.measured.original, noise) and near(self._loss_or_none(weights), fresh, noise):
                return
        raise InputError(
            f"model: its loss doesn't depend on its weights alone: for the same weights it is {losses[1]} in a fresh copy of the module "
            f"and {losses[0]} in a used copy{self._retained()}"
        )

    def _retained(self) -> str:
        kept = listed(self.target.retained_state())
        return (
            f"; {kept or 'it keeps something'} between calls: compute it again in each call, or clear it in _load_from_state_dict()"
        )

    def _empty_caches(self) -> None:
        """Empty the attributes that may be caches, if the module then computes them again and the loss is the same."""
        left, found = list(self.target.caches()), list[Cache]()
        if not left:
            return
        self._trials = _TRIALS
        for way in Emptying:
            # A number has no shape: without one, it would be None as before.
            tried = [replace(one, way=way) for one in left if not (one.number and way == Emptying.SHAPELESS)]
            found += self._computed_again(tried, found)
            left = [one for one in left if all((one.kind, one.name) != (other.kind, other.name) for other in found)]
        self.target.empty(found)
        self._loss_or_none(self.measured.weights, fresh=True)

    def _computed_again(self, some: Sequence[Cache], known: Sequence[Cache]) -> list[Cache]:
        """Those of some attributes, emptied together with known caches, that the module fills again for the same loss."""
        if not some or not self._trials:
            return []
        self._trials -= 1
        self.target.empty([*known, *some])
        try:
            loss = self._fresh(self.measured.weights)
        except Exception:  # without the attribute, the module may fail in any way
            loss = math.nan
        # An attribute that stays empty isn't computed from weights. It may matter for other weights, so it keeps its value.
        filled = [one for one in some if self.target.is_filled(one)]
        if near(loss, self.measured.original):
            return filled
        if len(some) == 1:
            self._check_old_value(filled, loss)
            return []
        half = len(some) // 2
        return [one for part in (some[:half], some[half:]) for one in self._computed_again(part, known)]

    def _check_old_value(self, computed: Sequence[Cache], loss: float) -> None:
        """Check the loss with an attribute that the module has computed again.

        Raises:
            InputError: it is another loss, and the attribute has tensors. A number may be a setting, so it only gives a warning.
        """
        for one in computed if math.isfinite(loss) else ():
            said = (
                f"a part ({one.kind.__name__}) keeps {one.name!r}, perhaps from other weights than it has now: with it the loss is "
                f"{self.measured.original:.7g}, and {loss:.7g} if it is computed again"
            )
            if not one.number:
                raise InputError(
                    f"model: its loss doesn't depend on its weights alone: {said}; clear it before the measurement, and in "
                    "_load_from_state_dict()"
                )
            self.warnings["old"] = f"{said[0].upper()}{said[1:]}. If it depends on weights, clear it before the measurement."

    def _check_depends_on_weights(self) -> None:
        """Raises InputError if a module gives the same results for all weights. Warns if only the loss is the same for all weights."""
        weights, original = self.measured.weights, self.measured.original
        others = [Probe(weights, random, seed) for seed in (1, 2)]
        if not any(map(others[0].moves, weights)) or any(self._loss_or_none(other) != original for other in others):
            return
        part_digests = self._part_digests(weights)
        if part_digests and part_digests == self._part_digests(others[0]) and not self.target.opaque:
            raise InputError(
                f"model: its loss doesn't depend on its weights: with random weights every part gives the same result{self._retained()}"
            )
        self.warnings["weights"] = (
            f"The loss ignores the weights that it is given: it is {original:.6g} for random weights too. It must measure its argument, "
            "not another network, not results from before, and not weights outside the state dict."
        )

    def check_unreached(self, missed: Set[str], parameters: Collection[str]) -> None:
        """Check the parameters without a gradient, by name.

        Raises:
            InputError: a part gives the same results for all weights, and none of its parameters has a gradient.
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
                    f"model: its loss doesn't depend on its weights: with random weights {part} gives the same result{self._retained()}"
                )

    def _part_digests(self, weights: Mapping[str, Tensor]) -> dict[str, list[int]]:
        """Digests of the results of a fresh copy's parts while the loss of these weights is computed."""
        self.target.renew()
        with self.target.part_digests() as given:
            self._loss_or_none(weights)
        return given

    def _warn_of_random_numbers(self) -> None:
        other = self._loss_or_none(self.measured.weights, seed=1)
        if other is not None and not near(other, self.measured.original):
            self.warnings["random"] = (
                f"The loss draws random numbers: it is {self.measured.original:.7g} with one state of the generators and {other:.7g} with "
                "another. Every call starts with the same state, so only one of many draws is measured. Switch dropout off with eval(), or fix "
                "what is drawn."
            )

    def _warn_of_training_mode(self) -> None:
        parts = [part for module in self.target.called_on() for part in module.modules()]
        # Other modules that the loss calls are the user's own, not copies. Only PyTorch's parts of them are put in eval mode, because
        # that of a user's class may have side effects.
        parts += [part for module in self.modules for part in module.modules() if of_torch(part)]
        if not any(map(depends_on_mode, parts)):
            return
        with evaluating(parts):
            loss = self._loss_or_none(self.measured.weights)
        self.target.renew()
        if loss is not None and not near(loss, self.measured.original):
            self.warnings["mode"] = (
                f"The network is in training mode, with the loss {self.measured.original:.7g}; in eval mode the loss is {loss:.7g}. Call "
                "eval() on it, or in the loss, if you want eval mode."
            )


def _same(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and math.isnan(one) and math.isnan(other))


def near(one: float | None, other: float | None, noise: float = 0.0) -> bool:
    """Whether two losses are equal, up to rounding and noise."""
    if one is None or other is None or not math.isfinite(one) or not math.isfinite(other):
        return _same(one, other)
    return abs(one - other) <= max(noise, _ROUNDING * abs(other) + 1e-9)
