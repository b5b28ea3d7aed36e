"""Weights relative to a base: exact arithmetic against the reference decoder, digests of bases, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from nncomplexity import FormatError, InputError, load
from nncomplexity.codecs import CODECS, codec_named
from nncomplexity.file import CoarseFile, CoarseTensor, Constant, Dense, LowRank, exact, read, save_bytes, write
from nncomplexity.network import STORED, Skeleton, TensorSpec, added, base_of, is_finite, skeleton_of, stored_bytes
from nncomplexity.network.relative import difference
from nncomplexity.network.weights import FLOATS
from tests.framing import framed
from tests.golden import make, reference

GOLDEN = Path(__file__).parents[1] / "golden"
ENTROPY = codec_named("entropy")
SEEDS = st.integers(0, 2**32 - 1)


def bits_of(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[torch.dtype, tuple[int, ...], bytes]]:
    return {name: (tensor.dtype, tuple(tensor.shape), stored_bytes(tensor).tobytes()) for name, tensor in tensors.items()}


def any_bits(rng: np.random.Generator, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """A tensor of any dtype with random bits. NaN are replaced by 0."""
    count = int(np.prod(shape))
    if dtype == torch.bool:
        return torch.from_numpy(rng.integers(0, 2, shape).astype(bool))
    tensor = torch.from_numpy(rng.integers(0, 256, count * dtype.itemsize, dtype=np.uint8)).view(dtype).reshape(shape)
    if dtype.is_complex:
        parts = torch.view_as_real(tensor)
        parts[parts.isnan()] = 0
    elif dtype.is_floating_point:
        nan = (tensor if dtype.itemsize > 1 else tensor.float()).isnan()
        tensor.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize])[nan] = 0
    return tensor


# --- the golden file


def golden_base() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "base.safetensors")


@pytest.mark.parametrize("folder", [GOLDEN, GOLDEN / "version2"], ids=["version 1", "version 2"])
def test_the_golden_file_decodes_to_the_weights_beside_it(folder: Path) -> None:
    expected = load_file(folder / "relative_expected.safetensors")
    weights = load(folder / "relative.coarse", base=golden_base())
    assert bits_of(weights) == bits_of(expected)
    content = (folder / "relative.coarse").read_bytes()
    assert reference.decode(content, make.plain(golden_base())) == {name: data for name, (_, _, data) in bits_of(expected).items()}
    assert weights["embed.weight"] is weights["unembed.weight"]
    assert all(tensor.is_contiguous() for tensor in weights.values())


def test_the_golden_file_is_what_is_written_today() -> None:
    skeleton, tensors = make.relative_content()
    assert (
        write(skeleton, tensors, ENTROPY, base_of(golden_base())).content == (GOLDEN / "version2" / "relative.coarse").read_bytes()
    )


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_every_codec_gives_the_same_weights(codec) -> None:
    skeleton, tensors = make.relative_content()
    file = write(skeleton, tensors, codec, base_of(golden_base()))
    assert bits_of(file.weights()) == bits_of(load_file(GOLDEN / "relative_expected.safetensors"))


# --- the arithmetic


@given(seed=SEEDS, step=st.floats(2.0**-60, 2.0**20), dtype=st.sampled_from(FLOATS), base_dtype=st.sampled_from(FLOATS))
@settings(deadline=None, max_examples=100)
def test_decoding_agrees_with_the_reference_in_every_pair_of_dtypes(seed, step, dtype, base_dtype) -> None:
    rng = np.random.default_rng(seed)
    base = {"d": any_bits(rng, base_dtype, 3, 5), "r": any_bits(rng, base_dtype, 4, 3), "l": any_bits(rng, base_dtype, 6)}
    base |= {"z": any_bits(rng, base_dtype, 7), "o": any_bits(rng, base_dtype, 2)}
    skeleton = skeleton_of({name: torch.zeros(tensor.shape, dtype=dtype) for name, tensor in base.items()})
    tensors: list[CoarseTensor] = [
        Dense(rng.integers(-3, 4, (3, 5)), step),
        LowRank(rng.integers(-9, 10, (4, 2)), rng.integers(-9, 10, (2, 3)), step, 0.5),
        exact(any_bits(rng, dtype, 6), base["l"]),
        Constant(0),
        Constant(1),
    ]
    file = write(skeleton, tensors, ENTROPY, base_of(base))
    decoded = reference.decode(file.content, make.plain(base))
    assert {name: data for name, (_, _, data) in bits_of(file.weights()).items()} == decoded


@given(seed=SEEDS, dtype=st.sampled_from(STORED), same=st.booleans(), near=st.booleans())
@settings(deadline=None, max_examples=150)
def test_every_tensor_has_an_exact_form_on_every_base(seed, dtype, same, near) -> None:
    """Bit for bit, also for float64, where θ₀ + fl(θ − θ₀) isn't θ. The difference of integers may wrap around."""
    rng = np.random.default_rng(seed)
    kinds = [FLOATS, (torch.complex64, torch.complex128)]
    others = next((kind for kind in kinds if dtype in kind), (dtype,))
    tensor = any_bits(rng, dtype, 3, 4)
    base = any_bits(rng, dtype if same else others[int(rng.integers(len(others)))], 3, 4)
    if near and base.dtype == dtype:
        base = tensor.clone()
        base[0, 0] = any_bits(rng, dtype, 1)[0]
    spec = TensorSpec(("w",), (3, 4), dtype, base).real
    parts = torch.view_as_real(tensor) if dtype.is_complex else tensor
    coarse = exact(parts, spec.base)
    assert bits_of({"w": coarse.decode(spec)}) == bits_of({"w": parts})
    file = write(skeleton_of({"w": tensor}), [coarse], ENTROPY, base_of({"w": base}))
    assert bits_of(file.weights()) == bits_of({"w": tensor})
    assert reference.decode(file.content, make.plain({"w": base}))["w"] == stored_bytes(tensor).tobytes()


