"""The parts of a descent: the arithmetic of its blocks, the rate, the dual variable, the batches, and a cycle of it."""

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor
from torch.nn.functional import cross_entropy

from nncomplexity import Divergence, estimate, loss_from
from nncomplexity.codecs import Entropy
from nncomplexity.file import Constant, dense, narrow
from nncomplexity.network import GRADIENT_COST, Distortion, MeanLoss, TensorSpec, skeleton_of
from nncomplexity.search.batches import Batches
from nncomplexity.search.blocks import Block, blocks_of
from nncomplexity.search.descent import CHECKS, Conditions, Cycle, Ended
from nncomplexity.search.dual import Dual
from nncomplexity.search.forms import coded_bits
from nncomplexity.search.initial import at_the_weights
from nncomplexity.search.latent import DEAD_ZONE, Latent, coarse_of, rounded
from nncomplexity.search.problem import Problem
from nncomplexity.search.rate import Rate
from nncomplexity.search.settings import Settings
from nncomplexity.search.starts import Start
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.tight import Search, Tight, _for_allocation
from nncomplexity.search.trials import Trials

CPU = torch.device("cpu")
DENSE = (lambda generator: [3 * torch.randn(6, 5, generator=generator)], (0, 0))
FACTORS = (lambda generator: [3 * torch.randn(6, 2, generator=generator), 3 * torch.randn(2, 5, generator=generator)], (0, 0))
WAVES = (FACTORS[0], (5, 3))
FORMS = pytest.mark.parametrize("form", [DENSE, FACTORS, WAVES], ids=["dense", "factors", "waves"])


def latent_of(form, dtype=torch.float32, base=None, name="w") -> Latent:
    make, periods = form
    return Latent(TensorSpec((name,), (6, 5), dtype, base=base), make(torch.Generator().manual_seed(0)), -1.5, periods, 6)


def weight_of(block: Block) -> Tensor:
    ((_, weight),) = block.weights(CPU)
    return weight


@FORMS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_weights_of_a_step_whose_rounding_is_complete_are_those_of_the_file(form, dtype) -> None:
    latent = latent_of(form, dtype)
    (piece,) = coarse_of([latent]).values()
    weight = weight_of(Block([latent], lean=False))
    assert weight.dtype == dtype
    torch.testing.assert_close(weight, piece.decode(latent.spec), rtol=max(1e-5, torch.finfo(dtype).eps), atol=1e-4)


@FORMS
def test_on_a_base_the_weights_are_the_sum(form) -> None:
    base = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    for firmness in (0.3, 1.0):
        on_base, alone = Block([latent_of(form, base=base)], lean=False), Block([latent_of(form)], lean=False)
        on_base.firmness = alone.firmness = firmness
        torch.testing.assert_close(weight_of(on_base), base + weight_of(alone), rtol=1e-6, atol=1e-6)


def test_soft_numbers_lie_between_what_they_are_and_their_symbols() -> None:
    u = torch.tensor([0.0, 0.59, -0.59, 0.61, 1.4, -2.5001, 7.0])
    symbols = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, -3.0, 7.0])
    for firmness in (0.0, 0.25, 1.0):
        block = Block([Latent(TensorSpec(("w",), (7,), torch.float32), [u.clone()], 0.0)], lean=False)
        block.firmness = firmness
        torch.testing.assert_close(weight_of(block), (1 - firmness) * u + firmness * symbols)
    assert DEAD_ZONE == 0.6


@FORMS
@pytest.mark.parametrize("lean", [False, True])
def test_gradients_are_autograd_s_of_the_product(form, lean) -> None:
    latent = latent_of(form)
    C = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    block = Block([latent], lean)
    pull, along = block.pulls({"w": C})
    # The same in float64 by autograd, with the rounded numbers as leaves.
    leaves = [rounded(part).double().requires_grad_() for part in latent.parts]
    log_scale = torch.tensor(latent.log_scale, dtype=torch.float64, requires_grad=True)
    product = leaves[0]
    if len(leaves) == 2:
        from nncomplexity.search.latent import scaled_basis

        left, right = (
            scaled_basis(side, period, CPU).double() if period else torch.eye(side, dtype=torch.float64)
            for side, period in zip((6, 5), latent.periods, strict=True)
        )
        product = left @ leaves[0] @ leaves[1] @ right.T
    step = latent.scale / math.exp(latent.log_scale)  # a step that a file holds isn't quite that of the logarithm
    (product * torch.exp(log_scale) * step * C).sum().backward()
    torch.testing.assert_close(pull.double(), torch.cat([leaf.grad.reshape(-1) for leaf in leaves]), rtol=1e-4, atol=1e-5)
    assert float(along[0]) == pytest.approx(float(log_scale.grad), rel=1e-4)


