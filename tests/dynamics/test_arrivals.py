"""When a checkpoint of a running training is complete, by its time stamps and by two checks."""

import os
import time
from pathlib import Path

import pytest
import torch

from nncomplexity.dynamics.arrivals import Arrivals


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def save(name: str, *, seconds_ago: float) -> None:
    torch.save({"w": torch.ones(3)}, name)
    os.utime(name, (time.time() - seconds_ago,) * 2)


def paths(arrivals: Arrivals) -> list[str]:
    return [source.path for source, _ in arrivals.arrived()]


def test_a_new_file_arrives_at_the_second_check_and_an_old_one_at_the_first() -> None:
    save("step_1.pt", seconds_ago=1000)
    save("step_2.pt", seconds_ago=0)
    arrivals = Arrivals(["*.pt"], poll=100)
    assert paths(arrivals) == ["step_1.pt"]
    assert paths(arrivals) == ["step_2.pt"]
    assert paths(arrivals) == []


def test_a_file_that_is_written_again_arrives_again() -> None:
    save("step_1.pt", seconds_ago=1000)
    arrivals = Arrivals(["*.pt"], poll=100)
    assert paths(arrivals) == ["step_1.pt"]
    save("step_1.pt", seconds_ago=500)
    assert [source.path for source, _ in arrivals.rest()] == ["step_1.pt"]
    assert paths(arrivals) == ["step_1.pt"]
    assert arrivals.rest() == []


def test_an_unreadable_file_counts_as_damaged_at_the_fifth_check() -> None:
    Path("step_1.pt").write_bytes(b"no checkpoint")
    os.utime("step_1.pt", (time.time() - 1000,) * 2)
    arrivals = Arrivals(["*.pt"], poll=100)
    assert [len(arrivals.arrived()) for _ in range(6)] == [0, 0, 0, 0, 1, 0]
