"""Rounding with compensated errors: against nearest rounding, the closed form of two columns, and an exhaustive search."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

from nncomplexity import Divergence, estimate
from nncomplexity.network import Moment, TensorSpec
from nncomplexity.search.allocate import Allocate
from nncomplexity.search.compensated import DAMPING, Compensation, Rounding
from nncomplexity.search.forms import Factors, Pruned, Uniform, Zero
from nncomplexity.search.scans import fitted


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(k: int, seed: int = 0) -> Tensor:
    """The moment of inputs that are mixtures of each other."""
    x = drawn(5 * k, k, seed=seed) @ drawn(k, k, seed=seed + 100)
    return x.T @ x


def lost(H: Tensor, error: Tensor) -> float:
    """tr(E·H·Eᵀ), the squared error of the outputs."""
    return float(((error @ H) * error).sum())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("k", [3, 40, 150])
def test_outputs_have_a_smaller_error_than_by_nearest_rounding(k: int, step: float, seed: int) -> None:
    H, W = correlated(k, seed), drawn(30, k, seed=seed + 200)
    found = Compensation(H).rounded(W / step)
    assert torch.equal(found, found.round())
    assert lost(H, W - step * found) < lost(H, W - step * (W / step).round())


def test_inputs_without_correlation_have_nearest_rounding() -> None:
    W = drawn(20, 12)
    found = Compensation(torch.diag(drawn(12, seed=1).square() + 0.1)).rounded(W)
    assert torch.equal(found, W.round())


def test_of_two_columns_the_second_makes_up_for_the_first() -> None:
    """The first, of the larger inputs, is rounded alone; the best of the second is then w₂ + H₁₂/H₂₂·(w₁ − ŵ₁), with H₂₂ damped."""
    H, W = torch.tensor([[4.0, 1.5], [1.5, 1.0]]).double(), 3 * drawn(200, 2)
    first = W[:, 0].round()
    second = (W[:, 1] + 1.5 / (1.0 + DAMPING * 2.5) * (W[:, 0] - first)).round()
    assert torch.equal(Compensation(H).rounded(W), torch.stack([first, second], 1))


def test_it_lies_between_the_best_there_is_and_nearest_rounding() -> None:
    H, W = correlated(4), drawn(20, 4, seed=50)
    best = torch.zeros(20, 4).double()
    for row, w in enumerate(W):
        around = [[float(one.floor()) + more for more in (-1, 0, 1, 2)] for one in w]
        best[row] = torch.tensor(min(product(*around), key=lambda picked: lost(H, (w - torch.tensor(picked).double())[None])))
    assert lost(H, W - best) <= lost(H, W - Compensation(H).rounded(W)) < 0.5 * lost(H, W - W.round())


def test_columns_whose_inputs_are_zero_become_zero() -> None:
    H = torch.zeros(6, 6).double()
    H[:4, :4] = correlated(4)
    found = Compensation(H).rounded(drawn(9, 6))
    assert not found[:, 4:].any()
    assert torch.equal(found[:, :4], Compensation(H[:4, :4]).rounded(drawn(9, 6)[:, :4]))


@pytest.mark.parametrize("alive", [None, (drawn(9, 6, seed=3) > 0).double()], ids=["all", "some"])
def test_a_diagonal_alone_rounds_as_the_whole_matrix_does(alive: Tensor | None) -> None:
    used = torch.tensor([4.0, 0.0, 1.0, 9.0, 0.0, 2.0]).double()
    found = Compensation(used).rounded(3 * drawn(9, 6), alive)
    assert torch.equal(found, Compensation(torch.diag(used)).rounded(3 * drawn(9, 6), alive))
    assert not found[:, used == 0].any()


def test_rows_of_a_table_that_are_never_looked_up_become_zero() -> None:
    tensors = {"table": drawn(40, 16).float(), "out": drawn(3, 16, seed=1).float()}
    words = torch.arange(0, 40, 2)
    divergence = Divergence(lambda given, x: given["table"][x] @ given["out"].T, words, probe=0)
    report = estimate(tensors, divergence, 0.01, method=Allocate())
    table = report.coarse_weights()["table"]
    assert not table[1::2].any()
    assert table[::2].any(1).all()


def spec(*shape: int) -> TensorSpec:
    return TensorSpec(("w",), shape, torch.float32)


def rounded(H: Tensor, form: object, weight: Tensor, last: bool = True, scale: float = 1.0) -> Tensor:
    piece = Rounding({"w": Moment(H, last)}).piece("w", form, weight, 20, scale)  # type: ignore[arg-type]
    return piece.decode(spec(*weight.shape)).double()


@pytest.mark.parametrize("last", [True, False])
def test_every_form_is_the_same_for_a_diagonal_alone(last: bool) -> None:
    used = drawn(16, seed=1).square()
    used[::4] = 0
    weight = drawn(*((24, 16) if last else (16, 24)), seed=2).float()
    alive = torch.ones(weight.shape)
    alive[::3] = 0
    A, B = (3 * drawn(len(weight), 3, seed=3)).round(), (3 * drawn(3, weight.shape[1], seed=4)).round()
    for form in (Uniform(0.3), Pruned(0.3, alive), Factors(A, B, 0.02)):
        assert torch.equal(rounded(used, form, weight, last), rounded(torch.diag(used), form, weight, last))


def test_each_form_is_rounded_for_the_outputs() -> None:
    H, weight = correlated(16, seed=1), drawn(24, 16, seed=2).float()
    alive = torch.ones(24, 16)
    alive[::3] = 0
    U, S, V = torch.linalg.svd(weight.double(), full_matrices=False)
    A, B = (4 * U[:, :5] * S[:5].sqrt()).round(), (4 * S[:5, None].sqrt() * V[:5]).round()
    [factors] = fitted(weight.double(), A[None], B[None]).forms
    for form in (Uniform(0.4), Pruned(0.4, alive), factors):
        nearest = form.piece(weight, 20).decode(spec(24, 16)).double()  # type: ignore[attr-defined]
        found = rounded(H, form, weight)
        assert lost(H, weight - found) < lost(H, weight - nearest)
        transposed = (
            replace(form, alive=alive.T) if isinstance(form, Pruned) else form.transposed() if isinstance(form, Factors) else form
        )
        assert torch.equal(rounded(H, transposed, weight.T.contiguous(), last=False).T, found)
    assert not rounded(H, Pruned(0.4, alive), weight)[::3].any()
    assert not rounded(H, Zero(), weight).any()


def test_steps_are_larger_by_the_scale() -> None:
    H, weight = correlated(16, seed=1), drawn(24, 16, seed=2).float()
    assert torch.equal(rounded(H, Uniform(0.25), weight, scale=2.0), rounded(H, Uniform(0.5), weight))


def test_what_is_not_known_or_beyond_the_range_is_rounded_as_it_was() -> None:
    weight = drawn(4, 6).float()
    other = Rounding({"v": Moment(correlated(6))}).piece("w", Uniform(0.3), weight, 8, 2.0)
    assert torch.equal(other.decode(spec(4, 6)), Uniform(0.3).piece(weight, 8).decode(spec(4, 6)))
    huge = weight * (torch.finfo(torch.float32).max / float(weight.abs().max()))
    assert rounded(correlated(6), Uniform(1e36), huge).isfinite().all()


def test_inputs_of_next_to_nothing_are_taken_for_unknown() -> None:
    weight = drawn(4, 6).float()
    for H in (torch.zeros(6, 6).double(), torch.full((6, 6), 5e-324).double()):
        assert torch.equal(rounded(H, Uniform(0.3), weight), Uniform(0.3).piece(weight, 20).decode(spec(4, 6)).double())


# In the search


def network(seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A perceptron whose inputs are mixtures of few numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4))
    return net, (drawn(300, 5, seed=1) @ drawn(5, 16, seed=2)).float()


def test_bit_allocation_finds_smaller_files_where_it_can_watch() -> None:
    net, x = network()
    one, other = Divergence(lambda net, x: net(x), x, probe=0), Divergence(unseen, x, probe=0)
    found, without = (estimate(net, divergence, 0.001, method="allocate") for divergence in (one, other))
    assert found.origin == "bit allocation with compensated rounding"
    assert without.origin == "bit allocation"
    assert found.bits < 0.85 * without.bits
    assert max(found.evaluations, without.evaluations) <= 100
    assert found.file.content == estimate(net, one, 0.001, method="allocate").file.content


def unseen(net: nn.Module, x: Tensor) -> Tensor:
    """The same network, by products that aren't matrix products."""
    for layer in net:
        x = (x[:, None, :] * layer.weight).sum(-1) + layer.bias if isinstance(layer, nn.Linear) else layer(x)
    return x


