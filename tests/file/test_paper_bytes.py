"""The authors' recipe for a size: bzip2 over pickled float32 arrays."""

import bz2
import pickle
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from nncomplexity.file import CoarseTensor, Constant, Dense, LowRank, paper_bytes
from nncomplexity.file.coarse import lossless
from nncomplexity.network import skeleton_of


def recipe(tree: object) -> int:
    return len(bz2.compress(pickle.dumps(tree, protocol=4)))


def skeleton(**shapes: tuple[int, ...]):
    return skeleton_of({name: torch.zeros(shape) for name, shape in shapes.items()})


def integers(*shape: int, scale: float = 2.0, seed: int = 0):
    return np.rint(np.random.default_rng(seed).normal(scale=scale, size=shape)).astype(np.int64)


def test_dense_tensors_are_float32_arrays_by_name() -> None:
    w, b = integers(30, 20), integers(20)
    expected = recipe({"w": np.float32(w * 0.1), "b": np.float32(b * 0.1)})
    assert paper_bytes(skeleton(w=(30, 20), b=(20,)), [Dense(w, 0.1), Dense(b, 0.1)]) == expected


def test_a_decomposed_tensor_is_the_pair_of_its_factors() -> None:
    A, B = integers(40, 3, scale=20), integers(3, 40)
    expected = recipe({"w": (np.float32(A * 0.05), np.float32(B * 0.05))})
    assert paper_bytes(skeleton(w=(40, 40)), [LowRank(A, B, 0.05, 0.05)]) == expected


def test_symbols_in_another_memory_order_have_the_same_size() -> None:
    symbols = integers(30, 40)
    shape = skeleton(w=(30, 40))
    assert paper_bytes(shape, [Dense(np.asfortranarray(symbols), 0.1)]) == paper_bytes(shape, [Dense(symbols, 0.1)])


def test_zeros_are_positive_and_a_mixture_of_zeros_would_cost_half_as_much_again() -> None:
    weights = np.random.default_rng(0).normal(scale=0.2, size=(128, 128))
    rounded = np.float32(np.rint(weights / 0.5) * 0.5)
    assert (np.signbit(rounded) & (rounded == 0)).sum() > 1000
    symbols = np.rint(weights / 0.5).astype(np.int64)
    size = paper_bytes(skeleton(w=(128, 128)), [Dense(symbols, 0.5)])
    assert size == recipe({"w": rounded + np.float32(0)})
    assert recipe({"w": rounded}) > 1.5 * size


def test_tied_names_hold_one_array() -> None:
    shared = torch.zeros(50, 50)
    symbols = integers(50, 50, scale=1000)
    alone = paper_bytes(skeleton_of({"a": shared}), [Dense(symbols, 0.1)])
    tied = paper_bytes(skeleton_of({"a": shared, "b": shared}), [Dense(symbols, 0.1)])
    other = paper_bytes(skeleton(a=(50, 50), b=(50, 50)), [Dense(symbols, 0.1), Dense(integers(50, 50, scale=1000, seed=1), 0.1)])
    assert tied == pytest.approx(alone, rel=0.05)  # one name more or less hardly changes the size under bzip2
    assert other > 1.75 * alone


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_size_does_not_depend_on_the_dtype_of_the_weights(dtype: torch.dtype) -> None:
    symbols = integers(25, 25)
    single = paper_bytes(skeleton(w=(25, 25)), [Dense(symbols, 0.1)])
    assert paper_bytes(skeleton_of({"w": torch.zeros(25, 25, dtype=dtype)}), [Dense(symbols, 0.1)]) == single


@pytest.mark.parametrize(
    ("coarse", "leaf"),
    [(Constant(0), np.zeros((9, 7), np.float32)), (Constant(1), np.ones((9, 7), np.float32))],
)
def test_constants_are_whole_arrays(coarse: CoarseTensor, leaf: object) -> None:
    assert paper_bytes(skeleton(w=(9, 7)), [coarse]) == recipe({"w": leaf})


def test_tensors_that_must_stay_go_in_as_their_bytes() -> None:
    buffers: Mapping[str, torch.Tensor] = {"steps": torch.tensor(12345), "mask": torch.tensor([True, False])}
    size = paper_bytes(skeleton_of(buffers), [lossless(tensor) for tensor in buffers.values()])
    as_bytes = {"steps": np.frombuffer(np.int64(12345).tobytes(), np.uint8), "mask": np.array([1, 0], np.uint8)}
    assert size == recipe({name: data.copy() for name, data in as_bytes.items()})
