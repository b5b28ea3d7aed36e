"""`track`: from many checkpoints, their loss and ε to rows."""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import PurePath
from typing import Unpack

from nncomplexity.checkpoint import StepRule
from nncomplexity.dynamics.arrivals import Arrivals, Follow
from nncomplexity.dynamics.calibration import first_usable
from nncomplexity.dynamics.functions import UserFunction, user_function
from nncomplexity.dynamics.job import LEFT_OUT, Job
from nncomplexity.dynamics.results_file import ResultsFile
from nncomplexity.dynamics.resume import Done, Known, known_of
from nncomplexity.dynamics.settings import Given, Row, RowOptions, TrackSettings, settings_of
from nncomplexity.dynamics.sources import Source, find_sources, patterns_of
from nncomplexity.dynamics.workers import Workers, workers_for
from nncomplexity.errors import InputError
from nncomplexity.measure import SeveralEps, check_function, checked_seeds
from nncomplexity.words import Eps, checked_count, listed, path_of
from nncomplexity.workers import Surroundings, checked_executor

RowProgress = Callable[[float, int, str], None]
"""progress(rows done, rows in all, a text on the present work). A running search counts as a fraction of a row."""
WAITING = "waiting for checkpoints"
"""The text for progress when there is nothing to measure."""
OnRow = Callable[[Row, bool], None]
"""on_row(row, whether the row was already in the file)."""


def track(
    checkpoints: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    loss_fn: Given,
    eps: Eps | SeveralEps,
    *,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    seeds: int = 1,
    step_pattern: str | None = None,
    step_key: str | None = None,
    untrained: bool = False,
    constant: bool = False,
    shuffled: Given | None = None,
    jobs: int = 1,
    executor: Executor | None = None,
    follow: Follow | None = None,
    progress: RowProgress | None = None,
    on_row: OnRow | None = None,
    on_note: Callable[[str], None] | None = None,
    **options: Unpack[RowOptions],
) -> list[Row]:
    """The complexity of every checkpoint of a training: one row for each checkpoint and seed, as described in docs/results.md.

    A row depends only on its checkpoint, its seed and the settings. It has the results of `estimate` for these. The order and the number
    of processes make no difference. A checkpoint that can't be measured has a row too, with `status` "failed" and `error`.

    Args:
        checkpoints: files, folders or patterns such as "run/*.safetensors".
        loss_fn: a function of the weights, or its name as MODULE:FUNCTION; `model`, `risk_fn`, `shuffled` and the metrics are given in the
            same way. Or a `Divergence`: each row then compares with the outputs of its own checkpoint.
        eps: the distortion bound, or several.
        out: a results.jsonl to which each row is added as soon as it is measured. Rows that it already has are not measured again.
            Failed checkpoints are tried again, and get another row only if they fail in another way.
        seed: the first seed.
        seeds: the number of seeds. A checkpoint has a row for each.
        step_pattern: a regular expression that finds the training step in a path; its first group is the number. The default rule
            is in docs/results.md.
        step_key: finds the training step in a checkpoint: the dotted path of a number in its dictionary or metadata.
        untrained: also measure the network as `model` initialises it.
        constant: also measure the network with all weights zero.
        shuffled: trainer(seed) -> weights, or (weights, loss_fn), of a network that learned shuffled labels, which is also measured.
        jobs: number of processes; 1 measures in this process.
        executor: a `concurrent.futures.Executor`, or a Dask client, to use instead of new processes (docs/distributed.md). The threads of a
            thread pool measure one at a time.
        follow: wait for new checkpoints.
        progress: called as `progress(done, total, what)`.
        on_row: called as `on_row(row, known)` for each row, also for those that `out` already has.
        on_note: called with a sentence if `out` was repaired, has rows of other versions, or checkpoints were left out.
        **options: how each checkpoint is measured: `method`, `codec`, `budget` (by default 400), `include`, `exclude`, `model`, `key`,
            `device`, `risk_fn`, `n`, `delta`, `chance`, `loss_unit`, `metrics`, `llc`, `critical_bits`, `faithfulness`, `relative_to` and
            `time_limit`. `RowOptions` explains them.

    Returns:
        The rows of the checkpoints in their natural order, then those of the calibrations.

    Raises:
        InputError: an argument isn't usable, no checkpoint is found, `out` has rows of other settings or is in use, or the executor
            takes no more work. Rows that were measured before are in `out`.

    >>> import tempfile, torch
    >>> from nncomplexity.checkpoint import save_safetensors
    >>> with tempfile.TemporaryDirectory() as run:
    ...     for step in (1, 10):
    ...         save_safetensors(f"{run}/step_{step}.safetensors", {"w": torch.linspace(-1, 1, 50) * step})
    ...     rows = track(f"{run}/*.safetensors", lambda weights: (weights["w"] ** 2).mean(), 0.1, method="quantize")
    >>> [row["step"] for row in rows], rows[0]["bits@0.1"] <= rows[1]["bits@0.1"]
    ([1, 10], True)
    """
    settings = settings_of(loss_fn, eps, **options)
    every_seed, jobs = checked_seeds(seed, seeds), checked_count("jobs", jobs, 1)
    for name, function in (("progress", progress), ("on_row", on_row), ("on_note", on_note)):
        check_function(name, function)
    if follow is not None and not isinstance(follow, Follow):
        raise InputError(f"follow: expected a Follow, such as Follow(poll=10), got {follow!r}")
    executor = checked_executor(executor)
    trainer = None if shuffled is None else user_function("shuffled", shuffled)
    if untrained and settings.model is None:
        raise InputError("untrained: expected a model function, which initialises the network, got none; give model")
    surroundings = Surroundings.here()
    patterns, steps = patterns_of(checkpoints), StepRule(step_pattern, step_key)
    # A training that is followed may not have written its first checkpoint yet.
    sources = find_sources(patterns, least=0 if follow else 1, steps=steps, on_note=on_note)
    if out is not None and os.path.realpath(path_of(out, "out")) in {source.identity for source in sources}:
        raise InputError(f"{os.fspath(out)}: it would be written into a checkpoint; choose another file for `out`")
    with contextlib.ExitStack() as stack:
        file = None if out is None else stack.enter_context(ResultsFile(out))
        for note in [] if file is None else [file.mended or "", *file.check_settings(settings)]:
            if note and on_note:
                on_note(f"{os.fspath(out or '')}: {note}")
        tracking = Tracking(settings, every_seed, file, progress, on_row, steps, on_note)
        functions = [*settings.functions, *([trainer] if trainer else [])]
        workers = stack.enter_context(workers_for(jobs, executor, functions, settings, surroundings, tracking.search))
        if follow is None:
            # A digest takes a read of the whole checkpoint, which may have gigabytes. It is needed only if the file already has rows.
            tracking.add([(source, known_of(source, settings.key, steps) if tracking.done else None) for source in sources])
            if constant:
                paths = [source.path for source in sources]
                tracking.add_calibration("constant", path=first_usable(paths, settings.key) or paths[0])
            arrivals = None
        else:
            arrivals = Arrivals(patterns, follow.poll, settings.key, steps)
        if untrained:
            tracking.add_calibration("untrained")
        if trainer is not None:
            tracking.add_calibration("shuffled", trainer=trainer)
        tracking.run(workers, arrivals, follow or Follow(), constant=constant)
        tracking.end()
    return tracking.results()


