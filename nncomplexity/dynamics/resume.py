"""Finds the rows that a results file already has, so that they are not measured again."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nncomplexity.checkpoint import USUAL, Step, StepRule, load_checkpoint
from nncomplexity.dynamics.job import Job
from nncomplexity.dynamics.settings import Row
from nncomplexity.dynamics.sources import Source, named_step


@dataclass(frozen=True)
class Known:
    """The digest and the step of a checkpoint, read before it is measured. The digest identifies its row."""

    sha256: str
    step: Step | None


class Done:
    """The measured rows of a file. It has no failed rows, because failed checkpoints are tried again."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows: dict[tuple[object, ...], list[Row]] = {}
        self._moved: set[tuple[str, int]] = set()
        for row in rows:
            if row.get("status") == "measured":
                self._rows.setdefault(_key(row), []).append(row)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def row_of(self, job: Job, sha256: str | None, others: Collection[str]) -> Row | None:
        """The existing row of a job; None if the job must be measured.

        The digest identifies a checkpoint, even if its file was moved after the measurement. But each of several copies has its own
        row.

        Args:
            job: the job.
            sha256: the digest of the job's checkpoint; None if it can't be read.
            others: the identities of all checkpoints of this call.
        """
        trainer = job.trainer and job.trainer.name
        rows = self._rows.get((job.kind, sha256, trainer, job.seed), [])
        if job.kind != "checkpoint" or job.path is None:
            return rows[-1] if rows else None
        identity = os.path.realpath(job.path)
        known = {os.path.realpath(str(row.get("checkpoint"))): row for row in rows if sha256 is not None}
        if identity in known:
            return known[identity]
        for where, row in known.items():
            # This row belongs to another checkpoint: to one of this call, to a moved one that has taken the row, or to a copy that still
            # exists.
            if where in others or (where, job.seed) in self._moved or os.path.exists(where):  # noqa: PTH110
                continue
            if _named(where) == _named(identity):  # with another step in its name, it is another point of the training
                self._moved.add((where, job.seed))
                return row
        return None


def known_of(source: Source, key: str | None, steps: StepRule = USUAL) -> Known | None:
    """The digest and the step of the checkpoint; None if it can't be read."""
    try:
        checkpoint = load_checkpoint(source.path, key, steps=source.rule(steps))
    except Exception:  # its row will have the error
        return None
    return Known(checkpoint.sha256, None if checkpoint.step is None else Step(checkpoint.step, checkpoint.step_from or ""))


def _named(path: str) -> float | None:
    step = named_step(path, USUAL)
    return None if step is None else step.value


def _key(row: Row) -> tuple[object, ...]:
    kind = row.get("kind", "checkpoint")
    return kind, row.get("sha256") if kind == "checkpoint" else None, row.get("trainer"), row.get("seed")
