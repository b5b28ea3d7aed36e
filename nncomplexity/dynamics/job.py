"""The work for one row: a checkpoint or a calibration, and a seed, measured in any process.

A row depends on the network, the seed, the settings, and the random state at the call of `track`. It does not depend on earlier
measurements. Losses, risks and metrics draw their random numbers from a fixed state (`nncomplexity.network.distortion`).
"""

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from nncomplexity.checkpoint import USUAL, OptimizerError, StepRule, load_checkpoint, prequential_bits
from nncomplexity.dynamics import calibration
from nncomplexity.dynamics.functions import UserFunction
from nncomplexity.dynamics.rows import UserValues, failed_row, head, l2_norm, measured_row
from nncomplexity.dynamics.settings import Row, TrackSettings
from nncomplexity.dynamics.sources import named_step
from nncomplexity.errors import InputError
from nncomplexity.measure import LearningCoefficient, Report, critical_bits, estimate, local_learning_coefficient
from nncomplexity.network import (
    LossFn,
    ModuleOrTensors,
    Task,
    check_numbers,
    constant,
    constant_risk,
    preserved_random_state,
    risk_of,
    tensors_of,
    value_of,
)
from nncomplexity.search import Progress
from nncomplexity.words import Eps, Relative, name_of
from nncomplexity.workers import Surroundings

LEFT_OUT = "left_out"
"""The key that marks a result which is not a row, because its file has the state of an optimizer."""


@dataclass(frozen=True)
class Job:
    """The network of one row.

    Attributes:
        path: the checkpoint, as the user typed it. For a constant network, a checkpoint with its architecture. None for other calibrations.
        seed: the seed of the search. For calibrations, also the seed of the initialisation or the training.
        kind: "checkpoint", or a calibration.
        run: the folder of the checkpoint.
        trainer: the trainer of "shuffled".
        steps: the rule for the checkpoint's step.
    """

    path: str | None
    seed: int
    kind: str = "checkpoint"
    run: str | None = None
    trainer: UserFunction | None = None
    steps: StepRule = USUAL

    @property
    def label(self) -> str:
        """The job as text, for messages."""
        return f"{self.path if self.kind == 'checkpoint' else self.kind}, seed {self.seed}"


@dataclass(frozen=True)
class JobNetwork:
    """A network to measure, and the keys of its row that describe its origin."""

    tensors: dict[str, Tensor]
    about: Row = field(default_factory=dict)
    """Keys of the row from the checkpoint."""
    loss_fn: Any = None


def measure(job: Job, settings: TrackSettings, surroundings: Surroundings, progress: Progress | None = None) -> Row:
    """The row of a job. A failure gives a row too."""
    # `preserved_random_state` comes first, because it has the lock. The others also change state of the whole process.
    with preserved_random_state(), contextlib.redirect_stdout(sys.stderr), surroundings.around():
        start = start_of(job, settings)
        try:
            for one in (*settings.functions, *([job.trainer] if job.trainer else [])):
                one.get()  # imports all modules in this folder, before a function is called in another folder
            surroundings.set_start_method()
            subject = _subject(job, settings)
            start |= subject.about
            return _measured(job, settings, surroundings, subject, start, progress)
        except OptimizerError as error:
            return failed_row(start, error) | {LEFT_OUT: True}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's trainer may call sys.exit()
            failed = failed_row(start, error)
            return failed | {"error": f"{failed['error']}{surroundings.lacking}"}


def start_of(job: Job, settings: TrackSettings) -> Row:
    """The first keys of the row, which follow from the job alone."""
    step = named_step(job.path, job.steps) if job.path is not None and job.kind == "checkpoint" else None
    about: Row = {"kind": job.kind, "status": "measured", "run": job.run, "checkpoint": job.path, "sha256": None}
    about |= {"step": step.value if step else None, "step_from": step.said_by if step else None}
    trainer = {} if job.trainer is None else {"trainer": job.trainer.name}
    return head(settings, **about, seed=job.seed, **trainer)


def _subject(job: Job, settings: TrackSettings) -> JobNetwork:
    if job.kind == "untrained" and settings.model is not None:
        with settings.model.in_place() as build:
            return JobNetwork(calibration.untrained(build, job.seed))
    if job.kind == "shuffled" and job.trainer is not None:
        with job.trainer.in_place() as trainer:
            tensors, loss_fn = calibration.shuffled(trainer, job.seed)
        return JobNetwork(tensors, loss_fn=loss_fn)
    if job.path is None:
        raise InputError(f"{job.kind}: expected a checkpoint, got none; name one")
    checkpoint = load_checkpoint(job.path, settings.key, steps=job.steps)
    if job.kind == "constant":
        return JobNetwork(constant(checkpoint.tensors))
    about: Row = {"sha256": checkpoint.sha256, "step": checkpoint.step, "step_from": checkpoint.step_from}
    if settings.n is not None and checkpoint.log:
        about["prequential_bits"] = prequential_bits(checkpoint.log, settings.n)
    return JobNetwork(checkpoint.tensors, about | ({"notes": list(checkpoint.notes)} if checkpoint.notes else {}))