class Tracking:
    """The jobs of one call, and their rows."""

    def __init__(
        self,
        settings: TrackSettings,
        seeds: Sequence[int],
        file: ResultsFile | None,
        progress: RowProgress | None,
        on_row: OnRow | None,
        steps: StepRule,
        on_note: Callable[[str], None] | None,
    ) -> None:
        self._settings, self._seeds, self._file = settings, seeds, file
        self._progress, self._on_row, self._on_note = progress, on_row, on_note
        self._steps = steps
        self._left_out: dict[str, str] = {}
        self._mended = 0
        self.done = Done(file.rows if file else ())
        self._sources: dict[str, Source] = {}
        self._waiting: deque[Job] = deque()
        self._rows: dict[tuple[str, str | None, int], Row | None] = {}

    def add(self, found: Iterable[tuple[Source, Known | None]]) -> None:
        """Add jobs for checkpoints. Their digests are known if the file may already have their rows."""
        given = list(found)
        self._sources |= {source.identity: source for source, _ in given}
        for source, known in given:
            for seed in self._seeds:
                self._add(Job(source.path, seed, run=source.run, steps=source.rule(self._steps)), known)

    def add_calibration(self, kind: str, *, path: str | None = None, trainer: UserFunction | None = None) -> None:
        """Add jobs for a calibration: one for each seed, if it depends on the seed."""
        for seed in self._seeds if kind != "constant" else [0]:
            self._add(Job(path, seed, kind, trainer=trainer, steps=self._steps), None)

    def run(self, workers: Workers, arrivals: Arrivals | None, follow: Follow, *, constant: bool) -> None:
        """Measure until no job is left. With `arrivals`, also wait for new checkpoints, as `follow` says."""
        polled, active = -float("inf"), time.monotonic()
        while True:
            if arrivals and time.monotonic() - polled >= follow.poll:
                polled = time.monotonic()
                self.add(news := arrivals.arrived())
                if constant and (path := first_usable((source.path for source, _ in news), self._settings.key)):
                    self.add_calibration("constant", path=path)
                    constant = False
            while self._waiting and workers.free:
                # In this process, `submit` returns only when the job is done, so the job is counted before.
                self._tell(workers.running + 1)
                workers.submit(self._waiting.popleft())
            if self._waiting or workers.running:
                active = time.monotonic()
                for job, row in workers.finished(follow.poll if arrivals else None):
                    self._record(job, row, known=False)
                if workers.running:
                    self._tell(workers.running)
            elif arrivals is None:
                return
            # The wait is over. Incomplete checkpoints are taken as they are, because nobody is likely to complete them.
            elif self._ends(follow, time.monotonic() - active):
                self.add(arrivals.rest())
                arrivals = None
                if constant and self._sources:  # no checkpoint is usable; the row of this job will have the reason
                    self.add_calibration("constant", path=next(iter(self._sources.values())).path)
            else:
                if self._progress:
                    self._progress(len(self._rows), len(self._rows), WAITING)
                time.sleep(max(0.0, min(follow.poll, polled + follow.poll - time.monotonic())))

    def search(self, job: Job, done: float, total: float, what: str) -> None:
        """Report the progress of a job that runs in this process."""
        if self._progress:
            part = min(done / total, 1.0) if total else 0.0
            self._progress(self._finished() + part, len(self._rows), f"{job.label}: {what}")

    def end(self) -> None:
        """Report, at the end, a restored file, changed steps and checkpoints that were left out.

        Raises:
            InputError: no checkpoint was a network, or the results file was removed and can't be written again.
        """
        if self._file:
            self._file.check_there()
            if self._file.restored and self._on_note:
                self._on_note(f"{self._file.path}: {self._file.restored}")
        if self._mended and self._on_note:
            self._on_note(f"the training step of {self._mended} rows was found in another way now; they were not measured again")
        if not self._left_out:
            return
        if not any(row is not None for row in self._rows.values()):
            raise InputError(f"checkpoints: {next(iter(self._left_out.values()))}")
        if self._on_note:
            self._on_note(f"left out the states of optimizers: {listed(PurePath(path).name for path in self._left_out)}")

    def results(self) -> list[Row]:
        """All rows, first those of checkpoints."""
        rows = [row for row in self._rows.values() if row is not None]
        return sorted(rows, key=lambda row: row["kind"] != "checkpoint")

    def _add(self, job: Job, known: Known | None) -> None:
        self._rows[_place(job)] = None
        row = self.done.row_of(job, known.sha256 if known else None, self._sources.keys())
        if row is None:
            self._waiting.append(job)
            return
        self._record(job, self._with_step(job, row, known), known=True)

    def _with_step(self, job: Job, row: Row, known: Known | None) -> Row:
        """An existing row, with its step corrected if another step is found now. A corrected row is also written to the file."""
        if job.kind != "checkpoint" or known is None:
            return row
        value, said_by = (known.step.value, known.step.said_by) if known.step else (None, None)
        if row.get("step") == value:
            return row
        # The rule that finds steps has changed since; the measurement itself still holds.
        row = row | {"run": job.run, "checkpoint": job.path, "step": value, "step_from": said_by}
        if self._file:
            self._file.append(row)
        self._mended += 1
        return row

    def _record(self, job: Job, row: Row, *, known: bool) -> None:
        # Only reading a file shows that it is an optimizer's state and not a network. Its job exists already, so it is removed.
        if row.get(LEFT_OUT):
            self._left_out[str(job.path)] = str(row["error"])
            del self._rows[_place(job)]
            self._tell(0)
            return
        if self._file and not known:
            known = self._file.repeats(row)
            if not known:
                self._file.append(row)
        self._rows[_place(job)] = row
        if self._on_row:
            self._on_row(row, known)
        self._tell(0)

    def _finished(self) -> int:
        return sum(row is not None for row in self._rows.values())

    def _tell(self, running: int) -> None:
        if self._progress:
            self._progress(self._finished(), len(self._rows), f"{running} running" if running else "starting")

    def _ends(self, follow: Follow, idle: float) -> bool:
        steps = [row["step"] for row in self._rows.values() if row and row.get("step") is not None]
        reached = follow.until is not None and max(steps, default=-1.0) >= follow.until
        return reached or (follow.idle_timeout is not None and idle >= follow.idle_timeout)


def _place(job: Job) -> tuple[str, str | None, int]:
    return job.kind, job.path, job.seed
