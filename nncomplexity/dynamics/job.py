"""One row's work: a checkpoint or a calibration, and a seed, measured in whichever process runs it.

A row follows from these, the settings, and the random state in which `track` was called, and from nothing that was measured before. Losses,
risks and metrics draw their random numbers from one state of their own (`nncomplexity.distortion`), whatever that one was.
"""

import contextlib
import os
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nncomplexity.calling import RandomState
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.distortion import LossFn, preserved_random_state, set_random_state
from nncomplexity.dynamics import calibration
from nncomplexity.dynamics.functions import UserFunction
from nncomplexity.dynamics.rows import Measured, failed_row, head, l2_norm, measured_row
from nncomplexity.dynamics.settings import Row, Settings
from nncomplexity.errors import InputError
from nncomplexity.estimate import estimate
from nncomplexity.learning_coefficient import LearningCoefficient, local_learning_coefficient
from nncomplexity.modulestate import tensors_of
from nncomplexity.report import Report
from nncomplexity.search.contract import Progress
from nncomplexity.steps import step_of
from nncomplexity.taskmodule import Task
from nncomplexity.weights import check_numbers


@dataclass(frozen=True)
class Job:
    """What one row is of.

    Attributes:
        path: the checkpoint as typed; of a constant network the one whose architecture it has; None for other calibrations.
        seed: of the search; of calibrations also that of the initialisation or the training.
        kind: "checkpoint", or a calibration.
        run: the folder that holds the checkpoint.
        trainer: of "shuffled".
    """

    path: str | None
    seed: int
    kind: str = "checkpoint"
    run: str | None = None
    trainer: UserFunction | None = None

    @property
    def label(self) -> str:
        """The job in a message."""
        return f"{self.path if self.kind == 'checkpoint' else self.kind}, seed {self.seed}"


@dataclass(frozen=True)
class Surroundings:
    """Where `track` was called: its folder, from which paths and modules are found, and its random state."""

    folder: str
    random: RandomState


@dataclass(frozen=True)
class Subject:
    """A network to be measured, and what a row says of where it is from."""

    tensors: dict[str, Tensor]
    step: float | None = None
    sha256: str | None = None
    loss_fn: Any = None


def run_pickled(content: bytes) -> Row:
    """`measure` of what `pickled` packed: what other processes run."""
    job, settings, surroundings = pickle.loads(content)
    return measure(job, settings, surroundings)


def pickled(job: Job, settings: Settings, surroundings: Surroundings) -> bytes:
    """A job as bytes: the queues of processes would pass tensors through shared memory."""
    return pickle.dumps((job, settings, surroundings))


def measure(job: Job, settings: Settings, surroundings: Surroundings, progress: Progress | None = None) -> Row:
    """The row of a job; whatever goes wrong is a row, too."""
    with preserved_random_state(), contextlib.redirect_stdout(sys.stderr):  # in this order, as threads take turns at the first
        if os.getcwd() != surroundings.folder:  # noqa: PTH109 -- a spawned process begins where its parent did
            os.chdir(surroundings.folder)
        set_random_state(surroundings.random)
        start = start_of(job, settings)
        try:
            subject = _subject(job, settings)
            start |= {"step": start["step"] if subject.step is None else subject.step, "sha256": subject.sha256}
            return _measured(job, settings, surroundings, subject, start, progress)
        except InputError as error:
            return failed_row(start, str(error))
        except (Exception, SystemExit) as error:
            return failed_row(start, f"{type(error).__name__}: {error}")


def start_of(job: Job, settings: Settings) -> Row:
    """The row's first keys, as far as the job alone tells them."""
    step = step_of({}, Path(job.path).absolute()) if job.path is not None and job.kind == "checkpoint" else None
    about = {"kind": job.kind, "status": "measured", "run": job.run, "checkpoint": job.path, "sha256": None, "step": step}
    trainer = {} if job.trainer is None else {"trainer": job.trainer.name}
    return head(settings, **about, seed=job.seed, **trainer)


def _subject(job: Job, settings: Settings) -> Subject:
    if job.kind == "untrained" and settings.model is not None:
        return Subject(calibration.untrained(settings.model.get(), job.seed))
    if job.kind == "shuffled" and job.trainer is not None:
        tensors, loss_fn = calibration.shuffled(job.trainer.get(), job.seed)
        return Subject(tensors, loss_fn=loss_fn)
    if job.path is None:
        raise InputError(f"{job.kind}: expected a checkpoint, got none; name one")
    checkpoint = load_checkpoint(job.path, settings.key)
    if job.kind == "constant":
        return Subject(calibration.constant(checkpoint.tensors))
    return Subject(checkpoint.tensors, checkpoint.step, checkpoint.sha256)


def _measured(
    job: Job, settings: Settings, surroundings: Surroundings, subject: Subject, start: Row, progress: Progress | None
) -> Row:
    set_random_state(surroundings.random)  # a calibration's making has moved it
    check_numbers(subject.tensors)
    task = Task(
        device=torch.device(settings.device),
        loss_fn=subject.loss_fn or settings.loss_fn.get(),
        build=None if settings.model is None else settings.model.get(),
        risk_fn=None if settings.risk_fn is None else settings.risk_fn.get(),
    )
    network = task.network(subject.tensors)
    norm = l2_norm(tensors_of(network) if isinstance(network, nn.Module) else network)  # before it holds other weights
    original = user_values(task, settings, subject.tensors)
    llc = learning_coefficient(settings, task.loss_fn, network, job.seed, progress)
    found = _reports(job, settings, task.loss_fn, network, progress)
    coarse = [user_values(task, settings, report.coarse_weights()) for report in found]
    return measured_row(start, settings, norm, found, original, coarse, llc)


def _reports(
    job: Job, settings: Settings, loss_fn: Any, network: nn.Module | dict[str, Tensor], progress: Progress | None
) -> tuple[Report, ...]:
    """One for each ε. A constant network is its lossless file: nothing in it is worth a search."""
    eps = [0.0] if job.kind == "constant" else list(settings.eps)
    reports = estimate(network, loss_fn, eps, **settings.options(job.seed, progress))
    if job.kind != "constant":
        return reports
    shares = {key: getattr(reports[0], key) / len(settings.eps) for key in ("seconds", "cpu_seconds")}
    return tuple(replace(reports[0], eps=value, **shares) for value in settings.eps)


def learning_coefficient(
    settings: Settings, loss_fn: LossFn, network: nn.Module | Mapping[str, Tensor], seed: int, progress: Progress | None = None
) -> LearningCoefficient | None:
    """The local learning coefficient, where it is asked for. To the row's progress, which is its search's, it says what is going on."""
    if settings.llc is None or settings.n is None:
        return None

    def told(done: float, total: float, what: str) -> None:
        if progress:
            progress(0, 1, f"{what}, {done:,.0f} of {total:,.0f} steps")

    return local_learning_coefficient(network, loss_fn, settings.n, sampler=settings.llc, seed=seed, progress=told)


def user_values(task: Task, settings: Settings, tensors: Mapping[str, Tensor]) -> Measured:
    """Risk and metrics of these weights, as far as they are asked for."""
    risk = None if task.risk_fn is None else task.risk(tensors)
    return Measured(risk, {name: task.value(one.option, one.get(), tensors) for name, one in settings.metrics})
