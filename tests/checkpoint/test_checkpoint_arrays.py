"""NumPy arrays as checkpoints: files that NumPy wrote are read, and no function that a pickle names is called."""

import argparse
import contextlib
import hashlib
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.checkpoint.arrays import known_names
from nncomplexity.errors import FormatError, InputError

PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3, 4, 5])
ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "swapped": np.arange(3, dtype=">f4"),
    "half": np.ones(2, dtype=np.float16),
    "complex": np.array([1 + 2j]),
    "count": np.array(3),
    "mask": np.array([True, False]),
    "small": np.array([1, 255], dtype=np.uint8),
    "empty": np.zeros((0, 4)),
    "view": np.arange(10.0)[::2],
}


def same(found: dict[str, torch.Tensor], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert np.array_equal(found[name].numpy(), array)
        assert found[name].numpy().dtype == array.dtype.newbyteorder("=")


def written(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_is_what_numpy_wrote(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "net.npz", **ARRAYS)
    checkpoint = load_checkpoint(tmp_path / "net.npz")
    same(checkpoint.tensors, ARRAYS)
    assert checkpoint.sha256 == hashlib.sha256((tmp_path / "net.npz").read_bytes()).hexdigest()
    assert (checkpoint.key, checkpoint.notes, checkpoint.step) == (None, (), None)
    checkpoint.tensors["matrix"].zero_()  # its memory is its own


def test_an_archive_holds_its_step_and_no_objects(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "last.npz", w=np.ones(2), step=np.array(70), config=np.array({"a": 1}), name=np.array("x"), v=np.zeros(2, "V2")
    )
    checkpoint = load_checkpoint(tmp_path / "last.npz")
    assert checkpoint.tensors.keys() == {"w", "step"}
    assert (checkpoint.step, checkpoint.step_from) == (70, "metadata step")
    assert checkpoint.notes == ("left out arrays that can't be tensors: config, name, v",)
    np.savez(tmp_path / "none.npz", config=np.array({"a": 1}))
    with pytest.raises(InputError, match="expected arrays of numbers in it, got config, which can't be tensors; where it was made"):
        load_checkpoint(tmp_path / "none.npz")
    with pytest.raises(
        InputError, match=r"key: expected none, because .*last\.npz is an \.npz file, in which nothing is nested, got 'w'"
    ):
        load_checkpoint(tmp_path / "last.npz", key="w")


@PROTOCOLS
def test_a_plain_pickle_of_arrays_is_read(tmp_path: Path, protocol: int) -> None:
    checkpoint = load_checkpoint(written(tmp_path / "net.pkl", ARRAYS, protocol))
    same(checkpoint.tensors, ARRAYS)
    assert checkpoint.notes == ("read a pickle of arrays",)
    checkpoint.tensors["matrix"].zero_()


@PROTOCOLS
def test_a_dictionary_of_a_training_loop_in_a_plain_pickle(tmp_path: Path, protocol: int) -> None:
    shared = np.ones(3)
    content = {
        "model": OrderedDict(a=shared, b=shared, c=np.ones(3)),
        "step": np.int64(70),
        "loss": np.float64(0.5),
        "args": argparse.Namespace(lr=0.1),
        "other": {"w": np.zeros(2)},
        "name": "x",
    }
    path = written(tmp_path / "net.pkl", content, protocol)
    checkpoint = load_checkpoint(path)
    assert (checkpoint.key, checkpoint.step, checkpoint.metadata["name"]) == ("model", 70, "x")
    assert checkpoint.tensors["a"] is checkpoint.tensors["b"]
    assert checkpoint.tensors["a"] is not checkpoint.tensors["c"]
    assert load_checkpoint(path, key="other").tensors.keys() == {"w"}


class Called:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Own:
    pass


@PROTOCOLS
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (lambda folder: Called(os.mkdir, str(folder / "sprung")), r"posix\.mkdir"),
        (lambda folder: Called(eval, "1"), r"builtins\.eval"),
        (lambda folder: Called(getattr, "a", "upper"), r"builtins\.getattr"),
        (lambda folder: Own(), r"[\w.]*Own"),
        (lambda folder: torch.ones(2), r"torch\._utils\._rebuild_tensor_v2"),
        (lambda folder: np.random.default_rng(0), r"numpy\.random\.[\w.]+"),
        (lambda folder: np.load, r"numpy\.(lib\.[\w.]+\.)?load"),
    ],
    ids=["mkdir", "eval", "getattr", "own", "tensor", "generator", "load"],
)
def test_whatever_else_a_pickle_names_is_refused(tmp_path: Path, value: Any, name: str, protocol: int) -> None:
    if os.name == "nt":
        pytest.skip("os.mkdir has another name there")
    path = written(tmp_path / "net.pkl", {"w": np.ones(2), "extra": value(tmp_path)}, protocol)
    words = (
        rf"net\.pkl: a pickle that torch\.save did not write; it asks for {name}, which is not loaded because that can run code; "
    )
    with pytest.raises(InputError, match=words.replace("builtins", "(builtins|__builtin__)")) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


