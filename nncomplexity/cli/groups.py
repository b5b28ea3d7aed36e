"""Options that several commands take, in groups: each is declared once, and a command has one parameter for a whole group.

`grouped` makes of a command with groups one whose parameters are their fields, which is what typer reads and `--help` shows.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, get_type_hints

import nncomplexity
from nncomplexity.cli.basefile import BaseFile, base_file
from nncomplexity.cli.options import (
    BoundOptions,
    Budget,
    Chance,
    Classes,
    Codec,
    Delta,
    Device,
    DivergenceKind,
    Examples,
    Exclude,
    Include,
    Inputs,
    Key,
    LeftOutIsArchitecture,
    LossFnOrOutputs,
    LossIn,
    Method,
    Model,
    Outputs,
    ProbeInputs,
    RelativeTo,
    RelativeToKey,
    RiskFn,
    Scheduler,
    SearchJobs,
    Seed,
    Seeds,
    StepKey,
    StepPattern,
    Storage,
    TimeLimit,
    distortion_of,
    loss_unit_value,
    time_value,
)
from nncomplexity.cli.outputs import check_writable, progress_bar, stdout_for_results
from nncomplexity.errors import InputError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from nncomplexity.bounds import LossUnit
    from nncomplexity.checkpoint import StepRule
    from nncomplexity.measure import SearchOptions
    from nncomplexity.network import NamedDivergence, Task
    from nncomplexity.search import Interrupt
    from nncomplexity.search import Method as SearchMethod


def grouped(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the fields of its groups as parameters of their own, in their order.

    Args:
        command: a function of whose parameters some are annotated with dataclasses.

    Returns:
        A function of keyword arguments alone, which makes the groups and calls the command.

    >>> def greet(name: str, risk: "RiskGroup") -> None: ...
    >>> list(inspect.signature(grouped(greet)).parameters)
    ['name', 'risk_fn', 'n', 'delta', 'chance', 'classes', 'loss_unit']
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if isinstance(kind, type) and is_dataclass(kind):
            groups[parameter.name] = kind
            parameters += _parameters_of(kind)
        else:
            # By keyword alone, so that an option without a default may follow one that has it.
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kind))

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        made = {name: kind(**{field.name: given.pop(field.name) for field in fields(kind)}) for name, kind in groups.items()}
        return command(**given, **made)

    # typer reads the parameters from both.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameters_of(group: type[Any]) -> list[inspect.Parameter]:
    """The fields of a group as parameters."""
    hints = get_type_hints(group, include_extras=True)
    empty = inspect.Parameter.empty
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


def check_workers(jobs: int, scheduler: str | None) -> None:
    """Raises InputError where both kinds of workers are asked for."""
    if scheduler is not None and jobs > 1:
        raise InputError("--scheduler: expected only this or --jobs, got both; leave one out")


@contextmanager
def workers_named(jobs: int, scheduler: str | None) -> Iterator[Executor | None]:
    """A context manager with who works beside this process: processes, or a cluster.

    Yields:
        The executor; None for this process alone.

    Raises:
        InputError: the scheduler can't be reached, or is gone.
    """
    with ExitStack() as stack:
        if scheduler is None:
            yield None if jobs == 1 else stack.enter_context(nncomplexity.workers.LocalPool(jobs))
            return
        executor = stack.enter_context(nncomplexity.workers.dask_executor(scheduler, "--scheduler"))
        try:
            yield executor
        except InputError as error:  # a command line has no argument of that name
            raise InputError(re.sub("^executor:", "--scheduler:", str(error))) from error


@dataclass(frozen=True)
class DistortionGroup:
    """How far two networks are apart: a loss, or a divergence between their outputs."""

    loss_fn: LossFnOrOutputs = None
    outputs: Outputs = None
    inputs: Inputs = None
    divergence: DivergenceKind = None
    probe: ProbeInputs = None

    def named(self) -> NamedDivergence | None:
        """The divergence, if there is one. Raises InputError where there is neither that nor a loss."""
        return distortion_of(self.loss_fn, self.outputs, self.inputs, self.divergence, self.probe)


@dataclass(frozen=True)
class CheckpointGroup:
    """How a checkpoint is read, and what its tensors are put into."""

    key: Key = None
    step_pattern: StepPattern = None
    step_key: StepKey = None
    model: Model = None
    device: Device = "cpu"

    def steps(self) -> StepRule:
        """Where the training step is looked for. Raises InputError where the options don't say it."""
        return nncomplexity.checkpoint.StepRule(self.step_pattern, self.step_key)


