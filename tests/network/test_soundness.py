"""Faults of a loss that are refused, and those that give a warning: noise, random numbers, modes, gradients, and ignored weights."""

import html
import itertools
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout
from torch.utils.data import DataLoader, TensorDataset

from nncomplexity import InputError, Tracker, estimate, rate_distortion
from nncomplexity.cli.curve_table import curve_table
from nncomplexity.cli.table import measured
from nncomplexity.cli.track_table import tracked
from nncomplexity.measure import Report, reports_json
from nncomplexity.network import Distortion, MeanLoss, Probe
from nncomplexity.network import random as random_weights
from nncomplexity.network.modes import modules_named_in
from nncomplexity.network.probes import changed, slightly_changed
from nncomplexity.words import Relative
from tests.cases import cross_entropy_of

X = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def network(*, drop: float = 0.0, norm: bool = False) -> nn.Sequential:
    """A network that knows the labels of X: its first layer passes the inputs on."""
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6) if norm else nn.Identity(), nn.Dropout(drop), nn.Linear(6, 3))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(6) + 0.05 * torch.randn(6, 6, generator=generator))
        model[3].weight.copy_(4 * torch.eye(3, 6) + 0.05 * torch.randn(3, 6, generator=generator))
        model[0].bias.copy_(0.01 * torch.randn(6, generator=generator))
        model[3].bias.copy_(0.01 * torch.randn(3, generator=generator))
    return model


loss = cross_entropy_of(X, Y)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def warned(model: nn.Module | Mapping[str, Tensor], closure: Callable[[Any], Any], **options: Any) -> tuple[str, ...]:
    report = estimate(model, closure, 0.05, **{"budget": 24, **options})
    assert isinstance(report, Report)
    return tuple(warning for warning in report.warnings if "descent was lost" not in warning)


# --- the same loss of the same weights


def noisy(amplitude: float) -> Callable[[nn.Module], Tensor]:
    draws = np.random.default_rng(3)
    return lambda model: 9 + loss(model) + amplitude * float(draws.uniform(-1, 1))


@pytest.mark.parametrize("as_mapping", [False, True])
@pytest.mark.parametrize("share", [0.3, 1.0, 4.0])
def test_noise_as_large_as_eps_is_refused(share: float, as_mapping: bool) -> None:
    model, closure = network(), noisy(share * 0.001)
    target = tensors_of(model) if as_mapping else model

    def of_mapping(weights: Mapping[str, Tensor]) -> Tensor:
        return closure(lambda x: torch.func.functional_call(model, weights, (x,)))

    words = (
        r"loss_fn: expected the same loss for the same weights each time, got 9\.\d+ and then 9\.\d+; the difference is .* an ε of"
    )
    with pytest.raises(InputError, match=words):
        estimate(target, of_mapping if as_mapping else closure, [0.1, 0.001], budget=20)


def test_noise_that_is_little_of_eps_narrows_what_is_accepted_and_is_said() -> None:
    with Distortion(network(), noisy(0.0005), eps=0.05) as distortion:
        scatter = distortion.sound.scatter
        assert 0.0002 < scatter <= 0.001
        assert distortion.tolerance(0.05) == pytest.approx(0.05 - scatter)
    (warning,) = warned(network(), noisy(0.0005))
    assert warning.startswith("Losses of the same weights differ by up to 0.0")


def test_what_rounds_otherwise_each_time_is_no_noise() -> None:
    signs = itertools.cycle([1, -1])
    assert warned(network(), lambda model: loss(model) * (1 + 1e-7 * next(signs))) == ()


def test_a_loss_that_drifts_while_it_is_searched_is_refused_in_the_end() -> None:
    calls = itertools.count()

    def drifting(weights: Mapping[str, Tensor]) -> Tensor:
        return weights["w"].square().mean() + (0.01 if next(calls) > 10 else 0.0)

    with pytest.raises(InputError, match="expected the same loss for the same weights each time"):
        estimate({"w": torch.linspace(-1, 1, 30)}, drifting, 0.05, method="quantize", budget=12)


@pytest.mark.parametrize("as_mapping", [True, False])
@pytest.mark.parametrize(("eps", "calls"), [(0.05, 3), (0.05, 4), (0.05, 8), (0.05, 15), (Relative(0.2), 8), (Relative(0.2), 15)])
def test_a_loss_that_is_one_number_once_it_was_called_a_few_times(eps: float | Relative, calls: int, as_mapping: bool) -> None:
    weights = {"w": torch.linspace(-1, 1, 40)}
    module = nn.Module()
    module.w = nn.Parameter(weights["w"].clone())
    called = 0

    def loss(network: Any) -> Any:
        nonlocal called
        called += 1
        tensor = network["w"] if as_mapping else network.w
        return (tensor.double() ** 2).mean() if called <= calls else (weights["w"].double() ** 2).mean()

    words = "expected the same loss for the same weights each time, got .* for slightly changed weights before the search and .* after it"
    with pytest.raises(InputError, match=words):
        estimate(weights if as_mapping else module, loss, eps, budget=20)


