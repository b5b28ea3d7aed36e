"""The smallest bound over all files of a search, on the decoded network and, with unlabelled inputs, on the original.

The bound of a prefix code holds for all its files at once, so a search may choose the file with the smallest bound at no cost.
Unlabelled inputs and a labelled holdout are used only after this choice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack, cast

from torch import Tensor

from nncomplexity.bounds import (
    Bound,
    DisagreementBound,
    HoldoutBound,
    binomial_upper_limit,
    bound,
    disagreement_bound,
    holdout_bound,
    rounded_up,
)
from nncomplexity.errors import InputError
from nncomplexity.measure.answers import LabelledHoldout, answers_of, differing, unlabelled_batches
from nncomplexity.measure.arguments import SeveralEps, check_function, checked_eps
from nncomplexity.measure.estimate import Options, check_options, estimate
from nncomplexity.measure.report import Report, check_left_out
from nncomplexity.network import (
    Batch,
    Distortion,
    Divergence,
    LossFn,
    ModuleOrTensors,
    constant_loss,
    constant_risk,
    guess_error,
    number_of,
    preserved_random_state,
    with_numbers,
)
from nncomplexity.words import counted, default_grid


@dataclass(frozen=True)
class BestBound:
    """The smallest bound, and its file.

    Attributes:
        bound: the bound on the error rate of the network that `report`'s file decodes to.
        report: the report with this file.
        original: the bound on the error rate of the original network, from unlabelled inputs; None without them.
        original_report: the report with the file of this bound. It may be a larger file, if it seems to agree with the original more often.
        holdout: the test-set bound on the original network, from a labelled holdout; None without one.
        original_risk: the original's error rate on the n training examples.
        tried: the number of files whose bounds were computed.
        chance_from: whose most frequent label gives the chance; None if it was given, or if there are no labels.
    """

    bound: Bound
    report: Report = field(repr=False)
    original: DisagreementBound | None
    original_report: Report | None = field(repr=False)
    holdout: HoldoutBound | None
    original_risk: float
    tried: int
    chance_from: str | None = None

    @property
    def value(self) -> float:
        """The bound on the decoded network's error rate on unseen data."""
        return self.bound.value

    @property
    def _of_original(self) -> Report:
        return self.report if self.original_report is None else self.original_report

    def sentence(self) -> str:
        """The bounds and their assumptions in words, to be quoted."""
        what, said = "network that the file decodes to", cast(Bound | DisagreementBound, self.bound)
        drawn, chance = counted(self.bound.n, "training example"), self.bound.chance
        if self.original is not None:
            what, said = "network", self.original
            drawn += f" and {counted(self.original.m, 'unlabelled input')}"
        against = f"chance is {chance:.4g}" if chance < 1 else "no chance level was given"
        verdict = f"at most {rounded_up(said.value, 3)}" + (", which is vacuous" if said.vacuous else "")
        based = ", and the base was made without the training examples" if self.report.subject.relative_to else ""
        parts = [
            f"With probability at least {1 - said.delta:.4g} over the draw of {drawn}, the {what} errs on unseen data at a rate of {verdict} "
            f"({against}), if all were drawn independently from one distribution and architecture, code and ε were not chosen by "
            f"looking at other data from it{based}"
        ]
        if self.holdout is not None:
            parts.append(
                f"the test-set bound of the original, by {counted(self.holdout.errors, 'error')} on "
                f"{counted(self.holdout.n, 'labelled example')} kept out of training, is {rounded_up(self.holdout.value, 3)}"
            )
        return "; ".join(parts) + "."

    def to_dict(self) -> dict[str, Any]:
        """The key `best_bound` of a bound.json."""
        return {
            "value": self.value,
            "eps": self.report.eps,
            "bits": self.report.bits,
            "bound": self.bound.to_dict(),
            "original": self.original and {**self.original.to_dict(), "eps": self._of_original.eps, "bits": self._of_original.bits},
            "holdout": self.holdout and self.holdout.to_dict(),
            "original_risk": self.original_risk,
            "tried": self.tried,
            "sentence": self.sentence(),
        }

    def __str__(self) -> str:
        return self.sentence()


