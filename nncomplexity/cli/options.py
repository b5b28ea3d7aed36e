"""The options that commands share, and what they stand for."""

import math
import sys
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from nncomplexity.bounds import Bound, LossUnit, bound, chance_from, check_loss_unit
from nncomplexity.errors import InputError
from nncomplexity.network import Divergence, NamedDivergence
from nncomplexity.words import Eps, eps_named, number_of_text, seconds_of

DONE, FAILED, WRONG_CALL, NOT_WITHIN, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 130, 141
"""Exit codes."""

_FUNCTION = "MODULE:FUNCTION"
LossFnOrOutputs = Annotated[
    str | None,
    typer.Option(
        "--loss-fn",
        metavar=_FUNCTION,
        help="The loss; mytask:loss is loss() in ./mytask.py, path/mytask.py:loss that of a file. Or --outputs and --inputs in its place.",
    ),
]
Outputs = Annotated[
    str | None,
    typer.Option(
        metavar=_FUNCTION,
        help="outputs(network, inputs): the distortion is the divergence of these from the original's; no labels.",
    ),
]
Inputs = Annotated[
    str | None,
    typer.Option(metavar=_FUNCTION, help="Gives inputs: a tensor, a dict of tensors, a DataLoader, or a pair with labels."),
]
DivergenceKind = Annotated[
    str | None,
    typer.Option("--divergence", metavar="KIND", help="kl (of logits over classes), bernoulli, mse, or MODULE:FUNCTION."),
]
ProbeInputs = Annotated[
    str | None,
    typer.Option("--probe", metavar="NAME|SHARE", help="Inputs to examine the file on, or the share kept back; else 0.2."),
]
Seeds = Annotated[int, typer.Option(metavar="K", min=1, help="Searches, with seeds from --seed on: the best file, and the spread.")]
Model = Annotated[
    str | None, typer.Option(metavar=_FUNCTION, help="Makes the nn.Module that the loss gets instead of a dict of tensors.")
]
RiskFn = Annotated[
    str | None, typer.Option(metavar=_FUNCTION, help="The error rate on the n training examples, in [0, 1]: gives the bound.")
]
Examples = Annotated[
    int | None, typer.Option("--n", metavar="N", min=1, help="Training examples, for the bound and the description length.")
]
Delta = Annotated[float, typer.Option(metavar="PROBABILITY", help="Failure probability of the bound.")]
Chance = Annotated[
    float | None, typer.Option(metavar="RISK", help="The error of a guess; a bound that is no better is called vacuous. Else 1.")
]
Classes = Annotated[
    int | None, typer.Option(metavar="K", help="The same as a number of equally frequent classes: --chance is then 1 - 1/K.")
]
LeftOutIsArchitecture = Annotated[
    bool,
    typer.Option(
        "--left-out-is-architecture", help="What the network holds besides, as masks, was fixed before the data: bounds need a yes."
    ),
]
LossIn = Annotated[
    str | None,
    typer.Option(
        "--loss-unit",
        metavar="nats|other",
        help="Whether the loss is a cross-entropy in nats per example, which gives a description length; else told from it.",
    ),
]
Include = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Coarse-grain only tensors of such names, as 'encoder.*'; repeat it.")
]
Exclude = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Keep tensors of such names exactly; repeat it.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="Where the loss gets the weights: cpu, cuda, cuda:1, mps.")]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write JSON there; - prints it instead of the table.")]
Key = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The state dict in a pickled checkpoint, as a dotted path; else guessed, and said."),
]
StepPattern = Annotated[
    str | None, typer.Option(metavar="REGEX", help="Where the path tells the training step; the first group is the number.")
]
StepKey = Annotated[
    str | None, typer.Option(metavar="KEY", help="Where the checkpoint tells it: a dotted path in its dictionary or metadata.")
]
Method = Annotated[
    str,
    typer.Option(metavar="NAME", help="tight: the smallest files. allocate: faster. bayes, quantize: the paper's Algorithms 1, 2."),
]
Codec = Annotated[str | None, typer.Option(metavar="NAME", help="entropy, bzip2, xz, gzip or zstd; else the method's own.")]
Budget = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Loss evaluations for each ε, of curve and bound those of a single measurement; else the method's own, of track 62.",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="The same seed gives the same file.")]
RelativeTo = Annotated[
    str | None,
    typer.Option(metavar="CHECKPOINT", help="Measure only what the network has beyond this one, whose bits are free."),
]
RelativeToKey = Annotated[str | None, typer.Option(metavar="NAME", help="The state dict in it, as --key is for the network.")]
BasePath = Annotated[str | None, typer.Option("--base", metavar="CHECKPOINT", help="What the file is relative to, where it is.")]
BaseKey = Annotated[str | None, typer.Option("--base-key", metavar="NAME", help="The state dict in it, as --key of measure.")]
TimeLimit = Annotated[
    str | None, typer.Option(metavar="TIME", help="Stop after 90s, 10m, 1h or 1:30:00 with the best file so far.")
]
Limit = Annotated[int, typer.Option(metavar="BYTES", min=1, help="Refuse a file that decodes to more.")]
CoarseFile = Annotated[str, typer.Argument(metavar="FILE.coarse", help="A file that measure --save wrote.")]