@pytest.mark.parametrize("count", [2, 3, 40])
def test_a_block_of_many_tensors_does_what_blocks_of_one_do(count) -> None:
    """Dense tensors of any shapes, and factors among them: together and each alone."""
    generator = torch.Generator().manual_seed(2)

    def made() -> list[Latent]:
        shapes = [(3 + i % 4, 5) if i % 3 else (7,) for i in range(count)]
        numbers = torch.Generator().manual_seed(3)
        dense = [
            Latent(TensorSpec((f"d{i}",), shape, torch.float32), [3 * torch.randn(shape, generator=numbers)], -0.1 * i)
            for i, shape in enumerate(shapes)
        ]
        return [dense[0], latent_of(FACTORS, name="f"), *dense[1:], latent_of(FACTORS, name="g")]

    together, alone = Block(made(), lean=False), [Block([latent], lean=False) for latent in made()]
    gradients = {latent.spec.name: torch.randn(latent.spec.shape, generator=generator) for latent in together.latents}
    gradients.pop("d1")
    pull, along = together.pulls(gradients)
    weights = {spec.name: weight for spec, weight in together.weights(CPU)}
    assert len(weights) == count + 2
    together.move([(pull, 1.0)], 0.5)
    for latent, change in zip(together.latents, along, strict=True):
        (block,) = (one for one in alone if one.latents[0].spec.name == latent.spec.name)
        torch.testing.assert_close(weights[latent.spec.name], weight_of(block))
        one, scale = block.pulls(gradients)
        block.move([(one, 1.0)], 0.5)
        torch.testing.assert_close(change, scale[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(latent.parts, block.latents[0].parts, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_tensors_without_a_gradient_and_gradients_that_are_no_numbers_move_nothing(wrong: float) -> None:
    block = Block([latent_of(DENSE, name="v"), latent_of(DENSE)], lean=False)
    pull, along = block.pulls({"w": torch.full((6, 5), wrong)})
    assert not pull.any()
    assert not along.any()


def test_steps_are_adam_s() -> None:
    """Against the textbook's loop, a number at a time; what is squared is both gradients, apart."""
    latent = Latent(TensorSpec(("w",), (3,), torch.float32), [torch.tensor([5.0, -3.0, 1.0])], 0.0)
    block = Block([latent], lean=False)
    place, means, squares = [5.0, -3.0, 1.0], [0.0] * 3, [0.0] * 3
    generator = torch.Generator().manual_seed(0)
    for count in range(1, 6):
        pull, pressure = torch.randn(2, 3, generator=generator)
        block.move([(pull, 1.0), (pressure, 2.5)], 0.7)
        for i, (g, r) in enumerate(zip(pull.double().tolist(), (2.5 * pressure).double().tolist(), strict=True)):
            means[i] = 0.95 * means[i] + 0.05 * (g + r)
            squares[i] = 0.99 * squares[i] + 0.01 * (g * g + r * r)
            place[i] -= 0.7 * means[i] / (1 - 0.95**count) / math.sqrt(squares[i] / (1 - 0.99**count))
        torch.testing.assert_close(latent.parts[0].double(), torch.tensor(place, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_of_a_large_network_each_tensor_is_a_block_with_half_the_moments() -> None:
    latents = [latent_of(DENSE, name="v"), latent_of(FACTORS)]
    assert [len(block.latents) for block in blocks_of(latents, large=True)] == [1, 1]
    assert [len(block.latents) for block in blocks_of(latents, large=False)] == [2]
    assert blocks_of([], large=False) == []


@pytest.mark.parametrize("shape", [(200, 60), (60, 200), (3000,)])
@pytest.mark.parametrize("mean", [0.03, 0.5, 3.0])
def test_the_rate_is_near_what_the_coder_takes(shape, mean) -> None:
    """Rows and columns of different scales, magnitudes by geometric laws: the rate knows nothing of the coder but its form."""
    generator = np.random.default_rng(0)
    scale = mean * np.exp(0.7 * generator.standard_normal(shape[0]))
    expected = (
        np.multiply.outer(scale, np.exp(0.7 * generator.standard_normal(shape[1]))) if len(shape) == 2 else np.full(shape, mean)
    )
    magnitudes = generator.geometric(1 / (1 + expected)) - 1
    symbols = torch.from_numpy(magnitudes * generator.choice([-1, 1], shape)).float()
    rate = Rate()
    rate.update([symbols[None]])
    # R(a) = a·slope + log₂(1 + μ) and a sign, where the slope is log₂(1 + 1/μ).
    bits = symbols.abs().flatten() * rate.slopes + (1 + 1 / (2**rate.slopes - 1)).log2() + (symbols.flatten() != 0)
    coded = coded_bits([symbols.reshape(len(symbols), -1).double()])[0]
    assert float(bits.sum()) == pytest.approx(coded, rel=0.2, abs=40)


def test_the_rate_pulls_towards_zero_most_where_a_row_is_nearly_empty() -> None:
    symbols = torch.ones(8, 8)
    symbols[3] = 0
    symbols[3, 5] = 1
    rate = Rate()
    rate.update([symbols[None]])
    latent = torch.full((8, 8), 1.5)
    gradient = rate.gradient(latent.reshape(-1)).reshape(8, 8)
    assert (gradient > 0).all()
    assert (gradient[3] > gradient[:3]).all()
    assert torch.equal(rate.gradient(-latent.reshape(-1)).reshape(8, 8), -gradient)
    torch.testing.assert_close(rate.gradient(latent.reshape(-1) - 1).reshape(8, 8), gradient + 1)  # the sign goes too
    one = torch.ones(64)
    torch.testing.assert_close(rate.gradient(one), gradient.reshape(-1))
    torch.testing.assert_close(rate.gradient(torch.nextafter(one, 0 * one)), gradient.reshape(-1) + 1)
    assert not rate.gradient(0 * one).any()


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60), st.floats(1e-6, 1e3))
def test_the_dual_variable_stays_near_the_ratio_of_the_gradients(distortions, ratio) -> None:
    settings = Settings()
    dual = Dual(settings, 0.1, len(distortions))
    for distortion in distortions:
        dual.observe(ratio, 1.0)
        value = dual.at(distortion)
        assert ratio / settings.bound * math.exp(-4) * 0.999 <= value <= ratio * settings.bound * math.exp(2) * 1.001


def test_the_dual_variable_rises_with_room_and_falls_twice_as_far_without() -> None:
    settings = Settings()
    dual = Dual(settings, 1.0, 100)
    dual.observe(1.0, 1.0)
    assert dual.at(settings.target) == pytest.approx(1.0)
    assert dual.at(settings.target / math.e) == pytest.approx(math.e)
    assert dual.integral == pytest.approx(0.4)
    assert Dual(settings, 1.0, 100).at(settings.target * math.e) == pytest.approx(math.exp(-2))


@pytest.mark.parametrize(
    ("zero", "steepness"), [(1.5, 2 / math.log(1.5)), (math.exp(1.0), 2.0), (math.exp(2.0), 1.0), (100.0, 1.0)]
)
def test_the_dual_variable_falls_faster_if_all_weights_zero_are_near(zero: float, steepness: float) -> None:
    settings = Settings(response=1.0, target=1.0)

    def at(distortion: float) -> float:
        return math.log(Dual(settings, 1.0, 100, zero=zero).at(distortion))

    assert at(1.1) == pytest.approx(-2 * steepness * math.log(1.1))
    assert at(min(zero, math.exp(2.0))) == pytest.approx(-4)  # the largest error, with twice the response
    assert at(1 / 1.1) == pytest.approx(math.log(1.1))  # with room left, nothing changes


def test_batches_divide_the_examples_and_cost_their_share() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(1000, 4, generator=generator), torch.randint(3, (1000,), generator=generator)
    weights = {"w": torch.randn(3, 4, generator=generator)}

    def per_example(w: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(x @ w["w"].T, y, reduction="none")

    with Distortion(weights, loss_from(per_example, (x, y))) as distortion:
        before, batches = distortion.evaluations, Batches(distortion, 250, seed=1)
        seen = [batches.next() for _ in range(8)]
        assert distortion.evaluations - before == pytest.approx(1.0)  # the original on each part, once
        assert batches.share == 0.25
        rows = [batch.rows for batch in seen]
        assert torch.equal(torch.cat(rows[:4]).sort().values, torch.arange(1000))
        for batch in seen[:4]:
            assert batch.original == pytest.approx(float(per_example(weights, x[batch.rows], y[batch.rows]).mean()), rel=1e-5)
        assert Batches(distortion, 600, seed=1).next().rows is None
    with Distortion(weights, Divergence(lambda w, x: x @ w["w"].T, x, probe=0)) as distortion:
        before = distortion.evaluations
        assert Batches(distortion, 250, seed=1).next().original == 0.0  # of a network from itself
        assert distortion.evaluations == before


def cycle(steps: int, eps: float, seed: int = 0, **settings: float) -> tuple[Trials, bool, float]:
    """A cycle over a network whose weights are planted symbols under noise."""
    generator = torch.Generator().manual_seed(0)
    planted = torch.randint(-1, 2, (24, 16), generator=generator) * (torch.rand(24, 16, generator=generator) < 0.3)
    weights = {"w": planted + 0.02 * torch.randn(24, 16, generator=generator)}
    with Distortion(weights, lambda w: (w["w"] - weights["w"]).square().mean()) as distortion:
        problem = Problem(distortion, Entropy(), seed)
        trials = Trials(problem, Tensors(problem), eps, math.inf)
        chosen = Settings(**settings)
        latents = at_the_weights(trials, 1.5)
        ended = Cycle(trials, chosen, Conditions(), latents, Batches(distortion, chosen.batch, seed), steps).run()
        return trials, ended.within, trials.best


def test_a_cycle_finds_planted_symbols() -> None:
    trials, within, bits = cycle(300, 0.02)
    assert within
    step = 1.0
    generator = torch.Generator().manual_seed(0)
    planted = torch.randint(-1, 2, (24, 16), generator=generator) * (torch.rand(24, 16, generator=generator) < 0.3)
    known = trials.bits([dense(narrow(planted.float()), step)])
    assert bits <= 1.02 * known


def test_the_dual_variable_learns_what_each_candidate_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, float]] = []
    monkeypatch.setattr(Dual, "calibrate", lambda _, candidate, batches: told.append((candidate, batches)))
    found: list[float] = []
    measure = Trials.measure

    def measured(self: Trials, *arguments: Any) -> float:
        found.append(measure(self, *arguments))
        return found[-1]

    monkeypatch.setattr(Trials, "measure", measured)
    cycle(300, 0.02)
    assert CHECKS - 1 <= len(told) <= CHECKS + 1
    assert [candidate for candidate, _ in told] == [min(one, 20 * 0.02) for one in found[: len(told)]]
    assert all(0 < batches <= 20 * 0.02 for _, batches in told)


def test_a_cycle_that_has_no_candidate_goes_on_with_a_smaller_dual_variable() -> None:
    trials, within, _ = cycle(20, 1e-9)
    assert not within
    assert trials.spent >= 3 * 28  # half as many steps again, but for what doesn't make a whole extension


def divided(rows: int) -> tuple[dict[str, Tensor], MeanLoss]:
    """A linear map, and its mean squared distance from itself over so many inputs: full evaluations cost many steps."""
    generator = torch.Generator().manual_seed(0)
    weights, x = {"w": torch.randn(6, 4, generator=generator)}, torch.randn(rows, 4, generator=generator)
    wanted = x @ weights["w"].T
    return weights, MeanLoss(lambda w, x, y: (x @ w["w"].T - y).square().sum(1), x, wanted, batch=rows)


def test_with_many_examples_extensions_are_as_far_apart_as_other_measurements() -> None:
    weights, loss = divided(160 * 256)
    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        trials, settings, steps = Trials(problem, Tensors(problem), 1e-9, math.inf), Settings(), 100
        batches, latents = Batches(distortion, settings.batch, 0), at_the_weights(trials, 1.5)
        before = trials.spent
        Cycle(trials, settings, Conditions(), latents, batches, steps).run()
        done = 150  # one extension, as long as it may be; between measurements there are 4 · 160 / 3 steps
        gradients = (GRADIENT_COST + 1) * batches.share * done  # the original's loss on each of the batches, too, once
        assert trials.spent - before == pytest.approx(gradients + 2, abs=0.01)  # after 100 and 150 steps


def test_bit_allocation_gets_no_more_than_the_steps_of_a_trial() -> None:
    weights, loss = divided(320 * 256)
    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        trials = Trials(problem, Tensors(problem), 0.01, math.inf)
        Search(Settings(), trials)._allocate(has_gradient=True)
        assert 1 < trials.spent <= GRADIENT_COST * 1024 / 320
        assert _for_allocation(Settings(), 1 / 320) == pytest.approx(GRADIENT_COST * 1024 / 320)


def beginning(trials: Trials) -> Start:
    """A start at the weights, in steps of one and a half typical weights."""
    return Start(lambda finer: at_the_weights(trials, 1.5 * finer), at_the_weights(trials, 1.5))


@pytest.mark.parametrize(("ended_at", "goes_on"), [(1.9, True), (2.1, False)])
def test_a_start_goes_on_from_where_a_cycle_is_nearly_within_eps(ended_at, goes_on, monkeypatch) -> None:
    weights, loss = divided(512)
    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        trials = Trials(problem, Tensors(problem), 0.01, math.inf)
        monkeypatch.setattr(Cycle, "run", lambda *_: Ended(False, ended_at * 0.01, 0.7))
        search = Search(Settings(), trials)
        start = beginning(trials)
        latents = start.latents
        assert not search._cycle(start, 10)
        assert (start.latents is latents) is (start.factor == 1.0) is goes_on
        assert start.integral == (0.7 if goes_on else 0.0)


@pytest.mark.parametrize("factors", [True, False])
def test_a_cycle_whose_factors_are_zero_is_given_up(factors: bool) -> None:
    """No gradient leads out of factors that are both zero. A dense matrix of zeros has one."""
    weights, loss = divided(512)
    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        trials = Trials(problem, Tensors(problem), 0.1, math.inf)
        (spec,) = problem.skeleton.tensors
        parts = [torch.zeros(6, 2), torch.zeros(2, 4)] if factors else [torch.zeros(6, 4)]
        zero = trials.measure({spec.name: Constant(0)})
        batches, before = Batches(distortion, 256, 0), trials.spent
        ended = Cycle(trials, Settings(), Conditions(zero), [Latent(spec, parts, -1.0)], batches, 400).run()
        assert ended.collapsed is factors
        assert (ended.distortion > 1.0) is factors
        if factors:
            assert trials.spent - before < 100 * GRADIENT_COST * batches.share


def end_as(monkeypatch: pytest.MonkeyPatch, *ends: Ended) -> None:
    """Let the next cycles end like this, each after moving the first latents by 1."""
    left = iter(ends)

    def run(cycle: Cycle, _: float) -> Ended:
        cycle._latents[0].parts[0].add_(1.0)
        return next(left)

    monkeypatch.setattr(Cycle, "run", run)


def test_after_a_cycle_beyond_eps_the_next_begins_where_it_did_with_the_least_dual_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights, loss = divided(512)
    end_as(monkeypatch, Ended(True, 0.009, 0.8), Ended(False, 0.03, 0.9))
    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        trials = Trials(problem, Tensors(problem), 0.01, math.inf)
        search = Search(Settings(bound=4.0), trials)
        start = beginning(trials)
        assert search._cycle(start, 10)
        assert start.integral == 0.8
        within = start.latents[0].parts[0].clone()
        assert not search._cycle(start, 10)
        assert torch.equal(start.latents[0].parts[0], within)
        assert start.integral == pytest.approx(-math.log(4.0))


def test_after_a_cycle_below_the_original_loss_the_next_goes_on_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate with a loss below the original's by more than ε needs a larger dual variable, and no larger batches."""
    weights, loss = divided(512)
    end_as(monkeypatch, Ended(True, 0.009, 0.8), Ended(False, -0.03, 1.2, below=True))
    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        search = Search(Settings(), Trials(problem, Tensors(problem), 0.01, math.inf))
        start, batches = beginning(search._trials), search._batches
        assert search._cycle(start, 10)
        within = start.latents[0].parts[0].clone()
        assert not search._cycle(start, 10)
        assert torch.equal(start.latents[0].parts[0], within + 1)
        assert start.integral == 1.2
        assert search._batches is batches


def test_a_network_that_is_not_trained_to_the_end_is_not_trained_on() -> None:
    """Its loss could fall by far more than ε, and a file with a lower loss is beyond ε, too. Without the sign of the change, the three searches
    lower λ and double their batches: they take 9,000 evaluations and find 12,700 bits together."""
    generator = torch.Generator().manual_seed(101)
    x, y = torch.randn(600, 16, generator=generator), torch.randint(4, (600,), generator=generator)
    weights = {
        "one": torch.randn(64, 16, generator=generator) / 4,
        "bias": torch.zeros(64),
        "two": torch.randn(4, 64, generator=generator) / 8,
    }

    def outputs(w: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.relu(x @ w["one"].T + w["bias"]) @ w["two"].T

    optimizer = torch.optim.Adam([tensor.requires_grad_() for tensor in weights.values()], lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        cross_entropy(outputs(weights, x), y).backward()
        optimizer.step()
    weights = {name: tensor.detach() for name, tensor in weights.items()}
    loss = MeanLoss(lambda w, x, y: cross_entropy(outputs(w, x), y, reduction="none"), x, y)
    reports = [estimate(weights, loss, 0.01, method=Tight(first=128, most=1024), seed=seed) for seed in range(3)]
    assert reports[0].loss > 0.2
    assert all(report.within and report.origin == "descent" for report in reports)
    assert sum(report.evaluations for report in reports) < 7500
    assert sum(report.bits for report in reports) < 11700


def test_a_cycle_that_collapses_begins_again_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, loss = divided(512)
    rates, begins = [], []

    def run(cycle: Cycle, _: float) -> Ended:
        rates.append(cycle._settings.learning_rate)
        begins.append(cycle._latents[0].parts[0].clone())
        cycle._latents[0].parts[0].zero_()
        return Ended(len(rates) == 3, 0.005, 0.1, collapsed=len(rates) < 3)

    monkeypatch.setattr(Cycle, "run", run)
    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        trials = Trials(problem, Tensors(problem), 0.01, math.inf)
        search = Search(Settings(learning_rate=0.2), trials)
        start = beginning(trials)
        assert search._cycle(start, 10)
    assert rates == pytest.approx([0.2, 0.1, 0.05])
    assert start.rate == 0.25  # the next cycles of this start are as slow
    assert all(torch.equal(one, begins[0]) for one in begins)


def test_the_evaluations_that_a_search_may_take_include_those_of_all_starts(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    low_rank = torch.randn(24, 2, generator=generator) @ torch.randn(2, 24, generator=generator)
    steps = []

    def run(cycle: Cycle, _: float) -> Ended:
        steps.append(cycle._steps)
        return Ended(False, 0.03, 0.0)

    monkeypatch.setattr(Cycle, "run", run)
    with Distortion({"w": low_rank}, lambda w: (w["w"] - low_rank).square().mean()) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        Tight().search(problem, [0.02])
        assert sum(steps) == 4096 + 2 * 1024  # of the start that goes on, and of two others
        assert (
            Tight().expected(problem) == GRADIENT_COST * sum(steps) + 4 * 30 + 100
        )  # measurements of four cycles, and bit allocation


def test_candidates_are_those_of_the_file() -> None:
    trials, _, bits = cycle(60, 0.02)
    kept = trials.kept[0]
    candidate = trials.problem.written(kept.tensors)
    assert candidate.distortion <= 0.02
    assert abs(candidate.bits - bits) <= 64


def test_latents_of_a_start_are_the_weights_in_steps_of_typical_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {"w": torch.randn(30, 20, generator=generator), "zero": torch.zeros(5)}
    with Distortion(weights, lambda w: w["w"].square().mean()) as distortion:
        problem = Problem(distortion, Entropy(), 0)
        (latent,) = at_the_weights(Trials(problem, Tensors(problem), 0.1, math.inf), 1.5)
    assert latent.step == pytest.approx(1.5, rel=0.2)
    torch.testing.assert_close(latent.parts[0] * latent.step, weights["w"], rtol=1e-5, atol=1e-6)
    assert isinstance(coarse_of([Latent(skeleton_of(weights).tensors[1], [torch.zeros(5)], 0.0)])["zero"], Constant)
