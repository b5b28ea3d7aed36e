"""The losses in the log of a training, and the prequential code length: what it takes to code each example before learning from it.

In the first pass over n examples, the network has not seen an example when its loss is logged. So the losses are code lengths, and their sum
over the pass, the area under the loss curve, is the length of a code for the labels (Dawid 1984; Finzi et al. 2026, arXiv 2601.03220):

    (n / ln 2) · Σᵢ ℓᵢ · (eᵢ − eᵢ₋₁) bits

for logged losses ℓᵢ in nats per example, each the mean since the last one, at epochs eᵢ ≤ 1.
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

from nncomplexity.checkpoint.stepkeys import number_in


class Logged(NamedTuple):
    """A logged loss: the epoch at which it was logged, and the mean training loss since the last one."""

    epoch: float
    loss: float


def log_of(state: Any) -> tuple[Logged, ...]:
    """The logged losses in the content of a trainer_state.json, in their order. Entries without a loss or an epoch are left out.

    >>> log_of({"log_history": [{"epoch": 0.5, "loss": 2.0}, {"epoch": 0.5, "eval_loss": 1.9}]})
    (Logged(epoch=0.5, loss=2.0),)
    """
    history = state.get("log_history") if isinstance(state, dict) else None
    found = []
    for entry in history if isinstance(history, list) else ():
        if isinstance(entry, dict):
            epoch, loss = number_in(entry.get("epoch")), number_in(entry.get("loss"))
            if epoch is not None and loss is not None:
                found.append(Logged(float(epoch), float(loss)))
    return tuple(found)


def prequential_bits(log: tuple[Logged, ...], n: int) -> float | None:
    """The code length in bits of the examples up to the last entry, of n in all.

    None if the log is empty, goes beyond the first pass, or goes back in time.

    >>> round(prequential_bits((Logged(0.5, math.log(4)), Logged(1.0, math.log(2))), n=100), 6)
    150.0
    """
    epochs = [0.0, *(entry.epoch for entry in log)]
    lengths = [after - before for before, after in pairwise(epochs)]
    if not log or epochs[-1] > 1 or min(lengths) <= 0:
        return None
    return n / math.log(2) * sum(entry.loss * length for entry, length in zip(log, lengths, strict=True))
