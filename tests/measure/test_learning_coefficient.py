"""The local learning coefficient, against closed forms and integrals that need no sampling."""

import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nncomplexity import InputError, Langevin, Tracker, local_learning_coefficient, track
from nncomplexity.cli import main
from tests.training_run import QUICK, make_training

N = 1000
INVERSE_TEMPERATURE = N / math.log(N)
FEW = Langevin(chains=2, draws=20, burn_in=10)


def squares(network: Mapping[str, Tensor]) -> Tensor:
    return ((network["w"] - 1) ** 2).sum()


def test_a_quadratic_minimum_has_what_the_dynamics_are_known_to_sample() -> None:
    """In a direction of precision a, such a chain has the variance 1 / (a · (1 − s·a/4))."""
    h = torch.logspace(-1, 3, 20)
    found = local_learning_coefficient(
        {"w": torch.ones(20)}, lambda network: 0.5 * (h * (network["w"] - 1) ** 2).sum(), N, sampler=Langevin(4, 1000, 250)
    )
    a = INVERSE_TEMPERATURE * h + 1000
    sampled = float((0.5 * INVERSE_TEMPERATURE * h / (a * (1 - found.step * a / 4))).sum())
    exact = float((0.5 * INVERSE_TEMPERATURE * h / a).sum())
    assert found.error is not None
    assert found.value == pytest.approx(sampled, abs=4 * found.error)
    assert found.value == pytest.approx(exact, abs=0.05 * exact + 4 * found.error)
    assert abs(found.drift) < 4 * math.sqrt(4) * found.error
    assert found.value == pytest.approx(sum(found.chains) / 4)
    # Each chain, the one that chooses the step with its checks, and the first gradient and losses of the original.
    assert found.evaluations >= 3 * 4 * 1250


def test_a_singular_minimum_has_what_the_integral_says_and_less_than_a_regular_one() -> None:
    sampler = Langevin(4, 1000, 200, localization=1.0)
    product = local_learning_coefficient({"w": torch.zeros(2)}, lambda x: (x["w"][0] * x["w"][1]) ** 2, N, sampler=sampler)
    assert product.error is not None
    # Given x, y is normal with precision 1 + 2βx². The integral over y is known, and the integral over x is a sum.
    x = np.linspace(0, 8, 20_001)
    coupling = 2 * INVERSE_TEMPERATURE * x**2
    density = np.exp(-(x**2) / 2) / np.sqrt(1 + coupling)
    exact = float((density * coupling / (1 + coupling) / 2).sum() / density.sum())
    assert product.value == pytest.approx(exact, abs=0.04 + 4 * product.error)
    regular = local_learning_coefficient({"w": torch.ones(2)}, squares, N, sampler=sampler)
    assert product.value < 0.5 < regular.value