@given(seed=SEEDS, dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
@settings(deadline=None, max_examples=50)
def test_a_difference_of_ordinary_numbers_leads_back_exactly(seed, dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensor, base = (torch.randn(50, generator=generator).to(dtype) for _ in range(2))
    assert torch.equal(added(base, difference(tensor, base), dtype), tensor)


def test_a_float64_need_not_come_back_from_its_difference_and_is_then_stored_otherwise() -> None:
    tensor, base = torch.tensor([1e-20], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    assert not torch.equal(added(base, difference(tensor, base), torch.float64), tensor)
    spec = TensorSpec(("w",), (1,), torch.float64, base)
    assert torch.equal(exact(tensor, base).decode(spec), tensor)


def test_the_sum_is_rounded_once() -> None:
    """If the sum were first rounded to float32, it would be a tie, and then be rounded down."""
    base, step = torch.tensor([1.0]), 2.0**-11 + 2.0**-40
    decoded = Dense(np.array([1]), step).decode(TensorSpec(("w",), (1,), torch.float16, base))
    assert decoded.item() == 1 + 2.0**-10


def test_what_is_added_to_an_infinity_is_lost() -> None:
    """Otherwise −∞ + ∞ would be a NaN, whose bits depend on the processor."""
    base = torch.tensor([-float("inf"), 1e308], dtype=torch.float64)
    coarse = Dense(np.array([2**20, 2**20]), 2.0**1020)
    assert coarse.decode(TensorSpec(("w",), (2,), torch.float64, base)).tolist() == [-float("inf"), float("inf")]
    file = write(skeleton_of({"w": base}), [coarse], ENTROPY, base_of({"w": base}))
    assert reference.decode(file.content, make.plain({"w": base}))["w"] == stored_bytes(file.weights()["w"]).tobytes()


def test_no_difference_leaves_the_base_to_the_sign_of_its_zeros() -> None:
    base = torch.tensor([-0.0, 0.0, 3.0])
    for coarse in (Constant(0), Dense(np.array([0, 0, 1]), 0.5)):
        decoded = coarse.decode(TensorSpec(("w",), (3,), torch.float32, base))
        assert decoded.signbit().tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_an_unchanged_tensor_costs_next_to_nothing(dtype) -> None:
    tensor = any_bits(np.random.default_rng(0), dtype, 50, 40)
    skeleton = skeleton_of({f"w{i}": tensor.clone() for i in range(30)})
    parts = torch.view_as_real(tensor) if dtype.is_complex else tensor
    coarse = exact(parts, parts)
    assert coarse == Constant(0)
    assert write(skeleton, [coarse] * 30, ENTROPY, base_of({f"w{i}": tensor for i in range(30)})).bits <= 24


# --- which tensors have a base


def test_a_tensor_has_the_base_of_its_name_shape_and_kind() -> None:
    tied = torch.zeros(2, 3)
    weights = {"a": tied, "b": tied, "c": torch.zeros(4), "i": torch.tensor(3), "j": torch.tensor(3), "z": torch.zeros(2)}
    weights |= {"new": torch.zeros(1)}
    base = base_of(
        {
            **{"a": torch.ones(3, 2), "b": torch.full((2, 3), 2.0)},  # the first of the names that fits
            **{"c": torch.ones(4, dtype=torch.bfloat16), "i": torch.tensor(3, dtype=torch.int32), "j": torch.tensor(7)},
            **{"z": torch.zeros(2, dtype=torch.complex64), "more": torch.zeros(5)},
        }
    )
    skeleton = base.under(skeleton_of(weights))
    assert {spec.name: spec.base is not None for spec in skeleton.tensors} == {
        **{"a": True, "c": True, "i": False, "j": True, "z": False, "new": False}
    }
    assert skeleton.tensors[0].base is base.tensors["b"]
    assert base.unused(skeleton) == ("more",)
    assert skeleton == skeleton_of(weights)  # a base is no part of the architecture


def test_the_digest_is_of_tensors_not_of_containers(tmp_path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    weights = {"b": shared, "a": shared, "n": torch.tensor(3)}
    digest = base_of(weights).sha256
    assert digest == base_of({"n": torch.tensor(3), "a": shared.clone(), "b": shared.T.contiguous().T}).sha256
    assert digest == reference.digest(make.plain(weights))
    changes = [{"a": -shared}, {"a": shared.double()}, {"a": shared.reshape(3, 2)}, {"c": shared}]
    assert len({digest, *(base_of(weights | change).sha256 for change in changes)}) == 5


def test_a_module_is_a_base_as_its_state_is() -> None:
    module = nn.BatchNorm1d(3)
    assert base_of(module).sha256 == base_of(module.state_dict()).sha256


@pytest.mark.parametrize(
    ("given_base", "words"),
    [
        ([1], "relative_to: expected a module or a mapping of names to tensors, got list; pass the module itself"),
        ({}, "relative_to: expected at least one tensor, got an empty mapping"),
        ({"w": 3}, "relative_to: expected a tensor under 'w', got int"),
        ({"w": torch.tensor([1.0, float("nan")])}, "relative_to: 'w' holds 1 values that are NaN; use an earlier checkpoint"),
        ({"\ud800": torch.ones(1)}, "relative_to: the name of a tensor is not valid Unicode"),
    ],
)
def test_what_is_no_base(given_base, words) -> None:
    with pytest.raises(InputError, match=words):
        base_of(given_base, "relative_to")


# --- the file


def small() -> tuple[CoarseFile, dict[str, torch.Tensor]]:
    base = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7)}
    tensors: list[CoarseTensor] = [Dense(np.arange(6).reshape(2, 3), 0.5), Constant(0)]
    return write(skeleton_of(base), tensors, ENTROPY, base_of(base)), base


def test_the_base_stands_in_the_skeleton_and_not_in_the_bits(tmp_path) -> None:
    file, base = small()
    length = int.from_bytes(file.content[10:14], "little")
    head = json.loads(file.content[22 : 22 + length])[0]
    assert head == {"base": base_of(base).sha256}
    alone = write(file.skeleton, file.tensors, ENTROPY)
    assert (alone.bits, alone.payload) == (file.bits, file.payload)
    assert alone.file_bits == file.file_bits - 8 * len(json.dumps(head, separators=(",", ":")) + ",")


def test_without_its_base_a_file_has_bits_and_no_weights(tmp_path) -> None:
    file, base = small()
    alone = read(file.content)
    assert (alone.bits, alone.base_sha256, alone.base) == (file.bits, base_of(base).sha256, None)
    words = f"base: expected the tensors that the file is relative to, of sha256 {base_of(base).sha256}, got none; give it as base="
    with pytest.raises(InputError, match=words):
        alone.weights()
    save_bytes(tmp_path / "w.coarse", file.content)
    with pytest.raises(InputError, match=rf"w\.coarse: {words}"):
        load(tmp_path / "w.coarse")


def test_another_base_is_refused_and_so_is_one_too_many(tmp_path) -> None:
    file, base = small()
    save_bytes(tmp_path / "w.coarse", file.content)
    other = base | {"n": torch.tensor(8)}
    came = base_of(other).sha256
    with pytest.raises(
        InputError, match=rf"w\.coarse: base: .* of sha256 [0-9a-f]{{64}}, got those of {came}; name the checkpoint"
    ):
        load(tmp_path / "w.coarse", base=other)
    with pytest.raises(InputError, match=r"got those of [0-9a-f]{64} \(net\.pt\); name"):
        read(file.content).on(base_of(other, path="net.pt"))
    save_bytes(tmp_path / "v.coarse", write(file.skeleton, file.tensors, ENTROPY).content)
    with pytest.raises(
        InputError, match=r"v\.coarse: base: expected none, as the file is relative to no base, got one; leave it out"
    ):
        load(tmp_path / "v.coarse", base=base)
    assert torch.equal(load(tmp_path / "w.coarse", base=base)["w"], 1.5 * base["w"])


@pytest.mark.parametrize(
    "head",
    ['{"base":"ab"}', '{"base":"%s"}' % ("AB" * 32), '{"base":null}', "{}", '{"base":"%s","more":1}' % ("ab" * 32), '{"base":3}'],
)
def test_a_skeleton_that_names_its_base_otherwise_is_refused(head) -> None:
    with pytest.raises(FormatError, match="skeleton is not what a writer makes"):
        read(framed(f'[{head},[["w"],"float32",[2]]]'.encode()))


def test_a_difference_that_is_not_finite_is_seen() -> None:
    tensor, base = torch.tensor([1.7e308], dtype=torch.float64), torch.tensor([-1.7e308], dtype=torch.float64)
    assert not is_finite(difference(tensor, base))


def test_of_tied_names_the_first_in_the_alphabet_has_the_base() -> None:
    """A model may name its tensors in any order. This order must not carry information."""
    base = base_of({"a": torch.zeros(3), "b": torch.ones(3)})
    for names in (("a", "b"), ("b", "a")):
        [spec] = base.under(Skeleton((TensorSpec(names, (3,), torch.float32),))).tensors
        assert spec.base is not None
        assert spec.base.tolist() == [0, 0, 0]
    [spec] = base.under(Skeleton((TensorSpec(("b", "a"), (3,), torch.float32),)), version=1).tensors
    assert spec.base is not None
    assert spec.base.tolist() == [1, 1, 1]
