"""What a results file has already, and so need not be measured again."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nncomplexity.checkpoint import USUAL, Step, StepRule, load_checkpoint
from nncomplexity.dynamics.job import Job
from nncomplexity.dynamics.settings import Row
from nncomplexity.dynamics.sources import Source, named_step


@dataclass(frozen=True)
class Known:
    """What was read of a checkpoint before it is measured: by its digest a row may be its row."""

    sha256: str
    step: Step | None


class Done:
    """The measured rows of a file. Failed ones don't count: what failed is tried again."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows: dict[tuple[object, ...], list[Row]] = {}
        self._moved: set[tuple[str, int]] = set()
        for row in rows:
            if row.get("status") == "measured":
                self._rows.setdefault(_key(row), []).append(row)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def row_of(self, job: Job, sha256: str | None, others: Collection[str]) -> Row | None:
        """The row that a job would give, None where it is to be measured.

        A checkpoint is known by its digest, also where it was moved since it was measured; but each of several copies has a row of its own.

        Args:
            job: what is to be measured.
            sha256: its checkpoint's digest, None where it can't be read.
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
            if where in others or (where, job.seed) in self._moved or os.path.exists(where):  # noqa: PTH110
                continue
            if _named(where) == _named(identity):  # else it is another point of the training
                self._moved.add((where, job.seed))
                return row
        return None


def known_of(source: Source, key: str | None, steps: StepRule = USUAL) -> Known | None:
    """What a row of the checkpoint says of it, None where it can't be read."""
    try:
        checkpoint = load_checkpoint(source.path, key, steps=source.rule(steps))
    except Exception:  # its row will say why
        return None
    return Known(checkpoint.sha256, None if checkpoint.step is None else Step(checkpoint.step, checkpoint.step_from or ""))


def _named(path: str) -> float | None:
    step = named_step(path, USUAL)
    return None if step is None else step.value


def _key(row: Row) -> tuple[object, ...]:
    kind = row.get("kind", "checkpoint")
    return kind, row.get("sha256") if kind == "checkpoint" else None, row.get("trainer"), row.get("seed")
