"""The penalty's gradient against finite differences and autograd through an SVD; the noise against the bits that it must return."""

import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.training import spectral_entropy_penalty, spectral_gradient, weight_noise
from tests.pages import run_section

SHAPES = [(1, 1), (2, 2), (5, 5), (7, 3), (3, 7), (1, 4), (60, 70)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def with_singular_values(m: int, n: int, values: list[float]) -> Tensor:
    r = len(values)
    U, V = torch.linalg.qr(gaussian(m, m)).Q[:, :r], torch.linalg.qr(gaussian(n, n, seed=1)).Q[:, :r]
    return U * torch.tensor(values, dtype=torch.float64) @ V.T


def entropy(x: Tensor) -> Tensor:
    return spectral_entropy_penalty([x], beta=1.0)


def gradient(x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(entropy(x), x)
    return found


def entropy_by_svd(x: Tensor) -> Tensor:
    shares = torch.linalg.svd(x, full_matrices=False).S
    shares = shares / shares.sum()
    return -(shares * shares.log()).sum()


@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient_agree_with_autograd_through_an_svd(shape: tuple[int, int]) -> None:
    x = gaussian(*shape).requires_grad_()
    expected = entropy_by_svd(x)
    torch.testing.assert_close(entropy(x), expected)
    torch.testing.assert_close(gradient(x), torch.autograd.grad(expected, x)[0], rtol=1e-9, atol=1e-11)


def test_singular_values_over_six_decades() -> None:
    x = with_singular_values(9, 6, [1.0, 0.3, 1e-2, 1e-3, 1e-4, 1e-6]).requires_grad_()
    expected = entropy_by_svd(x)
    assert entropy(x).item() == pytest.approx(expected.item(), abs=1e-14)
    torch.testing.assert_close(gradient(x), torch.autograd.grad(expected, x)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6)])
def test_gradient_agrees_with_finite_differences(shape: tuple[int, int]) -> None:
    x = gaussian(*shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: spectral_entropy_penalty([x, 2 * x.T, x[:2]], beta=0.3), x)


@pytest.mark.parametrize("values", [[2.0, 2.0, 1.0], [1.0, 1.0, 1.0], [3.0, 1.0, 1.0]])
def test_equal_singular_values_are_harmless(values: list[float]) -> None:
    x = with_singular_values(4, 3, values).requires_grad_()
    assert torch.autograd.gradcheck(entropy, x)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_scaling_a_matrix_changes_nothing(m: int, n: int, seed: int) -> None:
    x = gaussian(m, n, seed=seed)
    # Euler: if the scale of the argument doesn't change a function, its gradient is orthogonal to the argument.
    assert (gradient(x) * x).sum().item() == pytest.approx(0, abs=1e-9)
    assert 0 <= entropy(x).item() <= math.log(min(m, n)) + 1e-12
    torch.testing.assert_close(entropy(3 * x), entropy(x))
    torch.testing.assert_close(gradient(4 * x), gradient(x) / 4)
    torch.testing.assert_close(gradient(x.T), gradient(x).T)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
def test_no_square_overflows_or_vanishes(scale: float) -> None:
    x = gaussian(4, 3)
    torch.testing.assert_close(entropy(scale * x), entropy(x))
    torch.testing.assert_close(gradient(scale * x) * scale, gradient(x))


def test_closed_forms() -> None:
    assert entropy(torch.eye(5)).item() == pytest.approx(math.log(5))
    assert entropy(torch.outer(torch.ones(4), torch.arange(3.0))).item() == pytest.approx(0, abs=1e-6)
    assert entropy(torch.diag(torch.tensor([3.0, 1.0]))).item() == pytest.approx(math.log(4) - 0.75 * math.log(3))
    # dH/dσ_i = −(ln σ̄_i + H)/Σσ along U·Vᵀ.
    H = math.log(4) - 0.75 * math.log(3)
    expected = torch.diag(torch.tensor([-(math.log(0.75) + H) / 4, -(math.log(0.25) + H) / 4]))
    torch.testing.assert_close(gradient(torch.diag(torch.tensor([3.0, 1.0]))), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0.0, 0.25, 32.0])
