"""The counted loss: its measurement changes nothing of the user's."""

import gc
import itertools
import math
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from nncomplexity import estimate
from nncomplexity.dynamics import Tracker
from nncomplexity.errors import InputError
from nncomplexity.measure import rate_distortion
from nncomplexity.network import Distortion, MeanLoss, loss_from
from tests.cases import cross_entropy_of

X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(50) % 3


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))


loss = cross_entropy_of(X, Y)


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


@pytest.mark.parametrize("kind", [nn.Linear, Uncopiable])
def test_what_autocast_keeps_of_other_weights_is_not_measured(kind: type[nn.Linear]) -> None:
    """Autocast keeps the cast of each parameter until its outermost context ends."""
    model = kind(6, 3)
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, 6, generator=torch.Generator().manual_seed(2)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = loss(model).item()
        report = estimate(model, loss, 0.1, budget=30)
        assert loss(model).item() == before
    assert report.within
    assert report.bits > 0
    model.load_state_dict(report.coarse_weights())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(model).item() == report.coarse_loss != report.subject.loss


def test_gradients_within_autocast_are_those_of_the_weights_given() -> None:
    model = nn.Linear(6, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16), Distortion(model, loss) as distortion:
        doubled = {name: 2 * tensor for name, tensor in distortion.weights.items()}
        value, grads = distortion.gradient(doubled)
        assert value == distortion.loss(doubled) != distortion.original
        assert grads["weight"].any()


def test_a_user_function_within_autocast_sees_the_weights_that_it_is_given() -> None:
    model, given = nn.Linear(6, 3), []

    def risk(weights: dict[str, Tensor]) -> float:
        model.load_state_dict(weights)
        given.append(loss(model).item())
        return 0.5

    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        curve = rate_distortion(weights, lambda w: w["weight"].square().mean(), [0.02, 0.002], risk=risk, n=50, budget=20)
        row = Tracker(lambda net: loss(net), 0.1, metrics={"again": lambda net: loss(net)}, budget=20)(1, nn.Linear(6, 3))
    assert len(given) > len({report.file.content for report in curve.reports})
    assert len(set(given)) == len(given)
    assert (row["again"], row["again@0.1"]) == (row["loss"], row["coarse_loss@0.1"])


def test_threads_take_turns_at_the_random_state() -> None:
    model = network().train()
    torch.manual_seed(3)

    def measured(seed: int) -> bytes:
        return estimate(model, lambda net: loss(net) + 0.01 * np.random.rand(), 0.2, budget=12, seed=seed).file.content

    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    alone = [measured(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(measured, range(4))) == alone
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


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
        pytest.param(10**400, "loss_fn: expected a float or a 0-d tensor, got an int beyond the range of floats", id="10**400"),
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


@pytest.mark.filterwarnings("error")
def test_a_loss_that_asks_for_a_gradient_is_taken_without_a_warning() -> None:
    def closure(weights: dict[str, Tensor]) -> Tensor:
        with torch.enable_grad():
            return weights["a"].clone().requires_grad_().square().sum()

    with Distortion({"a": torch.ones(3)}, closure) as distortion:
        assert distortion.original == 3


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


def test_the_loss_and_the_gradient_over_some_rows_are_those_of_these_rows_alone() -> None:
    model, rows = nn.Linear(6, 3), torch.tensor([4, 11, 30])
    expected = F.cross_entropy(model(X[rows]), Y[rows])
    expected_grads = torch.autograd.grad(expected, [model.weight, model.bias])
    whole = MeanLoss(lambda net, x, y: F.cross_entropy(net(x), y, reduction="none"), X, Y)
    with Distortion(model, whole) as distortion:
        assert distortion.loss(distortion.weights, rows) == pytest.approx(expected.item(), rel=1e-6)
        assert distortion.evaluations == pytest.approx(3 / 50)
        value, grads = distortion.gradient(distortion.weights, rows)
    assert value == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(grads["weight"], expected_grads[0], atol=1e-6)
    assert torch.allclose(grads["bias"], expected_grads[1], atol=1e-6)


def test_a_mean_loss_refuses_what_does_not_fit() -> None:
    def per_example(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(net(x), y)

    with pytest.raises(InputError, match="targets: expected one row for each of the inputs and at least one, got 4 for 50"):
        MeanLoss(per_example, X, Y[:4])
    with pytest.raises(InputError, match="batch: expected a whole number of at least 1, got 0"):
        MeanLoss(per_example, X, Y, batch=0)
    with pytest.raises(InputError, match="batch: expected a whole number of at least 1, got None"):
        MeanLoss(per_example, X, Y, batch=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="per_example: expected a function of a network, inputs and targets, got NoneType"):
        MeanLoss(None, X, Y)  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"per_example: expected a tensor with one loss for each of 50 rows, got shape \(\); use reduction='none'"
    ):
        MeanLoss(per_example, X, Y)(nn.Linear(6, 3))
    with pytest.raises(InputError, match="per_example: expected a tensor with one loss for each of 50 rows, got list"):
        MeanLoss(lambda _, x, y: [0.0] * len(x), X, Y)(nn.Linear(6, 3))  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="data: expected at least one batch"):
        loss_from(per_example, [])


