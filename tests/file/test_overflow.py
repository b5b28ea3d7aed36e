"""A tensor in pieces is beyond the range of its dtype if one of its pieces is."""

import numpy as np
import pytest
import torch

from nncomplexity.file import Dense, LowRank, Pieces, overflows
from nncomplexity.network import TensorSpec
from nncomplexity.network.layout import Blocks


@pytest.mark.parametrize(("steps", "beyond"), [((1.0, 1.0), False), ((1.0, 70_000.0), True), ((70_000.0, 1.0), True)])
def test_one_piece_beyond_the_range_is_enough(steps: tuple[float, float], beyond: bool) -> None:
    spec = TensorSpec(("w",), (2, 2), torch.float16)
    pieces = tuple(Dense(np.array([[1, -1]]), step) for step in steps)
    assert overflows(Pieces(Blocks(0, 2), pieces), spec) is beyond
    assert bool(Pieces(Blocks(0, 2), pieces).decode(spec).isfinite().all()) is not beyond


@pytest.mark.parametrize("periods", [(0, 0), (5, 0), (0, 4), (5, 4), (3, 2)])
def test_factors_are_beyond_the_range_where_decoding_gives_an_infinity(periods: tuple[int, int]) -> None:
    rng, spec = np.random.default_rng(0), TensorSpec(("w",), (5, 4), torch.float16)
    found = []
    for exponent in np.arange(-10.0, 16.0, 0.5).tolist():
        A, B = (rng.integers(90, 128, shape).astype(np.int8) for shape in ((5, 1), (1, 4)))
        factors = LowRank(A, B, 2.0**exponent, 1.0, periods)
        found.append(overflows(factors, spec))
        assert found[-1] == (not factors.decode(spec).isfinite().all())
    assert {True, False} == set(found)