def test_a_zero_matrix_has_neither_entropy_nor_gradient(dtype: torch.dtype, size: float) -> None:
    x = torch.full((3, 4), size * torch.finfo(torch.promote_types(dtype, torch.float32)).tiny, dtype=dtype)
    assert entropy(x).item() == 0
    assert gradient(x).count_nonzero() == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_vanishing_singular_values_stay_finite(dtype: torch.dtype) -> None:
    for values in ([1.0, 1e-3, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1e-12], [1e-3, 1e-12, 1e-15]):
        x = with_singular_values(4, 3, values).to(dtype)
        assert gradient(x).isfinite().all()
        assert entropy(x).isfinite()


def test_gradient_of_a_vanishing_singular_value_fades_linearly() -> None:
    floor = math.sqrt(2 * 2**-52)
    along = [gradient(torch.diag(torch.tensor([1.0, size], dtype=torch.float64)))[1, 1].item() for size in (floor, floor / 2, 0.0)]
    assert along[0] == pytest.approx(-math.log(floor), rel=1e-3)
    assert along[1] == pytest.approx(along[0] / 2, rel=1e-3)
    assert along[2] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_entries_make_nan_of_their_own_matrix_alone(bad: float) -> None:
    broken = torch.eye(3)
    broken[0, 1] = bad
    whole = torch.diag(torch.tensor([2.0, 1.0]))
    broken.requires_grad_()
    whole.requires_grad_()
    penalty = spectral_entropy_penalty([broken, whole])
    assert penalty.isnan()
    penalty.backward()
    assert broken.grad is not None
    assert broken.grad.isnan().all()
    torch.testing.assert_close(whole.grad, gradient(whole.detach()) * 0.1 / 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: torch.dtype) -> None:
    x = gaussian(6, 4).to(dtype)
    assert entropy(x).dtype == torch.promote_types(dtype, torch.float32)
    assert gradient(x).dtype == dtype
    tolerance = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(gradient(x).double(), gradient(x.double()), rtol=tolerance, atol=tolerance)


def test_the_gradient_of_a_small_float16_matrix_stays_within_the_range() -> None:
    """The gradient grows as 1 over the entries, beyond the 65504 of float16. Its direction is kept, and a small β brings it back."""
    x = (1e-6 * gaussian(4, 3)).half()
    true = gradient(x.double())
    assert true.abs().max() > 1e5
    found = gradient(x)
    assert found.abs().max() == torch.finfo(torch.float16).max
    torch.testing.assert_close(found.double() / found.double().norm(), true / true.norm(), rtol=2e-3, atol=1e-3)
    x.requires_grad_()
    spectral_entropy_penalty([x], beta=1e-3).backward()
    torch.testing.assert_close(x.grad.double(), 1e-3 * true, rtol=2e-3, atol=1e-3)


def test_autocast_does_not_lower_the_precision() -> None:
    x = gaussian(64, 64).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = gradient(x)
    assert torch.equal(inside, gradient(x))


def test_mean_and_sum() -> None:
    xs = [gaussian(3, 3), gaussian(5, 2)]
    both = entropy(xs[0]) + entropy(xs[1])
    torch.testing.assert_close(spectral_entropy_penalty(xs, beta=0.1, reduction="sum"), 0.1 * both)
    torch.testing.assert_close(spectral_entropy_penalty(iter(xs)), 0.1 * both / 2)


def test_which_parameters_of_a_module_count() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 5), nn.Linear(5, 1)).double()
    conv, linear = model[0].weight, model[3].weight
    expected = 0.1 * (entropy(conv.reshape(3, 8)) + entropy(linear)) / 2
    torch.testing.assert_close(spectral_entropy_penalty(model), expected)
    torch.testing.assert_close(spectral_entropy_penalty(dict(model.named_parameters())), expected)
    torch.testing.assert_close(spectral_entropy_penalty([conv]), 0.1 * entropy(conv.reshape(3, 8)))
    torch.testing.assert_close(spectral_entropy_penalty(conv), 0.1 * entropy(conv.reshape(3, 8)))
    torch.testing.assert_close(spectral_entropy_penalty(model, select=lambda name: name.startswith("3")), 0.1 * entropy(linear))