def test_batches_by_a_generator_of_the_users_own_are_refused() -> None:
    generator = torch.Generator().manual_seed(0)

    def batch(model: nn.Module) -> Tensor:
        rows = torch.randint(len(X), (32,), generator=generator)
        return cross_entropy(model(X[rows]), Y[rows])

    with pytest.raises(InputError, match="expected the same loss for the same weights each time"):
        estimate(network(), batch, 0.05, budget=20)


# --- random numbers


@pytest.mark.parametrize("draw", [lambda: float(torch.rand(())), np.random.rand, random.random])
def test_random_numbers_are_said_and_do_not_hang_on_the_global_seed(draw: Callable[[], float]) -> None:
    def closure(model: nn.Module) -> Tensor:
        return loss(model) + 0.1 * draw()

    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        found.append(estimate(network(), closure, 0.05, budget=24))
    assert found[0].loss == found[1].loss
    assert found[0].file.content == found[1].file.content
    (warning,) = found[0].warnings
    assert warning.startswith(f"The loss draws random numbers: it is {found[0].loss:.7g} with one state of the generators and 0.")


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_that_only_shuffles_draws_nothing_that_counts(shuffle: bool) -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=25, shuffle=shuffle)

    def whole(model: nn.Module) -> Tensor:
        return torch.stack([cross_entropy(model(x), y, reduction="sum") for x, y in loader]).sum() / len(X)

    assert warned(network(), whole) == ()


def test_a_shuffled_loader_s_first_batch_is_one_draw_of_many() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=25, shuffle=True)

    def first(model: nn.Module) -> Tensor:
        x, y = next(iter(loader))
        return cross_entropy(model(x), y)

    assert warned(network(), first)[0].startswith("The loss draws random numbers")


# --- training mode


def test_training_mode_is_said_where_it_counts_with_the_loss_in_eval_mode() -> None:
    assert warned(network(), loss) == ()
    assert warned(network(drop=0.3), lambda model: loss(model.eval())) == ()
    drawn, mode = warned(network(drop=0.3), loss)
    assert drawn.startswith("The loss draws random numbers")
    assert mode.endswith(
        f"in eval mode the loss is {loss(network()).item():.7g}. Call eval() on it, or in the loss, if you want eval mode."
    )
    (mode,) = warned(network(norm=True), loss)
    assert mode.startswith("The network is in training mode, with the loss")


def test_a_default_dropout_of_functional_is_a_draw() -> None:
    (drawn,) = warned(network(), lambda model: cross_entropy(dropout(model(X), 0.2), Y))
    assert drawn.startswith("The loss draws random numbers")


def test_a_network_around_the_closure_is_looked_at_as_well_and_stays_as_it_is() -> None:
    around = network(norm=True)
    weights = tensors_of(around)
    (mode,) = warned(weights, lambda w: cross_entropy(torch.func.functional_call(around, w, (X,)), Y))
    assert mode.startswith("The network is in training mode")
    assert all(part.training for part in around.modules())


def test_a_class_that_reads_its_mode_is_looked_at() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (2 if self.training else 1)

    torch.manual_seed(0)
    (mode,) = warned(nn.Sequential(Doubled(6, 3)), loss)
    assert mode.startswith("The network is in training mode")


# --- gradients


def detached(model: nn.Module) -> Tensor:
    return loss(model).detach()


@pytest.mark.parametrize(
    ("closure", "reason"),
    [
        (lambda model: loss(model).item(), r"it returned a float \(return the tensor, not its .item\(\)\)"),
        (detached, "the returned tensor was computed under torch.no_grad"),
        (torch.no_grad()(loss), "the returned tensor was computed under torch.no_grad"),
    ],
)
def test_a_loss_without_a_gradient_is_said_with_the_reason(closure: Callable[[nn.Module], Any], reason: str) -> None:
    report = estimate(network(), closure, 0.05, budget=24)
    (warning,) = report.warnings
    assert warning.startswith("The loss has no gradient with respect to the weights: ")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(warning)
    assert "gradient" in report.status
    assert report.status.startswith(report.outcome)


def test_weights_that_are_loaded_into_another_module_have_no_gradient() -> None:
    other = network()

    def loaded(weights: Mapping[str, Tensor]) -> Tensor:
        other.load_state_dict(weights)
        return loss(other)

    (warning,) = warned(tensors_of(network()), loaded)
    assert "load_state_dict and .data cut it; torch.func.functional_call(module, weights, inputs) doesn't" in warning


