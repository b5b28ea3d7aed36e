"""Weights are coarse-grained on their own device: only symbols leave it, and the files are the same as on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version
from torch import nn
from torch.utils import backend_registration

from nncomplexity import estimate

TESTS = Path(__file__).parents[1]
CASES = (
    *("tight", "tight, without a gradient", "tight, as a large network", "tight, another seed, relative to a base"),
    *("bayes", "quantize", "curve"),
)
SYMBOLS = {"torch.int8", "torch.int16", "torch.int32"}
MAKE_DEVICE = "_setup_privateuseone_for_python_backend"
WEIGHTS = {"torch.float32": 4 * (48 * 40 + 40 + 10 * 48), "torch.float64": 8 * 40, "torch.int64": 8 * 3}
"""The bytes of the network, which must be copied for the report's lossless file."""


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    # An older PyTorch takes a new device only from C++. One that is new enough has to take it: then the import fails and is seen.
    if Version(torch.__version__) < Version("2.11") and not hasattr(backend_registration, MAKE_DEVICE):
        pytest.skip(f"this PyTorch has no {MAKE_DEVICE}, so that no device can be made up in Python")
    # PyTorch accepts one unknown device in a process, and keeps it until the process ends.
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "elsewhere_cases.py")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_every_case_is_looked_at(compared: dict[str, Any]) -> None:
    assert set(compared) == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_files_are_those_of_the_cpu(case: str, compared: dict[str, Any]) -> None:
    assert compared[case]["same"]
    assert min(compared[case]["sizes"]) > 100  # there is something to compare


@pytest.mark.parametrize("case", CASES)
def test_weights_leave_the_device_once_and_then_only_symbols(case: str, compared: dict[str, Any]) -> None:
    crossed = {dtype: count for dtype, count in compared[case]["crossed"].items() if dtype not in SYMBOLS}
    # Bit allocation scans the weights on the CPU, with a base their differences in float64. They are copied once more for this, for
    # any number of evaluations.
    assert set(crossed) == set(WEIGHTS)
    assert all(crossed[dtype] >= count for dtype, count in WEIGHTS.items())
    assert sum(crossed.values()) <= 3.1 * sum(WEIGHTS.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", ["tight", "allocate", "bayes", "quantize"])
def test_a_gpu_finds_a_file_that_holds_on_the_cpu(method: str) -> None:
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5)).cuda()
    examples = torch.randn(512, 20)
    labels = model.cpu()(examples).argmax(1)
    model.cuda()

    def loss(network: nn.Module) -> torch.Tensor:
        device = next(network.parameters()).device
        return nn.functional.cross_entropy(network(examples.to(device)), labels.to(device))

    report = estimate(model, loss, 0.1, method=method, budget=60)
    assert next(model.parameters()).is_cuda
    here = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    here.load_state_dict(report.coarse_weights())
    assert float(loss(here)) == pytest.approx(report.coarse_loss, abs=1e-4)
