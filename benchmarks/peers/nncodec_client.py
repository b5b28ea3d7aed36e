"""NNCodec (ISO/IEC 15938-17, Fraunhofer HHI) as a peer, in its own process and environment."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cases.networks import ROOT, Case

WORKER = Path(__file__).with_name("nncodec_worker.py")
PYTHON = ROOT / ".venv-nncodec" / "bin" / "python"


@dataclass(frozen=True)
class Settings:
    """The settings of NNCodec that are used here: a quantization parameter for each tensor, and two of its tools."""

    qp: Mapping[str, int]
    use_dq: bool
    """Trellis-coded (dependent) quantization."""
    opt_qp: bool = False
    """NNCodec's own shift of the parameters by the tensors' sizes and spreads."""


@dataclass(frozen=True)
class Encoded:
    """A bitstream's length and the weights that it decodes to, by first name."""

    bytes: int
    weights: dict[str, Tensor]


class Nncodec:
    """A running NNCodec that holds one case's weights; a context manager. Raises RuntimeError where it fails."""

    def __init__(self, case: Case, python: Path = PYTHON) -> None:
        self.case = case
        self.specs = {spec.name: spec for spec in case.skeleton.tensors if spec.count}
        self.empty = {spec.name: case.weights[spec.name] for spec in case.skeleton.tensors if not spec.count}
        self.cpu_seconds = 0.0
        """Processor time of the other process, without its imports."""
        self._python = python
        self._single: dict[tuple[str, int, bool], Encoded] = {}

    def __enter__(self) -> "Nncodec":
        self._folder = tempfile.TemporaryDirectory()
        self._output = Path(self._folder.name, "decoded.npz")
        self._errors = Path(self._folder.name, "errors").open("w+")
        weights = Path(self._folder.name, "weights.npz")
        np.savez(weights, **{name: _as_array(self.case.weights[name]) for name in self.specs})
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(torch.get_num_threads()))
        self._process = subprocess.Popen(
            [self._python, WORKER, weights],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **threads},
        )
        self._reply()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._errors.close()
        self._folder.cleanup()

    def encode(self, settings: Settings) -> Encoded:
        """Encode the tensors named in the settings, and decode the bitstream."""
        assert self._process.stdin is not None
        request = {"qp": dict(settings.qp), "use_dq": settings.use_dq, "opt_qp": settings.opt_qp, "output": str(self._output)}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        reply = self._reply()
        self.cpu_seconds += reply["cpu_seconds"]
        with np.load(self._output) as decoded:
            weights = {name: self._as_tensor(name, decoded[name]) for name in settings.qp}
        return Encoded(reply["bytes"], weights)

    def encode_one(self, name: str, qp: int, use_dq: bool) -> Encoded:
        """Encode one tensor alone. The result is kept for the next call."""
        key = (name, qp, use_dq)
        if key not in self._single:
            self._single[key] = self.encode(Settings({name: qp}, use_dq))
        return self._single[key]

    def loss(self, weights: Mapping[str, Tensor]) -> float:
        """The case's loss with decoded tensors by first name."""
        return self.case.loss(self.case.skeleton.expand({**self.empty, **weights}))

    def _as_tensor(self, name: str, values: np.ndarray[Any, Any]) -> Tensor:
        spec = self.specs[name]
        return torch.from_numpy(values).to(spec.dtype).reshape(spec.shape)

    def _reply(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        return json.loads(line)

    def _failure(self) -> RuntimeError:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or ["no message"]
        return RuntimeError(f"NNCodec ended with code {self._process.returncode}: {lines[-1]}")


def absence(python: Path = PYTHON) -> str | None:
    """The reason why NNCodec can't run here; None if it can."""
    if not python.exists():
        return "no .venv-nncodec; make it with: sh benchmarks/peers/nncodec_env.sh"
    found = subprocess.run([python, WORKER, "--check"], capture_output=True, text=True, check=False)
    return None if found.returncode == 0 else (found.stderr.strip().splitlines() or ["NNCodec does not start"])[-1]


def _as_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The tensor as float32 or int32 with at least one dimension, as NNCodec requires."""
    dtype = torch.float32 if tensor.is_floating_point() else torch.int32
    return np.atleast_1d(tensor.to(dtype).contiguous().numpy())
