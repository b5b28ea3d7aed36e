"""What `tight` guarantees in addition to the contract of all searches."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from nncomplexity import InputError, estimate
from nncomplexity.network import MeanLoss
from nncomplexity.search import Quantize, StopSearch, Tight
from tests.cases import MANY_EPS, two_layers


@pytest.mark.parametrize("seed", range(4))
def test_never_larger_than_algorithm_2(seed):
    weights, loss = two_layers(seed)
    for eps in (1.0, 0.1, 0.01):
        most = estimate(weights, loss, eps, method="quantize").bits
        for budget in (30, 100):
            assert estimate(weights, loss, eps, budget=budget).bits <= most


def test_algorithm_2_is_the_floor_where_the_search_finds_nothing_of_its_own():
    # A loss that jumps wherever a weight is no multiple of one of Algorithm 2's steps has no gradient to follow.
    step = Quantize().grid()[45]
    generator = torch.Generator().manual_seed(0)
    weights = {
        "w": torch.randint(-3, 4, (16, 16), generator=generator) * step + 0.2 * step * torch.rand(16, 16, generator=generator)
    }
    wanted = (weights["w"] / step).round()

    def loss(weights):
        return float(((weights["w"] / step - wanted).abs() > 0.25).any())

    tight, quantize = (estimate(weights, loss, 0.5, method=method, budget=62) for method in ("tight", "quantize"))
    assert quantize.within
    assert tight.bits <= quantize.bits


def test_zeros_and_ones_stay_as_they_are():
    """Biases and gains as they are made. Moved, an all-zero bias would first change by a whole step, out of all proportion to the weights."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(12, 40), torch.nn.LayerNorm(40), torch.nn.ReLU(), torch.nn.Linear(40, 6))
    torch.nn.init.zeros_(network[0].bias)
    x = torch.randn(64, 12)
    wanted = network(x).detach()
    report = estimate(network, lambda network: (network(x) - wanted).square().mean() / wanted.square().mean(), 0.05, budget=400)
    assert report.within
    forms = {layer.name: layer.form for layer in report.layers}
    assert [forms[name] for name in ("0.bias", "1.weight", "1.bias")] == ["zero", "constant", "zero"]
    coarse = report.coarse_weights()
    assert torch.equal(coarse["0.bias"], torch.zeros(40))
    assert torch.equal(coarse["1.weight"], torch.ones(40))
    assert report.bits < 0.25 * report.subject.least_lossless


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_network_of_zeros_or_ones_alone_is_its_own_answer(value):
    weights = {"w": torch.full((8, 6), value), "b": torch.zeros(8)}
    for many in ([0.5], MANY_EPS):
        for report in estimate(
            weights, lambda given: (given["w"].sum() - weights["w"].sum()).square(), many, method=Tight(budget=60)
        ):
            assert report.within
            assert report.distortion == 0
            assert report.bits == report.subject.least_lossless


