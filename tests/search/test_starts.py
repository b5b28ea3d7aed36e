"""The starts of descents, which of them goes on, and when a search stops."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch

from nncomplexity import estimate
from nncomplexity.codecs import Entropy
from nncomplexity.file import Constant
from nncomplexity.network import Distortion, MeanLoss
from nncomplexity.search.batches import Batches
from nncomplexity.search.contract import DESCENT
from nncomplexity.search.factorizations import COARSENESS
from nncomplexity.search.initial import _rounded_to, at_the_weights, farthest, farthest_ranks, lowest_ranks
from nncomplexity.search.latent import candidate_of, rounded
from nncomplexity.search.problem import Problem
from nncomplexity.search.settings import Settings
from nncomplexity.search.starts import Start, Starts
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.tight import Search
from nncomplexity.search.trials import Kept, Trials
from tests.cases import two_layers

EPS = 0.1


class Scripted(Search):
    """A search whose cycles find files of the sizes that are given for each start."""

    def __init__(
        self, settings: Settings, trials: Trials, sizes: dict[str, Sequence[float]], begin: dict[str, float] | None = None
    ) -> None:
        super().__init__(settings, trials)
        self.begin_sizes = begin or {}
        self._sizes = {name: iter(given) for name, given in sizes.items()}
        self.names: dict[int, str] = {}
        self.cycles: list[tuple[str, int]] = []

    def named(self, name: str) -> Start | None:
        if name not in self._sizes:
            return None
        start = Start(lambda _: [], [])
        self.names[id(start)] = name
        return start

    def _starts(self) -> Starts:
        return ScriptedStarts(self)

    def _cycle(self, start: Start, steps: int) -> bool:
        name = self.names[id(start)]
        self.cycles.append((name, steps))
        size, kept = next(self._sizes[name]), self._trials.kept
        if not kept or size < kept[0].bits:
            kept.insert(0, Kept(size, [], DESCENT))
        start.feasible |= math.isfinite(size)
        return math.isfinite(size)


class ScriptedStarts(Starts):
    """The starts of a scripted search."""

    def __init__(self, search: Scripted) -> None:
        super().__init__(search._settings, search._trials, search._conditions, search._batches, None)
        self._search = search

    def _of_allocation(self) -> Start | None:
        return self._search.named("allocation")

    def _of_low_rank(self) -> Start | None:
        return self._search.named("low rank")

    def _of_weights(self) -> Start | None:
        return None if self._trials.by_descent else self._search.named("dense")

    def _size(self, start: Start) -> float:
        return self._search.begin_sizes.get(self._search.names[id(start)], 0.0)


@contextmanager
def trials() -> Iterator[Trials]:
    weights, loss = two_layers()
    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        yield Trials(problem, Tensors(problem), EPS, math.inf)


def cycles(
    sizes: dict[str, Sequence[float]], begin: dict[str, float] | None = None, most: int = 160, **settings: float
) -> tuple[list[tuple[str, int]], Search]:
    """The starts and steps of all cycles, and the search. The known file has 1,000 bits, and is not one of a descent."""
    with trials() as measured:
        measured.kept.append(Kept(1000.0, [], "bit allocation"))
        search = Scripted(Settings(first=10, most=most, **settings), measured, sizes, begin)
        search._descend()
    return search.cycles, search


def test_each_start_has_as_many_steps_and_the_smaller_file_decides() -> None:
    lost, won = [900, 700, 600, 500, 400], [990, 550, 500, 400, 300]
    for sizes, best in (({"allocation": lost, "low rank": won}, "low rank"), ({"allocation": won, "low rank": lost}, "allocation")):
        found, search = cycles(sizes)
        assert found[:4] == [(name, steps) for name in ("allocation", "low rank") for steps in (10, 10)]
        assert found[4:] == [(best, 20), (best, 40), (best, 80)]
        assert search.last_gain == pytest.approx(1 - 300 / 400)
        assert not search.converged


@pytest.mark.parametrize("smaller", ["allocation", "low rank"])
def test_the_start_with_the_smaller_file_comes_first(smaller: str) -> None:
    sizes = {"allocation": [900, 800, 700, 600, 500], "low rank": [900, 800, 700, 600, 500]}
    found, _ = cycles(sizes, {name: 10.0 if name == smaller else 20.0 for name in sizes})
    assert found[0] == found[1] == (smaller, 10)
    assert {name for name, _ in found[:4]} == set(sizes)


def test_the_weights_are_a_start_only_where_no_descent_has_found_the_smallest_file() -> None:
    found, _ = cycles({"allocation": [900] * 5, "dense": [500] * 5})
    assert {name for name, _ in found} == {"allocation"}
    found, _ = cycles({"allocation": [1100] * 5, "dense": [500, 450, 400, 300, 200]})
    assert [name for name, _ in found] == ["allocation"] * 2 + ["dense"] * 5
    found, _ = cycles({"dense": [500] * 5})
    assert {name for name, _ in found} == {"dense"}


@pytest.mark.parametrize(
    ("sizes", "steps", "converged"),
    [
        ([900, 800, 700, 699, 698], 160, True),  # two idle doublings, to 80 and to 160 steps
        ([900, 800, 700, 600, 599, 300, 200], 640, False),  # one, then a half
        ([900, 800, 700, 600, 500, 400, 399], 640, True),  # one, at the end
        ([900, 899, 898, 600, 500, 400, 300], 640, False),  # two, but too early
        # A cycle that ends beyond ε says nothing. Each of those of 80, 160 and 320 steps is tried twice.
        ([900, 800, 700, 600, *[math.inf] * 6], 640 + 560, False),
    ],
)
def test_a_search_stops_after_two_idle_doublings(sizes: list[float], steps: int, converged: bool) -> None:
    found, search = cycles({"allocation": sizes}, most=640, gain=0.03)
    assert sum(count for _, count in found) == steps
    assert search.converged is converged


def test_a_cycle_that_ends_beyond_eps_is_tried_once_more() -> None:
    found, _ = cycles({"allocation": [900, 800, math.inf, 700, math.inf, math.inf, 600]}, most=160)
    assert [steps for _, steps in found] == [10, 10, 20, 20, 40, 40, 80]
    found, _ = cycles({"allocation": [math.inf, math.inf, 900, 800, 700]}, most=160)
    assert [steps for _, steps in found] == [10, 10, 20, 40, 80]  # none has been within ε before


def test_a_search_has_not_converged_while_another_stage_has_the_smallest_file() -> None:
    found, search = cycles({"allocation": [1100] * 5})
    assert sum(count for _, count in found) == 160
    assert search.last_gain == 0
    assert not search.converged


def test_the_start_of_allocation_costs_about_eps() -> None:
    with trials() as measured:
        search = Search(Settings(), measured)
        search._allocation = search._allocate(has_gradient=True)
        allocated = measured.best
        start = search._starts()._of_allocation()
        assert start is not None
        distortion = measured.measure(candidate_of(start.latents))
        assert 0 < distortion <= 2.0 * measured.limit
        bits = measured.bits(measured.whole(candidate_of(start.latents)))
        assert (
            bits < 1.2 * allocated
        )  # it rounds to the choice of bit allocation, which begins at a larger λ or without compensation
        # Finer step sizes, as after a cycle that ended far beyond ε.
        start.finer()
        assert measured.measure(candidate_of(start.latents)) < distortion


def test_without_bit_allocation_its_start_is_the_weights_in_coarse_steps() -> None:
    with trials() as measured:
        search = Search(Settings(), measured)
        assert search._starts()._of_weights() is None
        start = search._starts()._of_allocation()
        assert start is not None
        limit = 4.0 * measured.limit
        assert measured.measure(candidate_of(start.latents)) <= limit
        scales = [latent.log_scale for latent in start.latents]
        typical = [latent.log_scale for latent in at_the_weights(measured, 1.0)]
        ratios = [math.exp(scale - one) for scale, one in zip(scales, typical, strict=True)]
        assert ratios == pytest.approx([ratios[0]] * len(ratios))  # one step size for all, in typical weights
        place = min(range(len(COARSENESS)), key=lambda index: abs(COARSENESS[index] - ratios[0]))
        assert place == 0 or measured.measure(candidate_of(at_the_weights(measured, COARSENESS[place - 1]))) > limit


def test_a_part_of_the_tensors_is_tried_on_a_minibatch_with_the_original_of_all_others() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {"one": torch.randn(6, 4, generator=generator), "two": torch.randn(6, 4, generator=generator)}
    x = torch.randn(1000, 4, generator=generator)
    loss = MeanLoss(lambda w, x, y: (x @ (w["one"] + w["two"]).T).square().sum(1) + 0 * y, x, torch.zeros(1000))
    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        measured, batches = Trials(problem, Tensors(problem), EPS, 20), Batches(distortion, 100, 3)
        batch = batches.sample()
        assert batch.rows is not None
        assert len(batch.rows) == 100
        before = distortion.evaluations
        found = measured.on_batch({"one": Constant(0)}, batch)
        assert distortion.evaluations - before == pytest.approx(0.1)
        rows = x[batch.rows]
        expected = (rows @ weights["two"].T).square().sum(1).mean() - (rows @ (weights["one"] + weights["two"]).T).square().sum(
            1
        ).mean()
        assert found == pytest.approx(abs(float(expected)), rel=1e-5)
        assert not measured.kept  # nothing of it is an answer
        assert torch.equal(batches.sample().rows, batch.rows)
        with measured.at_most(0):
            assert measured.on_batch({}, batch) == math.inf


def test_no_start_is_farther_than_half_of_the_way_to_all_weights_zero() -> None:
    assert farthest(0.1, 10.0) == pytest.approx(0.4)
    assert farthest(0.1, 0.5) == 0.25
    assert farthest_ranks(0.1, 10.0) == pytest.approx(0.4)
    assert farthest_ranks(0.1, 0.5) == 0.125  # their step sizes may cost as much again
    weights = of_ranks(full=20)
    with Distortion(weights, lambda given: (given["full"] - weights["full"]).square().sum()) as distortion:
        problem = Problem(distortion, Entropy(), 0)  # the zero network costs 20, and each rank that is left out 1
        measured, batches = Trials(problem, Tensors(problem), 9.0, math.inf), Batches(distortion, 100, 0)
        assert lowest_ranks(measured, batches, farthest(9.0, math.inf)) == {"full": 1}
        assert lowest_ranks(measured, batches, farthest(9.0, 20.0)) == {}  # at most rank 5 pays, and 15 would be left out


@pytest.mark.parametrize(("budget", "tried"), [(380, False), (400, True)])
def test_factors_are_a_start_only_if_the_budget_reaches_their_first_candidate(budget: float, tried: bool) -> None:
    """The first candidate comes when the rounding is complete: after half of 256 steps, of three evaluations each."""
    weights = of_ranks(few=2)
    with Distortion(weights, lambda given: (given["few"] - weights["few"]).square().sum()) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        search = Search(Settings(first=256), Trials(problem, Tensors(problem), EPS, budget))
        assert (search._starts()._of_low_rank() is not None) is tried


def of_ranks(**ranks: int) -> dict[str, torch.Tensor]:
    """Matrices of 24 rows and 20 columns: so many equal singular values, and others of a hundredth."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, rank in ranks.items():
        U, V = (torch.linalg.qr(torch.randn(side, 20, generator=generator, dtype=torch.float64))[0] for side in (24, 20))
        found[name] = ((U * torch.tensor([1.0] * rank + [0.01] * (20 - rank), dtype=torch.float64)) @ V.T).float()
    return found


