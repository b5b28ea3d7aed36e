"""Algorithm 1 in several processes with one Optuna storage: they share one budget and all results, and no point is measured twice."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from nncomplexity import estimate
from nncomplexity.cli import main
from nncomplexity.errors import InputError
from nncomplexity.search import Bayes
from tests.training_run import make_training

ROOT = Path(__file__).parents[2]
EPS = [1.0, 0.1]


def network() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"w": torch.randn(12, 8, generator=generator) @ torch.randn(8, 8, generator=generator)}


def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    return ((x @ (weights["w"] - network()["w"]).T) ** 2).mean()


def studies(storage: str) -> list[Any]:
    opened = JournalStorage(JournalFileBackend(storage))
    return [optuna.load_study(study_name=name, storage=opened) for name in optuna.get_all_study_names(opened)]


TOGETHER = """
import json, os, sys, time
import optuna, torch
from nncomplexity import estimate
from nncomplexity.search import Bayes
from tests.search.test_shared import EPS, loss, network

children = []
for number in range(2):
    if (child := os.fork()) == 0:
        calls = []
        def slow(weights):
            calls.append(time.sleep(0.02))
            return loss(weights)
        reports = estimate(network(), slow, EPS, method=Bayes(14, storage="search.log"))
        with open(f"{number}.json", "w") as file:
            json.dump([[report.bits, report.evaluations] for report in reports], file)
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""


def test_two_processes_share_one_search(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", TOGETHER], cwd=tmp_path, env=environment, check=True)
    both = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2)]
    (study,) = studies(str(tmp_path / "search.log"))
    done = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    start = [(trial.params["step"], trial.params["tau"]) for trial in done if trial.user_attrs["part"] == "start"]
    assert len(start) == len(set(start)) == 12
    for eps in EPS:
        assert len([trial for trial in done if trial.user_attrs["part"] == f"eps {eps}"]) == 1
    # Each took part, and each measured the files of its answers once more.
    spent = [sum(evaluations for _, evaluations in one) for one in both]
    assert sum(spent) == 12 + 2 + 2 * 2
    assert min(spent) > 4
    # Who ended last knows all points, so its answers are the smallest of all.
    smallest = [min(8 * round(math.exp(trial.values[0])) for trial in done if trial.values[1] <= eps) for eps in EPS]
    assert [min(pair) for pair in zip(*([bits for bits, _ in one] for one in both), strict=True)] <= smallest


def test_one_process_finds_what_it_finds_without_a_storage_and_the_same_call_goes_on(workplace: Path) -> None:
    alone = estimate(network(), loss, [1.0], method=Bayes(14))
    first = estimate(network(), loss, [1.0], method=Bayes(14, storage="search.log"))
    assert [(one.bits, one.evaluations) for one in first] == [(one.bits, one.evaluations) for one in alone]
    again = estimate(network(), loss, [1.0], method=Bayes(14, storage="search.log"))
    assert [(one.bits, one.evaluations) for one in again] == [(one.bits, 1) for one in alone]
    more = estimate(network(), loss, [1.0], method=Bayes(15, storage="search.log"))
    assert [one.evaluations for one in more] == [2]
    assert all(one.bits <= other.bits for one, other in zip(more, alone, strict=True))


def test_other_searches_in_the_same_storage_are_apart(workplace: Path) -> None:
    storage = "search.log"
    evaluations = [
        estimate(network(), loss, 1, method=Bayes(8, storage=storage)).evaluations,
        estimate(network(), loss, 1, method=Bayes(8, storage=storage), seed=1).evaluations,
        estimate({"w": 2 * network()["w"]}, loss, 1, method=Bayes(8, storage=storage)).evaluations,
        estimate(network(), lambda weights: 2 * loss(weights) + 1, 1, method=Bayes(8, storage=storage)).evaluations,
        estimate(network(), loss, 1, method=Bayes(8, (1e-2, 1), storage=storage)).evaluations,
    ]
    assert evaluations == [8] * 5
    assert len(studies(storage)) == 5


@pytest.mark.parametrize("storage", ["sqlite:////absent/search.db", "foo://x", "absent/search.log", 7])
def test_a_storage_that_cannot_be_opened_is_one_line(workplace: Path, storage: Any) -> None:
    with pytest.raises(
        InputError, match=r"storage: expected a URL such as sqlite:///search.db, or the name of a file, got"
    ) as found:
        estimate(network(), loss, 1, method=Bayes(8, storage=storage))
    assert "\n" not in str(found.value)


def test_a_storage_that_is_lost_is_one_line(workplace: Path) -> None:
    calls = []

    def lost(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 8:
            shutil.rmtree("shared")
        return loss(weights)

    Path("shared").mkdir()

    with pytest.raises(InputError, match=r"^storage: FileNotFoundError: .*; points that were measured are kept in it"):
        estimate(network(), lost, 1, method=Bayes(8, storage="shared/search.log"))


def test_a_loss_that_fails_gives_its_point_back(workplace: Path) -> None:
    calls = []

    def failing(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 8:
            raise RuntimeError("no data")
        return loss(weights)

    with pytest.raises(InputError, match="no data"):
        estimate(network(), failing, 1, method=Bayes(8, storage="search.log"))
    assert (
        estimate(network(), loss, 1, method=Bayes(8, storage="search.log")).bits
        == estimate(network(), loss, 1, method=Bayes(8)).bits
    )


def test_the_command_line_shares_it(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_training(workplace, (1,))
    command = ["measure", "run/step_1.safetensors", "--loss-fn", "mytask:loss", "--eps", "1", "--storage", "sqlite:///search.db"]
    assert main([*command, "--method", "bayes", "--budget", "8", "--json", "one.json"]) == 0
    assert main([*command, "--method", "bayes", "--budget", "8", "--json", "two.json"]) == 0
    one, two = (json.loads(Path(name).read_text())["results"][0] for name in ("one.json", "two.json"))
    assert (one["bits"], one["evaluations"], two["bits"], two["evaluations"]) == (two["bits"], 8, one["bits"], 1)
    capsys.readouterr()
    assert main(command) == 2
    assert "--storage: expected --method bayes, whose search several processes can share, got tight" in capsys.readouterr().err