DTYPE = np.dtype("f8")
RECONSTRUCT = np.zeros(1).__reduce__()[0]


class Built:
    def __init__(self, call: Any, state: Any) -> None:
        self.made = (*call, state)

    def __reduce__(self) -> Any:
        return self.made


@pytest.mark.parametrize(
    "value",
    [
        Built((RECONSTRUCT, (np.ndarray, (0,), b"b")), (1, (1 << 40,), DTYPE, False, b"12345678")),
        Built((RECONSTRUCT, (np.ndarray, (0,), b"b")), (1, (-1,), DTYPE, False, b"12345678")),
        Built((RECONSTRUCT, (np.ndarray, (0,), b"b")), (1, (1,), np.dtype("O"), False, [1])),
        Built((RECONSTRUCT, (np.ndarray, (0,), b"b")), (1, (1,), np.dtype("O"), False, b"12345678")),
        Built((RECONSTRUCT, (np.ndarray, (0,), b"b")), {"value": 3, "__class__": 4}),
        Built((OrderedDict, ()), (None, {"move_to_end": 3})),
    ],
)
def test_arrays_that_a_pickle_makes_up_come_to_nothing(tmp_path: Path, value: Any) -> None:
    path = written(tmp_path / "net.pkl", {"w": np.ones(2), "extra": value}, 2)
    with contextlib.suppress(FormatError):
        assert load_checkpoint(path).tensors.keys() == {"w"}


def test_a_file_cannot_change_what_stands_for_a_name(tmp_path: Path) -> None:
    # BUILD with the class itself on the stack sets attributes of the class.
    content = b"\x80\x02}(X\x01\x00\x00\x00wcnumpy.core.multiarray\n_reconstruct\nN}X\x08\x00\x00\x00__code__K\x01s\x86bu."
    (tmp_path / "net.pkl").write_bytes(content)
    with pytest.raises(FormatError):
        load_checkpoint(tmp_path / "net.pkl")
    first, second = known_names(), known_names()
    shared = [name for name in first if first[name] is second[name]]
    assert shared == ["collections.OrderedDict"]  # a type of C's, whose attributes can't be set


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            [np.ones(2)],
            "a pickle that torch.save did not write, without arrays by name in it; where it was made, write the arrays alone",
        ),
        (np.ones(2), "without arrays by name in it"),
        ({"a": 1}, "without arrays by name in it"),
        ({"a": {"b": [np.ones(1)]}}, "without arrays by name in it"),
    ],
)
def test_a_pickle_without_arrays_by_name(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        load_checkpoint(written(tmp_path / "net.pkl", content))


@pytest.mark.parametrize("form", ["npz", "pkl"])
def test_damage_is_refused_or_changes_values_only(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"net.{form}"
    np.savez(path, w=np.ones(4), b=np.zeros(2)) if form == "npz" else written(path, {"w": np.ones(4), "b": np.zeros(2)})
    whole = path.read_bytes()
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x15]) + whole[position + 1 :])
        with contextlib.suppress(InputError):  # anything else fails the test
            load_checkpoint(path)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            load_checkpoint(path)
