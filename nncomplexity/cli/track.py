"""The command `track`: complexity over training, with a row for each checkpoint."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from nncomplexity.bounds import chance_from
from nncomplexity.cli.options import (
    DONE,
    FAILED,
    NOT_WITHIN,
    Chance,
    Classes,
    DivergenceKind,
    Inputs,
    LossFnOrOutputs,
    LossIn,
    Outputs,
    ProbeInputs,
    StepKey,
    StepPattern,
    distortion_of,
    loss_unit_value,
    number_value,
)
from nncomplexity.cli.outputs import check_writable, page_width, stdout_for_results
from nncomplexity.cli.track_table import told, tracked
from nncomplexity.dynamics import WAITING, Follow, Row, UserFunction, user_divergence, user_function
from nncomplexity.dynamics import Progress as OnProgress
from nncomplexity.dynamics import track as track_all
from nncomplexity.errors import InputError
from nncomplexity.measure import Langevin
from nncomplexity.network import NamedDivergence
from nncomplexity.words import eps_named, names_in, printable

_FUNCTION = "MODULE:FUNCTION"


def add_command(app: typer.Typer) -> None:
    """Add `track` to the command line."""
    app.command(short_help="Complexity over training: a row for each checkpoint.")(track)


def track(
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="CHECKPOINT...", help="Files, folders, or patterns such as 'run/*.safetensors'.")
    ],
    eps: Annotated[
        list[str], typer.Option(metavar="NUMBER|SHARE%", help="ε, in the loss's own unit or as a share. Can be repeated.")
    ],
    out: Annotated[str, typer.Option(metavar="FILE", help="The results.jsonl. Rows that are already in it are kept.")],
    loss_fn: LossFnOrOutputs = None,
    outputs: Outputs = None,
    inputs: Inputs = None,
    divergence: DivergenceKind = None,
    probe: ProbeInputs = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="The first seed of the searches.")] = 0,
    seeds: Annotated[int, typer.Option(metavar="K", min=1, help="Number of seeds, with a row for each.")] = 1,
    jobs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of processes. Each gets an equal share of the threads.")
    ] = 1,
    key: Annotated[
        str | None, typer.Option(metavar="NAME", help="The state dict in pickled checkpoints, as a dotted path.")
    ] = None,
    step_pattern: StepPattern = None,
    step_key: StepKey = None,
    model: Annotated[str | None, typer.Option(metavar=_FUNCTION, help="Makes the nn.Module that the functions get.")] = None,
    method: Annotated[str, typer.Option(metavar="NAME", help="tight, allocate, bayes or quantize, as in measure.")] = "tight",
    codec: Annotated[str | None, typer.Option(metavar="NAME", help="As in measure. The default depends on the method.")] = None,
    budget: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Loss evaluations for each checkpoint and ε. Default: 62.")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Coarse-grain only tensors with such names. Can be repeated.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Keep tensors with such names exactly.")] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="The device of the weights that the functions get.")] = "cpu",
    risk_fn: Annotated[str | None, typer.Option(metavar=_FUNCTION, help="The error rate on the n training examples.")] = None,
    n: Annotated[
        int | None, typer.Option("--n", metavar="N", min=1, help="Number of training examples, for bound and MDL.")
    ] = None,
    delta: Annotated[float, typer.Option(metavar="PROBABILITY", help="The probability that the bound fails.")] = 0.05,
    chance: Chance = None,
    classes: Classes = None,
    loss_unit: LossIn = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar=f"NAME={_FUNCTION}", help="One more number, such as test_error. Can be repeated.")
    ] = None,
    llc: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Also the local learning coefficient, for --n examples. NAME: localization, draws, burn_in, chains or step. Can be repeated.",
        ),
    ] = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="Also measure the network as --model initialises it.")] = False,
    constant: Annotated[bool, typer.Option("--constant", help="Also measure the network with all weights zero.")] = False,
    shuffled: Annotated[
        str | None,
        typer.Option(
            metavar=_FUNCTION, help="Also measure what trainer(seed) returns: a network that was trained on shuffled labels."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for new checkpoints, until interrupted.")] = False,
    poll: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="With --follow: seconds between two checks for new files. Default: 10.")
    ] = None,
    idle_timeout: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="With --follow: end after this many seconds without a new checkpoint.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STEP", help="With --follow: end after the checkpoint of this step.")] = None,
) -> int:
    """Measure every checkpoint of a training run, and write a row for each to a results.jsonl.

    Each row is written as soon as it is measured. If a call was stopped, the same call continues it. Checkpoints that failed are
    tried again. Each row is what 'measure' gives for its checkpoint with this budget, for any number of processes.

    \b
    Complexity and test error over training, and a picture of them:
      nncomplexity track 'run/*.safetensors' --loss-fn mytask:loss \\
          --eps 1 --eps 0.1 --metric test_error=mytask:test_error --out results.jsonl
      nncomplexity plot results.jsonl --out dynamics.svg
    \b
    If the training step is in an unusual place:
      nncomplexity track 'run/*.pt' --loss-fn mytask:loss --eps 0.1 \\
          --step-pattern 'net_at_([0-9]+)' --out results.jsonl
    \b
    While the training runs, with two processes:
      nncomplexity track 'run/*.pt' --loss-fn mytask:loss --eps 0.1 \\
          --follow --jobs 2 --out results.jsonl
    """
    values = [eps_named(text, "--eps") for text in eps]
    named = distortion_of(loss_fn, outputs, inputs, divergence, probe)
    unit, guess = loss_unit_value(loss_unit), chance_from(chance, classes, ("--chance", "--classes"))
    watched = _follow(follow, poll, idle_timeout, until)
    check_writable([out], inputs=checkpoints)
    sampler = _sampler(llc)
    rows: dict[tuple[str, str | None, int], Row] = {}
    known: set[tuple[str, str | None, int]] = set()

    def on_row(row: Row, there: bool) -> None:
        place = (row["kind"], row["checkpoint"], row["seed"])
        rows[place] = row
        (known.add if there else known.discard)(place)
        if not sys.stderr.isatty() and not there and follow:
            say(told(row))
        elif row["status"] != "measured" and sys.stderr.isatty():
            say(f"{row['checkpoint'] or row['kind']}, seed {row['seed']}: {row['error']}")

    def on_waiting() -> None:
        say(f"{WAITING}: {' '.join(checkpoints)}; rows so far: {len(rows)}")

    try:
        with stdout_for_results():
            loss, build = _loss(loss_fn, named), _found("--model", model)
            risk, trainer = _found("--risk-fn", risk_fn), _found("--shuffled", shuffled)
            metrics = _metrics(metric or [])
            with _bar(on_waiting if follow else None) as (progress, say):
                found = track_all(
                    *(checkpoints, loss, values),
                    model=build,
                    risk_fn=risk,
                    shuffled=trainer,
                    out=out,
                    seed=seed,
                    seeds=seeds,
                    jobs=jobs,
                    key=key,
                    step_pattern=step_pattern,
                    step_key=step_key,
                    method=method,
                    codec=codec,
                    budget=budget,
                    include=include,
                    exclude=exclude,
                    device=device,
                    faithfulness=None if loss_fn is None else named,
                    n=n,
                    delta=delta,
                    chance=guess,
                    loss_unit=unit,
                    metrics=metrics,
                    llc=sampler,
                    untrained=untrained,
                    constant=constant,
                    follow=watched,
                    progress=progress,
                    on_row=on_row,
                    on_note=say,
                )
    except KeyboardInterrupt:
        if rows:
            _print(out, list(rows.values()), len(known))
        raise
    _print(out, found, len(known))
    if any(row["status"] != "measured" for row in found):
        return FAILED
    return DONE if all(row[f"within@{one}"] for row in found for one in names_in(row)) else NOT_WITHIN


def _print(out: str, rows: list[Row], known: int) -> None:
    if rows:
        print(tracked(rows, width=page_width()))
        print()
    print(f"Written: {out}, {len(rows) - known} rows" + (f"; {known} were there" if known else ""), flush=True)


def _loss(loss_fn: str | None, named: NamedDivergence | None) -> UserFunction:
    return user_divergence(named) if loss_fn is None and named else user_function("--loss-fn", loss_fn or "")


def _found(option: str, name: str | None) -> UserFunction | None:
    return None if name is None else user_function(option, name)


def _metrics(texts: list[str]) -> dict[str, UserFunction]:
    found = _named("--metric", texts, "NAME=MODULE:FUNCTION, such as test_error=mytask:test_error", "give one of them another name")
    return {name: user_function(f"--metric {name}", function) for name, function in found.items()}


def _sampler(texts: list[str] | None) -> Langevin | None:
    if not texts:
        return None
    names = [field.name for field in fields(Langevin)]
    expected = f"NAME=VALUE with one of {', '.join(names)}, such as localization=1000"
    found: dict[str, Any] = {}
    for name, value in _named("--llc", texts, expected, "leave one out").items():
        if name not in names:
            raise InputError(f"--llc: expected {expected}, got {f'{name}={value}'!r}")
        number = number_value(value, f"--llc {name}")
        found[name] = int(number) if number.is_integer() else number
    return Langevin(**found)


def _named(option: str, texts: list[str], expected: str, twice: str) -> dict[str, str]:
    """The values of an option that is repeated as NAME=VALUE."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{option}: expected {expected}, got {text!r}")
        if name in found:
            raise InputError(f"{option}: {name!r} is given twice; {twice}")
        found[name] = value
    return found


