"""The options that several commands have, and functions that parse their values."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

import nncomplexity
from nncomplexity.errors import InputError
from nncomplexity.words import Eps, eps_named, number_of_text, seconds_of

if TYPE_CHECKING:
    from nncomplexity.bounds import Bound, LossUnit
    from nncomplexity.network import NamedDivergence

DONE, FAILED, WRONG_CALL, NOT_WITHIN, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 130, 141
"""Exit codes."""

METHODS = ("tight", "allocate", "bayes", "quantize")
CODECS = ("entropy", "bzip2", "xz", "gzip", "zstd")
DIVERGENCES = ("kl", "bernoulli", "mse")
"""The words that a shell offers as completions. They are copies, because completion must not load PyTorch. A test compares them with the
package's own lists."""
CHANCE_BY_LABELS = (
    "nncomplexity: chance: taken as {:.4g}, the error of the most frequent label of --{}; --chance or --classes give another value"
)
"""A note on standard error, from the chance and the option whose labels give it."""


def offering(words: Sequence[str]) -> Callable[[str], list[str]]:
    """The completions of an option's value, for a shell."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


_FUNCTION = "MODULE:FUNCTION"
LossFnOrOutputs = Annotated[
    str | None,
    typer.Option(
        "--loss-fn",
        metavar=_FUNCTION,
        help="The loss: mytask:loss is loss() in ./mytask.py, and path/mytask.py:loss names a file. Or give --outputs and --inputs instead.",
    ),
]
Outputs = Annotated[
    str | None,
    typer.Option(
        metavar=_FUNCTION,
        help="outputs(network, inputs): the distortion is then the divergence from the original's outputs, without labels.",
    ),
]
Inputs = Annotated[
    str | None,
    typer.Option(
        metavar=_FUNCTION,
        help="A function that returns inputs: a tensor, a dict of tensors, a DataLoader, or a pair of these and labels.",
    ),
]
DivergenceKind = Annotated[
    str | None,
    typer.Option(
        "--divergence",
        metavar="KIND",
        help="kl (for logits over classes; the default), bernoulli, mse, or MODULE:FUNCTION.",
        autocompletion=offering(DIVERGENCES),
    ),
]
ProbeInputs = Annotated[
    str | None,
    typer.Option(
        "--probe",
        metavar="NAME|SHARE",
        help="Held-out inputs on which the file is checked, or the share of --inputs to hold out. Default: 0.2.",
    ),
]
Seeds = Annotated[
    int,
    typer.Option(
        metavar="K", min=1, help="Number of searches, with seeds from --seed on. The best file is kept, and the spread is shown."
    ),
]
Jobs = Annotated[int, typer.Option(metavar="N", min=1, help="Number of processes. Each gets an equal share of the threads.")]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL|FILE",
        help="With --method bayes: an Optuna storage, such as sqlite:///search.db. Several processes with the same call share one search.",
    ),
]
SearchJobs = Annotated[
    int,
    typer.Option(
        "--jobs", metavar="N", min=1, help="Number of processes for the searches of --seeds, with equal shares of the threads."
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Measure on the Dask cluster with this scheduler, such as tcp://10.0.0.1:8786, instead of --jobs."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(metavar=_FUNCTION, help="A function that makes the nn.Module which the loss gets instead of a dict of tensors."),
]
RiskFn = Annotated[
    str | None, typer.Option(metavar=_FUNCTION, help="The error rate on the n training examples, in [0, 1], for the bound.")
]
Examples = Annotated[
    int | None,
    typer.Option("--n", metavar="N", min=1, help="Number of training examples, for the bound and the description length."),
]
Delta = Annotated[float, typer.Option(metavar="PROBABILITY", help="The probability that the bound fails.")]
Chance = Annotated[
    float | None,
    typer.Option(
        metavar="RISK",
        help="The error of a guess. A bound that is no better is vacuous. Default: 1; then 'not vacuous' may be worse than a guess.",
    ),
]
Classes = Annotated[
    int | None,
    typer.Option(metavar="K", help="The number of equally frequent classes, instead of --chance: chance is then 1 - 1/K."),
]
LeftOutIsArchitecture = Annotated[
    bool,
    typer.Option(
        "--left-out-is-architecture",
        help="Say that numbers outside the file, such as masks, were fixed before the data. Bounds on such networks need this.",
    ),
]
LossIn = Annotated[
    str | None,
    typer.Option(
        "--loss-unit",
        metavar="nats|other",
        autocompletion=offering(("nats", "other")),
        help="Whether the loss is a cross-entropy in nats per example, which gives a description length. Default: the loss decides.",
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Coarse-grain only tensors whose names match, such as 'encoder.*'. Can be repeated."),
]
Exclude = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Keep tensors whose names match exactly as they are. Can be repeated.")
]
Device = Annotated[str, typer.Option(metavar="NAME", help="The device of the weights that the loss gets: cpu, cuda, cuda:1, mps.")]
Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE|-", help="Write the results as JSON. - prints them instead of the table.")
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The state dict in a pickled checkpoint, as a dotted path. Without it, the program guesses and says so.",
    ),
]
StepPattern = Annotated[
    str | None, typer.Option(metavar="REGEX", help="Finds the training step in the path. The first group is the number.")
]
StepKey = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Finds the training step in the checkpoint: a dotted path in its dictionary or metadata."),
]
Method = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="tight: smallest files. allocate: faster. bayes, quantize: Algorithms 1 and 2 of the paper.",
        autocompletion=offering(METHODS),
    ),
]
Codec = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="entropy, bzip2, xz, gzip or zstd. The default depends on the method.", autocompletion=offering(CODECS)
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Loss evaluations for each ε; for curve and bound, those of a single measurement. Default: depends on the method; 400 for track.",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="The same seed gives the same file.")]
RelativeTo = Annotated[
    str | None,
    typer.Option(metavar="CHECKPOINT", help="Measure only what the network has beyond this base. The bits of the base are free."),
]
RelativeToKey = Annotated[str | None, typer.Option(metavar="NAME", help="The state dict in the base, like --key for the network.")]
BasePath = Annotated[
    str | None, typer.Option("--base", metavar="CHECKPOINT", help="The base that the file is relative to, if it has one.")
]
BaseKey = Annotated[
    str | None, typer.Option("--base-key", metavar="NAME", help="The state dict in the base, like --key of measure.")
]
TimeLimit = Annotated[
    str | None, typer.Option(metavar="TIME", help="Stop after 90s, 10m, 1h or 1:30:00 with the best file so far.")
]
Limit = Annotated[
    int | None,
    typer.Option(metavar="BYTES", min=1, help="Refuse a file that decodes to more bytes. Default: 1073741824, which is 1 GiB."),
]
CoarseFile = Annotated[str, typer.Argument(metavar="FILE.coarse", help="A file that measure --save has written.")]


def time_value(text: str | None) -> float | None:
    """The seconds of --time-limit. Raises InputError if it is not a time above 0."""
    return None if text is None else seconds_of(text, "--time-limit")


def number_value(text: str, option: str, unit: str = "") -> float:
    """The number that an option was given. Raises InputError if it is not finite or is below 0."""
    value = number_of_text(text)
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{option}: expected a finite number of at least 0{unit}, got {text!r}")
    return value


def eps_value(text: str) -> Eps:
    """The ε of --eps. Raises InputError if it is neither a number nor a share."""
    return eps_named(text, "--eps", ", in the loss's own unit")


def loss_unit_value(text: str | None) -> LossUnit | None:
    """The unit of --loss-unit. Raises InputError for any other word."""
    try:
        return nncomplexity.bounds.check_loss_unit(text)
    except InputError:
        raise InputError(f"--loss-unit: expected nats or other, got {text!r}") from None


@dataclass(frozen=True)
class BoundOptions:
    """The settings of a bound, except bits and risk. `checked` makes and checks them.

    Attributes:
        n: number of training examples; None if there is no bound.
        delta: failure probability.
        chance: the risk of a guess; None is 1.
    """

    n: int | None
    delta: float
    chance: float | None

    @classmethod
    def checked(cls, risk_fn: str | None, n: int | None, delta: float, chance: float | None, classes: int | None) -> BoundOptions:
        """The options, checked. Raises InputError if they give no bound."""
        if risk_fn is not None and n is None:
            raise InputError("--n: expected the number of training examples of --risk-fn, got none; add --n N")
        guess = nncomplexity.bounds.chance_from(chance, classes, ("--chance", "--classes"))
        # This bound of 0 bits only checks n, δ and chance, before a search that may take hours.
        nncomplexity.bounds.bound(0.0, risk=0.0, n=n or 1, delta=delta, chance=guess)
        return cls(n, delta, guess)

    def with_labels(self, divergence: object) -> BoundOptions:
        """The options with a chance. If none was given, the labels of the divergence give it, and a note on standard error says so."""
        chance = divergence.chance if isinstance(divergence, nncomplexity.network.Divergence) and self.n is not None else None
        if self.chance is not None or chance is None:
            return self
        print(CHANCE_BY_LABELS.format(chance, "inputs"), file=sys.stderr)
        return replace(self, chance=chance)

    def of(self, bits: int, risk: float | None, constant: float | None) -> Bound | None:
        """The bound from the bits of a payload. The bits of its length are added, because a payload doesn't mark its own end.

        Args:
            bits: the payload's length.
            risk: the risk of the decoded weights; None gives no bound.
            constant: the risk of the network with all weights zero, if it is known.
        """
        if risk is None or self.n is None:
            return None
        return nncomplexity.bounds.bound(
            bits,
            risk=risk,
            n=self.n,
            delta=self.delta,
            chance=self.chance,
            self_delimiting=False,
            constant_risk=constant,
        )


def distortion_of(
    loss_fn: str | None, outputs: str | None, inputs: str | None, kind: str | None, probe: str | None
) -> NamedDivergence | None:
    """The divergence that the options name. Raises InputError if they name neither a divergence nor a loss."""
    named = nncomplexity.network.NamedDivergence.of(outputs, inputs, kind, probe)
    if loss_fn is None and named is None:
        raise InputError("--loss-fn: expected MODULE:FUNCTION, or --outputs and --inputs instead, got neither")
    return named
