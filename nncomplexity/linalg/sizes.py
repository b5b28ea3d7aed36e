"""From which size on a thing is done in the way that a large network asks for, and below which small tensors are worked on together.

The networks of the examples and of the recorded benchmarks lie far below both limits.
"""

import math
from collections.abc import Sequence

SMALL = 1 << 14
"""Elements of a tensor up to which it is worked on beside others of its kind: an operation on it takes no longer than to call it."""
MATRIX = 1 << 19
"""Elements from which on a matrix is decomposed by way of its small side, and never in full."""
RANKED = 2048
"""The longest short side of a large matrix whose effective rank is worked out: that takes the cube of it."""
NETWORK = 1 << 22
"""Parameters from which on a search holds each candidate once and decodes it tensor by tensor, and byte compressors are left out."""


def large_matrix(shape: Sequence[int]) -> bool:
    """Whether a matrix is decomposed by way of its small side.

    >>> large_matrix((512, 128)), large_matrix((50257, 768))
    (False, True)
    """
    return math.prod(shape) >= MATRIX


def large_network(parameters: int) -> bool:
    """Whether a network is searched in little memory.

    >>> large_network(228_339), large_network(124_000_000)
    (False, True)
    """
    return parameters >= NETWORK
