"""Algorithms 1 and 2 of DeMoss et al. 2025, on small networks for which the result is known in advance."""

import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from torch import Tensor

from nncomplexity.codecs import codec_named
from nncomplexity.errors import InputError
from nncomplexity.file import Constant, Dense, LowRank, paper_bytes, read
from nncomplexity.network import Distortion
from nncomplexity.search import Bayes, Found, Problem, Quantize
from nncomplexity.search.bayes import Optimizer, start_points
from nncomplexity.search.constrained import ConstrainedStudy
from nncomplexity.search.points import CoarseGraining, Point, Points

Weights = Mapping[str, Tensor]
METHODS = [Bayes(budget=13), Quantize(budget=13)]


@contextmanager
def problem_of(weights: Weights, loss_fn: Callable[[Weights], object], seed: int = 0) -> Iterator[Problem]:
    with Distortion(weights, loss_fn) as distortion:
        yield Problem(distortion, codec_named("bzip2"), seed)


def random(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def squared_error(original: Weights) -> Callable[[Weights], Tensor]:
    """Σ(w − w₀)², so that distortions have closed forms."""
    kept = {name: tensor.clone().double() for name, tensor in original.items()}

    def loss(weights: Weights) -> Tensor:
        return sum(((weights[name].double() - kept[name]) ** 2).sum() for name in kept)  # type: ignore[return-value]

    return loss


def network(seed: int = 0) -> dict[str, Tensor]:
    """A two-layer network whose first matrix has rank 3, but for a little noise."""
    return {
        "layer1.weight": random(48, 3, seed=seed) @ random(3, 32, seed=seed + 1) + random(48, 32, scale=0.01, seed=seed + 2),
        "layer1.bias": random(48, scale=0.3, seed=seed + 3),
        "layer2.weight": random(10, 48, scale=0.3, seed=seed + 4),
    }


INPUTS = random(64, 32, seed=9)
LABELS = (INPUTS @ random(32, 10, seed=8)).argmax(1)


def cross_entropy(weights: Weights) -> Tensor:
    hidden = torch.relu(INPUTS @ weights["layer1.weight"].T + weights["layer1.bias"])
    return torch.nn.functional.cross_entropy(hidden @ weights["layer2.weight"].T, LABELS)


def searched(method: Bayes | Quantize, eps: Sequence[float], seed: int = 0) -> list[Found]:
    with problem_of(network(), cross_entropy, seed) as problem:
        return list(method.search(problem, eps))


# What a point (τ, Δ) means.


def reference(weight: np.ndarray, tau: float, step: float) -> np.ndarray:
    """Eqs. 12 to 14 and 11 in NumPy: R, then Q of what R gives."""
    matrix = weight.astype(np.float64).reshape(weight.shape[0], -1)
    m, n = matrix.shape
    U, S, Vt = np.linalg.svd(matrix, full_matrices=False)
    rank = next(k for k in range(len(S) + 1) if sum(S[:k]) / sum(S) >= tau - 1e-12)
    if rank >= m * n / (m + n):
        return np.round(weight.astype(np.float64) / step) * step
    factors = np.round(U[:, :rank] * S[:rank] / step) * step, np.round(Vt[:rank] / step) * step
    return (factors[0] @ factors[1]).reshape(weight.shape)


@given(
    shape=st.sampled_from([(12, 7), (5, 30), (6, 3, 2, 2), (1, 9)]),
    tau=st.floats(0, 0.999),
    step=st.floats(1e-3, 1.0),
    seed=st.integers(0, 50),
)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_a_point_is_what_numpy_makes_of_the_equations(shape: tuple[int, ...], tau: float, step: float, seed: int) -> None:
    weights = {"w": random(*shape, seed=seed)}
    with problem_of(weights, squared_error(weights)) as problem:
        (coarse,) = CoarseGraining(problem)(step, tau)
        decoded = coarse.decode(problem.skeleton.tensors[0]).double().numpy()
    assert decoded == pytest.approx(reference(weights["w"].numpy(), tau, step), rel=1e-6, abs=1e-6)


def test_without_tau_every_tensor_stays_whole() -> None:
    with problem_of(network(), cross_entropy) as problem:
        coarse = CoarseGraining(problem)(0.05)
    assert all(isinstance(tensor, Dense) for tensor in coarse)


def test_vectors_stay_whole_and_integers_as_they_are() -> None:
    weights = {"w": random(20, 20), "b": random(20), "count": torch.tensor(7), "mask": torch.tensor([True, False])}
    with problem_of(weights, lambda w: w["w"].sum()) as problem:
        w, b, count, mask = CoarseGraining(problem)(0.1, 0.3)
        specs = problem.skeleton.tensors
        assert isinstance(w, LowRank)
        assert isinstance(b, Dense)
        assert isinstance(count, Dense)
        assert count.decode(specs[2]).item() == 7
        assert mask.decode(specs[3]).tolist() == [True, False]


@pytest.mark.parametrize(("step", "tau"), [(0.1, 0.0), (50.0, 0.5), (1.1, 0.5)], ids=["rank 0", "all below Δ/2", "Vᵀ below Δ/2"])
def test_what_rounds_to_nothing_is_zero(step: float, tau: float) -> None:
    weights = {"w": random(40, 40)}  # entries of U·S reach 5.4, those of Vᵀ 0.42
    with problem_of(weights, lambda w: w["w"].sum()) as problem:
        (coarse,) = CoarseGraining(problem)(step, tau)
    assert coarse == Constant(0)


# What the searches find.


def test_quantize_finds_the_step_that_weights_are_multiples_of() -> None:
    weights = {"w": torch.randint(-9, 10, (30, 30), generator=torch.Generator().manual_seed(0)) * 0.25}
    with problem_of(weights, squared_error(weights)) as problem:
        (found,) = Quantize(budget=6, steps=(0.0625, 1.0)).search(problem, [1e-6])
    assert found.best is not None
    (coarse,) = found.best.file.tensors
    assert isinstance(coarse, Dense)
    assert coarse.step == pytest.approx(0.25)
    assert found.best.distortion < 1e-12


def test_quantize_takes_the_largest_step_that_the_worst_weight_bears() -> None:
    weights = {"w": random(60, 60)}
    grid = np.geomspace(1e-3, 1.0, 40)
    values = weights["w"].double().numpy()
    worst = np.array([np.abs(values - np.round(values / step) * step).max() for step in grid])
    with problem_of(weights, lambda w: (w["w"] - weights["w"]).abs().max()) as problem:
        found = Quantize(budget=41).search(problem, [0.2, 0.03])
    steps = [entry.best.file.tensors[0].step for entry in found if entry.best]  # type: ignore[union-attr]
    assert steps == [grid[worst <= eps].max() for eps in (0.2, 0.03)]


@pytest.mark.parametrize("codec", ["bzip2", "entropy"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("eps", [1e-3, 0.1, 10.0, 1e3])
def test_quantize_finds_the_smallest_size_and_computes_few_if_the_codec_is_another(eps: float, seed: int, codec: str) -> None:
    weights = network(seed)
    with Distortion(weights, squared_error(weights)) as distortion:
        points, skeleton = Points(Problem(distortion, codec_named(codec), 0)), distortion.skeleton
        coarse_grained = CoarseGraining(Problem(distortion, codec_named(codec), 0))
        for step in Quantize().grid():
            points.measure(step)
        within = [paper_bytes(skeleton, coarse_grained(point.step)) for point in points.measured if point.distortion <= eps]
        best = points.best(eps)
        computed = [point for point in points.measured if "paper_bytes" in vars(point)]
    assert (best and best.paper_bytes) == min(within, default=None)
    assert len(computed) == len(within) if codec == "bzip2" else len(computed) <= 14


def test_bayes_finds_that_a_matrix_is_a_product() -> None:
    weights = {"w": 4 * random(64, 1) @ random(1, 48, seed=1), "b": random(64, seed=2)}
    with problem_of(weights, lambda w: ((w["w"] - weights["w"]) ** 2).mean() + ((w["b"] - weights["b"]) ** 2).mean()) as problem:
        (found,) = Bayes(budget=24).search(problem, [0.1])
        (plain,) = Quantize(budget=24).search(problem, [0.1])
    assert found.best is not None
    assert plain.best is not None
    product, bias = found.best.file.tensors
    assert isinstance(product, LowRank)
    assert product.rank == 1
    assert isinstance(bias, Dense)
    assert found.best.paper_bytes is not None
    assert plain.best.paper_bytes is not None
    assert found.best.paper_bytes < plain.best.paper_bytes / 2


def bowl(step: float, tau: float) -> Point:
    """Distortion (Δ/0.1)²·(2 − τ), size 1000·(1 + τ)/Δ: within 1 the smallest is 10,000·√2, at τ = 0 and Δ = 0.1/√2."""
    return Point(step, tau, (step / 0.1) ** 2 * (2 - tau), lambda: round(1000 * (1 + tau) / step))


@pytest.mark.parametrize("seed", range(2))
def test_the_optimizer_finds_a_known_optimum_on_the_edge_of_what_is_allowed(seed: int) -> None:
    found = [bowl(step, tau) for step, tau in start_points(12, (1e-3, 1.0), seed)]

    def measure(step: float, tau: float) -> Point:
        found.append(bowl(step, tau))
        return found[-1]

    Optimizer((1e-3, 1.0), seed, 1.0, found).run(10, measure)
    assert min(point.paper_bytes for point in found if point.distortion <= 1) < 1.01 * 10_000 * math.sqrt(2)


@given(count=st.integers(0, 20), seed=st.integers(0, 1000))
def test_a_search_begins_without_decomposition_and_then_spreads_over_both_axes(count: int, seed: int) -> None:
    points = start_points(count, (1e-3, 1.0), seed)
    assert [point for point in points if point[1] == 1] == [(pytest.approx(step), 1.0) for step in (0.01, 0.1)][:count]
    spread = points[2:]
    assert len(points) == count
    assert sorted(int(tau * len(spread)) for _, tau in spread) == list(range(len(spread)))
    assert sorted(int((math.log10(step) / 3 + 1) * len(spread)) for step, _ in spread) == list(range(len(spread)))


def test_a_large_eps_beside_it_does_not_lead_a_small_one_astray() -> None:
    def smallest(eps: Sequence[float]) -> float:
        best = searched(Bayes(budget=16), eps)[-1].best
        assert best is not None
        assert best.paper_bytes is not None
        return best.paper_bytes

    # Nearly everything is within ε = 3, so that its points crowd where all weights are zero.
    assert smallest([3.0, 0.05]) < 1.15 * smallest([0.05])


def test_bayes_works_for_callers_who_turned_gradients_off() -> None:
    with torch.inference_mode():
        (found,) = searched(Bayes(budget=15), [0.5])
    (expected,) = searched(Bayes(budget=15), [0.5])
    assert found.best is not None
    assert expected.best is not None
    assert found.best.file.content == expected.best.file.content


# What both owe their caller.


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_files_decode_to_weights_within_eps_and_of_the_size_said(method: Bayes | Quantize) -> None:
    original = float(cross_entropy(network()))
    for eps, found in zip((0.5, 0.05), searched(method, (0.5, 0.05)), strict=True):
        assert found.best is not None
        file = read(found.best.file.content)
        decoded_loss = float(cross_entropy(file.weights()))
        assert abs(decoded_loss - original) <= eps
        assert decoded_loss == found.best.loss
        assert found.best.paper_bytes == paper_bytes(file.skeleton, file.tensors)
        assert file.bits == found.best.bits < file.skeleton.raw_bits / 2


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_one_seed_gives_one_file(method: Bayes | Quantize) -> None:
    (first,), (second,) = (searched(method, [0.5], seed=3) for _ in range(2))
    assert first.best is not None
    assert second.best is not None
    assert first.best.file.content == second.best.file.content


def test_another_seed_tries_other_points() -> None:
    steps = []
    for seed in (0, 1):
        with problem_of(network(), cross_entropy, seed) as problem:
            noted: list[str] = []
            watched = Problem(problem.distortion, problem.codec, seed, lambda done, total, what, noted=noted: noted.append(what))  # type: ignore[misc]
            Bayes(budget=8).search(watched, [0.5])
        steps.append(noted)
    assert len(steps[0]) == len(steps[1]) == 7
    assert not set(steps[0][2:]) & set(steps[1][2:])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_larger_eps_never_has_the_larger_size(method: Bayes | Quantize) -> None:
    eps = (2.0, 0.5, 0.05)
    sizes = [found.best.paper_bytes if found.best else math.inf for found in searched(method, eps)]
    assert sizes == sorted(sizes)
    assert sizes[0] <= sizes[-1]


def counted(loss_fn: Callable[[Weights], object]) -> tuple[Callable[[Weights], object], list[int]]:
    calls = [0]

    def loss(weights: Weights) -> object:
        calls[0] += 1
        return loss_fn(weights)

    return loss, calls


@pytest.mark.parametrize("eps", [[0.5], [0.5, 0.05]], ids=["one ε", "two"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_evaluations_are_the_calls_of_the_loss_and_within_the_budget(method: Bayes | Quantize, eps: list[float]) -> None:
    loss, calls = counted(cross_entropy)
    with problem_of(network(), loss) as problem:
        before = calls[0]  # the first calls look at the loss itself
        found = method.search(problem, eps)
    spent = [entry.evaluations for entry in found]
    assert sum(spent) == pytest.approx(calls[0] - before)
    assert all(evaluations <= method.budget for evaluations in spent)
    if len(eps) == 1:
        assert spent == [method.budget]
    else:
        assert sum(spent) < len(eps) * method.budget - 5


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_progress_counts_up_to_the_total_that_it_names(method: Bayes | Quantize) -> None:
    seen: list[tuple[float, float]] = []
    with problem_of(network(), cross_entropy) as problem:
        watched = Problem(problem.distortion, problem.codec, 0, lambda done, total, what: seen.append((done, total)))
        method.search(watched, [0.5, 0.05])
    done, totals = zip(*seen, strict=True)
    assert list(done) == list(range(len(seen)))
    assert set(totals) == {len(seen)}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_loss_that_bears_no_change_leaves_nothing(method: Bayes | Quantize) -> None:
    original = network()
    with problem_of(original, lambda w: 0.0 if torch.equal(w["layer1.bias"], original["layer1.bias"]) else math.nan) as problem:
        found = method.search(problem, [1.0, 0.1])
    assert [entry.best for entry in found] == [None, None]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_file_that_a_fickle_loss_refuses_gives_way_to_the_next_smallest(method: Bayes | Quantize) -> None:
    calls = [0]

    def fickle(weights: Weights) -> float:
        calls[0] += 1
        return math.nan if calls[0] == method.budget else float(cross_entropy(weights))

    with problem_of(network(), fickle) as problem:
        calls[0] = 0  # the first calls look at the loss itself
        (found,) = method.search(problem, [0.5])
    assert found.evaluations == method.budget + 1
    assert found.best is not None
    (steady,) = searched(method, [0.5])
    assert steady.best is not None
    assert found.best.file.content != steady.best.file.content


def test_weights_beyond_all_symbols_stay_as_they_are() -> None:
    weights = {"w": random(8, 8, scale=1e12), "v": random(8, 8)}
    with problem_of(weights, lambda w: w["w"].mean() * 0) as problem:
        for tau in (0.4, 1.0, None):
            w, v = CoarseGraining(problem)(1e-3, tau)
            assert torch.equal(w.decode(problem.skeleton.tensors[0]), weights["w"])
            assert not torch.equal(v.decode(problem.skeleton.tensors[1]), weights["v"])
        assert Points(problem).measure(1e-3, 1.0).distortion == 0


def test_products_beyond_exact_arithmetic_are_not_within_eps() -> None:
    # Entries of U·S near 2000 and of Vᵀ near 1, over Δ = 1e-6: 2e9 · 1e6 · rank 7 is above 2^53.
    weights = {"w": 2000 * torch.eye(16)}
    with problem_of(weights, lambda w: w["w"].mean() * 0) as problem:
        points = Points(problem)
        assert isinstance(CoarseGraining(problem)(1e-6, 0.4)[0], LowRank)
        assert points.measure(1e-6, 0.4).distortion == math.inf
        assert points.measure(1e-5, 0.4).distortion == 0


def test_optuna_is_quiet_and_keeps_the_verbosity_that_it_had(capfd: pytest.CaptureFixture[str]) -> None:
    verbosity = optuna.logging.get_verbosity()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        searched(Bayes(budget=15), [0.5, 1e-9])
    assert not warned
    assert optuna.logging.get_verbosity() == verbosity
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("method", [Bayes, Quantize])
@pytest.mark.parametrize("budget", [1, math.nan, math.inf, True, "62"])
def test_a_budget_is_a_number_of_evaluations(method: type[Bayes] | type[Quantize], budget: float) -> None:
    with pytest.raises(InputError, match="budget: expected a number of loss evaluations, at least 2, got"):
        method(budget=budget)


@pytest.mark.parametrize("method", [Bayes, Quantize])
@pytest.mark.parametrize("steps", [(0.0, 1.0), (1.0, 0.1), (0.1, math.inf), (0.1,)])
def test_bin_sizes_are_a_range(method: type[Bayes] | type[Quantize], steps: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="steps: expected a pair of numbers 0 < low < high, got"):
        method(steps=steps)


def test_without_optuna_only_bayes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        InputError, match=r"method: bayes needs the package optuna, which is not installed; pip install 'optuna>=4.2'"
    ):
        searched(Bayes(budget=4), [0.5])
    (found,) = searched(Quantize(budget=4), [0.5])
    assert found.best is not None


def test_a_constrained_study_prefers_the_side_that_keeps_the_constraint() -> None:
    # The value falls to the left, and only the right half keeps the constraint: its minimum is at the middle.
    study = ConstrainedStudy({"x": FloatDistribution(0.0, 1.0)}, seed=0)
    study.add({"x": 0.9}, 0.9, 0.5 - 0.9)
    study.add({"x": 0.1}, 0.1, 0.5 - 0.1)
    seen = []
    for done in range(12):
        trial = study.ask(gaussian=done < 8)
        seen.append(trial.params["x"])
        study.tell(trial, seen[-1], 0.5 - seen[-1])
    assert min((x for x in seen if x >= 0.5), default=1.0) < 0.6
