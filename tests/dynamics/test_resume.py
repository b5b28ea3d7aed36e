"""Which rows of a results file belong to a checkpoint: by its path, and by its content if it was moved."""

import os
from pathlib import Path

import pytest

from nncomplexity.dynamics.job import Job
from nncomplexity.dynamics.resume import Done

ROW = {"kind": "checkpoint", "sha256": "same", "trainer": None, "seed": 0, "checkpoint": "old/step_5.pt", "status": "measured"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def row_of(done: Done, path: str, others: tuple[str, ...] = (), sha256: str = "same") -> object:
    return done.row_of(Job(path, 0), sha256, [os.path.realpath(other) for other in others])


def test_a_checkpoint_that_was_moved_keeps_its_row() -> None:
    assert row_of(Done([ROW]), "new/step_5.pt") is ROW
    assert row_of(Done([ROW]), "old/step_5.pt") is ROW


def test_a_row_belongs_to_one_moved_checkpoint() -> None:
    done = Done([ROW])
    assert row_of(done, "new/step_5.pt") is ROW
    assert row_of(done, "copy/step_5.pt") is None


def test_a_row_stays_with_its_checkpoint_if_this_is_measured_too() -> None:
    assert row_of(Done([ROW]), "new/step_5.pt", others=("old/step_5.pt",)) is None


def test_a_row_stays_with_its_checkpoint_if_the_file_is_there() -> None:
    Path("old").mkdir()
    Path("old/step_5.pt").touch()
    assert row_of(Done([ROW]), "new/step_5.pt") is None


def test_another_step_or_another_content_has_no_row() -> None:
    assert row_of(Done([ROW]), "new/step_6.pt") is None
    assert row_of(Done([ROW]), "new/step_5.pt", sha256="other") is None
    assert row_of(Done([{**ROW, "status": "failed"}]), "old/step_5.pt") is None
