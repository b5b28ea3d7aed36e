"""Layouts: every element is in exactly one piece, and returns to its place."""

import itertools
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nncomplexity.file import Constant, Dense, Pieces, united
from nncomplexity.file.coarse import CPU
from nncomplexity.network import MOST_BLOCKS, Blocks, Folding, Layout, Skeleton, TensorSpec, foldings, pieces_of
from nncomplexity.network.layout import Arrangement

SHAPES = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=2, max_size=5)


def layouts(shape: tuple[int, ...]) -> list[Layout]:
    blocks = [Blocks(axis, count) for axis in (0, 1) for count in range(8)]
    return [*(one for one in blocks if one.fits(shape)), *(Folding(mask) for mask in range(foldings(shape)))]


@given(SHAPES)
def test_pieces_hold_every_element_once_and_give_the_tensor_again(extents: list[int]) -> None:
    shape = tuple(extents)
    tensor = torch.arange(prod(shape)).reshape(shape)
    for layout in layouts(shape):
        pieces = layout.apart(tensor)
        assert [tuple(piece.shape) for piece in pieces] == layout.shapes(shape)
        assert len(pieces) == layout.count
        assert sorted(torch.cat([piece.flatten() for piece in pieces]).tolist()) == list(range(prod(shape)))
        again = layout.together(pieces, shape)
        assert torch.equal(again, tensor)
        assert again.is_contiguous()


@given(SHAPES)
def test_foldings_are_all_ways_to_part_the_axes(extents: list[int]) -> None:
    """The number of partitions of the axes longer than 1 into two nonempty sides. Exchanged sides count once."""
    shape = tuple(extents)
    long = [axis for axis, extent in enumerate(shape) if extent > 1]
    sides = {
        frozenset({frozenset(rows), frozenset(long) - frozenset(rows)})
        for k in range(1, len(long))
        for rows in itertools.combinations(long, k)
    }
    assert foldings(shape) == len(sides)
    tensor = torch.arange(prod(shape)).reshape(shape)
    found = {
        tuple(Folding(mask).apart(tensor)[0].flatten().tolist()) + tuple(Folding(mask).shapes(shape)[0])
        for mask in range(foldings(shape))
    }
    assert len(found) == len(sides)


def test_a_folding_is_of_low_rank_where_its_kernel_acts_along_one_axis_after_the_other() -> None:
    generator = torch.Generator().manual_seed(0)
    vertical, horizontal = (
        torch.randn(8, 2, 5, generator=generator),
        torch.randn(2, 6, 7, generator=generator),
    )  # (out, r, h), (r, in, w)
    kernel = torch.einsum("orh,riw->oihw", vertical, horizontal)
    ranks = {
        layout.in_words(kernel.shape): int(torch.linalg.matrix_rank(layout.apart(kernel)[0]))
        for layout in layouts(kernel.shape)
        if layout.count == 1
    }
    assert ranks["axes 0, 2 × 1, 3"] == 2
    assert min(rank for told, rank in ranks.items() if told != "axes 0, 2 × 1, 3") > 4


@pytest.mark.parametrize(
    ("layout", "shape"), [(Blocks(0, 1), (4, 4)), (Blocks(1, 3), (3, 4)), (Blocks(0, 2 * MOST_BLOCKS), (2 * MOST_BLOCKS, 2))]
)
def test_blocks_that_a_shape_does_not_have(layout: Blocks, shape: tuple[int, ...]) -> None:
    assert not layout.fits(shape)


@pytest.mark.parametrize(("mask", "shape"), [(1, (4, 4)), (0, (4, 1, 1)), (7, (4, 4, 3, 3)), (-1, (4, 4, 3)), (0, (4, 0))])
def test_foldings_that_a_shape_does_not_have(mask: int, shape: tuple[int, ...]) -> None:
    assert not Folding(mask).fits(shape)


def test_pieces_have_their_pieces_of_the_base() -> None:
    base = torch.arange(12.0).reshape(6, 2)
    pieces = pieces_of(TensorSpec(("w", "tied"), (6, 2), torch.float32, base), Blocks(0, 3))
    assert [piece.names for piece in pieces] == [("w[0]",), ("w[1]",), ("w[2]",)]
    assert torch.equal(torch.cat([piece.base for piece in pieces if piece.base is not None]), base)
    zeros = Pieces(Blocks(0, 3), (Constant(0),) * 3)
    assert torch.equal(zeros.decode(TensorSpec(("w",), (6, 2), torch.float32, base)), base)


def test_an_arrangement_keeps_the_order_and_gives_whole_tensors_again() -> None:
    weights = {"a": torch.zeros(3), "w": torch.arange(24.0).reshape(4, 6), "b": torch.ones(2, 2)}
    whole = Skeleton(tuple(TensorSpec((name,), tuple(tensor.shape), tensor.dtype) for name, tensor in weights.items()))
    arrangement = Arrangement(whole, {"w": Blocks(1, 2)})
    assert [spec.name for spec in arrangement.skeleton.tensors] == ["a", "w[0]", "w[1]", "b"]
    apart = arrangement.apart(weights)
    assert list(apart) == ["a", "w[0]", "w[1]", "b"]
    for tensors in (apart, weights):
        assert all(torch.equal(arrangement.whole(tensors, name), weights[name]) for name in weights)


def test_pieces_that_need_not_be_any_are_one_tensor() -> None:
    symbols = np.arange(12).reshape(4, 3)
    blocks = Blocks(0, 2)
    one = united(blocks, [Dense(symbols[:2], 0.5), Dense(symbols[2:], 0.5)], (4, 3))
    assert isinstance(one, Dense)
    assert one.step == 0.5
    assert np.array_equal(one.symbols, symbols)
    assert united(blocks, [Constant(1), Constant(1)], (4, 3)) == Constant(1)
    for other in (Constant(0), Dense(symbols[2:], 0.25)):
        assert isinstance(united(blocks, [Dense(symbols[:2], 0.5), other], (4, 3)), Pieces)
    folded = united(Folding(0b10), [Dense(np.arange(12).reshape(4, 3), 0.5)], (2, 3, 2))
    assert isinstance(folded, Dense)
    pieces = Pieces(Folding(0b10), (Dense(np.arange(12).reshape(4, 3), 0.5),))
    spec = TensorSpec(("w",), (2, 3, 2), torch.float32)
    assert torch.equal(folded.decode(spec, CPU), pieces.decode(spec, CPU))
