"""The state in which the user's functions are called: a fixed random state, gradients if needed, empty caches."""

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

RandomState = tuple[Tensor, list[Tensor], dict[str, Any], tuple[Any, ...]]
"""The states of the generators of torch, CUDA, NumPy and Python."""


def fixed_random_state(seed: int = 0) -> RandomState:
    """Generator states that depend only on a seed. Every call of a user's function starts with the states of seed 0, in every process.

    If NumPy's global generator was replaced by one of another kind, its present state is used.
    """
    # The states are computed from new generators: seeding the global ones would change the user's.
    devices = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    cuda = [torch.Generator(torch.device("cuda", index)).manual_seed(seed).get_state() for index in devices]
    present, numpys = (numpy_state(one) for one in (np.random, np.random.RandomState(seed)))
    numpys = numpys if present["bit_generator"] == numpys["bit_generator"] else present
    return torch.Generator("cpu").manual_seed(seed).get_state(), cuda, numpys, random.Random(seed).getstate()


def numpy_state(generator: Any) -> dict[str, Any]:
    """The state of a generator of NumPy's old kind. Its key is a list: to restore that takes a twentieth of the time of an array."""
    state: dict[str, Any] = generator.get_state(legacy=False)
    inner = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in state["state"].items()}
    return state | {"state": inner}


def is_same(one: RandomState, other: RandomState) -> bool:
    """Whether no random number was drawn between the two states."""
    tensors = zip((one[0], *one[1]), (other[0], *other[1]), strict=True)
    return all(torch.equal(this, that) for this, that in tensors) and pickle.dumps(one[2:]) == pickle.dumps(other[2:])


def forget_casts() -> None:
    """Clear PyTorch's caches of weights: casts within torch.autocast, and parametrized weights within parametrize.cached()."""
    torch.clear_autocast_cache()
    parametrize._cache.clear()


@contextmanager
def derivatives() -> Iterator[None]:
    """Switch gradients on, also for a caller in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