def test_differences_from_a_base_are_rounded_for_the_outputs() -> None:
    net, x = network()
    base = {name: tensor.detach() + 0.05 * drawn(*tensor.shape, seed=9).float() for name, tensor in net.state_dict().items()}
    divergence = Divergence(lambda net, x: net(x), x, probe=0)
    report = estimate(net, divergence, 0.001, method="allocate", relative_to=base)
    assert report.within
    assert report.origin == "bit allocation with compensated rounding"
    assert report.bits < estimate(net, divergence, 0.001, method="allocate").bits


def test_a_larger_budget_never_has_the_larger_file() -> None:
    net, x = network(1)
    divergence = Divergence(lambda net, x: net(x), x, probe=0)
    sizes = [estimate(net, divergence, 0.003, method=Allocate(budget=budget)).bits for budget in (61, 66, 110)]
    assert sizes == sorted(sizes, reverse=True)


def test_a_loss_that_fails_only_when_it_is_watched_is_measured_as_before() -> None:
    weights = {"w": drawn(8, 8).float()}
    x = drawn(50, 8, seed=1).float()

    def loss(given: dict[str, Tensor]) -> Tensor:
        if _get_current_dispatch_mode():
            raise RuntimeError("no modes here")
        return F.mse_loss(x @ given["w"], x @ weights["w"])

    report = estimate(weights, loss, 0.01, method="allocate")
    assert (report.within, report.origin) == (True, "bit allocation")
