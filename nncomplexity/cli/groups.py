"""Groups of options that several commands have. Each option is declared once, and a command has one parameter for a whole group.

typer needs one parameter for each option. So `grouped` turns a command with groups into a function whose parameters are the fields of the
groups.
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
    """The command with the fields of its groups as separate parameters, in their order.

    Args:
        command: a function. Some of its parameters are annotated with dataclasses, the groups.

    Returns:
        A function with only keyword arguments, which makes the groups and calls the command.

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
            # Keyword-only, because Python then allows an option without a default after one with a default.
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kind))

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        made = {name: kind(**{field.name: given.pop(field.name) for field in fields(kind)}) for name, kind in groups.items()}
        return command(**given, **made)

    # typer reads the parameters from the signature and the types from the annotations.
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
    """Raises InputError if both --jobs and --scheduler are given."""
    if scheduler is not None and jobs > 1:
        raise InputError("--scheduler: expected only this or --jobs, got both; leave one out")


@contextmanager
def workers_named(jobs: int, scheduler: str | None) -> Iterator[Executor | None]:
    """A context manager with the workers: new processes, a cluster, or none.

    Yields:
        The executor; None if this process does the work.

    Raises:
        InputError: the scheduler can't be reached, or has ended.
    """
    with ExitStack() as stack:
        if scheduler is None:
            yield None if jobs == 1 else stack.enter_context(nncomplexity.workers.LocalPool(jobs))
            return
        executor = stack.enter_context(nncomplexity.workers.dask_executor(scheduler, "--scheduler"))
        try:
            yield executor
        except InputError as error:  # the message names an argument, which the command line doesn't have
            raise InputError(re.sub("^executor:", "--scheduler:", str(error))) from error


@dataclass(frozen=True)
class DistortionGroup:
    """The options for the distortion: a loss, or a divergence between outputs."""

    loss_fn: LossFnOrOutputs = None
    outputs: Outputs = None
    inputs: Inputs = None
    divergence: DivergenceKind = None
    probe: ProbeInputs = None

    def named(self) -> NamedDivergence | None:
        """The divergence, if the options name one. Raises InputError if they name neither a divergence nor a loss."""
        return distortion_of(self.loss_fn, self.outputs, self.inputs, self.divergence, self.probe)


@dataclass(frozen=True)
class CheckpointGroup:
    """The options for reading a checkpoint, and for the module that its tensors are loaded into."""

    key: Key = None
    step_pattern: StepPattern = None
    step_key: StepKey = None
    model: Model = None
    device: Device = "cpu"

    def steps(self) -> StepRule:
        """The rule that finds the training step. Raises InputError if an option isn't usable."""
        return nncomplexity.checkpoint.StepRule(self.step_pattern, self.step_key)


@dataclass(frozen=True)
class NetworkGroup(CheckpointGroup):
    """The options of `CheckpointGroup`, and the base to which the network is relative."""

    relative_to: RelativeTo = None
    relative_to_key: RelativeToKey = None

    def base(self) -> BaseFile | None:
        """The base, if there is one. Raises InputError for a key without a base."""
        return base_file(self.relative_to, self.relative_to_key, "--relative-to")

    def check(self, checkpoint: str, outputs: Sequence[str | None]) -> None:
        """Check these options and the files to write, before anything is loaded. Raises InputError for the first that isn't usable."""
        self.steps()
        self.base()
        check_writable(outputs, inputs=[checkpoint, self.relative_to])


@dataclass(frozen=True)
class MethodGroup:
    """The options for the search method, and for the tensors that it may change."""

    method: Method = "tight"
    codec: Codec = None
    budget: Budget = None
    include: Include = None
    exclude: Exclude = None


@dataclass(frozen=True)
class SearchGroup(MethodGroup):
    """The options of `MethodGroup`, and those for time, seeds and workers."""

    time_limit: TimeLimit = None
    seed: Seed = 0
    seeds: Seeds = 1
    jobs: SearchJobs = 1
    scheduler: Scheduler = None
    storage: Storage = None

    def checked(self) -> CheckedSearch:
        """The search with these options. Raises InputError for the first option that isn't usable."""
        check_workers(self.jobs, self.scheduler)
        # A process runs a whole search, so further processes would have nothing to do.
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
    """The search of a command line, with checked options."""

    options: SearchGroup
    method: SearchMethod
    codec: str | None
    seconds: float | None
    """The time limit in seconds."""

    @contextmanager
    def running(self, interrupt: Interrupt, task: Task) -> Iterator[SearchOptions]:
        """A context manager for the search. In its block, standard error shows progress, and the task's folder is the current one.

        Yields:
            The search options, for `estimate` and similar functions.
        """
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
        """The keys of a report that describe the search (docs/results.md)."""
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
    """The options for the bound and the description length."""

    risk_fn: RiskFn = None
    n: Examples = None
    delta: Delta = 0.05
    chance: Chance = None
    classes: Classes = None
    loss_unit: LossIn = None

    def bound_options(self) -> BoundOptions:
        """The settings of the bound. Raises InputError if they give no bound."""
        return BoundOptions.checked(self.risk_fn, self.n, self.delta, self.chance, self.classes)

    def unit(self) -> LossUnit | None:
        """The loss's unit; None if it isn't given. Raises InputError for an unknown word."""
        return loss_unit_value(self.loss_unit)


@dataclass(frozen=True)
class OneNetworkRiskGroup(RiskGroup):
    """The options of `RiskGroup`, for a single network. Its user can say which of its numbers were fixed before the data."""

    left_out_is_architecture: LeftOutIsArchitecture = False
