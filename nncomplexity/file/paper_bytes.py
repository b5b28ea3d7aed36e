"""The size by the recipe of the paper's authors: bzip2 over a pickle of float32 arrays.

A `.coarse` file has small integers. The authors' recipe has the float32 numbers that they stand for, four bytes each, and bzip2 removes this
redundancy only in part. The recipe also counts pickle's names and headers. So compare published figures with `paper_bytes`, and never with
`bits`.
"""

import bz2
import pickle
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nncomplexity.codecs import Integers
from nncomplexity.file.coarse import Constant, Dense, Lossless, LowRank, Piece
from nncomplexity.network import Skeleton, TensorSpec

_PROTOCOL = 4
"""A fixed protocol, so that a new default of Python does not change the sizes."""

Array = NDArray[np.float32] | NDArray[np.uint8]


def paper_bytes(skeleton: Skeleton, tensors: Sequence[Piece]) -> int:
    """Bytes of the coarse tensors under the recipe of DeMoss et al.'s code: `bz2.compress(pickle.dumps(...))`.

    The pickled object is a dict of names to float32 arrays: quantized values k·Δ for a dense tensor, and the pair (U·S, Vᵀ) of quantized
    factors for a low-rank one. Tied names have one array, which pickle stores once. All zeros are positive. In floating point, rounding −0.2
    to its bin gives −0.0, and a mixture of the two zeros can double the size (docs/paper.md has figures). A tensor that is kept exactly
    is pickled as its bytes.

    Args:
        skeleton: names, shapes and dtypes.
        tensors: one for each of the skeleton's tensors, in its order.

    Returns:
        The size in bytes.

    >>> import torch
    >>> from nncomplexity.network import skeleton_of
    >>> skeleton = skeleton_of({"w": torch.zeros(64, 64)})
    >>> symbols = np.arange(64 * 64).reshape(64, 64) % 7 - 3
    >>> paper_bytes(skeleton, [Constant(0)]) < paper_bytes(skeleton, [Dense(symbols, step=0.1)]) < 4 * 64 * 64
    True
    """
    tree: dict[str, Array | tuple[Array, Array]] = {}
    for spec, coarse in zip(skeleton.tensors, tensors, strict=True):
        leaf = _leaf(coarse, spec)
        tree.update(dict.fromkeys(spec.names, leaf))
    return len(bz2.compress(pickle.dumps(tree, protocol=_PROTOCOL)))


def _leaf(coarse: Piece, spec: TensorSpec) -> Array | tuple[Array, Array]:
    match coarse:
        case Constant(value):
            return np.full(spec.shape, value, dtype=np.float32)
        case Dense(symbols, step):
            return _values(symbols.reshape(spec.shape), step)
        case LowRank(A, B, step_a, step_b):
            return _values(A, step_a), _values(B, step_b)
        case Lossless(data):
            return data


def _values(symbols: Integers, step: float) -> NDArray[np.float32]:
    """The symbols times the step, as float32, in C order like the result of a computation. Every zero is positive.

    Values beyond the range of float32 are clipped.
    """
    largest = np.finfo(np.float32).max
    return np.clip(symbols.astype(np.float64) * step, -largest, largest).astype(np.float32, order="C")
