"""Large tensors are rounded, counted and disturbed in parts, which changes nothing but the memory."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nncomplexity.file import narrow
from nncomplexity.network import Moment
from nncomplexity.search import compensated, forms, sensitivity
from nncomplexity.search.compensated import Compensation, Rounding
from nncomplexity.search.forms import Pruned, Uniform, entropy_bits, nearest, rows_entropy_bits


@pytest.fixture(autouse=True)
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (forms, compensated, sensitivity):
        monkeypatch.setattr(module, "AT_ONCE", 64)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("step", [0.004, 0.3])
def test_nearest_multiples(step: float) -> None:
    weight, alive = drawn(30, 11), drawn(30, 11, seed=1) > 0
    weight[-1, -1] = 3e2 * step  # the last part needs a wider type than the first
    whole = (weight.double() / step).round()
    for found, expected in ((nearest(weight, step), whole), (nearest(weight, step, alive), whole * alive)):
        np.testing.assert_array_equal(found, narrow(expected))
        assert found.dtype == narrow(expected).dtype
    assert nearest(weight.T, step).shape == (11, 30)


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_compensated_rounding(last: bool, lean: bool) -> None:
    x, weight, step = drawn(80, 12, seed=2).double(), drawn(*((40, 12) if last else (12, 40)), seed=3), 0.25
    H, alive = x.T @ x, drawn(*weight.shape, seed=4) > 0
    rounding, expected = Rounding({"w": Moment(H, last)}, lean=lean), Compensation(H)
    for form, mask in ((Uniform(step), None), (Pruned(step, alive), alive)):
        found = rounding.piece("w", form, weight, 20).symbols
        turned = [None if one is None else one if last else one.T for one in (weight, mask)]
        whole = expected.rounded(turned[0].double() / step, turned[1])
        np.testing.assert_array_equal(found, narrow(whole if last else whole.T))


@pytest.mark.parametrize("reach", [3, 4000])
def test_entropy(reach: int) -> None:
    symbols = (reach * drawn(50, 9, seed=5)).round()
    assert entropy_bits(symbols) == rows_entropy_bits(symbols.double().reshape(1, -1).numpy())[0]
    assert entropy_bits(torch.from_numpy(narrow(symbols))) == entropy_bits(symbols)


def test_the_root_mean_square() -> None:
    weight = drawn(21, 13, seed=6)
    assert sensitivity._root_mean_square(weight) == pytest.approx(float(weight.double().square().mean().sqrt()), rel=1e-14)
    assert sensitivity._root_mean_square(torch.zeros(100)) == 0
