"""The answers of networks on labelled and on unlabelled inputs: how many are wrong, and for how many two networks differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncomplexity.errors import InputError
from nncomplexity.network import (
    NO_LABEL,
    USUAL_MASK,
    Batch,
    check_labels,
    counting,
    guess_error,
    look_like_probabilities,
    read,
)

Outputs = Callable[[Any, Any], Any]
"""outputs(network, inputs) -> logits or answers, with a row for each input."""

_CLASSES = 2**31
"""The number of classes if outputs are answers, which don't tell it."""
_ROWS = 1024
"""The number of inputs in one forward pass."""


@dataclass(frozen=True)
class Answers:
    """The answers of a network."""

    given: list[Tensor]
    """(m, k) for each batch: classes from 0 on; −1 where the outputs have a NaN."""
    classes: int


def answers_of(outputs: Outputs | None, network: Any, batches: Sequence[Batch], *, decoded: bool = False) -> Answers:
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
    return Answers(found, classes)


def differing(answers: Sequence[Tensor], others: Sequence[Tensor]) -> int:
    """The number of examples for which an answer differs from the other."""
    return sum(int((one != other).any(1).sum()) for one, other in zip(answers, others, strict=True))


def unlabelled_batches(unlabelled: Any, outputs: Outputs | None) -> tuple[Batch, ...] | None:
    """Unlabelled inputs as batches; None without them. Raises InputError if there are inputs but no `outputs`."""
    if unlabelled is None:
        return None
    if outputs is None:
        raise InputError("outputs: expected a function of a network and inputs, to compare the answers of two networks, got none")
    return read(unlabelled, _ROWS, "unlabelled", mask=USUAL_MASK)


@dataclass(frozen=True)
class LabelledHoldout:
    """A labelled holdout.

    Attributes:
        errors: a function that counts a network's wrong answers.
        count: a function that gives the number of examples, once `errors` was called.
        chance: the error rate of the most frequent label; None if the labels aren't known.
    """

    errors: Callable[[Any], int]
    count: Callable[[], int]
    chance: float | None

    @property
    def examples(self) -> int:
        """The number of examples, once `errors` was called."""
        return self.count()

    @classmethod
    def of(cls, holdout: Any, outputs: Outputs | None) -> "LabelledHoldout | None":
        """The holdout that a user gave: pairs of inputs and labels, or a function of a network; None without one.

        Raises:
            InputError: it is neither, or there are pairs but no `outputs`.
        """
        if holdout is None:
            return None
        if callable(holdout) and not hasattr(holdout, "__iter__"):
            return cls._by_function(holdout)
        if outputs is None:
            raise InputError("outputs: expected a function of a network and inputs, to compute answers on the holdout, got none")
        return cls._by_labels(holdout, outputs)

    @classmethod
    def _by_function(cls, function: Callable[[Any], Any]) -> "LabelledHoldout":
        # The user's function alone knows the number of examples, so it is read from the function's result.
        seen: list[int] = []

        def wrong(network: Any) -> int:
            found = torch.as_tensor(function(network))
            if found.dim() != 1 or not len(found) or not bool(((found == 0) | (found == 1)).all()):
                raise InputError(
                    f"holdout: expected a truth value for each labelled example, true if it is wrong, got shape {tuple(found.shape)}"
                )
            seen.append(len(found))
            return int(found.sum())

        return cls(wrong, lambda: seen[-1], None)

    @classmethod
    def _by_labels(cls, pairs: Any, outputs: Outputs) -> "LabelledHoldout":
        batches = read(pairs, _ROWS, "holdout", mask=USUAL_MASK)
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
            answers = answers_of(outputs, network, batches)
            for one, right in zip(answers.given, labels, strict=True):
                if one.shape != right.shape:
                    raise InputError(f"holdout: expected a label for each answer {tuple(one.shape)}, got {tuple(right.shape)}")
                check_labels(right, answers.classes, "holdout")
            # An answer without a label is right.
            known = [torch.where(right == NO_LABEL, one, right) for one, right in zip(answers.given, labels, strict=True)]
            return differing(answers.given, known)

        return cls(errors, lambda: sum(map(len, labels)), guess_error(batches))
