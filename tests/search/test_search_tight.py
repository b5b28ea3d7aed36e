"""What `tight` owes its users beyond the contract of all searches."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from nncomplexity import estimate
from nncomplexity.network import skeleton_of
from nncomplexity.search import Quantize, Sweep, Tight, downhill, tensors
from nncomplexity.search.descent import Visit
from nncomplexity.search.start import Factors, of_low_rank, ranks_that_pay
from tests.cases import MANY_EPS, two_layers


@pytest.mark.parametrize(("seed", "budget"), list(itertools.product(range(4), (30, 100))))
def test_never_larger_than_algorithm_2(seed, budget):
    weights, loss = two_layers(seed)
    for eps in (1.0, 0.1, 0.01):
        assert estimate(weights, loss, eps, budget=budget).bits <= estimate(weights, loss, eps, method="quantize").bits


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


def spectrum(singular_values):
    """A square matrix that has them, between random orthogonal ones."""
    size, generator = len(singular_values), torch.Generator().manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0] for _ in range(2))
    return ((U * singular_values) @ V.T).float()


SLOW = torch.exp(-torch.arange(64, dtype=torch.float64) / 8)  # components 1 to k hold 1 - exp(-k / 4) of the energy
FAST = torch.exp(-torch.arange(64, dtype=torch.float64) / 4)  # 1 - exp(-k / 2)


@pytest.mark.parametrize(("share", "expected"), [(0.89, False), (0.91, True)])
def test_a_network_of_low_rank_has_nine_tenths_of_its_energy_in_few_numbers(share, expected):
    # Factors of rank 6 hold 768 of the 4,096 numbers, those of the next rank tried, 8, a quarter.
    squares = torch.cat([torch.full((6,), share / 6), torch.full((58,), (1 - share) / 58)]).double()
    weights = {"w": spectrum(squares.sqrt()), "b": torch.randn(64)}
    for scale in (1e-30, 1.0, 1e30):
        scaled = {name: weight * scale for name, weight in weights.items()}
        assert of_low_rank(skeleton_of(scaled).tensors, Factors(scaled)) is expected
    # Beside as many numbers that no rank cuts, what is kept is more, and so is what it takes.
    more = weights | {"rest": torch.ones(1, 4096)}
    assert not of_low_rank(skeleton_of(more).tensors, Factors(more))


@pytest.mark.parametrize(
    ("singular_values", "budget", "many", "factored"),
    [(SLOW, 400, 750_000, False), (SLOW, 100, 750_000, True), (SLOW, 400, 4_000, True), (FAST, 400, 750_000, True)],
    ids=["whole", "a short descent", "a large network", "a network of low rank"],
)
def test_descents_begin_with_factors_where_there_is_reason_to(monkeypatch, singular_values, budget, many, factored):
    weights = {"w": spectrum(singular_values)}
    begun = []

    def descend(distortion, latents, *_):
        begun.append([latent.low_rank for latent in latents])
        return iter(())

    monkeypatch.setattr(downhill, "descend", descend)
    monkeypatch.setattr(tensors, "_MANY", many)
    estimate(weights, lambda given: (given["w"] - weights["w"]).square().sum(), 1.0, budget=budget)
    assert begun[0] == [factored]


def test_factors_are_led_to_a_near_outline_first_at_the_rank_that_eps_allows(monkeypatch):
    """Then with half the steps to eps. A rank below that would lose components which don't come back."""
    weights = {"w": spectrum(FAST)}
    run = []

    def descend(distortion, latents, fixed, eps, *_):
        run.append((eps, latents[0].parts[0].shape[1], latents[0].step))
        return iter(())

    monkeypatch.setattr(downhill, "descend", descend)
    estimate(weights, lambda given: (given["w"] - weights["w"]).square().sum() / weights["w"].square().sum(), 0.01)
    (outline, rank, step), (eps, same_rank, half) = run[:2]
    assert (outline, eps) == (pytest.approx(0.06), 0.01)
    assert rank == same_rank
    assert half == pytest.approx(step / 2)
    lost = (FAST**2).flip(0).cumsum(0).flip(0) / (FAST**2).sum()  # what a rank leaves out, by rank
    ranks = ranks_that_pay(skeleton_of(weights).tensors)
    lower = ranks[ranks.index(rank) - 1]
    assert lost[rank] <= 0.04 < lost[lower]  # four eps, as far as a start may be
    assert lost[lower] < 4 * outline  # the outline alone would allow less


