"""Skeletons: which names are tied, what is refused, and that a skeleton doesn't depend on values."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nncomplexity import estimate
from nncomplexity.errors import InputError
from nncomplexity.network import (
    DIMENSIONS,
    Skeleton,
    TensorSpec,
    check_numbers,
    complex_view,
    is_finite,
    real_view,
    skeleton_of,
)


def names_of(weights: dict[str, torch.Tensor]) -> list[tuple[str, ...]]:
    return [spec.names for spec in skeleton_of(weights).tensors]


def test_a_state_dict_becomes_names_shapes_and_dtypes_in_its_order() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4))
    skeleton = skeleton_of(module.state_dict())
    assert [(spec.name, spec.shape, spec.dtype) for spec in skeleton.tensors] == [
        (name, tuple(tensor.shape), tensor.dtype) for name, tensor in module.state_dict().items()
    ]
    assert skeleton.parameters == sum(tensor.numel() for tensor in module.state_dict().values())
    assert skeleton.raw_bits == 8 * sum(tensor.nbytes for tensor in module.state_dict().values())


def test_names_of_one_storage_are_tied_and_equal_values_are_not() -> None:
    shared, equal = torch.ones(2, 3), torch.ones(2, 3)
    assert names_of({"a": shared, "b": equal, "c": shared, "d": shared.detach()}) == [("a", "c", "d"), ("b",)]


def test_tied_modules_are_counted_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.unembed = nn.Linear(4, 7, bias=False)
            self.unembed.weight = self.embed.weight

    skeleton = skeleton_of(Tied().state_dict())
    assert [spec.names for spec in skeleton.tensors] == [("embed.weight", "unembed.weight")]
    assert skeleton.parameters == 28


def test_other_views_of_one_storage_are_tensors_of_their_own() -> None:
    base = torch.zeros(4, 4)
    views = {
        "base": base,
        "row": base[0],
        "transposed": base.T,
        "flat": base.view(16),
        "bits": base.view(torch.int32),
        "next": base[1],
    }
    assert names_of(views) == [(name,) for name in views]


def test_a_conjugate_is_no_tie_though_it_shares_storage() -> None:
    numbers = torch.tensor([1 + 2j, 3 - 4j])
    assert names_of({"z": numbers, "conjugate": numbers.conj(), "again": numbers.conj()}) == [("z",), ("conjugate", "again")]


def test_empty_tensors_are_not_tied_through_the_address_that_all_of_them_have() -> None:
    assert names_of({"a": torch.zeros(0, 3), "b": torch.zeros(0, 3)}) == [("a",), ("b",)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_nothing_in_a_skeleton_depends_on_values(groups: list[int], random) -> None:
    storages = [torch.zeros(2, 2), torch.zeros(3), torch.zeros((), dtype=torch.int64), torch.zeros(2, 2)]
    weights = {f"t{index}": storages[group] for index, group in enumerate(groups)}
    before = skeleton_of(weights)
    for storage in storages:
        storage.fill_(random.choice([0, 1, 7]))
    assert skeleton_of(weights) == before
    assert len(before.tensors) == len(set(groups))


def test_expanding_gives_tied_names_one_object() -> None:
    skeleton = Skeleton((TensorSpec(("a", "c"), (2,), torch.float32), TensorSpec(("b",), (), torch.float32)))
    one, other = torch.ones(2), torch.zeros(())
    expanded = skeleton.expand({"a": one, "b": other})
    assert list(expanded) == ["a", "c", "b"]
    assert expanded["a"] is expanded["c"] is one
    assert expanded["b"] is other


def test_specs_know_their_sizes() -> None:
    spec = TensorSpec(("w", "v"), (3, 0, 2), torch.float64)
    assert (spec.name, spec.count, spec.raw_bytes, spec.quantizable) == ("w", 0, 0, True)
    scalar = TensorSpec(("s",), (), torch.int16)
    assert (scalar.count, scalar.raw_bytes, scalar.quantizable) == (1, 2, False)
    assert all(TensorSpec(("x",), (), dtype).quantizable for dtype in (torch.complex64, torch.float8_e5m2, torch.bfloat16))
    assert not any(TensorSpec(("x",), (), dtype).quantizable for dtype in (torch.bool, torch.uint8))


def test_complex_tensors_are_seen_as_their_parts_and_come_back() -> None:
    numbers = torch.tensor([[1 + 2j, 3 - 4j]])
    for tensor in (numbers, numbers.conj(), numbers.T, numbers.to(torch.complex128), numbers[0, 0]):
        skeleton = skeleton_of({"z": tensor, "w": torch.ones(2)})
        parts = real_view(tensor)
        assert skeleton.real.tensors[0] == TensorSpec(("z",), tuple(parts.shape), parts.dtype)
        assert skeleton.real.tensors[1] is skeleton.tensors[1]
        assert skeleton.real.real == skeleton.real
        assert torch.equal(parts, torch.stack([tensor.real, tensor.imag], -1))
        assert torch.equal(complex_view(parts, tensor.dtype), tensor)
    assert real_view(torch.ones(2)).shape == (2,)


def test_a_tensor_without_a_shape_is_refused() -> None:
    with pytest.raises(
        InputError, match="weights: 'weight' has no shape yet, because its module is lazy; call the model with a batch first"
    ):
        skeleton_of(torch.nn.LazyLinear(3).state_dict())


def test_an_empty_mapping_is_refused() -> None:
    with pytest.raises(InputError, match="weights: expected at least one tensor, got an empty mapping; pass a state dict"):
        skeleton_of({})


def test_values_other_than_tensors_are_refused() -> None:
    with pytest.raises(InputError, match="weights: expected a tensor under 'epoch', got int; leave other values out"):
        skeleton_of({"w": torch.zeros(1), "epoch": 3})
    with pytest.raises(InputError, match=r"weights: expected a tensor under 'w', got ndarray; use torch.as_tensor$"):
        skeleton_of({"w": np.zeros(1)})  # type: ignore[dict-item]


def test_names_that_are_no_texts_are_refused() -> None:
    with pytest.raises(InputError, match=r"weights: expected names as texts, got 1 \(int\); use str\(1\)"):
        skeleton_of({1: torch.zeros(1)})


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:The PyTorch API of nested tensors")
def test_tensors_that_are_not_dense_are_refused() -> None:
    quantized = torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8)
    kinds = {"torch.sparse_coo": torch.eye(3).to_sparse(), "a meta tensor": torch.zeros(2, device="meta"), "torch.qint8": quantized}
    kinds["a nested tensor"] = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    kinds["torch.float8_e5m2fnuz"] = torch.zeros(2, dtype=torch.float8_e5m2fnuz)
    if hasattr(torch, "float4_e2m1fn_x2"):
        kinds["torch.float4_e2m1fn_x2"] = torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    for kind, tensor in kinds.items():
        for check in (skeleton_of, check_numbers):
            words = f"weights: expected 'w' to be a dense tensor in memory, got {kind}; convert it first"
            with pytest.raises(InputError, match=words):
                check({"w": tensor})
    with pytest.raises(InputError, match=r"torch.float8_e5m2fnuz; convert it first, or pass its bytes, .view\(torch.uint8\)"):
        skeleton_of({"w": kinds["torch.float8_e5m2fnuz"]})


@pytest.mark.parametrize("check", [skeleton_of, check_numbers])
def test_tensors_beyond_memory_or_dimensions_are_refused(check: Callable[[dict[str, torch.Tensor]], object]) -> None:
    words = (
        r"weights: expected 'w' to have memory for all its elements, got 1000000000000 elements expanded from 4 bytes; leave it out"
    )
    with pytest.raises(InputError, match=words):
        check({"w": torch.zeros(1).expand(10**12)})
    for most, dtype in ((DIMENSIONS, torch.float32), (DIMENSIONS, torch.int64), (DIMENSIONS - 1, torch.complex64)):
        check({"w": torch.ones([1] * most, dtype=dtype), "rows": torch.ones(1).expand(100)})
        with pytest.raises(
            InputError, match=f"weights: expected 'w' to have at most {most} dimensions, got {most + 1}; reshape it"
        ):
            check({"w": torch.ones([1] * (most + 1), dtype=dtype)})


@pytest.mark.parametrize(("dimensions", "dtype"), [(DIMENSIONS, torch.float32), (DIMENSIONS - 1, torch.complex64)])
def test_as_many_dimensions_as_there_can_be_are_measured(dimensions: int, dtype: torch.dtype) -> None:
    weights = {"w": torch.randn([1] * (dimensions - 2) + [5, 4], dtype=dtype, generator=torch.Generator().manual_seed(0))}
    report = estimate(weights, lambda w: w["w"].abs().square().mean(), 0.1, method="quantize", budget=20)
    assert report.bits < 8 * weights["w"].nbytes
    assert report.coarse_weights()["w"].dim() == dimensions


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_numbers_whose_sum_overflows_are_finite(dtype: torch.dtype) -> None:
    largest = torch.full((3,), torch.finfo(dtype).max, dtype=torch.float64).to(dtype)
    assert is_finite(largest)
    check_numbers({"w": largest})


def test_values_that_are_no_numbers_are_named() -> None:
    fine = {
        "fine": torch.zeros(3),
        "steps": torch.tensor(3),
        "mask": torch.tensor([True]),
        "small": torch.ones(2).to(torch.float8_e5m2),
        "hidden": torch.tensor([0, -float("inf")]),
    }
    check_numbers(fine)
    assert [is_finite(tensor) for tensor in fine.values()] == [True, True, True, True, False]
    for dtype in (torch.float32, torch.float16, torch.complex64, torch.float8_e5m2, torch.float8_e4m3fn):
        tensor = torch.tensor([1.0, float("nan"), float("nan")]).to(dtype)
        assert not is_finite(tensor)
        with pytest.raises(InputError, match="weights: 'w' holds 2 values that are NaN; use an earlier checkpoint"):
            check_numbers(fine | {"w": tensor})