def best_bound(
    model: ModuleOrTensors,
    loss_fn: LossFn,
    *,
    risk: Callable[[Any], Any],
    n: int,
    chance: float | None = None,
    delta: float = 0.05,
    outputs: Callable[[Any, Any], Any] | None = None,
    unlabelled: Any = None,
    holdout: Any = None,
    eps: SeveralEps | None = None,
    left_out_is_architecture: bool = False,
    **options: Unpack[Options],
) -> BestBound:
    """The smallest bound on the error rate over the files for all ε; with unlabelled inputs also a bound on the original network.

    The search is that of `rate_distortion`, so no ε of its curve has a smaller bound. A file is not measured if its bits alone,
    without any error, already give a larger bound than another file.

    Args:
        model: a module, or a mapping of names to tensors; as for `estimate`.
        loss_fn: the loss, or a `Divergence`, of the search.
        risk: the error rate in [0, 1] on the n training examples. It gets the same argument as `loss_fn`, a module or a mapping.
        n: number of training examples.
        chance: the risk of a guess, at which a bound is vacuous. None takes the error of the most frequent label: of the holdout, else
            of the inputs of a divergence, else of `unlabelled`, if they have labels after all. Without labels it is 1.
        delta: failure probability δ of each bound.
        outputs: `outputs(network, inputs)` -> (m, classes) logits, (m,) logits whose sign is the answer, or answers as whole numbers or
            truth values; for `unlabelled` and `holdout`.
        unlabelled: new inputs, in the forms that a `Divergence` takes. They give the bound on the original network.
        holdout: a pair (inputs, labels), a DataLoader of pairs, or a function of a network that returns (m,) truth values, which
            say for each of m labelled examples whether the network is wrong. The examples must be kept out of training. It gives
            the test-set bound.
        eps: the ε to search at; by default twelve, as for `rate_distortion`.
        left_out_is_architecture: as for `Report.bound`.
        options: those of `estimate`, as for `rate_distortion`.

    Returns:
        The smallest bound, its file, and with unlabelled inputs or a holdout the bounds on the original network.

    Raises:
        InputError: an argument isn't usable.
        TypeError: there is no option of that name.
    """
    for name, function in (("risk", risk), ("outputs", outputs)):
        check_function(name, function)
    test, fresh = LabelledHoldout.of(holdout, outputs), unlabelled_batches(unlabelled, outputs)
    chance_from = None
    if chance is None:
        chance, chance_from = _chance_by_labels(test, (loss_fn, options.get("faithfulness")), fresh)
    # This call only checks the arguments: an error must appear before the search, not after it.
    bound(0.0, risk=0.0, n=n, delta=delta, chance=chance)
    asked = None if eps is None else list(dict.fromkeys(checked_eps(eps)))
    check_options(options)
    with preserved_random_state(), Distortion(model, loss_fn, eps=0.0) as distortion:
        check_left_out(with_numbers(distortion.left_out), left_out_is_architecture)
        original_risk = _risk(distortion, risk, None)
        constant = constant_risk(lambda weights: _risk(distortion, risk, weights), distortion.weights)
        # `test.examples` comes second, because a user's function shows the number of examples only when it was called.
        tested = None if test is None else holdout_bound(distortion.shown("holdout", test.errors), test.examples, delta)
        before = None if fresh is None else distortion.shown("outputs", lambda network: answers_of(outputs, network, fresh))
        grid = default_grid(distortion.original, constant_loss(distortion)) if asked is None else asked
    # Outside the `with` block: it holds a lock, for which the threads of an executor would wait, and workers copy the random state.
    reports = estimate(model, loss_fn, grid, **options)
    with preserved_random_state(), Distortion(model, loss_fn, eps=0.0) as distortion:
        m = None if before is None else sum(map(len, before.given))

        def promise(report: Report, least: bool = False) -> Bound:
            """The bound of a file, and its smallest possible value, without any error."""
            value = 0.0 if least else _risk(distortion, risk, report.coarse_weights())
            return report.bound(
                risk=value,
                n=n,
                delta=delta,
                chance=chance,
                constant_risk=constant,
                left_out_is_architecture=left_out_is_architecture,
            )

        measured = _measured(reports, promise, original_risk, m)
        found, report = min(measured, key=lambda one: (one[0].value, one[0].bits))
        original, other = None, None
        if before is not None and fresh is not None and m is not None:
            # The file is chosen by the training examples alone. Only this file is compared on the unlabelled inputs, because the
            # bound on the disagreement holds for one file that was fixed before these inputs were used.
            file, other = min(measured, key=lambda one: _expected(one[0], original_risk, m))
            after = distortion.shown(
                "outputs", lambda network: answers_of(outputs, network, fresh, decoded=True), other.coarse_weights()
            )
            original = disagreement_bound(
                other.bits,
                risk=file.risk,
                n=n,
                disagreements=differing(before.given, after.given),
                m=m,
                delta=delta,
                chance=chance,
                self_delimiting=False,
            )
    return BestBound(found, report, original, other, tested, original_risk, len(measured), chance_from)


def _measured(
    reports: Sequence[Report], promise: Callable[..., Bound], original_risk: float, m: int | None
) -> list[tuple[Bound, Report]]:
    """The bounds of the reports' files, except files whose bits alone already give a larger bound."""
    found: list[tuple[Bound, Report]] = []
    least = 1.0
    # From small to large: the best possible bound of a file follows from its bits alone. When it is not good enough, no later file's is.
    # Several ε often have one file, and the bound is the file's.
    for report in sorted({id(one.file): one for one in reports}.values(), key=lambda one: one.bits):
        if found and promise(report, least=True).value >= least:
            break  # all larger files have a larger bound too, even without any error
        one = promise(report)
        least = min(least, one.value if m is None else _expected(one, original_risk, m))
        found.append((one, report))
    return found


def _expected(found: Bound, original_risk: float, m: int) -> float:
    """An estimate of the original's bound with this file, if the two disagree as often as their training errors differ."""
    # The unlabelled inputs must not be used before a file is chosen. The training errors may be used.
    return found.value + binomial_upper_limit(round(abs(found.risk - original_risk) * m), m, found.delta)


def _risk(distortion: Distortion, risk: Callable[[Any], Any], weights: Mapping[str, Tensor] | None) -> float:
    value = number_of(distortion.shown("risk", risk, weights), "risk")
    if not 0 <= value <= 1:
        raise InputError(f"risk: expected the share of wrong answers, in [0, 1], got {value}")
    return value


def _chance_by_labels(
    test: LabelledHoldout | None, divergences: Sequence[object], fresh: tuple[Batch, ...] | None
) -> tuple[float | None, str | None]:
    """The error of the most frequent label where labels are at hand, and whose labels they are."""
    by_inputs = next((one.chance for one in divergences if isinstance(one, Divergence)), None)
    found = {"holdout": None if test is None else test.chance, "inputs": by_inputs, "unlabelled": guess_error(fresh or ())}
    return next(((chance, name) for name, chance in found.items() if chance is not None), (None, None))