def time_value(text: str | None) -> float | None:
    """The seconds that --time-limit says. Raises InputError where it is no time above 0."""
    return None if text is None else seconds_of(text, "--time-limit")


def number_value(text: str, option: str, unit: str = "") -> float:
    """What an option was given as a number. Raises InputError for one that isn't finite or is below 0."""
    value = number_of_text(text)
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{option}: expected a finite number of at least 0{unit}, got {text!r}")
    return value


def eps_value(text: str) -> Eps:
    """What --eps says. Raises InputError where it is neither a distortion bound nor a share."""
    return eps_named(text, "--eps", ", in the loss's own unit")


def loss_unit_value(text: str | None) -> LossUnit | None:
    """What --loss-unit says. Raises InputError where that is none."""
    try:
        return check_loss_unit(text)
    except InputError:
        raise InputError(f"--loss-unit: expected nats or other, got {text!r}") from None


@dataclass(frozen=True)
class BoundOptions:
    """What bounds are made of besides bits and risk. `checked` makes and checks it.

    Attributes:
        n: number of training examples; None where there is no bound.
        delta: failure probability.
        chance: the risk of a guess; None is 1.
    """

    n: int | None
    delta: float
    chance: float | None

    @classmethod
    def checked(cls, risk_fn: str | None, n: int | None, delta: float, chance: float | None, classes: int | None) -> "BoundOptions":
        """Raises InputError where a bound can't be made of them."""
        if risk_fn is not None and n is None:
            raise InputError("--n: expected the number of training examples that --risk-fn looks at, got none; add --n N")
        guess = chance_from(chance, classes, ("--chance", "--classes"))
        bound(0.0, risk=0.0, n=n or 1, delta=delta, chance=guess)
        return cls(n, delta, guess)

    def with_labels(self, divergence: object) -> "BoundOptions":
        """The same with the chance that a divergence's labels tell, if none was given; it is said on standard error."""
        chance = divergence.chance if isinstance(divergence, Divergence) and self.n is not None else None
        if self.chance is not None or chance is None:
            return self
        print(
            f"nncomplexity: chance: taken for {chance:.4g}, the error of always saying the most frequent label of --inputs; "
            "--chance or --classes say another",
            file=sys.stderr,
        )
        return replace(self, chance=chance)

    def of(self, bits: int, risk: float | None, constant: float | None) -> Bound | None:
        """The bound that the bits of a payload give, whose length is paid for, as it doesn't say where it ends.

        Args:
            bits: the payload's length.
            risk: of the decoded weights; None gives none.
            constant: the risk of the network with all weights zero, where it is known.
        """
        if risk is None or self.n is None:
            return None
        return bound(
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
    """The divergence that the options name. Raises InputError where they name neither that nor a loss."""
    named = NamedDivergence.of(outputs, inputs, kind, probe)
    if loss_fn is None and named is None:
        raise InputError("--loss-fn: expected MODULE:FUNCTION, or --outputs and --inputs in its place, got neither")
    return named
