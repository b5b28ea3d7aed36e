"""The user's own tensors are copied at the beginning of a call. At its end they are as before, whatever the user's functions load into them."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nncomplexity import Langevin, Tracker, estimate, local_learning_coefficient, rate_distortion
from nncomplexity.network import Distortion, left_as_it_was
from nncomplexity.network.weights import Private

X = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
OPTIONS: dict[str, Any] = {"method": "quantize", "budget": 8}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3
    return model


class Live:
    """A network in a training loop, and functions that load their argument into it."""

    def __init__(self) -> None:
        self.model = network()
        self.before = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def loaded(self, weights: Mapping[str, Tensor] | nn.Module) -> Tensor:
        self.model.load_state_dict(weights.state_dict() if isinstance(weights, nn.Module) else weights)
        return cross_entropy(self.model(X), Y)

    def through_data(self, weights: Mapping[str, Tensor]) -> Tensor:
        """A change that doesn't increase the tensor's version."""
        for name, parameter in self.model.named_parameters():
            parameter.data.copy_(weights[name].detach())
        return cross_entropy(self.model(X), Y)

    def check(self) -> None:
        assert all(torch.equal(tensor, self.before[name]) for name, tensor in self.model.state_dict().items())


@pytest.mark.parametrize("how", [Live.loaded, Live.through_data])
def test_a_loss_that_loads_into_the_live_network_is_searched_from_the_original(how: Callable[[Live, Any], Tensor]) -> None:
    live, other = Live(), Live()
    found = estimate(live.model.state_dict(), lambda weights: how(live, weights), 0.1, budget=20)
    live.check()
    assert found.file.content == estimate(live.before, lambda weights: how(other, weights), 0.1, budget=20).file.content


def test_so_is_one_that_is_given_the_module() -> None:
    live = Live()
    assert estimate(live.model, live.loaded, 0.1, **OPTIONS).within
    live.check()


def test_what_is_put_back_are_tensors_that_require_gradients_too() -> None:
    live = Live()
    estimate(dict(live.model.named_parameters()), live.through_data, 0.1, **OPTIONS)
    live.check()
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in live.model.parameters())


def test_a_loss_that_raises_leaves_it_as_well() -> None:
    live = Live()

    def failing(weights: Mapping[str, Tensor]) -> Tensor:
        live.loaded({name: tensor + 1 for name, tensor in weights.items()})
        raise KeyError("no such batch")

    with pytest.raises(ValueError, match="no such batch"):
        estimate(live.model.state_dict(), failing, 0.1)
    live.check()


def test_a_curve_whose_risk_loads_into_it_leaves_it() -> None:
    live = Live()

    def risk(weights: Mapping[str, Tensor]) -> float:
        live.loaded(weights)
        return float((live.model(X).argmax(1) != Y).float().mean())

    for target in (live.model, live.model.state_dict()):
        assert rate_distortion(target, live.loaded, [0.5, 0.1], risk=risk, n=96, budget=8).best_bound
        live.check()


@pytest.mark.parametrize("as_mapping", [False, True])
def test_a_tracker_leaves_it_and_its_row_is_of_the_original(as_mapping: bool) -> None:
    live = Live()
    size = sum(float(tensor.square().sum()) for tensor in live.before.values()) ** 0.5
    tracker = Tracker(live.loaded, 0.1, metrics={"again": live.loaded}, **OPTIONS)
    row = tracker(1, live.model.state_dict() if as_mapping else live.model)
    live.check()
    assert row["status"] == "measured"
    assert row["l2_norm"] == pytest.approx(size, rel=1e-5)
    assert row["again"] == row["loss"]
    assert row["warnings"] == []


def test_a_base_is_copied_and_left_as_well() -> None:
    live = Live()
    tuned = {name: tensor + 0.01 for name, tensor in live.before.items()}
    found = estimate(tuned, live.loaded, 0.1, relative_to=live.model.state_dict(), **OPTIONS)
    live.check()
    assert found.file.content == estimate(tuned, live.loaded, 0.1, relative_to=live.before, **OPTIONS).file.content


def test_the_learning_coefficient_leaves_it() -> None:
    live = Live()

    def closure(weights: Mapping[str, Tensor]) -> Tensor:
        live.loaded({name: tensor.detach() for name, tensor in weights.items()})
        return cross_entropy(torch.func.functional_call(live.model, dict(weights), (X,)), Y)

    local_learning_coefficient(live.model.state_dict(), closure, 96, sampler=Langevin(chains=1, draws=2, burn_in=2))
    live.check()


def test_tensors_that_nobody_else_holds_are_not_copied() -> None:
    weights = Private(network().state_dict())
    with Distortion(weights, lambda w: w["0.weight"].square().mean()) as distortion:
        assert distortion.weights["0.weight"].data_ptr() == weights["0.weight"].data_ptr()


def test_tied_tensors_come_back_tied_and_copies_are_tied_too() -> None:
    shared = torch.ones(3)
    with left_as_it_was({"a": shared, "b": shared}) as copies:
        assert copies["a"] is copies["b"]
        assert copies["a"].data_ptr() != shared.data_ptr()
        shared.zero_()
    assert shared.tolist() == [1, 1, 1]
