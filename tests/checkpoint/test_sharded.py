"""Tensors and modules that have only a part of their values are refused, and the message says how to gather the whole."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from nncomplexity import estimate
from nncomplexity.errors import InputError

WORDS = (
    r"'{}' is sharded over processes \({}\); collect all of it first, with .*get_model_state_dict\(model, options=StateDictOptions"
)


def of_distributed(name: str, base: type) -> type:
    """A class that looks like one of torch.distributed."""
    return type(name, (base,), {"__module__": f"torch.distributed.{name.lower()}"})


@pytest.mark.parametrize("name", ["DTensor", "ShardedTensor"])
def test_a_sharded_tensor_is_refused(name: str) -> None:
    tensor = torch.zeros(4, 4).as_subclass(of_distributed(name, torch.Tensor))
    with pytest.raises(InputError, match="weights: " + WORDS.format("w", name)):
        estimate({"w": tensor}, lambda _: 0.0, 0.1)


@pytest.mark.parametrize("name", ["FullyShardedDataParallel", "FSDPModule"])
def test_a_sharded_module_is_refused(name: str) -> None:
    module = nn.Sequential(nn.Linear(2, 2), of_distributed(name, nn.Module)())
    with pytest.raises(InputError, match="model: " + WORDS.format("1", name)):
        estimate(module, lambda _: 0.0, 0.1)


def test_a_class_of_that_name_from_elsewhere_is_taken() -> None:
    tensor = torch.zeros(4, 4).as_subclass(type("DTensor", (torch.Tensor,), {}))
    assert estimate({"w": tensor}, lambda weights: float(weights["w"].sum()), 0.1, budget=10).distortion == 0


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_a_real_dtensor_on_one_process_is_refused(tmp_path) -> None:
    program = f"""
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
dist.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=0, world_size=1)
tensor = distribute_tensor(torch.zeros(4, 4), init_device_mesh("cpu", (1,)), [Shard(0)])
from nncomplexity import estimate
try:
    estimate({{"w": tensor}}, lambda weights: 0.0, 0.1)
except ValueError as error:
    print(error)
dist.destroy_process_group()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if "w" not in done.stdout:
        pytest.skip(f"no process group here: {done.stderr.strip()[-200:]}")
    assert "'w' is sharded over processes (DTensor)" in done.stdout
