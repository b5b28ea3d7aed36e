"""The memory that decoding needs, measured in another process: at most four times the limit, plus 200 MiB."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nncomplexity.codecs import codec_named
from nncomplexity.file import CoarseTensor, Dense, LowRank, Pieces, write
from nncomplexity.file.coarse import Lossless
from nncomplexity.network import Blocks, Skeleton, TensorSpec

SIDE = 2048
ALLOWANCE = 4 * SIDE * SIDE
ALWAYS = 200 << 20
ONES = np.ones((SIDE, SIDE), dtype=np.int8)
ZEROS = np.zeros((SIDE, SIDE), dtype=np.int8)
HOSTILE: dict[str, tuple[tuple[int, ...], CoarseTensor, str]] = {
    "zeros of full rank": ((SIDE, SIDE), LowRank(ZEROS, ZEROS, 1.0, 1.0), "entropy"),
    "half of it zeros": ((SIDE, SIDE), LowRank(ONES, ZEROS, 1.0, 1.0), "entropy"),
    "one long vector": ((SIDE * SIDE,), Dense(ZEROS.reshape(-1), 0.5), "entropy"),
    "pieces": ((64, SIDE * SIDE // 64), Pieces(Blocks(0, 64), (Dense(ZEROS.reshape(64, -1)[:1], 0.5),) * 64), "entropy"),
    "bytes": ((SIDE, SIDE), Lossless(ZEROS.reshape(-1).view(np.uint8).repeat(4)), "zstd"),
    "factors under bzip2": ((SIDE, SIDE), LowRank(ZEROS, ZEROS, 1.0, 1.0), "bzip2"),
    "factors under gzip": ((SIDE, SIDE), LowRank(ZEROS, ZEROS, 1.0, 1.0), "gzip"),
}
DECODE = """
import sys
import nncomplexity.file
from nncomplexity import load  # and PyTorch with it
def peak():  # not getrusage: its figure begins with that of the parent
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
start = peak()
for path in sys.argv[2:]:
    weights = load(path, limit=int(sys.argv[1]))
    assert all(not w.any() for w in weights.values())
    del weights
    print(path, peak() - start)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in /proc")
def test_decoding_takes_what_is_promised(tmp_path: Path) -> None:
    for name, (shape, coarse, codec) in HOSTILE.items():
        file = write(Skeleton((TensorSpec(("w",), shape, torch.float32),)), [coarse], codec_named(codec))
        assert len(file.content) < 50_000
        (tmp_path / name).write_bytes(file.content)
    paths = [str(tmp_path / name) for name in HOSTILE]
    ran = subprocess.run([sys.executable, "-c", DECODE, str(ALLOWANCE), *paths], capture_output=True, text=True, check=True)
    for line in ran.stdout.splitlines():  # the peak so far, of which the weights take the limit once
        assert 1024 * int(line.split()[-1]) < 4 * ALLOWANCE + ALWAYS, line
    assert len(ran.stdout.splitlines()) == len(HOSTILE)
