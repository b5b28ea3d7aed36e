"""What people hand to the functions of the front doors by mistake: one clear line each time, before anything costs time."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from nncomplexity import InputError, estimate
from nncomplexity.curve import rate_distortion
from nncomplexity.track import Tracker


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "got NoneType; pass the module itself"),
        ("net.safetensors", r"got str; load the file first, by nncomplexity.checkpoint.load_checkpoint\(path\).tensors"),
        (Path("net.safetensors"), r"got PosixPath; load the file first"),
        (nn.Linear(2, 2).parameters(), r"got generator; pass the module itself, or its state_dict\(\)"),
        ([torch.ones(2)], "got list; pass the module itself"),
        (nn.Linear, r"got the class Linear; pass an object of it, as Linear\(...\) makes one"),
        (SimpleNamespace(tensors={"w": torch.ones(2)}), "got SimpleNamespace; pass its .tensors"),
    ],
)
def test_what_is_no_network_is_refused_with_what_to_pass(given: Any, words: str) -> None:
    expected = "model: expected a module or a mapping of names to tensors, "
    with pytest.raises(InputError, match=expected + words):
        estimate(given, lambda _: 0.0, 0.1)
    with pytest.raises(InputError, match=expected + words):
        rate_distortion(given, lambda _: 0.0)
    assert expected in Tracker(lambda _: 0.0, 0.1)(1, given)["error"]
