"""Makes the golden files: `python -m tests.golden.make`, after a change of the format and its version, and at no other time.

In a folder for each version of the format five files, one a codec, hold the same tensors in every form; `expected.safetensors` holds what
the reference decoder makes of them. `relative.coarse` holds differences from `base.safetensors`, which give `relative_expected.safetensors`.
Those of version 1 lie beside this file and stay as they are.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from nncomplexity.codecs import CODECS
from nncomplexity.file import CoarseTensor, Constant, Dense, LowRank, Pieces, write
from nncomplexity.file.coarse import Lossless, lossless
from nncomplexity.network import Blocks, Folding, Skeleton, TensorSpec, base_of, stored_bytes
from tests.golden import reference

FOLDER = Path(__file__).parent
LATEST = FOLDER / "version2"


def content() -> tuple[Skeleton, list[CoarseTensor]]:
    rng = np.random.default_rng(20250301)

    def symbols(*shape: int, scale: float) -> np.ndarray:
        return np.rint(rng.laplace(size=shape) * scale).astype(np.int64)

    entries: list[tuple[tuple[str, ...], tuple[int, ...], torch.dtype, CoarseTensor]] = [
        (
            ("embed.weight", "unembed.weight"),
            (24, 40),
            torch.float32,
            LowRank(symbols(24, 3, scale=6), symbols(3, 40, scale=4), 0.375, 0.75, (21, 0)),
        ),
        (("norm.weight",), (40,), torch.float32, Constant(1)),
        (("norm.bias",), (40,), torch.float32, Constant(0)),
        (("conv.weight",), (8, 3, 3, 3), torch.float16, LowRank(symbols(8, 2, scale=30), symbols(2, 27, scale=1), 2.0**-9, 1.5)),
        (("mix.weight",), (21, 24), torch.float32, LowRank(symbols(21, 2, scale=9), symbols(2, 24, scale=1), 0.5, 0.5, (21, 24))),
        (("conv.bias",), (8,), torch.bfloat16, Dense(symbols(8, scale=300), 2.0**-7)),
        (("head.weight",), (10, 70), torch.float32, Dense(symbols(10, 70, scale=1.5), 0.0625)),
        (("head.bias",), (10,), torch.float32, Dense(1000 + symbols(10, scale=0.3), 0.25)),
        (("wide.weight",), (5, 6), torch.float64, Dense(symbols(5, 6, scale=1e8), 1.25)),
        (("temperature",), (), torch.float32, Dense(np.array(-3), 0.5)),
        (("empty",), (0, 4), torch.float32, Constant(0)),
        (("steps",), (), torch.int64, lossless(torch.tensor(12345))),
        (("seen",), (), torch.int64, Dense(np.array(12345))),
        (("offsets",), (3,), torch.int16, Dense(np.array([-7, 300, 0]))),
        (("mask",), (2, 3), torch.bool, lossless(torch.tensor([[True, False, True], [False, False, True]]))),
        (("kept",), (4,), torch.float32, lossless(torch.tensor([0.1, -0.0, float("inf"), 1e-42]))),
        (("small.weight",), (6, 7), torch.float8_e4m3fn, Dense(symbols(6, 7, scale=40), 0.3125)),
        (("small.bias",), (7,), torch.float8_e5m2, Dense(symbols(7, scale=30), 0.0078125)),
        (("filter",), (6, 9), torch.complex64, LowRank(symbols(6, 2, scale=7), symbols(2, 18, scale=2), 0.125, 0.25)),
        (("phase",), (), torch.complex64, Dense(symbols(2, scale=20), 0.75)),
        (
            ("qkv.weight",),
            (9, 4),
            torch.float32,
            Pieces(
                Blocks(0, 3),
                (
                    LowRank(symbols(3, 1, scale=5), symbols(1, 4, scale=5), 0.5, 0.5),
                    Constant(0),
                    Dense(symbols(3, 4, scale=2), 0.25),
                ),
            ),
        ),
        (
            ("gates.weight",),
            (3, 2, 2),
            torch.bfloat16,
            Pieces(Blocks(1, 2), (Constant(1), lossless(torch.tensor([0.5, -0.0, 1.5, 3.0, 7.0, -2.0], dtype=torch.bfloat16)))),
        ),
        (
            ("separable.weight",),
            (4, 1, 3, 5),
            torch.float32,
            Pieces(Folding(0b01), (LowRank(symbols(12, 2, scale=5), symbols(2, 5, scale=5), 0.5, 0.25, (0, 5)),)),
        ),
    ]
    entries += [  # two layers of which few units are alive, between them, and factors with a dead column and rows
        (("units.0",), (24, 10), torch.float32, Dense(alive(symbols(24, 10, scale=9), (1, 5, 6, 20), (2, 3, 9)), 0.5)),
        (("units.1",), (12, 24), torch.float32, Dense(alive(symbols(12, 24, scale=9), (0, 7), (1, 5, 6, 20)), 0.25)),
        (("units.2",), (24, 12), torch.float32, Dense(alive(symbols(24, 12, scale=9), (3, 11, 23), (0, 7)), 0.25)),
        (
            ("units.3",),
            (30, 24),
            torch.float32,
            LowRank(alive(symbols(30, 3, scale=9), range(20, 30), range(3)), symbols(3, 24, scale=3), 0.25, 0.5),
        ),
    ]
    skeleton = Skeleton(tuple(TensorSpec(names, shape, dtype) for names, shape, dtype, _ in entries))
    return skeleton, [coarse for *_, coarse in entries]


def alive(symbols: np.ndarray, rows: Sequence[int], columns: Sequence[int]) -> np.ndarray:
    """The symbols in these rows and columns, and zeros elsewhere."""
    found = np.zeros_like(symbols)
    found[np.ix_(rows, columns)] = symbols[np.ix_(rows, columns)] | 1
    return found


def base_tensors() -> dict[str, torch.Tensor]:
    """A base of which some tensors fit, of the same dtype or another, and some don't."""
    generator = torch.Generator().manual_seed(20250302)

    def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "unembed.weight": normal(12, 20),
        "norm.weight": torch.tensor([-0.0, 1.5, 0.1, -2.0]),
        "norm.bias": normal(4),
        "wide": normal(3, 4, dtype=torch.float64),
        "narrowed": normal(5, 4),
        "widened": normal(5, 4, dtype=torch.bfloat16),
        "small": normal(3, 5, dtype=torch.float8_e4m3fn),
        "smaller": normal(7, dtype=torch.float8_e5m2),
        "filter": normal(3, 4, 2).to(torch.float32)[..., 0].to(torch.complex64) * (0.5 + 1j),
        "range": torch.tensor([float("inf"), 2.0]),
        "steps": torch.tensor(12345),
        "bytes": torch.tensor([250, 3, 0], dtype=torch.uint8),
        "large": torch.tensor([2**62, -(2**62)]),
        "blocks": normal(4, 6, dtype=torch.bfloat16),
        "kernel": normal(2, 3, 2),
        "mask": torch.tensor([[True, False], [True, True]]),
        "head.weight": normal(2, 6),
        "unused": normal(3),
    }