def test_a_module_is_sampled_in_its_parameters_alone_and_left_as_it_is() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
    inputs, targets = torch.randn(32, 4), torch.randint(2, (32,))

    def loss(model: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(model.eval()(inputs), targets)

    before, state = {name: tensor.clone() for name, tensor in network.state_dict().items()}, torch.get_rng_state()
    found = local_learning_coefficient(network, loss, 32, sampler=FEW, seed=3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert local_learning_coefficient(network, loss, 32, sampler=FEW, seed=3) == found
    assert local_learning_coefficient(network, loss, 32, sampler=FEW, seed=4).chains != found.chains


def test_progress_goes_from_step_to_step_and_track_says_what_it_waits_for(workplace: Path) -> None:
    told: list[tuple[float, float, str]] = []
    local_learning_coefficient({"w": torch.ones(2)}, squares, N, sampler=FEW, progress=lambda *news: told.append(news))
    done, total = [one for one, _, _ in told], {one for _, one, _ in told}
    assert done == sorted(done)
    assert total == {2 * 30 + 10}
    assert done[0] == 0
    assert max(done) >= 2 * 30 - 3
    make_training(workplace)
    said: list[str] = []
    track(
        "run/step_1.safetensors",
        "mytask:loss",
        1,
        method="quantize",
        budget=12,
        n=64,
        llc=FEW,
        progress=lambda _done, _total, what: said.append(what),
    )
    assert any(re.search(r"learning coefficient, \d+ of 70 steps", what) for what in said)


def test_running_statistics_of_a_mapping_stay() -> None:
    seen = []

    def loss(network: Mapping[str, Tensor]) -> Tensor:
        seen.append(network["norm.running_mean"].detach().clone())
        return squares(network) + (network["norm.running_mean"] ** 2).sum()

    local_learning_coefficient({"w": torch.ones(2), "norm.running_mean": torch.ones(2)}, loss, N, sampler=FEW)
    assert len(seen) > 50
    assert all(torch.equal(one, torch.ones(2)) for one in seen)


def test_half_precision_moves_in_single() -> None:
    found = local_learning_coefficient({"w": torch.ones(4, dtype=torch.bfloat16)}, lambda x: 1e4 * squares(x), N, sampler=FEW)
    assert found.value > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"chains": 0}, "chains: expected a whole number of at least 1, got 0"),
        ({"draws": 1.5}, "draws: expected a whole number of at least 1, got 1.5"),
        ({"localization": 0}, "localization: expected a positive number, got 0"),
        ({"step": math.inf}, "step: expected a positive number, got inf"),
    ],
)
def test_settings_that_are_none_are_refused(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        Langevin(**arguments)  # type: ignore[arg-type]


def test_what_cannot_be_sampled_is_refused() -> None:
    weights = {"w": torch.ones(2)}
    with pytest.raises(InputError, match="n: expected a whole number of at least 3, got 2"):
        local_learning_coefficient(weights, squares, 2)
    with pytest.raises(InputError, match="llc: expected a loss with a gradient"):
        local_learning_coefficient(weights, lambda network: float(squares(network).detach()), N)
    with pytest.raises(InputError, match="llc: expected a loss that depends on the weights"):
        local_learning_coefficient(weights, lambda network: torch.ones(1, requires_grad=True).sum(), N)
    with pytest.raises(InputError, match="one that diverged; give the sampler a smaller step"):
        local_learning_coefficient(weights, lambda network: (network["w"] ** 4).sum(), N, sampler=Langevin(step=1.0))


def test_tensors_that_are_used_without_a_gradient_are_refused() -> None:
    weights = {"w": torch.ones(4), "detached": torch.ones(3), "unused": torch.ones(2)}
    with pytest.raises(
        InputError, match=r"llc: expected a gradient for each tensor .*, got none for detached; let it use them as they are"
    ):
        local_learning_coefficient(weights, lambda w: squares(w) + w["detached"].detach().square().sum(), N, sampler=FEW)
    assert local_learning_coefficient(weights, squares, N, sampler=FEW).value > 0


def test_without_devinterp_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "devinterp.optim", None)
    with pytest.raises(InputError, match=re.escape("pip install 'nncomplexity[llc]'")):
        local_learning_coefficient({"w": torch.ones(2)}, squares, N)
    with pytest.raises(InputError, match="expected the package devinterp"):  # before any row fails because of it
        Tracker(squares, 0.1, n=N, llc=FEW)


def test_track_gives_it_in_each_row_and_goes_on_only_with_the_same_settings(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_training(workplace)
    call = ["track", "run/*.safetensors", "--loss-fn", "mytask:loss", "--eps", "1", *QUICK, "--out", "results.jsonl"]
    options = ["--n", "64", "--llc", "draws=20", "--llc", "burn_in=10", "--llc", "localization=10.5"]
    assert main([*call, *options]) == 0
    assert "llc" in capsys.readouterr().out
    rows = [json.loads(line) for line in Path("results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 10]
    assert all(row["llc"] > 0 and row["llc_error"] > 0 and math.isfinite(row["llc_drift"]) for row in rows)
    assert rows[0]["settings"]["llc"] == {"chains": 4, "draws": 20, "burn_in": 10, "localization": 10.5, "step": None}
    assert rows == track_again(10.5, "results.jsonl")
    with pytest.raises(InputError, match="llc"):
        track_again(20, "results.jsonl")


def track_again(localization: float, out: str) -> list[dict[str, object]]:
    sampler = Langevin(draws=20, burn_in=10, localization=localization)
    return track("run/*.safetensors", "mytask:loss", 1, method="quantize", budget=12, n=64, llc=sampler, out=out)


def test_a_live_network_has_it_too() -> None:
    row = Tracker(squares, 0.1, method="quantize", budget=12, n=N, llc=FEW)(1, {"w": torch.ones(3)})
    assert row["llc"] == local_learning_coefficient({"w": torch.ones(3)}, squares, N, sampler=FEW).value


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--llc", "draws=20"], "n: expected the number of examples of loss_fn"),
        (["--n", "64", "--llc", "gamma=3"], "--llc: expected NAME=VALUE with one of chains, draws, burn_in, localization, step"),
        (["--n", "64", "--llc", "draws=2", "--llc", "draws=3"], "--llc: 'draws' is given twice; leave one out"),
        (["--n", "64", "--llc", "draws=2.5"], "draws: expected a whole number of at least 1, got 2.5"),
        (["--n", "64", "--llc", "step=x"], "--llc step: expected a finite number"),
    ],
)
def test_wrong_calls_are_refused_before_anything_is_measured(
    options: list[str], words: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_training(workplace)
    call = ["track", "run/*.safetensors", "--loss-fn", "mytask:loss", "--eps", "1", *QUICK, "--out", "results.jsonl"]
    assert main([*call, *options]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not Path("results.jsonl").exists()
