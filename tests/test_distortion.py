"""The counted loss, and that nothing of the user's is changed by measuring it."""

import gc
import itertools
import math
import random
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncomplexity import estimate
from nncomplexity.distortion import Distortion
from nncomplexity.errors import InputError
from nncomplexity.losses import MeanLoss, loss_from

X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(50) % 3


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))


def loss(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(X), Y)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


class Uncopiable(nn.Linear):
    def __deepcopy__(self, memo: object) -> "Uncopiable":
        raise TypeError("holds a handle")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("raises", [True, False])
def test_measuring_leaves_module_and_random_state_as_they_were(training: bool, raises: bool) -> None:
    model = network().train(training)
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    before, states = snapshot(model), (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    with Distortion(model, loss) as distortion:
        zeros = {name: torch.zeros_like(tensor) for name, tensor in distortion.weights.items()}
        distortion.loss(zeros)
        distortion.gradient(zeros)
        np.random.rand()
        random.random()
    if raises:
        with (
            pytest.raises(InputError, match="loss_fn: it raised ZeroDivisionError: division by zero"),
            Distortion(model, lambda _: 1 / 0),
        ):
            pass
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(module.training == training for module in model.modules())
    assert not model[0].weight.requires_grad
    assert torch.equal(model[4].weight.grad, torch.ones_like(model[4].weight))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


def test_a_loss_that_draws_random_numbers_is_one_function() -> None:
    model = network().train()
    with Distortion(model, loss) as distortion:
        assert distortion.loss(distortion.weights) == distortion.loss(distortion.weights) == distortion.original


def test_a_module_that_cannot_be_copied_is_used_in_place_and_restored() -> None:
    model = Uncopiable(6, 3)
    before = snapshot(model)
    with Distortion(model, loss) as distortion:
        zeros = {name: torch.zeros_like(tensor) for name, tensor in distortion.weights.items()}
        assert distortion.loss(zeros) == pytest.approx(np.log(3), rel=1e-6)
        assert distortion.gradient(zeros) is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_gradients_of_module_and_mapping_are_autograds() -> None:
    model = nn.Linear(6, 3)
    expected = torch.autograd.grad(loss(model), [model.weight, model.bias])
    weights = {name: tensor.detach() for name, tensor in model.named_parameters()}
    for target, closure in (
        (model, loss),
        (weights, lambda w: F.cross_entropy(F.linear(X, w["weight"], w["bias"]), Y)),
    ):
        with Distortion(target, closure) as distortion:
            value, grads = distortion.gradient(distortion.weights)
            assert value == pytest.approx(distortion.original)
            assert torch.allclose(grads["weight"], expected[0])
            assert torch.allclose(grads["bias"], expected[1])
            assert distortion.evaluations == 3


@pytest.mark.parametrize(
    "closure",
    [
        lambda w: float(w["a"].detach().square().sum()),
        lambda w: float(np.square(w["a"].numpy()).sum()),
        lambda w: w["a"].detach().sum(),
    ],
)
def test_a_loss_without_a_gradient_says_so(closure: Callable[[dict[str, Tensor]], object]) -> None:
    with Distortion({"a": torch.ones(3)}, closure) as distortion:
        assert distortion.gradient(distortion.weights) is None


def test_running_statistics_have_no_gradient_but_do_not_hide_the_others() -> None:
    model = network().eval()
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    with Distortion(state, lambda w: F.cross_entropy(torch.func.functional_call(model, w, (X,)), Y)) as distortion:
        _, grads = distortion.gradient(distortion.weights)
    assert set(grads) == {name for name, _ in model.named_parameters()}


def test_tied_weights_reach_the_closure_as_one_tensor() -> None:
    shared = torch.randn(4, 4)

    def closure(w: dict[str, Tensor]) -> Tensor:
        assert w["in"] is w["out"]
        return (w["in"] @ w["out"]).square().sum()

    with Distortion({"in": shared, "out": shared}, closure) as distortion:
        _, grads = distortion.gradient(distortion.weights)
    reference = shared.clone().requires_grad_()
    (expected,) = torch.autograd.grad((reference @ reference).square().sum(), reference)
    assert torch.allclose(grads["in"], expected)


def test_a_closure_that_changes_its_argument_changes_nobodys_weights() -> None:
    weights = {"a": torch.ones(3)}

    def closure(w: dict[str, Tensor]) -> float:
        w["a"].mul_(2)
        return float(w["a"].sum())

    with Distortion(weights, closure) as distortion:
        assert distortion.loss(distortion.weights) == distortion.original == 6
    assert weights["a"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.ones(2), r"loss_fn: expected a float or a 0-d tensor, got a tensor of shape \(2,\)"),
        ("high", "loss_fn: expected a float or a 0-d tensor, got str"),
        (np.ones((1, 2)), r"loss_fn: expected a float or a 0-d tensor, got an array of shape \(1, 2\); take its mean"),
        (torch.tensor(1j), r"loss_fn: expected a float or a 0-d tensor, got a complex number; take its abs\(\)"),
        (np.complex64(1j), r"loss_fn: expected a float or a 0-d tensor, got a complex number; take its abs\(\)"),
        (np.array("high"), "loss_fn: expected a float or a 0-d tensor, got an array of <U4"),
        (torch.ones((), device="meta"), "loss_fn: expected a float or a 0-d tensor, got a tensor on the meta device"),
        (float("nan"), "loss_fn: expected a finite loss of the original weights, got nan"),
        (torch.tensor(float("inf")), "loss_fn: expected a finite loss of the original weights, got inf"),
    ],
)
def test_losses_that_are_not_usable_are_refused(value: object, words: str) -> None:
    with pytest.raises(InputError, match=words), Distortion({"a": torch.ones(3)}, lambda w: value):
        pass


