"""The smallest bound over all files of a search, on the decoded network and, with unlabelled inputs, on the original.

The bound of a prefix code holds for all its files at once, so a search may choose the file with the smallest bound at no cost.
Unlabelled inputs and a labelled holdout are used only after this choice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack, cast

import torch
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
from nncomplexity.measure.arguments import SeveralEps, check_function, checked_eps
from nncomplexity.measure.estimate import Options, estimate, options_for_many_eps
from nncomplexity.measure.report import Report, check_left_out
from nncomplexity.network import (
    NO_LABEL,
    USUAL_MASK,
    Batch,
    Distortion,
    Divergence,
    LossFn,
    ModuleOrTensors,
    check_labels,
    constant_loss,
    constant_risk,
    counting,
    guess_error,
    look_like_probabilities,
    number_of,
    preserved_random_state,
    read,
    with_numbers,
)
from nncomplexity.words import counted, default_grid

_CLASSES = 2**31
"""The number of classes if outputs are answers, which don't tell it."""
_ROWS = 1024
"""The number of inputs in one forward pass."""


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
    test, fresh = _Test.of(holdout, outputs), _fresh(unlabelled, outputs)
    chance_from = None
    if chance is None:
        chance, chance_from = _chance_by_labels(test, (loss_fn, options.get("faithfulness")), fresh)
    # This call only checks the arguments: an error must appear before the search, not after it.
    bound(0.0, risk=0.0, n=n, delta=delta, chance=chance)
    asked = None if eps is None else list(dict.fromkeys(checked_eps(eps)))
    shared = options_for_many_eps(options)
    with preserved_random_state(), Distortion(model, loss_fn, eps=0.0) as distortion:
        check_left_out(with_numbers(distortion.left_out), left_out_is_architecture)
        original_risk = _risk(distortion, risk, None)
        constant = constant_risk(lambda weights: _risk(distortion, risk, weights), distortion.weights)
        # `test.examples` comes second, because a user's function shows the number of examples only when it was called.
        tested = None if test is None else holdout_bound(distortion.shown("holdout", test.errors), test.examples, delta)
        before = None if fresh is None else distortion.shown("outputs", lambda network: _answers(outputs, network, fresh))
        grid = default_grid(distortion.original, constant_loss(distortion)) if asked is None else asked
    # Outside the `with` block: it holds a lock, for which the threads of an executor would wait, and workers copy the random state.
    reports = estimate(model, loss_fn, grid, **shared)
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
                "outputs", lambda network: _answers(outputs, network, fresh, decoded=True), other.coarse_weights()
            )
            original = disagreement_bound(
                other.bits,
                risk=file.risk,
                n=n,
                disagreements=_differing(before.given, after.given),
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


@dataclass(frozen=True)
class _Test:
    """A labelled holdout: functions that count the errors and the examples, and the error rate of a guess by its labels."""

    errors: Callable[[Any], int]
    count: Callable[[], int]
    chance: float | None

    @property
    def examples(self) -> int:
        return self.count()

    @classmethod
    def of(cls, holdout: Any, outputs: Callable[[Any, Any], Any] | None) -> "_Test | None":
        if holdout is None:
            return None
        by_function = callable(holdout) and not hasattr(holdout, "__iter__")
        if outputs is None or by_function:
            if not by_function:
                raise InputError(
                    "outputs: expected a function of a network and inputs, to compute answers on the holdout, got none"
                )
            seen: list[int] = []

            # The user's function alone knows the number of examples, so it is read from the function's result.
            def wrong(network: Any) -> int:
                found = torch.as_tensor(holdout(network))
                if found.dim() != 1 or not len(found) or not bool(((found == 0) | (found == 1)).all()):
                    raise InputError(
                        f"holdout: expected a truth value for each labelled example, true if it is wrong, got shape {tuple(found.shape)}"
                    )
                seen.append(len(found))
                return int(found.sum())

            return cls(wrong, lambda: seen[-1], None)
        batches = read(holdout, _ROWS, "holdout", mask=USUAL_MASK)
        if any(batch.labels is None for batch in batches):
            raise InputError(
                "holdout: expected pairs of inputs and labels of whole numbers, got inputs alone; pass unlabelled inputs as `unlabelled`"
            )
        labels = [counting(batch.labels, batch.mask) for batch in batches if batch.labels is not None]
        if without := sum(int((one == NO_LABEL).all(1).sum()) for one in labels):
            raise InputError(
                f"holdout: expected a label for each example, got {NO_LABEL}, which means none, for {without:,}; leave them out"
            )

        def errors(network: Any) -> int:
            answers = _answers(outputs, network, batches)
            for one, right in zip(answers.given, labels, strict=True):
                if one.shape != right.shape:
                    raise InputError(f"holdout: expected a label for each answer {tuple(one.shape)}, got {tuple(right.shape)}")
                check_labels(right, answers.classes, "holdout")
            # An answer without a label is right.
            known = [torch.where(right == NO_LABEL, one, right) for one, right in zip(answers.given, labels, strict=True)]
            return _differing(answers.given, known)

        return cls(errors, lambda: sum(map(len, labels)), guess_error(batches))


def _chance_by_labels(
    test: _Test | None, divergences: Sequence[object], fresh: tuple[Batch, ...] | None
) -> tuple[float | None, str | None]:
    """The error of the most frequent label where labels are at hand, and whose labels they are."""
    by_inputs = next((one.chance for one in divergences if isinstance(one, Divergence)), None)
    found = {"holdout": None if test is None else test.chance, "inputs": by_inputs, "unlabelled": guess_error(fresh or ())}
    return next(((chance, name) for name, chance in found.items() if chance is not None), (None, None))


def _fresh(unlabelled: Any, outputs: Callable[[Any, Any], Any] | None) -> tuple[Batch, ...] | None:
    if unlabelled is None:
        return None
    if outputs is None:
        raise InputError("outputs: expected a function of a network and inputs, to compare the answers of two networks, got none")
    return read(unlabelled, _ROWS, "unlabelled", mask=USUAL_MASK)


@dataclass(frozen=True)
class _Answers:
    """The answers of a network."""

    given: list[Tensor]
    """(m, k) for each batch: classes from 0 on; −1 where the outputs have a NaN."""
    classes: int


def _answers(
    outputs: Callable[[Any, Any], Any] | None, network: Any, batches: Sequence[Batch], *, decoded: bool = False
) -> _Answers:
    """The answers of a network on each batch: the class of the largest logit, or for a single logit its sign.

    Outputs of whole numbers or truth values are answers already. Tokens that don't count by the attention mask have the answer 0. An output
    of a decoded network with a NaN is an answer of its own, which is never right and never that of the original.

    Raises:
        InputError: the outputs aren't a tensor with a row for each input, are probabilities of one class, or, of the original, have a NaN.
    """
    found, single, classes = [], [], 2
    for batch in batches:
        given: object = None if outputs is None else outputs(network, batch.inputs)
        if not isinstance(given, Tensor) or not given.dim() or len(given) != len(batch):
            came = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise InputError(f"outputs: expected a tensor with a row for each of {len(batch)} inputs, got {came}")
        if given.is_complex() or (given.is_floating_point() and not decoded and given.isnan().any()):
            came = "complex ones" if given.is_complex() else "NaN"
            raise InputError(f"outputs: expected real numbers from the original network, got {came}; check data and model")
        lost = given.isnan()
        if not given.is_floating_point():
            answers, classes = given.long(), _CLASSES
        elif given.dim() > 1 and given.shape[-1] > 1:
            answers, lost, classes = given.argmax(-1), lost.any(-1), given.shape[-1]
        else:  # a single logit belongs to the second of two classes: its sign is the answer
            answers = (given > 0).long()
            single.append(given)
        found.append(counting(answers.masked_fill(lost, -1), batch.mask))
    if single and not decoded and look_like_probabilities(single):
        raise InputError(
            "outputs: expected logits, whose sign is the answer, got numbers from 0 to 1 alone, as probabilities are; return logits, or the "
            "truth values `probability > 0.5`"
        )
    return _Answers(found, classes)


def _differing(answers: Sequence[Tensor], others: Sequence[Tensor]) -> int:
    """The number of examples for which an answer differs from the other."""
    return sum(int((one != other).any(1).sum()) for one, other in zip(answers, others, strict=True))
