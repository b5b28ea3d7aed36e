"""The sizes above which networks and matrices count as large, and below which small tensors are processed together."""

import math
from collections.abc import Sequence

SMALL = 1 << 14
"""A tensor with at most this many elements is processed together with others of its kind, because the overhead of separate calls would
be larger than the work."""
MATRIX = 1 << 19
"""A matrix with this number of elements or more is decomposed through its short side (`sketch`), and never in full."""
RANKED = 2048
"""The longest short side of a large matrix for which the effective rank is computed. The time grows with the cube of this side."""
NETWORK = 1 << 22
"""For a network with this number of parameters or more, a search keeps each candidate only once in memory, decodes it tensor by tensor, and
leaves out byte compressors."""


def large_matrix(shape: Sequence[int]) -> bool:
    """Whether a matrix is decomposed through its short side.

    >>> large_matrix((512, 128)), large_matrix((50257, 768))
    (False, True)
    """
    return math.prod(shape) >= MATRIX


def large_network(parameters: int) -> bool:
    """Whether a search for this network must save memory.

    >>> large_network(228_339), large_network(124_000_000)
    (False, True)
    """
    return parameters >= NETWORK