def _measured(
    job: Job, settings: TrackSettings, surroundings: Surroundings, subject: JobNetwork, start: Row, progress: Progress | None
) -> Row:
    surroundings.set_random()  # making a calibration may have changed the random state
    check_numbers(subject.tensors)
    task = Task(
        device=torch.device(settings.device),
        loss_fn=subject.loss_fn or settings.loss_fn.get(),
        build=None if settings.model is None else settings.model.get(),
        folder=settings.folder,
    )
    with task.place():
        network = task.network(subject.tensors)
        # The norm is computed first, before other weights are loaded into the module.
        norm = l2_norm(tensors_of(network) if isinstance(network, nn.Module) else network)
        original = user_values(settings, lambda: task.network(subject.tensors))
        llc = learning_coefficient(settings, task.loss_fn, network, job.seed, progress)
        found = _reports(job, settings, task.loss_fn, network, progress)
        coarse = [_coarse_values(settings, task, report) for report in found]
        nothing = zero_risk(settings, task.network, subject.tensors)
        critical = critical_keys(settings, task.loss_fn, network, found, progress)
    return measured_row(start, settings, norm, found, original, coarse, llc, nothing) | critical


def _reports(
    job: Job, settings: TrackSettings, loss_fn: Any, network: nn.Module | dict[str, Tensor], progress: Progress | None
) -> tuple[Report, ...]:
    """One report for each ε. For a constant network it is the lossless file, without a search."""
    # All its weights are zero, so the lossless file takes almost no bits, and no search would find a smaller one.
    eps: list[Eps] = [0.0] if job.kind == "constant" else list(settings.eps)
    reports = estimate(network, loss_fn, eps, **settings.options(job.seed, progress))
    if job.kind != "constant":
        return reports
    shares = {key: getattr(reports[0], key) / len(settings.eps) for key in ("seconds", "cpu_seconds")}
    return tuple(
        # The network is at zero, so every share of the distance is 0.
        replace(reports[0], eps=0.0, eps_relative=eps.share, **shares)
        if isinstance(eps, Relative)
        else replace(reports[0], eps=eps, **shares)
        for eps in settings.eps
    )


def _as_text(progress: Progress | None, unit: str | None = None) -> Progress:
    """The progress of work beside the search, as a text: the part of the row that is done is that of the search alone.

    Args:
        progress: the progress of the row.
        unit: the unit in which the work is counted, such as "steps"; None leaves the count out.
    """

    def told(done: float, total: float, what: str) -> None:
        if progress:
            progress(0, 1, f"{what}, {done:,.0f} of {total:,.0f} {unit}" if unit else what)

    return told


def learning_coefficient(
    settings: TrackSettings, loss_fn: LossFn, network: ModuleOrTensors, seed: int, progress: Progress | None = None
) -> LearningCoefficient | None:
    """The local learning coefficient, if the settings ask for it. Its progress is reported as a text, not as a part of the row."""
    if settings.llc is None or settings.n is None:
        return None
    told = _as_text(progress, unit="steps")
    return local_learning_coefficient(network, loss_fn, settings.n, sampler=settings.llc, seed=seed, progress=told)


def critical_keys(
    settings: TrackSettings,
    loss_fn: LossFn,
    network: ModuleOrTensors,
    reports: Sequence[Report],
    progress: Progress | None = None,
) -> Row:
    """The critical bits of the original weights at each ε of the reports, if the settings ask for them."""
    if not settings.critical_bits:
        return {}
    eps, told = [report.eps for report in reports], _as_text(progress)
    found = critical_bits(network, loss_fn, eps, include=settings.include, exclude=settings.exclude, progress=told)
    return {f"critical_bits@{name_of(given)}": bits for given, bits in zip(settings.eps, found, strict=True)}


def user_values(settings: TrackSettings, network: Callable[[], object]) -> UserValues:
    """Risk and metrics of a network, as far as the settings ask for them. Each function gets a fresh network."""
    given = settings.risk_fn
    risk = None if given is None else risk_of(given.option, given.get(), network)
    return UserValues(risk, {name: value_of(one.option, one.get(), network) for name, one in settings.metrics})


def zero_risk(
    settings: TrackSettings, network: Callable[[Mapping[str, Tensor]], object], weights: Mapping[str, Tensor]
) -> float | None:
    """The risk of the network with all weights zero; None if the settings have no risk, or if the user's function fails.

    `network` makes the network from its weights.
    """
    given = settings.risk_fn
    if given is None:
        return None
    return constant_risk(lambda zeros: risk_of(given.option, given.get(), lambda: network(zeros)), weights)


def _coarse_values(settings: TrackSettings, task: Task, report: Report) -> UserValues:
    weights = report.coarse_weights()
    return user_values(settings, lambda: task.network(weights))