@pytest.mark.parametrize(
    ("data", "came"),
    [
        (5, "a DataLoader of pairs, got int"),
        ((X.numpy(), Y.numpy()), "pairs of tensors .* got a ndarray"),
        ((X, Y.numpy()), "got a tuple of Tensor, ndarray"),
        ((X, Y, Y), "got a tuple of Tensor, Tensor, Tensor"),
        ([(X, Y[:3]), (X[:3], Y)], "as many targets as inputs in a batch, got 3 for 50"),
        (DataLoader(TensorDataset(X)), "got a list of Tensor"),
        (DataLoader(TensorDataset(X, Y, Y)), "got a list of Tensor, Tensor, Tensor"),
        ([{"x": X}], "got a dict"),
        (TensorDataset(X, Y), "a DataLoader of pairs, got TensorDataset"),
    ],
)
def test_data_that_are_no_pairs_of_tensors_are_refused(data: Any, came: str) -> None:
    with pytest.raises(InputError, match=f"data: expected .*{came}"):
        loss_from(lambda net, x, y: F.cross_entropy(net(x), y, reduction="none"), data)


@pytest.mark.parametrize(
    ("data", "came"),
    [
        (
            [(X, Y), (X[:, :3], Y)],
            r"inputs with rows of one shape, got \(50, 6\) in the first batch and \(50, 3\) in batch 2; pad",
        ),
        (
            [(X, X), (X, X[:, :3])],
            r"targets with rows of one shape, got \(50, 6\) in the first batch and \(50, 3\) in batch 2; pad",
        ),
        ([(X, Y), (X.to("meta"), Y)], "inputs on one device, got cpu and meta; move them to one"),
    ],
)
def test_batches_that_cannot_be_joined_are_refused(data: Any, came: str) -> None:
    with pytest.raises(InputError, match=f"data: expected {came}"):
        loss_from(lambda net, x, y: F.cross_entropy(net(x), y, reduction="none"), data)


def test_a_list_of_two_tensors_is_as_good_as_a_pair() -> None:
    loss = loss_from(lambda net, x, y: F.cross_entropy(net(x), y, reduction="none"), [X, Y])  # type: ignore[list-item]
    assert loss.examples == len(X)


@pytest.mark.parametrize("drift", [0.01, math.nan])
def test_a_loss_that_changes_between_calls_is_refused(drift: float) -> None:
    losses = iter([1.0, 1.0 + drift])
    message = r"loss_fn: expected the same loss for the same weights each time, got 1 and then (1.01|nan); let it use the same"
    with pytest.raises(InputError, match=message), Distortion({"w": torch.ones(2)}, lambda _: next(losses)):
        pass


def test_a_lossless_answer_has_the_loss_of_the_original() -> None:
    calls = itertools.count()
    with pytest.raises(InputError, match="loss_fn: expected the same loss for the same weights each time"):
        estimate({"w": torch.randn(9)}, lambda _: 1.0 if next(calls) < 2 else 2.0, 0)


def test_sums_in_another_order_are_no_change() -> None:
    calls = itertools.count()
    with Distortion({"w": torch.ones(2)}, lambda _: 1.0 + 1e-5 * next(calls)) as distortion:
        assert distortion.original == 1.0


def test_a_loss_that_leaves_the_program_is_said_to() -> None:
    with pytest.raises(InputError, match="loss_fn: it raised SystemExit: 3"):
        estimate({"w": torch.randn(9)}, lambda _: sys.exit(3), 0.1)
