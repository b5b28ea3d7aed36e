"""The command `track`: measures complexity over training, and writes a row for each checkpoint."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import nncomplexity
from nncomplexity.cli.groups import DistortionGroup, MethodGroup, NetworkGroup, RiskGroup, check_workers, workers_named
from nncomplexity.cli.options import DONE, FAILED, NOT_WITHIN, Jobs, Scheduler, Seed, TimeLimit, number_value, time_value
from nncomplexity.cli.outputs import check_writable, page_width, stdout_for_results
from nncomplexity.cli.subject import task_of
from nncomplexity.cli.track_table import row_in_words, tracked
from nncomplexity.errors import InputError
from nncomplexity.words import eps_named, names_in, printable

if TYPE_CHECKING:
    from nncomplexity.dynamics import Follow, Row, RowProgress, UserFunction
    from nncomplexity.measure import Langevin
    from nncomplexity.network import Base, NamedDivergence

_FUNCTION = "MODULE:FUNCTION"


@dataclass(frozen=True)
class RowsGroup:
    """The options for the rows and for the workers that measure them."""

    eps: Annotated[
        list[str], typer.Option(metavar="NUMBER|SHARE%", help="ε, in the loss's own unit or as a share. Can be repeated.")
    ]
    out: Annotated[str, typer.Option(metavar="FILE", help="The results.jsonl. Rows that are already in it are kept.")]
    seed: Seed = 0
    seeds: Annotated[int, typer.Option(metavar="K", min=1, help="Number of seeds, with a row for each.")] = 1
    time_limit: TimeLimit = None
    jobs: Jobs = 1
    scheduler: Scheduler = None


@dataclass(frozen=True)
class NumbersGroup:
    """The options for further numbers in each row, and for networks to compare with."""

    metric: Annotated[
        list[str] | None, typer.Option(metavar=f"NAME={_FUNCTION}", help="One more number, such as test_error. Can be repeated.")
    ] = None
    llc: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Also estimate the local learning coefficient, for --n examples. NAME: localization, draws, burn_in, chains or step. Can be "
            "repeated.",
        ),
    ] = None
    critical_bits: Annotated[
        bool,
        typer.Option(
            "--critical-bits", help="Also quantize all weights uniformly, and give the fewest bits a weight within each ε."
        ),
    ] = False
    untrained: Annotated[bool, typer.Option("--untrained", help="Also measure the network as --model initialises it.")] = False
    constant: Annotated[bool, typer.Option("--constant", help="Also measure the network with all weights zero.")] = False
    shuffled: Annotated[
        str | None,
        typer.Option(metavar=_FUNCTION, help="Also measure the network that trainer(seed) returns, trained on shuffled labels."),
    ] = None


@dataclass(frozen=True)
class FollowGroup:
    """The options for waiting for new checkpoints."""

    follow: Annotated[bool, typer.Option("--follow", help="Wait for new checkpoints, until interrupted.")] = False
    poll: Annotated[str | None, typer.Option(metavar="SECONDS", help="With --follow: seconds between two checks. Default: 10.")] = (
        None
    )
    idle_timeout: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="With --follow: end after this many seconds without a new checkpoint.")
    ] = None
    until: Annotated[str | None, typer.Option(metavar="STEP", help="With --follow: end after the checkpoint of this step.")] = None

    def checked(self) -> Follow | None:
        """How to wait; None without --follow. Raises InputError for an option that isn't usable."""
        given = {"poll": self.poll, "idle_timeout": self.idle_timeout, "until": self.until}
        options = {name: f"--{name.replace('_', '-')}" for name in given}
        values = {name: number_value(text, options[name]) for name, text in given.items() if text is not None}
        if values and not self.follow:
            raise InputError(f"{options[next(iter(values))]}: this option needs --follow; add it")
        return nncomplexity.dynamics.Follow(**values) if self.follow else None


