"""What people hand to the functions of the front doors by mistake: one clear line each time, before anything costs time."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from nncomplexity import InputError, estimate, load
from nncomplexity.checkpoint import load_checkpoint, save_safetensors
from nncomplexity.curve import rate_distortion
from nncomplexity.track import Tracker, track


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


@pytest.mark.parametrize("name", ["", 3, None, b"net", "a\0b"])
def test_what_is_no_name_of_a_file(name: Any) -> None:
    weights = {"w": torch.ones(3)}
    report = estimate(weights, lambda w: w["w"].sum(), 0)
    calls = [report.save, load, load_checkpoint, lambda path: save_safetensors(path, weights)]
    for call in calls:
        with pytest.raises(InputError, match=r"path: expected the name of a file, a text or a Path, got .*; name one$"):
            call(name)
    with pytest.raises(InputError, match="checkpoints: expected the name of a file"):
        track([name], lambda _: 0.0, 0.1)
    if name is not None:
        with pytest.raises(InputError, match="out: expected the name of a file"):
            Tracker(lambda _: 0.0, 0.1, out=name)


def test_checkpoints_that_are_neither_a_path_nor_several(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checkpoints: expected the name of a file, a text or a Path, got 3"):
        track(3, lambda _: 0.0, 0.1)  # type: ignore[arg-type]
    save_safetensors(tmp_path / "net.safetensors", {"w": torch.ones(3)})
    with pytest.raises(InputError, match="out: expected the name of a file, a text or a Path, got 3"):
        track(tmp_path / "net.safetensors", lambda _: 0.0, 0.1, out=3)  # type: ignore[arg-type]


def test_a_key_that_is_no_text() -> None:
    with pytest.raises(InputError, match="key: expected a dotted path, such as 'model_state_dict', got 3; leave it out"):
        load_checkpoint("net.pt", 3)  # type: ignore[arg-type]