@dataclass(frozen=True)
class NetworkGroup(CheckpointGroup):
    """The same, and the base that the network is measured relative to."""

    relative_to: RelativeTo = None
    relative_to_key: RelativeToKey = None

    def base(self) -> BaseFile | None:
        """The base. Raises InputError for the key of none."""
        return base_file(self.relative_to, self.relative_to_key, "--relative-to")

    def check(self, checkpoint: str, outputs: Sequence[str | None]) -> None:
        """Check these options and the files to write, before anything is loaded. Raises InputError for the first that isn't usable."""
        self.steps()
        self.base()
        check_writable(outputs, inputs=[checkpoint, self.relative_to])


@dataclass(frozen=True)
class MethodGroup:
    """What a search does, and with which tensors."""

    method: Method = "tight"
    codec: Codec = None
    budget: Budget = None
    include: Include = None
    exclude: Exclude = None


@dataclass(frozen=True)
class SearchGroup(MethodGroup):
    """The same, and how long, how often and where it searches."""

    time_limit: TimeLimit = None
    seed: Seed = 0
    seeds: Seeds = 1
    jobs: SearchJobs = 1
    scheduler: Scheduler = None
    storage: Storage = None

    def checked(self) -> CheckedSearch:
        """The search that they ask for. Raises InputError for the first option that isn't usable."""
        check_workers(self.jobs, self.scheduler)
        if self.jobs > self.seeds:
            raise InputError(
                f"--jobs: expected at most one process for each of the {self.seeds} searches of --seeds, got {self.jobs}"
            )
        seconds = time_value(self.time_limit)
        method = nncomplexity.search.method_named(self.method, self.budget)
        if self.storage is not None:
            if not isinstance(method, nncomplexity.search.Bayes):
                raise InputError(f"--storage: expected --method bayes, whose search several processes can share, got {method.name}")
            method = replace(method, storage=self.storage)
        codec = None if self.codec is None else nncomplexity.codecs.codec_named(self.codec).name
        return CheckedSearch(self, method, codec, seconds)


@dataclass(frozen=True)
class CheckedSearch:
    """A search that a command line asks for, checked."""

    options: SearchGroup
    method: SearchMethod
    codec: str | None
    seconds: float | None
    """Its time limit."""

    @contextmanager
    def running(self, interrupt: Interrupt, task: Task) -> Iterator[SearchOptions]:
        """While it runs: what `estimate` and its like are given, with progress on standard error and the task's folder as the current."""
        given = self.options
        with (
            stdout_for_results(),
            workers_named(given.jobs, given.scheduler) as executor,
            progress_bar(self.seconds, "evaluations" if executor is None else "searches") as progress,
            task.place(),
        ):
            yield nncomplexity.measure.SearchOptions(
                method=self.method,
                codec=self.codec,
                seed=given.seed,
                seeds=given.seeds,
                include=given.include or None,
                exclude=given.exclude or None,
                time_limit=self.seconds,
                progress=interrupt.watching(progress),
                executor=executor,
            )

    def about(self) -> dict[str, Any]:
        """What a report says of it (docs/results.md)."""
        given = self.options
        return {
            "budget": self.method.budget,
            "time_limit": self.seconds,
            "seed": given.seed,
            "seeds": given.seeds,
            "include": given.include,
            "exclude": given.exclude,
        }


@dataclass(frozen=True)
class RiskGroup:
    """What a bound and a description length are made of besides bits and loss."""

    risk_fn: RiskFn = None
    n: Examples = None
    delta: Delta = 0.05
    chance: Chance = None
    classes: Classes = None
    loss_unit: LossIn = None

    def bound_options(self) -> BoundOptions:
        """What bounds are made of. Raises InputError where none can be."""
        return BoundOptions.checked(self.risk_fn, self.n, self.delta, self.chance, self.classes)

    def unit(self) -> LossUnit | None:
        """The loss's unit, as far as it is said. Raises InputError where it is none."""
        return loss_unit_value(self.loss_unit)


@dataclass(frozen=True)
class OneNetworkRiskGroup(RiskGroup):
    """The same for a single network, of which a person can say what was fixed before the data."""

    left_out_is_architecture: LeftOutIsArchitecture = False
