"""Measures the time and memory for reading small files that declare large contents, each in its own process.

    python -m tests.fuzz.sizes

It runs on Linux. It prints a line for each file. The exit code is 1 if a file takes more than docs/reliability.md promises.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nncomplexity.codecs import codec_named
from nncomplexity.file import DEFAULT_LIMIT, CoarseTensor, Constant, Dense, LowRank, write
from nncomplexity.network import Skeleton, TensorSpec

MIB, GIB = 1 << 20, 1 << 30
SECONDS_ALWAYS, SECONDS_A_MIB, SECONDS_A_TENSOR = 1.0, 0.01, 0.0001
MEMORY_ALWAYS, MEMORY_TIMES = 200 * MIB, 4
READ = """
import sys, time
from pathlib import Path
import nncomplexity.file
from nncomplexity import load
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.errors import InputError
def peak():  # not getrusage, whose value begins with the parent's
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
path, limit = Path(sys.argv[1]), int(sys.argv[2])
before = peak()
began = time.process_time()
try:
    found = load(path, limit=limit) if path.suffix == ".coarse" else load_checkpoint(path).tensors
    said = f"{len(found):,} tensors"
    size = sum(tensor.nbytes for tensor in found.values())
except InputError as error:
    said, size = "refused", 0
took = time.process_time() - began
print(took, peak() - before, size, said, sep="\\t")
"""


def coarse_files(folder: Path) -> Iterable[Path]:
    """.coarse files of a few bytes that decode to up to a GiB, and files of many small tensors."""

    def written(name: str, shapes: dict[str, tuple[int, ...]], tensor: CoarseTensor) -> Path:
        skeleton = Skeleton(tuple(TensorSpec((one,), shape, torch.float32) for one, shape in shapes.items()))
        path = folder / f"{name}.coarse"
        path.write_bytes(write(skeleton, [tensor] * len(shapes), codec_named("entropy")).content)
        return path

    for side in (4096, 8192):
        zeros = np.zeros((side, side), np.int8)
        yield written(f"zeros of full rank, {side}²", {"w": (side, side)}, LowRank(zeros, zeros, 1.0, 1.0))
    yield written("dense zeros, 16384²", {"w": (16384, 16384)}, Dense(np.zeros((16384, 16384), np.int8), 0.5))
    yield written("constant, 16384²", {"w": (16384, 16384)}, Constant(0))
    yield written("constant, beyond the limit", {"w": (16385, 16384)}, Constant(0))
    many = {f"t{index}": (2,) for index in range(50_000)}
    yield written("50,000 tensors", many, Dense(np.array([1, -1], np.int8), 0.5))
    yield written("50,000 constants", many, Constant(0))


def checkpoints(folder: Path) -> Iterable[Path]:
    """Archives that unpack to a GiB, a tensor of one element that declares a GiB, and a pipe."""
    plain = folder / "plain"
    torch.save({"w": torch.zeros(GIB // 4)}, plain)
    yield _deflated(plain, folder / "a GiB of zeros, deflated.pt")
    plain.unlink()
    np.savez_compressed(folder / "a GiB of zeros, deflated.npz", w=np.zeros(GIB // 4, np.float32))
    yield folder / "a GiB of zeros, deflated.npz"
    strided: Any = torch.zeros(1).expand(GIB // 4)
    for name, zipped in (("stride 0", True), ("stride 0, legacy", False)):
        torch.save({"w": strided}, folder / f"{name}.pt", _use_new_zipfile_serialization=zipped)
        yield folder / f"{name}.pt"
    os.mkfifo(folder / "a pipe without a writer.pt")
    yield folder / "a pipe without a writer.pt"


def _deflated(source: Path, target: Path) -> Path:
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            with archive.open(name) as record, packed.open(name, "w", force_zip64=True) as written:
                while part := record.read(MIB):
                    written.write(part)
    return target


def measured(path: Path) -> bool:
    """Read the file, and print the time and the memory. Returns False if they are more than promised."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path), str(DEFAULT_LIMIT)], capture_output=True, text=True, check=True, timeout=120
    )
    took, memory, size, said = done.stdout.strip().split("\t")
    tensors = 50_000 if "50,000" in path.name else 1
    allowed = SECONDS_ALWAYS + SECONDS_A_MIB * int(size) / MIB + SECONDS_A_TENSOR * tensors
    fits = float(took) <= allowed and int(memory) <= MEMORY_ALWAYS + MEMORY_TIMES * DEFAULT_LIMIT
    length = 0 if path.is_fifo() else path.stat().st_size
    print(
        f"{path.name}: {length:,} bytes, {int(size) // MIB} MiB of weights, {float(took):.2f} s, {int(memory) // MIB} MiB, {said}"
        f"{'' if fits else f', more than {allowed:.1f} s or the memory that is promised'}",
        flush=True,
    )
    return fits


def main() -> int:
    """Make and read all files."""
    argparse.ArgumentParser(description="Read small files that declare large contents.").parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = [measured(path) for files in (coarse_files, checkpoints) for path in files(folder)]
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
