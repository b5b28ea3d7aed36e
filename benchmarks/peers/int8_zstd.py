"""A simple baseline: all weights as int8 with one step size, compressed by zstd at level 19.

The file holds the step size as float32, then the symbols of all floating-point tensors, clipped to ±127, and the bytes of the others.
"""

import math
import struct
from dataclasses import dataclass

import numpy as np
import torch
import zstandard
from torch import Tensor

from benchmarks.cases.networks import Case
from nncomplexity.network import Skeleton

LEVEL = 19
TRIES = 31
"""Step sizes in each of two grids: together as many as Algorithm 2 tries."""
_LARGEST = 127


@dataclass(frozen=True)
class Answer:
    """A peer's smallest file within ε; bytes is None if nothing was within ε."""

    bytes: int | None
    loss: float
    distortion: float
    evaluations: int
    settings: dict[str, object]


def encode(skeleton: Skeleton, weights: dict[str, Tensor], step: float) -> bytes:
    """The file of the weights with this step size."""
    parts = [struct.pack("<f", step)]
    for spec in skeleton.tensors:
        tensor = weights[spec.name]
        if spec.quantizable:
            symbols = (tensor.double() / _float32(step)).round().clamp(-_LARGEST, _LARGEST)
            parts.append(symbols.to(torch.int8).numpy().tobytes())
        else:
            parts.append(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return zstandard.ZstdCompressor(level=LEVEL).compress(b"".join(parts))


def decode(skeleton: Skeleton, file: bytes) -> dict[str, Tensor]:
    """The weights in a file, by all their names."""
    content = zstandard.ZstdDecompressor().decompress(file)
    (step,) = struct.unpack_from("<f", content)
    position = 4
    tensors = {}
    for spec in skeleton.tensors:
        length = spec.count if spec.quantizable else spec.raw_bytes
        data = np.frombuffer(content, np.int8, length, position).copy()
        position += length
        if spec.quantizable:
            tensors[spec.name] = (torch.from_numpy(data).double() * step).to(spec.dtype).reshape(spec.shape)
        else:
            tensors[spec.name] = torch.from_numpy(data).view(spec.dtype).reshape(spec.shape)
    return skeleton.expand(tensors)


def search(case: Case, eps: float) -> Answer:
    """The smallest file within ε: over a geometric grid of step sizes, from the largest weight to a 4096th of it, then around the best one."""
    skeleton, original = case.skeleton, case.loss(case.weights)
    largest = max(float(case.weights[spec.name].abs().max()) for spec in skeleton.tensors if spec.quantizable and spec.count)
    best = Answer(None, math.nan, math.nan, 2 * TRIES, {"level": LEVEL})
    low, high = largest / 4096, largest
    for _ in range(2):
        for step in np.geomspace(high, low, TRIES).tolist():
            file = encode(skeleton, case.weights, step)
            loss = case.loss(decode(skeleton, file))
            distortion = abs(loss - original)
            if distortion <= eps and (best.bytes is None or len(file) < best.bytes):
                best = Answer(len(file), loss, distortion, 2 * TRIES, {"level": LEVEL, "step": step})
        middle = best.settings.get("step")
        if not isinstance(middle, float):
            break
        low, high = middle / 1.5, middle * 1.5
    return best


def _float32(step: float) -> float:
    return float(np.float32(step))
