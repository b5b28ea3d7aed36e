"""The options that commands share, and what they stand for."""

import math
from typing import Annotated

import typer

from nncomplexity.bounds import Bound, bound
from nncomplexity.durations import seconds_of
from nncomplexity.errors import InputError

DONE, FAILED, WRONG_CALL, NOT_WITHIN, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 130, 141
"""Exit codes."""

_FUNCTION = "MODULE:FUNCTION"
LossFn = Annotated[
    str, typer.Option(metavar=_FUNCTION, help="The loss; mytask:loss is loss() in ./mytask.py, path/mytask.py:loss that of a file.")
]
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
Method = Annotated[
    str,
    typer.Option(metavar="NAME", help="tight: the smallest files. allocate: faster. bayes, quantize: the paper's Algorithms 1, 2."),
]
Codec = Annotated[str | None, typer.Option(metavar="NAME", help="entropy, bzip2, xz, gzip or zstd; else the method's own.")]
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
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{option}: expected a finite number of at least 0{unit}, got {text!r}")
    return value


def eps_value(text: str) -> float:
    """What --eps says. Raises InputError where it is no distortion bound."""
    return number_value(text, "--eps", ", in the loss's own unit")


def check_bound_options(risk_fn: str | None, n: int | None, delta: float) -> None:
    """Raises InputError where a bound can't be made of them."""
    if risk_fn is not None and n is None:
        raise InputError("--n: expected the number of training examples that --risk-fn looks at, got none; add --n N")
    bound(0.0, risk=0.0, n=n or 1, delta=delta)


def bound_of(bits: int, risk: float | None, n: int | None, delta: float) -> Bound | None:
    """The bound that the bits of a payload give, whose length is paid for, as it doesn't say where it ends."""
    return None if risk is None or n is None else bound(bits, risk=risk, n=n, delta=delta, self_delimiting=False)
