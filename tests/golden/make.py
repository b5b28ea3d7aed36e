"""Makes the golden files: `python -m tests.golden.make`, after a change of the format and its version, and at no other time.

Five files, one a codec, hold the same tensors in every form; `expected.safetensors` holds what the reference decoder makes of them.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from nncomplexity.bitstream import write
from nncomplexity.coarse import CoarseTensor, Constant, Dense, LowRank, lossless
from nncomplexity.codecs import CODECS
from nncomplexity.weights import Skeleton, TensorSpec
from tests.golden import reference

FOLDER = Path(__file__).parent


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
    ]
    skeleton = Skeleton(tuple(TensorSpec(names, shape, dtype) for names, shape, dtype, _ in entries))
    return skeleton, [coarse for *_, coarse in entries]


def main() -> None:
    skeleton, tensors = content()
    for codec in CODECS:
        (FOLDER / f"{codec.name}.coarse").write_bytes(write(skeleton, tensors, codec).content)
    decoded = reference.decode((FOLDER / "entropy.coarse").read_bytes())
    expected = {}
    for spec in skeleton.tensors:
        for name in spec.names:
            flat = torch.frombuffer(bytearray(decoded[name]), dtype=spec.dtype) if spec.count else torch.zeros(0, dtype=spec.dtype)
            expected[name] = flat.reshape(spec.shape)
    save_file(expected, FOLDER / "expected.safetensors")


if __name__ == "__main__":
    main()