def _follow(follow: bool, poll: str | None, idle_timeout: str | None, until: str | None) -> Follow | None:
    given = {"poll": poll, "idle_timeout": idle_timeout, "until": until}
    options = {name: f"--{name.replace('_', '-')}" for name in given}
    values = {name: number_value(text, options[name]) for name, text in given.items() if text is not None}
    if values and not follow:
        raise InputError(f"{options[next(iter(values))]}: this option needs --follow; add it")
    return Follow(**values) if follow else None


@contextlib.contextmanager
def _bar(on_waiting: Callable[[], None] | None) -> Iterator[tuple[OnProgress | None, Callable[[str], None]]]:
    """A progress bar on standard error, if that is a terminal, and a function that prints lines above it.

    Otherwise, as in the log of a batch job, only `on_waiting` is called, each time that there is nothing left to measure.
    """
    if not sys.stderr.isatty():
        waiting = False

        def progress(_done: float, _total: int, what: str) -> None:
            nonlocal waiting
            before, waiting = waiting, what == WAITING
            if on_waiting and waiting and not before:
                on_waiting()

        yield progress if on_waiting else None, lambda text: print(printable(f"nncomplexity: {text}"), file=sys.stderr, flush=True)
        return
    columns = (
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} rows"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1)
        yield (
            lambda done, total, what: bar.update(task, completed=done, total=total, description=printable(what)),
            lambda text: console.print(printable(f"nncomplexity: {text}"), markup=False, highlight=False, soft_wrap=True),
        )