def track(
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="CHECKPOINT", help="Files, folders, or patterns such as 'run/*.safetensors'.")
    ],
    rows: RowsGroup,
    distortion: DistortionGroup,
    checkpoint: NetworkGroup,
    method: MethodGroup,
    risk: RiskGroup,
    numbers: NumbersGroup,
    waiting: FollowGroup,
) -> int:
    """Measure every checkpoint of a training run, and write a row for each to a results.jsonl.

    Each row is written as soon as it is measured. If a call was stopped, the same call continues it. Checkpoints that failed are
    tried again. Each row has the results of 'measure' for its checkpoint and this budget, for any number of processes.

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
    \b
    What training added to its first checkpoint:
      nncomplexity track 'run/*.pt' --loss-fn mytask:loss --eps 0.1 \\
          --relative-to run/step_0.pt --out added.jsonl
    \b
    On a Dask cluster, which sees the same folder:
      nncomplexity track 'run/*.pt' --loss-fn mytask:loss --eps 0.1 \\
          --scheduler tcp://10.0.0.1:8786 --out results.jsonl
    """
    values, named, unit = [eps_named(text, "--eps") for text in rows.eps], distortion.named(), risk.unit()
    guess, follow = nncomplexity.bounds.chance_from(risk.chance, risk.classes, ("--chance", "--classes")), waiting.checked()
    check_workers(rows.jobs, rows.scheduler)
    check_writable([rows.out], inputs=[*checkpoints, checkpoint.relative_to])
    seconds = time_value(rows.time_limit)
    sampler, heard = _sampler(numbers.llc), _Heard(checkpoints, follow is not None)
    try:
        with stdout_for_results():
            loss = _loss(distortion.loss_fn, named)
            functions = {"--model": checkpoint.model, "--risk-fn": risk.risk_fn, "--shuffled": numbers.shuffled}
            model, error, trainer = (_found(option, name) for option, name in functions.items())
            metrics = _metrics(numbers.metric or [])
            base = _base(checkpoints, checkpoint, distortion.loss_fn, named, rows.out)
            with (
                # 1, because `track` starts the processes of --jobs itself.
                workers_named(1, rows.scheduler) as executor,
                _bar(heard.waiting if follow else None) as (progress, heard.say),
            ):
                found = nncomplexity.dynamics.track(
                    checkpoints,
                    loss,
                    values,
                    out=rows.out,
                    seed=rows.seed,
                    seeds=rows.seeds,
                    jobs=rows.jobs,
                    executor=executor,
                    step_pattern=checkpoint.step_pattern,
                    step_key=checkpoint.step_key,
                    untrained=numbers.untrained,
                    constant=numbers.constant,
                    shuffled=trainer,
                    follow=follow,
                    progress=progress,
                    on_row=heard.row,
                    on_note=heard.say,
                    method=method.method,
                    codec=method.codec,
                    budget=method.budget,
                    include=method.include,
                    exclude=method.exclude,
                    model=model,
                    key=checkpoint.key,
                    device=checkpoint.device,
                    risk_fn=error,
                    n=risk.n,
                    delta=risk.delta,
                    chance=guess,
                    loss_unit=unit,
                    metrics=metrics,
                    llc=sampler,
                    critical_bits=numbers.critical_bits,
                    relative_to=base,
                    time_limit=seconds,
                    # Without a loss, the divergence is the distortion of the search.
                    faithfulness=None if distortion.loss_fn is None else named,
                )
    # The rows so far are in the file. They are shown, and then Ctrl-C ends the command as usual.
    except KeyboardInterrupt:
        if heard.rows:
            _print(rows.out, list(heard.rows.values()), len(heard.known))
        raise
    _print(rows.out, found, len(heard.known))
    if any(row["status"] != "measured" for row in found):
        return FAILED
    return DONE if all(row[f"within@{one}"] for row in found for one in names_in(row)) else NOT_WITHIN