@pytest.mark.filterwarnings("error")
def test_a_loss_that_is_to_be_awaited_is_refused_and_closed() -> None:
    async def loss(weights: object) -> float:
        return 0.0

    words = "loss_fn: expected a float or a 0-d tensor, got a coroutine; define it by def, not by async def"
    with pytest.raises(InputError, match=words), Distortion({"a": torch.ones(3)}, loss):
        pass
    gc.collect()


@pytest.mark.parametrize("value", [np.array(1.5), np.float32(1.5), np.array(1.5, dtype=np.float16), np.bool_(True), np.int8(2)])
def test_numbers_of_numpy_are_losses(value: object) -> None:
    with Distortion({"a": torch.ones(3)}, lambda w: value) as distortion:
        assert distortion.original == float(value)


def test_other_arguments_that_are_not_usable_are_refused() -> None:
    with pytest.raises(InputError, match="loss_fn: expected a function of the model, got int"):
        Distortion({"a": torch.ones(3)}, 3)
    with pytest.raises(InputError, match="'a' holds 1 values that are NaN"):
        Distortion({"a": torch.tensor([1.0, float("nan")])}, lambda w: 0.0)


def test_a_mean_loss_is_the_mean_and_its_parts_average_to_it() -> None:
    model = nn.Linear(6, 3)
    whole = MeanLoss(lambda net, x, y: F.cross_entropy(net(x), y, reduction="none"), X, Y, batch=7)
    assert whole(model).item() == pytest.approx(F.cross_entropy(model(X), Y).item(), rel=1e-6)
    parts = [whole.part(rows)(model).item() for rows in torch.randperm(50).split(10)]
    assert np.mean(parts) == pytest.approx(whole(model).item(), rel=1e-5)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=9)
    assert loss_from(whole.per_example, loader)(model).item() == pytest.approx(whole(model).item(), rel=1e-6)
    with Distortion(model, whole) as distortion:
        distortion.gradient(distortion.weights, torch.arange(10))
        assert distortion.evaluations == pytest.approx(3 * 10 / 50)


def test_a_mean_loss_refuses_what_does_not_fit() -> None:
    def per_example(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(net(x), y)

    with pytest.raises(InputError, match="targets: expected one row for each of the inputs and at least one, got 4 for 50"):
        MeanLoss(per_example, X, Y[:4])
    with pytest.raises(InputError, match="batch: expected at least 1 row, got 0"):
        MeanLoss(per_example, X, Y, batch=0)
    with pytest.raises(
        InputError, match=r"per_example: expected one loss for each of 50 rows, got shape \(\); use reduction='none'"
    ):
        MeanLoss(per_example, X, Y)(nn.Linear(6, 3))
    with pytest.raises(InputError, match="data: expected at least one batch"):
        loss_from(per_example, [])


@pytest.mark.parametrize("drift", [0.01, math.nan])
def test_a_loss_that_changes_between_calls_is_refused(drift: float) -> None:
    losses = iter([1.0, 1.0 + drift])
    message = r"loss_fn: expected the same loss of the same weights each time, got 1 and then (1.01|nan); let it see the same"
    with pytest.raises(InputError, match=message), Distortion({"w": torch.ones(2)}, lambda _: next(losses)):
        pass


def test_a_lossless_answer_has_the_loss_of_the_original() -> None:
    calls = itertools.count()
    with pytest.raises(InputError, match="loss_fn: expected the same loss of the same weights each time"):
        estimate({"w": torch.randn(9)}, lambda _: 1.0 if next(calls) < 2 else 2.0, 0)


def test_sums_in_another_order_are_no_change() -> None:
    calls = itertools.count()
    with Distortion({"w": torch.ones(2)}, lambda _: 1.0 + 1e-5 * next(calls)) as distortion:
        assert distortion.original == 1.0


def test_a_loss_that_leaves_the_program_is_said_to() -> None:
    with pytest.raises(InputError, match="loss_fn: it raised SystemExit: 3"):
        estimate({"w": torch.randn(9)}, lambda _: sys.exit(3), 0.1)