def relative_content() -> tuple[Skeleton, list[CoarseTensor]]:
    rng = np.random.default_rng(20250303)

    def symbols(*shape: int, scale: float) -> np.ndarray:
        return np.rint(rng.laplace(size=shape) * scale).astype(np.int64)

    def changed(*values: int, dtype: type[np.generic]) -> Lossless:
        return Lossless(np.array(values, dtype=dtype).view(np.uint8))

    entries: list[tuple[tuple[str, ...], tuple[int, ...], torch.dtype, CoarseTensor]] = [
        (
            ("embed.weight", "unembed.weight"),
            (12, 20),
            torch.float32,
            LowRank(symbols(12, 1, scale=4), symbols(1, 20, scale=4), 2.0**-7, 2.0**-6, (12, 0)),
        ),
        (("norm.weight",), (4,), torch.float32, Dense(np.array([0, 3, 0, -1]), 2.0**-10)),
        (("norm.bias",), (4,), torch.float32, Constant(0)),
        (("wide",), (3, 4), torch.float64, Dense(symbols(3, 4, scale=9), 0.1)),
        (("narrowed",), (5, 4), torch.float16, Dense(symbols(5, 4, scale=2), 2.0**-12)),
        (("widened",), (5, 4), torch.float32, Constant(1)),
        (("small",), (3, 5), torch.float8_e4m3fn, Dense(symbols(3, 5, scale=20), 0.0625)),
        (("smaller",), (7,), torch.float8_e5m2, Constant(0)),
        (("filter",), (3, 4), torch.complex64, LowRank(symbols(3, 1, scale=7), symbols(1, 8, scale=2), 0.125, 0.25)),
        (("range",), (2,), torch.float32, changed(0, 0x00400001, dtype=np.uint32)),
        (("steps",), (), torch.int64, Dense(np.array(100))),
        (("bytes",), (3,), torch.uint8, Dense(np.array([10, -5, 0]))),
        (("large",), (2,), torch.int64, changed(2**40, 1, dtype=np.int64)),
        (("mask",), (2, 2), torch.bool, Dense(np.array([[-1, 1], [0, 0]]))),
        (("head.weight",), (3, 6), torch.float32, Dense(symbols(3, 6, scale=3), 0.25)),
        (("new",), (3,), torch.int16, Constant(1)),
        (
            ("blocks",),
            (4, 6),
            torch.float32,
            Pieces(Blocks(1, 2), (Constant(0), LowRank(symbols(4, 1, scale=5), symbols(1, 3, scale=5), 0.5, 0.25))),
        ),
        (("kernel",), (2, 3, 2), torch.float32, Pieces(Folding(0b10), (Dense(symbols(4, 3, scale=2), 0.5),))),
    ]
    skeleton = Skeleton(tuple(TensorSpec(names, shape, dtype) for names, shape, dtype, _ in entries))
    return skeleton, [coarse for *_, coarse in entries]


def plain(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Tensors as the reference decoder takes a base."""
    return {
        name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), stored_bytes(tensor).tobytes())
        for name, tensor in tensors.items()
    }


def main() -> None:
    skeleton, tensors = content()
    for codec in CODECS:
        (LATEST / f"{codec.name}.coarse").write_bytes(write(skeleton, tensors, codec).content)
    save(skeleton, reference.decode((LATEST / "entropy.coarse").read_bytes()), "expected.safetensors")
    base = base_tensors()
    save_file(base, LATEST / "base.safetensors")
    skeleton, tensors = relative_content()
    (LATEST / "relative.coarse").write_bytes(write(skeleton, tensors, CODECS[0], base_of(base)).content)
    save(skeleton, reference.decode((LATEST / "relative.coarse").read_bytes(), plain(base)), "relative_expected.safetensors")


def save(skeleton: Skeleton, decoded: dict[str, bytes], file: str) -> None:
    expected = {}
    for spec in skeleton.tensors:
        for name in spec.names:
            flat = torch.frombuffer(bytearray(decoded[name]), dtype=spec.dtype) if spec.count else torch.zeros(0, dtype=spec.dtype)
            expected[name] = flat.reshape(spec.shape)
    save_file(expected, LATEST / file)


if __name__ == "__main__":
    main()