@pytest.mark.parametrize(
    ("large", "ranks", "expected"),
    [(False, {"few": 2, "more": 5, "full": 20}, {"few": 2, "more": 5}), (True, {"few": 2, "more": 5}, {"few": 5, "more": 5})],
    ids=["small", "large"],
)
def test_each_matrix_has_its_lowest_rank_that_costs_little(
    large: bool, ranks: dict[str, int], expected: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is the sum of the squared singular values that are left out, so the ranks are known. A large network has one rank."""
    weights = of_ranks(**ranks)

    def loss(given: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack([(given[name] - weight).square().sum() for name, weight in weights.items()]).sum()

    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        measured = Trials(problem, Tensors(problem), EPS, math.inf)
        monkeypatch.setattr(Tensors, "large", large)
        assert lowest_ranks(measured, Batches(distortion, 100, 0), farthest(measured.limit, math.inf)) == expected
        latents = {one.spec.name: one for one in at_the_weights(measured, 0.01, expected)}
    assert {name: one.parts[0].shape[1] for name, one in latents.items() if len(one.parts) == 2} == expected
    assert list(latents) == list(weights)


@pytest.mark.parametrize(("share", "steps"), [(1.0, 128), (0.5, 256), (0.32, 512), (0.01, 512)])
def test_the_first_cycle_is_shorter_where_steps_are_expensive(share: float, steps: int) -> None:
    assert Settings().first_cycle(share) == steps


@pytest.mark.parametrize(
    ("share", "settings", "steps"), [(1.0, {}, 4096), (1 / 64, {}, 4096), (1 / 200, {}, 12800), (1 / 200, {"passes": 0}, 4096)]
)
def test_many_examples_are_seen_often(share: float, settings: dict[str, int], steps: int) -> None:
    assert Settings(**settings).longest(share) == steps


@pytest.mark.parametrize("eps", [0.05, 0.3])
def test_a_loss_that_cannot_be_divided_has_a_descent_within_the_budget_of_track(eps: float) -> None:
    weights, loss = two_layers(hidden=64, features=16)
    found = estimate(weights, loss, eps, budget=400)
    assert found.origin == "descent"
    assert found.bits < 0.7 * estimate(weights, loss, eps, method="allocate", budget=400).bits


def test_a_number_begins_where_a_descent_rounds_it_to_the_symbol_of_the_choice() -> None:
    """Within 0.45 of the symbol; a magnitude of 1 begins at 0.65, because the dead zone ends at 0.6."""
    exact = torch.tensor([2.3, 2.9, 1.2, -3.9, 0.55, -0.5, 0.5, -0.7, 1.7])
    symbols = torch.tensor([2.0, 2.0, 2.0, -3.0, 1.0, -1.0, 0.0, 0.0, 1.0])
    expected = torch.tensor([2.3, 2.45, 1.55, -3.45, 0.65, -0.65, 0.45, -0.45, 1.45])
    found = _rounded_to(symbols, exact)
    assert torch.allclose(found, expected)
    assert torch.equal(rounded(found), symbols)