@dataclass
class _Heard:
    """Collects the rows that `track` reports, and prints some of them on standard error."""

    checkpoints: Sequence[str]
    follow: bool
    rows: dict[tuple[str, str | None, int], Row] = field(default_factory=dict)
    known: set[tuple[str, str | None, int]] = field(default_factory=set)
    """The places of rows that were in the file already."""
    say: Callable[[str], None] = print

    def row(self, row: Row, there: bool) -> None:
        """Take a row. With a progress bar, only a failure is printed. Without one, each new row is printed if `track` follows a training."""
        place = (row["kind"], row["checkpoint"], row["seed"])
        self.rows[place] = row
        # A row of the file that failed is measured again. It then counts as a new row.
        (self.known.add if there else self.known.discard)(place)
        if not sys.stderr.isatty() and not there and self.follow:
            self.say(row_in_words(row))
        # Without a bar, failures are in the table at the end.
        elif row["status"] != "measured" and sys.stderr.isatty():
            self.say(f"{row['checkpoint'] or row['kind']}, seed {row['seed']}: {row['error']}")

    def waiting(self) -> None:
        """Print that no checkpoint is left to measure at this time."""
        self.say(f"{nncomplexity.dynamics.WAITING}: {' '.join(self.checkpoints)}; rows so far: {len(self.rows)}")


def _print(out: str, rows: list[Row], known: int) -> None:
    if rows:
        print(tracked(rows, width=page_width()))
        print()
    print(f"Written: {printable(out)}, {len(rows) - known} rows" + (f"; {known} were there" if known else ""), flush=True)


def _loss(loss_fn: str | None, named: NamedDivergence | None) -> UserFunction:
    return (
        nncomplexity.dynamics.user_divergence(named)
        if loss_fn is None and named
        else nncomplexity.dynamics.user_function("--loss-fn", loss_fn or "")
    )


def _base(
    checkpoints: list[str], network: NetworkGroup, loss_fn: str | None, named: NamedDivergence | None, out: str
) -> Base | None:
    """The base, with the names of the network in the first checkpoint that can be read."""
    file = network.base()
    if file is None:
        return None
    sources = nncomplexity.dynamics.find_sources(checkpoints, least=0, steps=network.steps())
    first = nncomplexity.dynamics.first_usable([source.path for source in sources], network.key)
    if first is None:  # a training that is followed may not have written its first checkpoint yet
        return file.load((), [out])
    task = task_of(loss_fn, network.model, None, network.device, [out], named)
    original = task.network(nncomplexity.checkpoint.load_checkpoint(first, network.key).tensors)
    return file.load((name for spec in nncomplexity.network.architecture_of(original).tensors for name in spec.names), [out])


def _found(option: str, name: str | None) -> UserFunction | None:
    return None if name is None else nncomplexity.dynamics.user_function(option, name)


def _metrics(texts: list[str]) -> dict[str, UserFunction]:
    found = _named("--metric", texts, "NAME=MODULE:FUNCTION, such as test_error=mytask:test_error", "give one of them another name")
    return {name: nncomplexity.dynamics.user_function(f"--metric {name}", function) for name, function in found.items()}


def _sampler(texts: list[str] | None) -> Langevin | None:
    if not texts:
        return None
    names = [field.name for field in fields(nncomplexity.measure.Langevin)]
    expected = f"NAME=VALUE with one of {', '.join(names)}, such as localization=1000"
    found: dict[str, Any] = {}
    for name, value in _named("--llc", texts, expected, "leave one out").items():
        if name not in names:
            raise InputError(f"--llc: expected {expected}, got {f'{name}={value}'!r}")
        number = number_value(value, f"--llc {name}")
        # The numbers of draws and chains must be int, and `number_value` gives a float.
        found[name] = int(number) if number.is_integer() else number
    return nncomplexity.measure.Langevin(**found)


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


@contextlib.contextmanager
def _bar(on_waiting: Callable[[], None] | None) -> Iterator[tuple[RowProgress | None, Callable[[str], None]]]:
    """A progress bar on standard error, if that is a terminal, and a function that prints lines above it.

    If standard error is no terminal, as in the log of a batch job, only `on_waiting` is called, each time that no checkpoint is left.

    Yields:
        A progress callback or None, and a function that prints a line.
    """
    if not sys.stderr.isatty():
        waiting = False

        def progress(_done: float, _total: int, what: str) -> None:
            # Progress is reported at each check of the folder. The log should have one line for each wait.
            nonlocal waiting
            before, waiting = waiting, what == nncomplexity.dynamics.WAITING
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
