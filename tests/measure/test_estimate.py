"""`estimate`: what every method must guarantee, on networks that are searched in a second."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncomplexity import InputError, StopSearch, estimate, load
from nncomplexity.bounds import bound, description_length
from nncomplexity.file import read
from nncomplexity.measure import reports_json
from nncomplexity.network import MeanLoss, skeleton_of
from nncomplexity.search import Bayes, Method, Quantize, Tight
from nncomplexity.search.factorizations import Factorizations, Shape, latents_at, ranks_that_pay
from nncomplexity.search.latent import candidate_of, rounded
from tests.cases import cross_entropy_of

METHODS: list[Method] = [Tight(budget=62), Bayes(budget=14), Quantize(budget=14)]


def examples() -> tuple[Tensor, Tensor]:
    """Inputs, and the answers of a teacher of rank 2."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 16, generator=generator)
    return x, (x @ torch.randn(16, 2, generator=generator) @ torch.randn(2, 4, generator=generator)).argmax(1)


X, Y = examples()


@pytest.fixture
def model() -> nn.Module:
    """A network that was trained briefly on these examples."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4))
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss(network).backward()
        optimizer.step()
    return network


loss = cross_entropy_of(X, Y)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_gives_a_file_that_decodes_within_eps(model: nn.Module, method: Method) -> None:
    reports = estimate(model, loss, [0.05, 0.5], method=method)
    for report in reports:
        decoded = read(report.file.content).weights()
        twin = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4))
        twin.load_state_dict(decoded, strict=True)
        with torch.no_grad():
            assert loss(twin).item() == report.coarse_loss
        assert report.distortion == abs(report.coarse_loss - report.loss) <= report.eps
        assert report.bits == 8 * len(report.file.payload)
        assert sum(layer.bits for layer in report.layers) + report.shared_bits == pytest.approx(report.bits)
        assert report.shared_bits >= -1e-6
        assert 0 < report.evaluations <= method.budget
        assert report.within
        assert report.bits < min(report.subject.lossless_bits.values())
    assert reports[1].bits <= reports[0].bits


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_one_seed_gives_one_file(model: nn.Module, method: Method) -> None:
    first, second = (estimate(model, loss, 0.1, method=method, seed=3) for _ in range(2))
    assert first.file.content == second.file.content


def test_the_searches_come_in_the_order_of_their_claims(model: nn.Module) -> None:
    tight, quantize = estimate(model, loss, 0.1, budget=250), estimate(model, loss, 0.1, method="quantize")
    assert tight.bits <= quantize.bits * 2 / 3
    assert tight.paper_bytes is None
    assert quantize.paper_bytes is not None


def test_a_larger_budget_that_begins_with_a_smaller_never_gives_a_larger_file(model: nn.Module) -> None:
    sizes = [estimate(model, loss, 0.1, budget=budget).bits for budget in (62, 250, 1500)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


def test_a_loss_without_a_gradient_is_searched_by_moves(model: nn.Module) -> None:
    def error(model: nn.Module) -> float:
        return float((model(X).argmax(1) != Y).double().mean())

    report = estimate(model, error, 0.05, budget=120)
    assert report.distortion <= 0.05
    assert report.evaluations <= 120
    assert report.bits < estimate(model, error, 0.05, method="quantize").bits


def test_a_loss_of_examples_is_followed_on_parts_and_answered_on_all(model: nn.Module) -> None:
    whole = MeanLoss(lambda net, x, y: F.cross_entropy(net(x), y, reduction="none"), X, Y)
    report = estimate(model, whole, 0.1, method=Tight(budget=100, batch=16))
    assert report.distortion <= 0.1
    assert report.evaluations <= 100
    assert report.evaluations != round(report.evaluations)


def test_zeros_and_unused_tensors_cost_next_to_nothing() -> None:
    weights = {"used": torch.randn(20, 20), "unused": torch.randn(300, 300), "zero": torch.zeros(50), "one": torch.ones(50)}
    report = estimate(weights, lambda w: (w["used"] - weights["used"]).square().mean(), 0.01, budget=200)
    assert {layer.name: layer.form for layer in report.layers}["unused"] == "zero"
    exact = estimate({"z": torch.zeros(100, 100), "o": torch.ones(100)}, lambda w: w["z"].sum() + w["o"].sum(), 0)
    assert exact.bits <= 8
    assert all(layer.bits <= 8 for layer in exact.layers)


def test_eps_zero_is_lossless_and_integers_stay_as_they_are() -> None:
    weights = {"w": torch.randn(9, 5), "n": torch.tensor(7), "b": torch.tensor([True, False]), "h": torch.randn(3).half()}
    report = estimate(weights, lambda w: w["w"].sum() + w["h"].float().sum(), 0)
    decoded = report.coarse_weights()
    assert report.within
    assert report.distortion == 0
    assert all(torch.equal(decoded[name], weights[name]) and decoded[name].dtype == weights[name].dtype for name in weights)
    near = estimate(weights, lambda w: w["w"].sum() + w["h"].float().sum(), 0.5, budget=40)
    assert torch.equal(near.coarse_weights()["n"], weights["n"])
    assert torch.equal(near.coarse_weights()["b"], weights["b"])


def test_nothing_within_eps_is_answered_by_the_lossless_file() -> None:
    weights = {"w": torch.randn(30)}
    report = estimate(weights, lambda w: 0.0 if torch.equal(w["w"], weights["w"]) else 1.0, 0.5, budget=20)
    assert not report.within
    assert torch.equal(report.coarse_weights()["w"], weights["w"])
    assert "nothing within ε = 0.5 was smaller than the lossless file; raise eps or the budget" in report.status


def test_tied_weights_are_coded_once_and_come_back_tied() -> None:
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    model[1].weight = model[0].weight
    report = estimate(model, lambda m: m(torch.eye(6)).square().sum(), 0.1, budget=40)
    assert report.subject.parameters == 36
    assert len(report.layers) == 1
    decoded = report.coarse_weights()
    assert decoded["0.weight"] is decoded["1.weight"]


def test_reports_save_load_and_say_what_they_measured(model: nn.Module, tmp_path) -> None:
    report = estimate(model, loss, 0.1, budget=40)
    report.save(tmp_path / "model.coarse")
    assert all(torch.equal(tensor, report.coarse_weights()[name]) for name, tensor in load(tmp_path / "model.coarse").items())
    content = json.loads(report.to_json())
    assert content["schema"] == 1
    assert content["results"][0]["bits"] == report.bits
    assert content["parameters"] == 16 * 24 + 24 + 24 * 4 + 4
    assert content["raw_bits"] == 32 * content["parameters"]
    assert json.loads(reports_json([report], checkpoint="x"))["checkpoint"] == "x"
    expected = bound(report.bits, risk=0.1, n=300, self_delimiting=False).value
    assert report.bound(risk=0.1, n=300).value == expected
    assert report.description_length(300) == description_length(report.bits, loss=report.coarse_loss, n=300)
    with pytest.raises(InputError, match="cannot write there"):
        report.save(tmp_path / "nowhere" / "model.coarse")


@pytest.mark.parametrize("eps", [np.array([0.1, 1.0]), torch.tensor([0.1, 1.0], dtype=torch.float64), (np.float64(0.1), 1)])
def test_eps_may_be_arrays(model: nn.Module, eps: np.ndarray | Tensor | tuple[float, ...]) -> None:
    reports = estimate(model, loss, eps, method=Quantize(budget=4))
    assert [(report.eps, type(report.eps)) for report in reports] == [(0.1, float), (1.0, float)]
    one = estimate(model, loss, eps[0], method=Quantize(budget=4))  # type: ignore[call-overload]
    assert one.eps == 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"eps": -0.1}, "eps: expected a finite number of at least 0, in the loss's unit, got -0.1"),
        ({"eps": float("nan")}, "eps: expected a finite number of at least 0"),
        ({"eps": "0.1"}, "eps: expected a finite number of at least 0"),
        ({"eps": np.ones((2, 2))}, r"eps: expected a finite number of at least 0, in the loss's unit, got \[1.0, 1.0\]"),
        ({"eps": np.array([])}, "eps: expected at least one value, got none"),
        ({"eps": []}, "eps: expected at least one value, got none"),
        ({"eps": 0.1, "method": "best"}, "method: expected one of tight, allocate, bayes, quantize, got 'best'"),
        ({"eps": 0.1, "codec": "rar"}, "codec: expected one of entropy, bzip2"),
        ({"eps": 0.1, "budget": 0}, "budget: expected a number of loss evaluations, at least 1, got 0"),
        ({"eps": 0.1, "method": Tight(), "budget": 9}, "budget: a method object carries its own"),
    ],
)
def test_arguments_that_are_not_usable_are_refused(model: nn.Module, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        estimate(model, loss, **arguments)


def test_progress_counts_up_to_the_budget(model: nn.Module) -> None:
    seen: list[tuple[float, float]] = []
    estimate(model, loss, 0.1, budget=40, progress=lambda done, total, what: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert all(done <= total == 40 for done, total in seen)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_search_that_is_stopped_gives_its_best_file_so_far(model: nn.Module, method: Method) -> None:
    def bits_after(most: float) -> tuple[int, float, bool]:
        def stop(done: float, *_: object) -> None:
            if done >= most:
                raise StopSearch

        report = estimate(model, loss, 0.1, method=method, progress=stop)
        assert report.distortion <= 0.1
        return report.bits, report.evaluations, report.within

    stopped, whole = bits_after(12), bits_after(1e9)
    assert stopped[1] <= 16 < whole[1] or method.budget <= 16
    assert stopped[0] >= whole[0]
    assert bits_after(0)[1] <= 4


def test_a_search_ends_where_no_move_is_left() -> None:
    """One unit with two inputs: at ε = 1 everything becomes zero at once, and no move is left."""
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    weights = {"w": torch.ones(1, 2), "b": torch.zeros(1)}
    report = estimate(weights, lambda w: (x @ w["w"].T + w["b"]).tanh().square().mean(), 1.0, budget=400)
    assert report.within
    assert report.evaluations < 400


def test_a_start_finds_the_waves_that_rows_are_made_of() -> None:
    """Rows 0 to 28 of 31 are 3 waves of period 29 in a rotated basis. A random matrix has no waves."""
    generator = torch.Generator().manual_seed(0)
    i = torch.arange(29) * (2 * torch.pi / 29)
    rows = torch.zeros(31, 6)
    rows[:29] = torch.stack([wave(f * i) for f in (3, 5, 11) for wave in (torch.cos, torch.sin)], dim=1)
    rows[29, 0], rows[30, 1] = 2.0, -2.0
    weights = {
        "waves": rows @ torch.randn(6, 40, generator=generator),
        "noise": torch.randn(31, 40, generator=generator),
    }
    specs = skeleton_of(weights).tensors
    waves, noise = latents_at(Shape(6, 0.25), specs, weights, Factorizations(weights))
    assert (waves.periods, noise.periods) == ((29, 0), (0, 0))
    assert rounded(waves.parts[0]).any(1).sum() == 8  # a cosine and a sine for each frequency, and two rows beyond the period
    # Rows with much in common are no waves, although the constant of a basis of waves would contain what they share.
    common = {"w": torch.randn(31, 40, generator=generator) + 3 * torch.randn(40, generator=generator)}
    assert latents_at(Shape(6, 0.25), skeleton_of(common).tensors, common, Factorizations(common))[0].periods == (0, 0)
    error = (candidate_of([waves])["waves"].decode(specs[0]) - weights["waves"]).norm() / weights["waves"].norm()
    assert error < 0.15


def test_ranks_that_pay_save_numbers() -> None:
    weights = {"w": torch.randn(30, 20), "b": torch.randn(20)}
    ranks = ranks_that_pay(skeleton_of(weights).tensors)
    assert ranks[0] == 1
    assert ranks[-1] == 0
    assert ranks[-2] <= 0.5 * 30 * 20 / 50
