"""A tensor in pieces is beyond the range of its dtype if one of its pieces is."""

import numpy as np
import pytest
import torch

from nncomplexity.file import Dense, Pieces, overflows
from nncomplexity.network import TensorSpec
from nncomplexity.network.layout import Blocks


@pytest.mark.parametrize(("steps", "beyond"), [((1.0, 1.0), False), ((1.0, 70_000.0), True), ((70_000.0, 1.0), True)])
def test_one_piece_beyond_the_range_is_enough(steps: tuple[float, float], beyond: bool) -> None:
    spec = TensorSpec(("w",), (2, 2), torch.float16)
    pieces = tuple(Dense(np.array([[1, -1]]), step) for step in steps)
    assert overflows(Pieces(Blocks(0, 2), pieces), spec) is beyond
    assert bool(Pieces(Blocks(0, 2), pieces).decode(spec).isfinite().all()) is not beyond