def test_a_gradient_that_fails_is_said_with_what_was_raised() -> None:
    def refused(model: nn.Module) -> Tensor:
        if torch.is_grad_enabled():
            raise RuntimeError("no derivative of this")
        return loss(model)

    (warning,) = warned(network(), refused)
    assert "the call raised RuntimeError: no derivative of this (tests/network/test_soundness.py, line" in warning


def test_tensors_that_no_gradient_reaches_are_named() -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.spare = network(), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    (warning,) = warned(Partly(), loss)
    assert warning.startswith("No gradient reaches 2 of the 6 tensors that may have one (spare.weight, spare.bias)")


def test_methods_that_take_no_gradient_do_not_miss_it() -> None:
    assert warned(network(), detached, method="quantize", budget=8) == ()


# --- weights that are ignored


@pytest.mark.parametrize("as_mapping", [False, True])
def test_a_loss_that_measures_another_network_is_said_to(as_mapping: bool) -> None:
    live = network()
    report = estimate(tensors_of(live) if as_mapping else live, lambda _: loss(live), 0.05, budget=24)
    assert report.warnings[0].startswith(
        f"The loss ignores the weights that it is given: it is {report.loss:.6g} for random weights"
    )
    assert "weights" in report.status


def test_a_loss_that_is_the_same_nearby_is_not_taken_for_one_that_ignores_weights() -> None:
    assert all("ignores" not in one for one in warned(network(), lambda model: (model(X).argmax(1) != Y).float().mean()))


def test_what_a_lossless_answer_needs_not_to_know_is_not_looked_at() -> None:
    calls = []
    estimate({"w": torch.randn(9)}, lambda w: calls.append(w) or float(w["w"].sum()), 0)
    assert len(calls) == 4  # one of them of all weights zero


# --- where warnings are shown


def test_warnings_stand_in_the_table_once_and_with_each_result_in_json() -> None:
    reports = estimate(network(), detached, [0.1, 0.05], budget=24)
    page = measured("net", reports, [None, None], [None, None], width=1000)
    assert page.splitlines().count(f"Warning: {reports[0].warnings[0]}") == 1
    assert reports_json(reports).count('"warnings"') == 2
    assert reports[1].to_dict()["warnings"] == list(reports[0].warnings)


def test_so_they_do_in_notebooks_curves_and_rows() -> None:
    curve = rate_distortion(network(), detached, [0.2, 0.1], budget=24)
    (warning,) = curve.reports[0].warnings
    assert curve_table("net", curve, width=1000).splitlines().count(f"Warning: {warning}") == 1
    assert warning in html.unescape(curve.reports[0]._repr_html_())
    rows = [Tracker(detached, 0.1, budget=24)(step, network()) for step in (1, 2)]
    assert [row["warnings"] for row in rows] == [[warning], [warning]]
    assert tracked(rows, width=1000).splitlines().count(f"Warning: {warning}") == 1


class Evaluator:
    """A loss that is a method, with its own network in training mode."""

    def __init__(self) -> None:
        self.around = network(norm=True)

    @torch.no_grad()
    def loss(self, weights: Mapping[str, Tensor]) -> Tensor:
        return cross_entropy(torch.func.functional_call(self.around, dict(weights), (X,)), Y)


def test_modules_are_found_in_an_object_whose_method_the_loss_is_and_behind_decorators() -> None:
    evaluator = Evaluator()
    assert modules_named_in(evaluator.loss) == [evaluator.around]
    around = evaluator.around
    assert modules_named_in(torch.no_grad()(lambda weights: around)) == [around]
    assert modules_named_in(MeanLoss(lambda net, x, y: around(x), X, Y)) == [around]
    assert modules_named_in(len) == []


# --- the weights that a loss is tried on


@pytest.mark.parametrize("change", [lambda weights: Probe(weights, changed), slightly_changed], ids=["one by one", "together"])
def test_probes_change_every_number_and_no_sign_or_mask(change: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "w": torch.randn(50, generator=generator).half(),
        "v": torch.randn(5, 2, generator=generator).half(),
        "large": torch.randn(2000, generator=generator).half(),
        "variance": torch.rand(50, generator=generator),
        "mask": torch.full((3, 3), -torch.inf).triu(1),
        "count": torch.tensor(4),
        "zero": torch.zeros(3),
    }
    near, far = change(weights), Probe(weights, random_weights)
    assert list(near) == list(weights)
    assert all(near[name].dtype == weights[name].dtype for name in weights)
    for name in ("w", "v", "large", "variance"):
        assert torch.equal(near[name].sign(), weights[name].sign())
        assert (near[name] != weights[name]).float().mean() > 0.8
        assert (near[name] - weights[name]).abs().le(0.1 * weights[name].abs() + 1e-3).all()
    assert bool((far["variance"] >= 0).all())
    assert bool((far["zero"] != 0).all())
    for probe in (near, far):
        assert all(probe[name] is weights[name] for name in ("mask", "count"))
        assert torch.equal(probe["w"], probe["w"])
