"""What a search does about tensors without a gradient: those that the loss doesn't use become zero, those that it needs are quantized."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nncomplexity import estimate
from nncomplexity.codecs import Entropy
from nncomplexity.file import Constant, Dense
from nncomplexity.network import Distortion
from nncomplexity.search import Problem, Quantize
from nncomplexity.search.fallback import Fallback
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.timing import TimeLimit
from nncomplexity.search.trials import Trials


@pytest.mark.parametrize("needed", [False, True])
def test_a_tensor_without_a_gradient_is_zero_if_the_loss_does_not_need_it(needed: bool) -> None:
    weights = {name: torch.randn(8, 6, generator=torch.Generator().manual_seed(seed)) for seed, name in enumerate(("cut", "used"))}

    def loss(given: dict[str, Tensor]) -> Tensor:
        used = (given["used"] - weights["used"]).square().mean()
        return used + (given["cut"].detach() - weights["cut"]).square().mean() if needed else used

    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy())
        trials = Trials(problem, Tensors(problem), 0.1, 100)
        ((name, piece),) = Fallback(trials).without_gradient().items()
    assert name == "cut"
    if needed:
        assert isinstance(piece, Dense)
        assert 0 < (piece.decode(distortion.skeleton.tensors[0]) - weights["cut"]).square().mean() < 0.1
    else:
        assert piece == Constant(0)


def test_many_tensors_are_allocated_bits_if_there_is_no_gradient() -> None:
    """With a gradient there are descents, so bit allocation is left out for them, because it takes time for each tensor."""
    weights = {f"w{index:02}": torch.randn(12, generator=torch.Generator().manual_seed(index)) for index in range(70)}

    def loss(given: dict[str, Tensor]) -> float:
        errors = [(tensor - weights[name]).square().mean().item() for name, tensor in given.items()]
        return sum(4.0 ** (index % 5) * error for index, error in enumerate(errors)) / len(errors)

    found = estimate(weights, loss, 0.1)
    assert found.origin == "bit allocation"
    assert found.evaluations > 100  # its local steps go on
    assert found.bits < 0.9 * estimate(weights, loss, 0.1, method="quantize", codec="entropy").bits


@pytest.mark.parametrize(("needed", "step"), [(1e-3, 2.0**-5), (1e-5, 2.0**-8), (1e-8, 2.0**-12)])
def test_with_a_limit_on_time_the_first_answer_has_the_coarsest_of_three_step_sizes_that_is_within_eps(
    needed: float, step: float
) -> None:
    weights = {"w": torch.randn(64, 64, generator=torch.Generator().manual_seed(0))}
    with Distortion(weights, lambda given: (given["w"] - weights["w"]).square().mean()) as distortion:
        problem = replace(Problem(distortion, Entropy()), deadline=TimeLimit(3600))
        trials = Trials(problem, Tensors(problem), needed, 100)
        Fallback(trials).early()
        (kept,) = trials.kept
    (coarse,) = kept.tensors
    assert isinstance(coarse, Dense)
    assert coarse.step == pytest.approx(step, rel=0.05)  # the typical weight of normal ones is 1


@pytest.mark.parametrize("eps", [0.3, 0.03, 0.003])
def test_the_first_answer_is_a_bisection_and_the_last_one_is_algorithm_2_s(eps: float) -> None:
    weights = {"w": torch.randn(40, 30, generator=torch.Generator().manual_seed(0))}

    def loss(given: dict[str, Tensor]) -> Tensor:
        return (given["w"] - weights["w"]).square().mean()

    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, Entropy())
        trials = Trials(problem, Tensors(problem), eps, 1000)
        fallback = Fallback(trials)
        assert fallback.first_answer() == pytest.approx(weights["w"].square().mean().item())
        steps = len(Quantize().grid())
        assert trials.spent <= 2 + math.ceil(math.log2(steps))
        fallback.quantize()
        algorithm_2 = estimate(weights, loss, eps, method="quantize", codec="entropy").bits
        assert algorithm_2 - 16 < trials.best <= algorithm_2  # the latter is in whole bytes, with the end of the payload