def test_tied_and_frozen_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)).double()
    model[1].weight = model[0].weight
    model[2].weight.requires_grad_(False)
    spectral_entropy_penalty(model, beta=1.0).backward()
    torch.testing.assert_close(model[0].weight.grad, gradient(model[0].weight.detach()) / 2)
    assert model[2].weight.grad is None
    with torch.no_grad():
        assert not spectral_entropy_penalty(model).requires_grad


def test_the_gradient_cannot_be_differentiated_again() -> None:
    x = gaussian(3, 3).requires_grad_()
    with pytest.raises(InputError, match=r"create_graph: expected False .* got True: its gradient can't be differentiated again"):
        torch.autograd.grad(entropy(x), x, create_graph=True)


@pytest.mark.usefixtures("two_threads")
def test_threads_give_the_same_gradients_and_leave_pytorchs_own_alone() -> None:
    xs = [gaussian(60, 50 + i, seed=i) for i in range(4)] + [gaussian(3, 4)]
    runs = []
    for _ in range(2):
        runs.append([x.clone().requires_grad_() for x in xs])
        spectral_entropy_penalty(runs[-1], beta=1.0, reduction="sum").backward()
    assert torch.get_num_threads() == 2
    started_with: list[int] = []
    thread = threading.Thread(target=lambda: started_with.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert started_with == [2]
    torch.set_num_threads(1)
    for x, first, second in zip(xs, *runs, strict=True):
        assert torch.equal(first.grad, second.grad)
        torch.testing.assert_close(first.grad, gradient(x), rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_process_starts_its_own_threads() -> None:
    xs = [gaussian(50, 50), gaussian(50, 50, seed=1)]
    spectral_entropy_penalty(xs)
    assert spectral_gradient._workers.cache_info().currsize > 0
    child = os.fork()
    if child == 0:
        os._exit(spectral_gradient._workers.cache_info().currsize)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_matrices_of_one_shape_in_one_batch() -> None:
    xs = [gaussian(4, 3, seed=i) for i in range(3)] + [
        torch.zeros(4, 3).double(),
        torch.full((4, 3), math.nan).double(),
        gaussian(3, 4),
    ]
    wanted = [True, True, False, True, True, True]
    one_by_one = spectral_gradient._solve_on_threads(xs, wanted)
    for (H, slope), (expected_H, expected_slope) in zip(spectral_gradient._solve_in_batches(xs, wanted), one_by_one, strict=True):
        torch.testing.assert_close(H, expected_H, equal_nan=True)
        assert (slope is None) == (expected_slope is None)
        if slope is not None:
            torch.testing.assert_close(slope, expected_slope, equal_nan=True)


def test_bad_input_to_the_penalty_is_named() -> None:
    bad: list[tuple[object, dict[str, object], str]] = [
        (nn.LayerNorm(3), {}, "matrices: expected at least one tensor that has a matrix with both sides above 1"),
        ([], {}, "matrices: expected at least one tensor"),
        ([torch.ones(3)], {}, r"matrices: expected floating-point tensors .* got torch\.float32 of shape \(3,\)"),
        ([torch.ones(3, 0)], {}, "with entries"),
        ([torch.ones(2, 2, dtype=torch.int64)], {}, r"got torch\.int64"),
        ([torch.eye(2)], {"select": bool}, "select: expected none where tensors come without names"),
        ([torch.eye(2)], {"beta": math.inf}, "beta: expected a finite number, got inf"),
        ([torch.eye(2)], {"reduction": "max"}, 'reduction: expected "mean" or "sum", got \'max\''),
    ]
    for matrices, settings, message in bad:
        with pytest.raises(InputError, match=message):
            spectral_entropy_penalty(matrices, **settings)  # type: ignore[arg-type]


def bits(module: nn.Module) -> dict[str, bytes]:
    return {name: x.detach().contiguous().view(torch.uint8).numpy().tobytes() for name, x in module.state_dict().items() if x.ndim}


def awkward() -> nn.Module:
    """Zeros of both signs, subnormals, a NaN with a payload, dtypes, a buffer, a frozen parameter."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 2).double(), nn.Linear(2, 2).bfloat16())
    with torch.no_grad():
        model[0].weight.view(-1)[:4] = torch.tensor([-0.0, 1e-42, 3e38, math.pi])
        model[0].bias.view(torch.int32)[0] = 0x7FC01234
    model[2].weight.requires_grad_(False)
    return model


def test_noise_goes_to_every_parameter_and_comes_off_to_the_bit() -> None:
    model = awkward()
    before = bits(model)
    with weight_noise(model, std=1.0):
        inside = bits(model)
    assert bits(model) == before
    buffers = {name for name, _ in model.named_buffers()}
    assert {name for name in before if inside[name] == before[name]} == {name for name in before if name in buffers}


def test_noise_comes_off_when_the_block_raises() -> None:
    model = awkward()
    before = bits(model)
    with pytest.raises(ZeroDivisionError), weight_noise(model, std=1.0):
        raise ZeroDivisionError
    assert bits(model) == before


def test_noise_comes_off_when_it_cannot_be_drawn() -> None:
    model = awkward()
    before = bits(model)
    with pytest.raises(RuntimeError), weight_noise(model, std=1.0, generator=torch.Generator("meta")):
        pass
    assert bits(model) == before


def test_noise_is_normal_and_fresh() -> None:
    layer = nn.Linear(400, 500, bias=False)
    original = layer.weight.detach().clone()
    draws = []
    for _ in range(2):
        with weight_noise(layer, std=0.5, generator=torch.Generator().manual_seed(len(draws))):
            draws.append(layer.weight.detach() - original)
    n = original.numel()
    for noise in draws:
        assert noise.mean().item() == pytest.approx(0, abs=5 * 0.5 / math.sqrt(n))
        assert noise.std().item() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(2 * n))
        assert (noise.abs() < 0.5).double().mean().item() == pytest.approx(math.erf(math.sqrt(0.5)), abs=5 * 0.5 / math.sqrt(n))
    assert torch.corrcoef(torch.stack([x.flatten() for x in draws]))[0, 1].abs() < 5 / math.sqrt(n)


def test_one_seed_gives_one_noise() -> None:
    layer = nn.Linear(3, 4)
    seen = []
    for _ in range(2):
        with weight_noise(layer, std=1.0, generator=torch.Generator().manual_seed(3)):
            seen.append(bits(layer))
    assert seen[0] == seen[1]


def test_the_gradient_is_that_at_the_noisy_weights() -> None:
    layer = nn.Linear(3, 1, bias=False)
    original = layer.weight.detach().clone()
    with weight_noise(layer, std=0.1):
        noisy = layer.weight.detach().clone()
        layer.weight.square().sum().backward()
    assert torch.equal(layer.weight.grad, 2 * noisy)
    torch.optim.SGD(layer.parameters(), lr=0.5).step()
    torch.testing.assert_close(layer.weight.detach(), original - noisy)


@pytest.mark.parametrize("how", ["one object", "one storage", "transposed"])
def test_tied_weights_get_one_noise(how: str) -> None:
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = {
        "one object": first.weight,
        "one storage": nn.Parameter(first.weight.detach()),
        "transposed": nn.Parameter(first.weight.detach().T),
    }[how]
    model = nn.Sequential(first, second)
    before = bits(model)
    original = first.weight.detach().clone()
    alone = nn.Linear(4, 4, bias=False)
    alone.weight = nn.Parameter(original.clone())
    with weight_noise(alone, std=0.1, generator=torch.Generator().manual_seed(0)):
        once = alone.weight.detach().clone()
    with weight_noise(model, std=0.1, generator=torch.Generator().manual_seed(0)):
        seen = first.weight.detach().clone()
        assert torch.equal(second.weight, seen.T if how == "transposed" else seen)
    # The noise was added once, no matter for which of the two names it was drawn.
    assert torch.equal(seen, once) or torch.allclose((seen - original).T, once - original, atol=1e-7)
    assert bits(model) == before


def test_a_backward_pass_after_the_block_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with weight_noise(model, std=0.1):
        loss = model(torch.ones(1, 2)).sum()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_step_inside_the_block_is_refused_and_undone() -> None:
    model = nn.Linear(2, 1)
    before = bits(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    message = r"module: expected it to keep its parameters inside weight_noise; .* call optimizer\.step\(\) after the block"
    model(torch.ones(2)).backward()
    with pytest.raises(InputError, match=message), weight_noise(model, std=0.1):
        optimizer.step()
    assert bits(model) == before


def test_a_module_without_parameters_and_no_noise() -> None:
    with weight_noise(nn.ReLU(), std=1.0):
        pass
    layer = nn.Linear(2, 2)
    before = bits(layer)
    with weight_noise(layer, std=0.0):
        assert bits(layer) == before


@pytest.mark.parametrize("std", [-1e-9, math.nan, math.inf])
def test_a_bad_std_is_named(std: float) -> None:
    with pytest.raises(InputError, match="std: expected a finite number of at least 0, got"), weight_noise(nn.Linear(1, 1), std):
        pass


def test_both_regularizers_lower_the_entropy_in_a_training_loop() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    before = spectral_entropy_penalty(model, beta=1.0).item()
    for _ in range(100):
        optimizer.zero_grad()
        with weight_noise(model, std=1e-2):
            (model(torch.eye(8)).mean().square() + spectral_entropy_penalty(model, beta=1.0)).backward()
        optimizer.step()
    assert spectral_entropy_penalty(model, beta=1.0).item() < 0.8 * before


def test_noise_is_seen_within_a_block_of_autocast_that_stays_open() -> None:
    """Autocast keeps the casts of weights until its block ends."""
    layer, x = nn.Linear(4, 4), torch.eye(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first = layer(x).detach()
        with weight_noise(layer, std=1.0):
            noisy, expected = layer(x).detach(), x @ layer.weight.detach().T + layer.bias.detach()
        last = layer(x).detach()
    assert torch.allclose(noisy.float(), expected.float(), atol=0.1)
    assert not torch.allclose(noisy, first, atol=0.1)
    assert torch.equal(last, first)


def test_summed_gradients_of_scaled_losses_are_those_of_the_whole_batch() -> None:
    """Mixed precision by a scaler, and gradients of four batches: the penalty counts once."""
    x, y = gaussian(16, 6).float(), gaussian(16, 3, seed=1).float()
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    (((model(x) - y) ** 2).mean() + spectral_entropy_penalty(model, beta=0.5)).backward()
    expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    scaler, optimizer = torch.amp.GradScaler("cpu"), torch.optim.SGD(model.parameters(), lr=1.0)
    before = [p.detach().clone() for p in model.parameters()]
    for part in range(4):
        chosen = slice(4 * part, 4 * part + 4)
        with weight_noise(model, std=0.0), torch.autocast("cpu", dtype=torch.bfloat16):
            loss = ((model(x[chosen]).float() - y[chosen]) ** 2).mean() + spectral_entropy_penalty(model, beta=0.5)
            scaler.scale(loss / 4).backward()
    scaler.step(optimizer)
    for p, start, gradient in zip(model.parameters(), before, expected, strict=True):
        assert torch.allclose(start - p.detach(), gradient, atol=0.03)


def test_the_loop_of_the_page_runs(workplace: Path) -> None:
    found = run_section("In your own loop", workplace)
    assert found["index"] == 7
    assert all(torch.isfinite(p).all() for p in found["model"].parameters())
