"""What a function of the user's finds when it is called: one random state, gradients as it needs them, nothing kept of other weights."""

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
"""States of torch's generator, of CUDA's, of NumPy's and of Python's."""


def fixed_random_state(seed: int = 0) -> RandomState:
    """States that hang on nothing but a seed: from those of 0 every call of a user's function begins, in whichever process.

    Where NumPy's generator is another one than it comes with, its state is the present one.
    """
    devices = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    cuda = [torch.Generator(torch.device("cuda", index)).manual_seed(seed).get_state() for index in devices]
    present, numpys = (one.get_state(legacy=False) for one in (np.random, np.random.RandomState(seed)))
    numpys = numpys if present["bit_generator"] == numpys["bit_generator"] else present
    return torch.Generator("cpu").manual_seed(seed).get_state(), cuda, numpys, random.Random(seed).getstate()


def is_same(one: RandomState, other: RandomState) -> bool:
    """Whether no random number was drawn between them."""
    tensors = zip((one[0], *one[1]), (other[0], *other[1]), strict=True)
    return all(torch.equal(this, that) for this, that in tensors) and pickle.dumps(one[2:]) == pickle.dumps(other[2:])


def forget_casts() -> None:
    """Forget what PyTorch keeps of weights: within torch.autocast casts of parameters, within parametrize.cached() parametrized ones."""
    torch.clear_autocast_cache()
    parametrize._cache.clear()


@contextmanager
def derivatives() -> Iterator[None]:
    """Gradients on, wherever the caller is: in inference mode, tensors have none for good."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