@pytest.mark.parametrize("seed", [0, 1])
def test_a_larger_budget_never_gives_a_larger_file(seed):
    weights, loss = two_layers(hidden=40, features=28)
    sizes = [estimate(weights, loss, 0.1, budget=budget, seed=seed).bits for budget in (10, 37, 100, 400, 1000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.6 * sizes[0]


def test_a_search_without_a_budget_stops_once_a_doubling_saves_little():
    weights, loss = two_layers()
    method = Tight(first=32, most=2048, gain=0.5)
    report = estimate(weights, loss, 0.1, method=method)
    assert report.converged
    assert report.last_gain < 0.5
    assert report.evaluations < 0.75 * estimate(weights, loss, 0.1, method=replace(method, gain=0.0)).evaluations
    assert report.outcome.endswith("; converged")
    # An effort that was cut short tells how much the last doubling saved.
    cut = estimate(weights, loss, 0.1, method=Tight(most=Tight().first * 4, gain=0.0))
    assert cut.converged is False
    assert f"still falling: −{100 * cut.last_gain:.0f} % in the last doubling of the effort" in cut.outcome
    assert cut.to_dict()["converged"] is False


def test_a_budget_is_spent_even_where_the_search_has_converged():
    weights, loss = two_layers()
    report = estimate(weights, loss, 0.1, budget=3000)
    assert 2990 <= report.evaluations <= 3000


def test_small_eps_is_no_reason_to_end_on_uniform_quantization():
    weights, loss = two_layers(hidden=40, features=28)
    for eps in (0.1, 0.01):
        report = estimate(weights, loss, eps, seed=1, budget=1200)
        assert report.origin == "descent"
        assert report.bits < 0.5 * estimate(weights, loss, eps, method="quantize", codec="entropy").bits


@pytest.mark.parametrize("budget", [7, 20, 61, 150, 333])
def test_no_more_evaluations_are_spent_than_the_budget_where_minibatches_differ_in_size(budget: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(800, 6, generator=generator), {"w": torch.randn(24, 6, generator=generator)}
    loss = MeanLoss(lambda w, x, y: (x @ w["w"].T - y).square().sum(1), x, x @ weights["w"].T)
    assert estimate(weights, loss, 0.05, budget=budget).evaluations <= budget


@pytest.mark.parametrize("method", [Tight(budget=300), Tight(first=32, most=128)])
def test_each_of_many_eps_has_the_file_of_a_single_search_or_a_smaller_one_of_another_eps(method: Tight) -> None:
    weights, loss = two_layers(hidden=40, features=28)
    many = MANY_EPS[::2]
    reports = estimate(weights, loss, many, method=method, seed=1)
    alone = [estimate(weights, loss, eps, method=method, seed=1) for eps in many]
    assert [report.eps for report in reports] == many
    for report, single in zip(reports, alone, strict=True):
        assert abs(float(loss(report.coarse_weights())) - float(loss(weights))) <= report.eps
        assert report.evaluations == pytest.approx(single.evaluations, rel=0.02)  # they share some
        within = [one for one in alone if one.distortion <= report.eps]
        assert report.file.content == min(within, key=lambda one: one.bits).file.content


def test_searches_for_many_eps_that_are_stopped_have_the_answer_of_the_smallest_eps():
    weights, loss = two_layers(hidden=40, features=28)
    stopped = False

    def stop(done, _total, _what):
        nonlocal stopped
        stopped |= done > 60
        if stopped:
            raise StopSearch

    reports = estimate(weights, loss, MANY_EPS, method=Tight(budget=100), progress=stop)
    assert sum(report.evaluations for report in reports) < 75
    assert all(report.within for report in reports)
    assert len({report.file.content for report in reports}) == 1
    assert reports[0].bits < reports[0].subject.least_lossless


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"first": 0}, r"^first: expected a whole number of at least 1, got 0$"),
        ({"passes": -1}, r"^passes: expected a whole number of at least 0, got -1$"),
        ({"gain": float("inf")}, r"^gain: expected a finite number of at least 0, got inf$"),
        (
            {"target": 1.5},
            r"^settings: expected target in \(0, 1\], soft in \[0, 1\] and bound of at least 1, got 1.5, 0.5 and 5.0$",
        ),
        ({"budget": 0}, r"^budget: expected a number of loss evaluations, at least 1, got 0$"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(InputError, match=words):
        Tight(**settings)


def test_a_gradient_that_runs_out_of_memory_is_no_loss_without_one():
    weights, loss = two_layers()

    def hungry(weights):
        if torch.is_grad_enabled() and weights["one"].requires_grad:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        return loss(weights)

    with pytest.raises(InputError, match=r"^loss_fn: its gradient ran out of memory .* a loss that can be divided"):
        estimate(weights, hungry, 0.1, budget=50)


def test_seeds_part_and_each_gives_one_file():
    weights, loss = two_layers(hidden=40, features=28)
    files = [estimate(weights, loss, 0.1, budget=1200, seed=seed).file.content for seed in (0, 1, 2, 1)]
    assert files[1] == files[3]
    assert len(set(files)) == 3


def test_a_network_that_divides_by_a_norm_of_its_weights_is_searched_like_others() -> None:
    """Its loss at all weights zero is no number, by which a start could be measured."""
    generator = torch.Generator().manual_seed(0)
    examples = torch.randn(200, 64, generator=generator)
    weights = {"v": torch.randn(64, 96, generator=generator), "w": torch.randn(96, 10, generator=generator)}

    def logits(w: dict[str, Tensor]) -> Tensor:
        return 5 * torch.relu(examples @ (w["v"] / w["v"].norm(dim=0))) @ (w["w"] / w["w"].norm(dim=0))

    labels = logits(weights).argmax(1)

    def loss(w: dict[str, Tensor]) -> Tensor:
        return cross_entropy(logits(w), labels)

    assert loss({name: torch.zeros_like(tensor) for name, tensor in weights.items()}).isnan()
    found = estimate(weights, loss, 0.1, budget=1500)
    assert found.within
    assert found.bits < 0.5 * estimate(weights, loss, 0.1, method="quantize").bits


def test_with_a_small_budget_each_eps_of_a_curve_has_a_file_of_its_own() -> None:
    """No descent gets to a candidate: all files are bit allocation's."""
    generator = torch.Generator().manual_seed(5)
    weights = {name: torch.randn(*shape, generator=generator) for name, shape in {"a": (16, 12), "b": (5, 16), "c": (5,)}.items()}
    x = torch.randn(200, 12, generator=generator)
    wanted = torch.tanh(x @ weights["a"].T) @ weights["b"].T + weights["c"]

    def loss(given: dict[str, torch.Tensor]) -> torch.Tensor:
        return (torch.tanh(x @ given["a"].T) @ given["b"].T + given["c"] - wanted).square().mean()

    eps = [1.0, 0.3, 0.1, 0.03]
    curve = estimate(weights, loss, eps, method=Tight(budget=90))
    assert sum(report.evaluations for report in curve) <= 90 * 4 + 1
    bits = [report.bits for report in curve]
    assert bits == sorted(set(bits))
