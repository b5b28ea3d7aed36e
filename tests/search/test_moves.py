"""The search without a gradient: the forms of its moves, and what it keeps of a loss whose answer is known."""

from collections.abc import Callable

import pytest
import torch

from nncomplexity.file import Constant, Dense, LowRank, Piece, weigh
from nncomplexity.network import Skeleton, TensorSpec
from nncomplexity.search.moves import Plan, improve
from nncomplexity.search.start import Factorizations, Shape

NAMES = ("unused", "used")
SPECS = {name: TensorSpec((name,), (12, 10), torch.float32) for name in NAMES}
WEIGHTS = {name: torch.randn(12, 10, generator=torch.Generator().manual_seed(seed)) for seed, name in enumerate(NAMES)}


def coarsener() -> Callable[[Plan], Piece]:
    factors = Factorizations(WEIGHTS)
    return lambda plan: plan.coarse(WEIGHTS, factors)


def bits(piece: Piece) -> float:
    return weigh(Skeleton((SPECS["used"],)), [piece])[0]


def error(piece: Piece) -> float:
    """The loss is the mean square of the error in one of the tensors."""
    return float((piece.decode(SPECS["used"]) - WEIGHTS["used"]).square().mean())


def test_a_plan_is_zero_or_near_the_weights_in_its_form() -> None:
    plan, coarsen = Plan(SPECS["used"], Shape(0, 0.1)), coarsener()
    assert isinstance(coarsen(plan), Dense)
    assert error(coarsen(plan)) < 0.01 < error(coarsen(plan.coarser(10)))
    assert bits(coarsen(plan.coarser(10))) < bits(coarsen(plan))
    factored = coarsen(Plan(SPECS["used"], Shape(2, 0.1)))
    assert isinstance(factored, LowRank)
    assert factored.rank == 2
    assert coarsen(Plan(SPECS["used"], Shape(0, 0.1), gone=True)) == Constant(0)


def test_moves_are_simpler_forms_and_zero_has_none() -> None:
    first, *others = Plan(SPECS["used"], Shape(0, 0.1)).moves()
    assert first.gone
    assert list(first.moves()) == []
    assert {plan.shape.rank for plan in others} == {0, 1}  # 12 · 10 / (2 · (12 + 10)) is 2, and half of it
    assert all(plan.shape.coarseness > 0.1 for plan in others if not plan.shape.rank)
    assert {plan.shape.rank for plan in Plan(SPECS["used"], Shape(1, 0.1)).moves() if not plan.gone} == {1}


@pytest.mark.parametrize("limit", [0.001, 0.03, 0.3])
def test_moves_drop_what_is_not_used_and_keep_within_the_limit(limit: float) -> None:
    coarsen, tried = coarsener(), list[tuple[float, float]]()

    def measure(coarse: dict[str, Piece]) -> float:
        tried.append((error(coarse["used"]), sum(map(bits, coarse.values()))))
        return tried[-1][0]

    begin = [Plan(spec, Shape(0, 0.02)) for spec in SPECS.values()]
    unused, used = improve(begin, coarsen, measure, limit, lambda: len(tried) / 200)
    assert unused.gone
    assert not used.gone
    assert error(coarsen(used)) <= limit
    assert limit < 0.001 or error(coarsen(used)) > limit / 4  # a step √2 times as large is too much
    kept = bits(coarsen(used)) + bits(Constant(0))
    assert kept == min(size for distortion, size in tried if distortion <= limit)
    assert len(tried) <= 200


def test_no_budget_is_no_move() -> None:
    begin = [Plan(spec, Shape(0, 0.02)) for spec in SPECS.values()]
    assert improve(begin, coarsener(), lambda coarse: pytest.fail("it measured"), 1.0, lambda: 1.0) == begin
