"""Bit allocation: its parts against closed forms, and networks with known answers."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.cases.planted import Planted, divergence
from nncomplexity import estimate
from nncomplexity.codecs import Entropy
from nncomplexity.measure import rate_distortion
from nncomplexity.network import Distortion, MeanLoss, TensorSpec, skeleton_of
from nncomplexity.search import Problem
from nncomplexity.search.allocate import Allocate, Allocation, curves_of
from nncomplexity.search.batches import Batches, Minibatch
from nncomplexity.search.forms import Zero, coded, coded_bits, entropy_bits
from nncomplexity.search.lagrangian import Lagrangian
from nncomplexity.search.lattice import lattice_basis
from nncomplexity.search.operating_points import OperatingPoints, curve_of
from nncomplexity.search.scans import PARTS, dense_scan, fitted, low_rank_scan, ranks_worth_trying
from nncomplexity.search.sensitivity import Sensitivities, groups_of
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.trials import Trials


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spec(*shape: int, name: str = "w") -> TensorSpec:
    return TensorSpec((name,), shape, torch.float32)


# The Lagrangian


def random_curves(seed: int, tensors: int, points: int) -> list[OperatingPoints]:
    """Curves whose bits rise as their errors fall, convex or not."""
    draw = np.random.default_rng(seed)
    curves = []
    for index in range(tensors):
        bits = np.append(1.0, 1 + np.cumsum(draw.uniform(1, 100, points - 1)))
        errors = np.zeros((points, PARTS))
        errors[:, 1] = np.sort(draw.uniform(0, 1, points))[::-1]
        curves.append(OperatingPoints(spec(points, name=str(index)), torch.ones(points), [Zero()] * points, bits, errors))
    return curves


@pytest.mark.parametrize("seed", range(20))
def test_no_choice_of_as_little_distortion_takes_fewer_bits_than_those_on_the_path(seed: int) -> None:
    curves = random_curves(seed, tensors=3, points=5)
    c = np.random.default_rng(seed).uniform(0.1, 10, (3, 1)) * np.ones(PARTS)
    every = list(product(range(5), repeat=3))
    bits = np.array([sum(curve.bits[point] for curve, point in zip(curves, points, strict=True)) for points in every])
    distortions = np.array(
        [sum(one @ curve.errors[point] for one, curve, point in zip(c, curves, points, strict=True)) for points in every]
    )
    lagrangian = Lagrangian(curves)
    path = lagrangian.path(c)
    assert len(path) > 1
    for choice, distortion in zip(path, path.distortions.tolist(), strict=True):
        taken = sum(curve.bits[point] for curve, point in zip(curves, choice.points.tolist(), strict=True))
        assert taken <= bits[distortions <= distortion + 1e-12].min() + 1e-9


def test_the_path_leads_from_the_finest_choice_to_nothing() -> None:
    curves = random_curves(0, tensors=4, points=6)
    lagrangian = Lagrangian(curves)
    path = lagrangian.path(np.ones((4, PARTS)))
    assert not path[-1].points.any()
    sizes = [sum(curve.bits[point] for curve, point in zip(curves, choice.points.tolist(), strict=True)) for choice in path]
    assert all(finer > coarser for finer, coarser in pairwise(sizes))


def test_steps_have_more_bits_where_errors_cost_more() -> None:
    [curve] = random_curves(0, tensors=1, points=6)
    lagrangian = Lagrangian([curve])
    assert lagrangian.path(np.full((1, PARTS), 1.0))[0].precision > lagrangian.path(np.full((1, PARTS), 1.0))[-2].precision


# Operating points


def test_the_points_of_a_tensor_are_what_its_coarse_tensors_take_and_miss() -> None:
    weight = torch.randn(24, 16, generator=generator())
    curve = curve_of(spec(24, 16), weight, weighings=1e6)
    assert isinstance(curve.forms[0], Zero)
    assert curve.energy == pytest.approx(float(weight.double().square().sum()))
    for index in range(1, len(curve.forms)):
        decoded = curve.piece(index, precision=40).decode(curve.spec)
        assert float((decoded.double() - weight.double()).square().sum()) == pytest.approx(curve.errors[index].sum(), rel=1e-3)
        assert abs(curve.bits[index] - coded([curve.forms[index]], weight)[0]) < 20 + 0.01 * curve.bits[index]
    assert (np.diff(curve.bits) >= 0).all()


@pytest.mark.parametrize("step", [0.013, 0.5, 7.0])
def test_a_tensor_on_a_grid_is_found_on_it(step: float) -> None:
    whole = torch.randint(-3, 4, (40, 30), generator=generator())
    weight = step * (whole + 0.02 * torch.randn(40, 30, generator=generator(1)))
    scan = dense_scan(weight)
    noise = float((weight - step * whole).double().square().sum())
    near = [form.step for form, error in zip(scan.forms, scan.errors.sum(1), strict=True) if error < 1.05 * noise]
    assert max(near) == pytest.approx(step, rel=1e-3)


def test_the_coder_tells_a_step_from_its_half() -> None:
    whole = torch.randint(-2, 3, (40, 30), generator=generator()).double()
    assert entropy_bits(2 * whole) < 1.01 * entropy_bits(whole)
    doubled, single = coded_bits([2 * whole, whole])
    assert doubled > single + 4


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_small_whole_factors_are_found_in_a_product(rank: int) -> None:
    A = torch.randint(-2, 3, (50, rank), generator=generator(rank)).double()
    B = torch.randint(-2, 3, (rank, 40), generator=generator(rank + 10)).double()
    W = A @ B / 7
    noise = 1e-3 * torch.randn(50, 40, generator=generator(5), dtype=torch.float64)
    scan = low_rank_scan(W + noise, dense_scan(W + noise))
    within = scan.errors.sum(1) < 2 * float(noise.square().sum())
    assert scan.bits[within].min() < 1.25 * (entropy_bits(A) + entropy_bits(B))


def test_a_basis_of_the_lattice_makes_a_factor_whole() -> None:
    whole = torch.randint(-2, 3, (60, 3), generator=generator()).double()
    mixed = whole @ torch.randn(3, 3, generator=generator(1), dtype=torch.float64)
    D = lattice_basis(mixed + 1e-3 * torch.randn(60, 3, generator=generator(2), dtype=torch.float64))
    assert D is not None
    found = mixed @ D
    assert float((found - found.round()).abs().max()) < 0.1
    assert float(found.abs().max()) < 9


def test_factors_of_real_numbers_have_no_lattice() -> None:
    assert lattice_basis(torch.randn(60, 3, generator=generator(), dtype=torch.float64)) is None
    assert lattice_basis(torch.randn(60, 9, generator=generator(), dtype=torch.float64)) is None  # too many columns to look
    assert lattice_basis(torch.randn(3, 3, generator=generator(), dtype=torch.float64)) is None  # any rows fit
    assert lattice_basis(torch.zeros(9, 3, dtype=torch.float64)) is None


def test_ranks_are_tried_where_they_may_pay() -> None:
    W = torch.randn(60, 5, generator=generator()) @ torch.randn(5, 40, generator=generator(1))
    W += 0.01 * torch.randn(60, 40, generator=generator(2))
    full = torch.randn(60, 40, generator=generator(3))
    assert 5 in ranks_worth_trying(torch.linalg.svdvals(W.double()), (60, 40), dense_scan(W))
    assert ranks_worth_trying(torch.linalg.svdvals(full.double()), (60, 40), dense_scan(full)) == []


def test_factors_lose_components_that_one_of_them_has_lost() -> None:
    A = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    B = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, -1.0]])
    scan = fitted(0.5 * A @ B, A[None], torch.stack([B, torch.zeros(3, 2)]))
    (form,) = scan.forms
    assert form.scale == 0.5
    assert [one.tolist() for one in form.symbols(A @ B)] == [[[2.0], [3.0]], [[1.0, -1.0]]]
    assert scan.errors.tolist() == [[0, 0, 0]]
    assert scan.bits.tolist() == [entropy_bits(A[:, 2:]) + entropy_bits(B[2:])]


def test_many_factors_are_fitted_as_each_is() -> None:
    W = torch.randn(9, 7, generator=generator(), dtype=torch.float64)
    A = torch.randint(-2, 3, (1, 9, 3), generator=generator(1)).double()
    B = torch.randint(-1, 2, (40, 3, 7), generator=generator(2)).double() * (torch.rand(40, 3, 1, generator=generator(3)) > 0.3)
    for many in (fitted(W, A, B), fitted(W, A.expand(40, 9, 3), B)):
        alone = [fitted(W, A, one[None]) for one in B]
        assert [form.scale for form in many.forms] == pytest.approx([form.scale for scan in alone for form in scan.forms])
        assert many.bits.tolist() == [bits for scan in alone for bits in scan.bits]
        for form, error in zip(many.forms, many.errors[:, 2], strict=True):
            assert float((W - form.scale * form.A @ form.B).square().sum()) == pytest.approx(error)


# Sensitivities


def test_probes_measure_the_curvature() -> None:
    weights = {"a": torch.randn(30, generator=generator()), "b": torch.randn(20, 10, generator=generator(1))}
    curvatures = {"a": 3.0, "b": 0.02}

    def loss(given):
        slope = given["a"].sum()  # mirrored probes cancel it
        return slope + sum(c * (given[name] - weights[name]).double().square().sum() for name, c in curvatures.items())

    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy())
        trials = Trials(problem, Tensors(problem), 0.1, 100)
        measured = Sensitivities(
            trials, skeleton_of(weights).tensors, [[0], [1]], 0.1, Minibatch(None, distortion.original)
        ).measured()
        assert trials.spent < 15
    assert measured[:, 0] == pytest.approx([3.0, 0.02], rel=0.4)
    assert measured[1, 1] == pytest.approx(0.02, rel=0.01)


def test_sensitivities_of_a_sample_cost_little_and_lead_to_as_small_a_file() -> None:
    x = torch.randn(4096, 12, generator=generator(2))
    weights = {"a": torch.randn(24, 12, generator=generator(3)), "b": torch.randn(5, 24, generator=generator(4))}

    def outputs(given, inputs):
        return torch.tanh(inputs @ given["a"].T) @ given["b"].T

    wanted = outputs(weights, x)
    loss = MeanLoss(lambda given, inputs, y: (outputs(given, inputs) - y).square().sum(1), x, wanted)
    found = []
    for part in (False, True):
        with Distortion(weights, loss) as distortion:
            problem = Problem(distortion, Entropy())
            tensors = Tensors(problem)
            trials = Trials(problem, tensors, 0.1, 100)
            sample = Batches(distortion, 256, 0).sample() if part else Minibatch(None, distortion.original)
            Allocation(Allocate(), trials, curves_of(problem, tensors), sample).run()
            assert trials.kept[0].bits == trials.best
            assert trials.found().best.distortion <= 0.1  # measured on all examples
            found.append((trials.best, trials.spent))
    (bits, spent), (bits_of_part, spent_of_part) = found
    assert spent_of_part < 0.7 * spent
    assert bits_of_part < 1.1 * bits


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_low_rank_without_a_finite_loss_leaves_sensitivities_as_they_are(lost: float) -> None:
    weights = {"w": torch.randn(20, 3, generator=generator()) @ torch.randn(3, 30, generator=generator(1))}
    weights["w"] += 0.1 * torch.randn(20, 30, generator=generator(2))

    def loss(given):
        full = torch.linalg.matrix_rank(given["w"]) == 20
        return (given["w"] - weights["w"]).square().mean().item() if full else lost

    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy())
        tensors = Tensors(problem)
        trials = Trials(problem, tensors, 0.01, 100)
        allocation = Allocation(Allocate(), trials, curves_of(problem, tensors), Minibatch(None, distortion.original))
        allocation.run()
        best, before = allocation._choices.best, trials.spent
        assert best is not None
        corrected = allocation._of_low_rank(best)
        assert np.isfinite(corrected).all()
        assert np.array_equal(corrected[:, 2], corrected[:, 0])  # that of noise
        assert trials.spent > before  # it was measured


@pytest.mark.parametrize("most", [1, 3, 7, 50])
def test_groups_hold_each_tensor_once_and_those_of_one_shape_together(most: int) -> None:
    specs = [spec(*shape, name=f"{layer}.{shape}") for layer in range(6) for shape in ((8, 8), (8,), (32, 8))]
    groups = groups_of(specs, most)
    assert len(groups) == min(most, len(specs))
    assert sorted(index for group in groups for index in group) == list(range(len(specs)))
    if most >= 3:
        assert all(len({specs[index].shape for index in group}) == 1 for group in groups)


# The search


def perceptron(hidden: int = 24, seed: int = 0):
    draw = generator(seed)
    weights = {"0": torch.randn(hidden, 8, generator=draw), "1": torch.randn(3, hidden, generator=draw) / hidden**0.5}
    x = torch.randn(200, 8, generator=draw)

    def logits(given):
        return F.relu(x @ given["0"].T) @ given["1"].T

    target = logits(weights).log_softmax(-1)
    return weights, lambda given: F.kl_div(logits(given).log_softmax(-1), target, log_target=True, reduction="batchmean")


@pytest.mark.parametrize("seed", range(2))
def test_a_larger_budget_never_has_the_larger_file(seed: int) -> None:
    weights, loss = perceptron(seed=seed)
    reports = [estimate(weights, loss, 0.01, method=Allocate(budget=budget), seed=seed) for budget in (1, 6, 15, 25, 40, 70, 110)]
    assert all(more.bits <= fewer.bits for fewer, more in pairwise(reports))
    assert all(report.evaluations <= budget for report, budget in zip(reports, (1, 6, 15, 25, 40, 70, 110), strict=True))
    assert reports[-1].within


def test_local_steps_make_the_file_smaller() -> None:
    """Without a spread, they all have the sensitivities of the best choice, which is found already."""
    weights, loss = perceptron(hidden=120)
    alike, apart = (estimate(weights, loss, 0.01, method=Allocate(spread=spread)) for spread in (0.0, 0.35))
    assert apart.bits < alike.bits
    assert apart.evaluations > alike.evaluations


def test_it_is_a_method_by_name_and_smaller_than_uniform_quantization() -> None:
    weights, loss = perceptron(hidden=60)
    found = estimate(weights, loss, 0.001, method="allocate")
    assert found.method == "allocate"
    assert found.bits < estimate(weights, loss, 0.001, method="quantize", codec="entropy").bits
    assert found.file.content == estimate(weights, loss, 0.001, method="allocate").file.content


def test_many_tensors_are_allocated_in_few_evaluations() -> None:
    weights = {f"{index:03}": (1 + index % 7) * torch.randn(4, 3 + index % 2, generator=generator(index)) for index in range(300)}
    loss = lambda given: sum((1 + int(name) % 2) * (given[name] - weights[name]).square().sum() for name in weights)  # noqa: E731
    report = estimate(weights, loss, 1.0, method="allocate")
    assert report.evaluations <= 100
    assert report.bits < 0.95 * estimate(weights, loss, 1.0, method="quantize", codec="entropy").bits


@pytest.mark.parametrize("family", ["sparse", "live", "low rank", "signs"])
def test_planted_weights_are_found(family: str) -> None:
    planted = Planted(family, depth=2, width=48)
    weights = planted.noisy(0.01)
    report = estimate(weights, divergence(planted.inputs, weights), 0.01, method="allocate")
    assert report.bits < 1.1 * planted.drawn[1]


def test_a_loss_in_steps_has_an_answer() -> None:
    """No probe shows how it rises."""
    weights, _ = perceptron()
    loss = lambda given: float((given["0"] - weights["0"]).abs().max() > 0.05)  # noqa: E731
    report = estimate(weights, loss, 0.5, method="allocate")
    assert report.within
    assert report.bits < 8000


def test_differences_from_a_base_are_allocated() -> None:
    base, loss = perceptron()
    weights = {
        "0": base["0"] + 0.5 * torch.randn(24, 2, generator=generator(7)) @ torch.randn(2, 8, generator=generator(8)),
        "1": base["1"],
    }
    loss = lambda given: (given["0"] - weights["0"]).square().mean()  # noqa: E731
    report = estimate(weights, loss, 0.01, method="allocate", relative_to=base)
    assert report.within
    assert report.layers[1].form == "unchanged"
    assert report.bits < estimate(weights, loss, 0.01, method="allocate").bits


def test_a_curve_by_it() -> None:
    weights, loss = perceptron()
    curve = rate_distortion(weights, loss, [0.001, 0.01, 0.1, 1.0], method="allocate")
    assert all(finer.bits >= coarser.bits for finer, coarser in pairwise(curve.reports))