def test_a_descent_that_only_soft_weights_brought_near_is_late(monkeypatch):
    weights, loss = two_layers()
    far = max(loss(weights).item() + 10.0, 10.0)

    def descend(distortion, latents, fixed, eps, steps, *_):
        for step in range(steps):
            yield Visit(None if step < steps / 2 else [], distortion.original if step < steps / 2 else far, stalls=0)

    monkeypatch.setattr(downhill, "descend", descend)
    problem_eps, seen = 0.01, []
    plain = downhill.Downhill.run

    def run(self, *arguments, **named):
        seen.append((plain(self, *arguments, **named), named["late"]))
        return seen[-1][0]

    monkeypatch.setattr(downhill.Downhill, "run", run)
    estimate(weights, loss, problem_eps, budget=100)
    assert seen[0] == (False, 0.6)


@pytest.mark.parametrize(
    ("outline", "far", "taken", "pressures", "leaps"),
    [
        (0.0, 1.2, [7, 124], [2.0, 0.2], [4.0, 2.0]),
        (0.2, 1.2, [50, 124], [2.0, 2.0], [4.0, 4.0]),
        (0.2, 3.0, [50, 76, 124], [2.0, 2.0, 0.2], [4.0, 4.0, 2.0]),
    ],
    ids=["straight to eps", "by the outline", "by the outline, never near"],
)
def test_a_descent_that_stalls_or_stays_away_is_followed_by_a_gentle_one(monkeypatch, outline, far, taken, pressures, leaps):
    """Straight to eps it is given up at its first stall for a cautious start. By the outline it goes on, unless by three fifths of its steps it
    has not been within one and a half eps; then the rest is gentle, from where it is with half the steps.
    """
    generator = torch.Generator().manual_seed(0)
    weights = {"w": torch.randn(40, 30, generator=generator)}
    steps_taken, schedules, scales = [], [], []

    def descend(distortion, latents, fixed, eps, steps, schedule, *_):
        steps_taken.append(0)
        schedules.append(schedule)
        scales.append(latents[0].log_scale)
        for step in range(steps):
            steps_taken[-1] += 1
            tensors = None if 2 * step < steps else [latents[0].coarse()]
            yield Visit(tensors, distortion.original + far * eps, stalls=int(step > 5))

    monkeypatch.setattr(downhill, "descend", descend)
    estimate(weights, lambda given: (given["w"] - weights["w"]).square().mean(), 1e-3, method=Tight(outline=outline, noise=0.1))
    assert steps_taken == taken  # of gradients that cost nothing: all that a budget has
    assert [schedule.pressure for schedule in schedules] == pytest.approx(pressures)
    assert [schedule.leap for schedule in schedules] == leaps
    if len(taken) == 3:
        assert scales[1] - scales[2] == pytest.approx(math.log(2))
        assert schedules[2].rate == pytest.approx(2 / 3 * schedules[1].rate)


def test_zeros_and_ones_stay_as_they_are():
    """Biases and gains as they are made. Moved, an all-zero bias would first change by a whole step, out of all proportion to the weights."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(12, 40), torch.nn.LayerNorm(40), torch.nn.ReLU(), torch.nn.Linear(40, 6))
    torch.nn.init.zeros_(network[0].bias)
    x = torch.randn(64, 12)
    wanted = two_layers(x).detach()
    report = estimate(network, lambda network: (two_layers(x) - wanted).square().mean() / wanted.square().mean(), 0.05)
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
        for report in estimate(weights, lambda given: (given["w"].sum() - weights["w"].sum()).square(), many, method=Sweep()):
            assert report.within
            assert report.distortion == 0
            assert report.bits == report.subject.least_lossless


def test_a_large_budget_goes_on_from_a_small_one_s_result():
    weights, loss = two_layers(hidden=160, features=28)
    sizes = [estimate(weights, loss, 0.01, budget=budget).bits for budget in (60, 400, 1000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


def test_seeds_part_and_each_gives_one_file():
    weights, loss = two_layers(hidden=160, features=28)
    files = [estimate(weights, loss, 0.1, budget=150, seed=seed).file.content for seed in (0, 1, 2, 1)]
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
    found = estimate(weights, loss, 0.1, budget=300)
    assert found.within
    assert found.bits < 0.25 * estimate(weights, loss, 0.1, method="quantize").bits
