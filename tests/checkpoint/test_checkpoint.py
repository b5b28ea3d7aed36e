"""Checkpoints: we read what safetensors writes, safetensors reads what we write, and the message for a bad file says what is wrong."""

import hashlib
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from nncomplexity.checkpoint import load_checkpoint, save_safetensors
from nncomplexity.errors import FormatError, InputError
from nncomplexity.network import skeleton_of


class Tied(nn.Module):
    """An embedding and an output layer that share one tensor under two names."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.unembed = nn.Linear(3, 5, bias=False)
        self.unembed.weight = self.embed.weight
        self.register_buffer("steps", torch.tensor(7))


TENSORS = {
    "matrix": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.tensor([0.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(3),
    "mask": torch.tensor([True, False]),
    "empty": torch.zeros(0, 4),
}


def test_a_checkpoint_is_what_safetensors_wrote(tmp_path):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(TENSORS, path, {"format": "pt", "epoch": "599"})
    checkpoint = load_checkpoint(path)
    assert checkpoint.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert checkpoint.tensors[name].dtype == tensor.dtype
        assert torch.equal(checkpoint.tensors[name], tensor)
    assert checkpoint.metadata == {"format": "pt", "epoch": "599"}
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.path == path


def test_names_tied_by_save_model_come_back_as_one_tensor(tmp_path):
    model = Tied()
    safetensors.torch.save_model(model, tmp_path / "tied.safetensors")
    tensors = load_checkpoint(tmp_path / "tied.safetensors").tensors
    assert tensors["embed.weight"] is tensors["unembed.weight"]
    assert torch.equal(tensors["embed.weight"], model.embed.weight)
    assert {spec.names for spec in skeleton_of(tensors).tensors} == {("embed.weight", "unembed.weight"), ("steps",)}


def test_equal_values_under_two_names_are_not_a_tie(tmp_path):
    safetensors.torch.save_file({"a": torch.ones(2), "b": torch.ones(2)}, tmp_path / "two.safetensors")
    assert len(skeleton_of(load_checkpoint(tmp_path / "two.safetensors").tensors).tensors) == 2


def test_metadata_that_names_no_tensor_adds_none(tmp_path):
    safetensors.torch.save_file({"a": torch.ones(2), "b": torch.zeros(2)}, tmp_path / "net.safetensors", {"a": "b", "note": "c"})
    tensors = load_checkpoint(tmp_path / "net.safetensors").tensors
    assert tensors.keys() == {"a", "b"}
    assert torch.equal(tensors["a"], torch.ones(2))


def test_what_is_written_loads_into_a_module_with_tied_weights(tmp_path):
    source, target = Tied(), Tied()
    save_safetensors(tmp_path / "out.safetensors", source.state_dict())
    safetensors.torch.load_model(target, tmp_path / "out.safetensors")
    assert torch.equal(target.embed.weight, source.embed.weight)
    assert target.unembed.weight is target.embed.weight
    stored = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert stored.keys() == {"embed.weight", "steps"}


def test_save_and_load_are_inverse(tmp_path):
    shared = torch.randn(3, 3)
    tensors = {**TENSORS, "z": shared, "a": shared, "rows": shared[:2], "transposed": shared.T}
    save_safetensors(tmp_path / "out.safetensors", tensors)
    loaded = load_checkpoint(tmp_path / "out.safetensors").tensors
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert loaded["z"] is loaded["a"]


def test_the_name_of_the_format_is_no_tie(tmp_path):
    module = nn.ParameterDict({"pt": torch.ones(2), "bias": torch.zeros(2)})
    safetensors.torch.save_file(module.state_dict(), tmp_path / "net.safetensors", {"format": "pt"})
    save_safetensors(tmp_path / "out.safetensors", module.state_dict())
    for name in ("net.safetensors", "out.safetensors"):
        tensors = load_checkpoint(tmp_path / name).tensors
        module.load_state_dict(tensors)
        assert tensors.keys() == {"pt", "bias"}


def test_a_tensor_named_like_the_entry_of_the_format_comes_back_with_its_ties(tmp_path):
    shared, alone = torch.ones(2), torch.zeros(3)
    save_safetensors(tmp_path / "out.safetensors", {"alias": shared, "format": shared, "pt": alone})
    checkpoint = load_checkpoint(tmp_path / "out.safetensors")
    assert checkpoint.metadata == {"format": "pt", "alias": "format"}
    assert {spec.names for spec in skeleton_of(checkpoint.tensors).tensors} == {("format", "alias"), ("pt",)}
    assert torch.equal(checkpoint.tensors["alias"], shared)


def test_a_name_that_the_format_keeps_to_itself_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"out\.safetensors: safetensors has no room for a tensor named '__metadata__'; rename it"):
        save_safetensors(tmp_path / "out.safetensors", {"__metadata__": torch.ones(2)})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "out.safetensors"
    save_safetensors(path, {"a": torch.ones(2)})
    before = path.read_bytes()
    with pytest.raises(InputError, match="store these tensors"):
        save_safetensors(path, {"a": torch.ones(2, dtype=torch.complex128)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


GOOD = safetensors.torch.save({"a": torch.ones(64)})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes([7]) * 100, "no checkpoint; name a .safetensors file"),
        (GOOD[:-1], "cut or damaged"),
        (GOOD[:40], "cut or damaged"),
        (GOOD + b"x", "cut or damaged"),
        (GOOD[:12] + b"\xff" + GOOD[13:], "cut or damaged"),
        (b"PK\x03\x04" + bytes(60), "pickled checkpoint"),
        (b"\x80\x04" + bytes(60), "a pickle that torch.save did not write, or a damaged one"),
    ],
)
def test_a_file_of_another_kind_is_named_for_what_it_is(tmp_path, content, words):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=words) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_cut_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    for length in range(len(GOOD)):
        path.write_bytes(GOOD[:length])
        with pytest.raises(FormatError):
            load_checkpoint(path)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(InputError, match=r"none\.safetensors: cannot read it \(No such file"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="too long for this system"):
        load_checkpoint(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match="it is a folder without a checkpoint: it is empty"):
        load_checkpoint(tmp_path)


def test_a_key_has_nothing_to_choose_from_in_safetensors(tmp_path):
    safetensors.torch.save_file(TENSORS, tmp_path / "net.safetensors")
    with pytest.raises(
        InputError, match=r"^key: expected none, because .*net\.safetensors is a \.safetensors file.*got 'model'; leave"
    ):
        load_checkpoint(tmp_path / "net.safetensors", key="model")


def test_the_content_tells_the_format_and_not_the_name(tmp_path):
    safetensors.torch.save_file(TENSORS, tmp_path / "net.pt")
    torch.save(TENSORS, tmp_path / "net.safetensors")
    for name in ("net.pt", "net.safetensors"):
        assert torch.equal(load_checkpoint(tmp_path / name).tensors["matrix"], TENSORS["matrix"])


def test_the_length_of_a_header_may_look_like_json(tmp_path):
    path = tmp_path / "net.safetensors"
    # The first byte of the file is the lowest byte of the header's length. Here it is that of an opening brace.
    lengths = (safetensors.torch.save({"a" * count: torch.ones(1)}) for count in range(1, 300))
    path.write_bytes(next(content for content in lengths if content[0] == ord("x")))
    header = path.read_bytes()[8:-4] + b" " * 3
    path.write_bytes((ord("{")).to_bytes(8, "little") + header + path.read_bytes()[-4:])
    assert len(load_checkpoint(path).tensors) == 1


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_writing_to_tensors_does_not_reach_the_file(tmp_path, name):
    path = tmp_path / name
    torch.save({"a": torch.ones(100)}, path) if name.endswith(".pt") else safetensors.torch.save_file({"a": torch.ones(100)}, path)
    before = path.read_bytes()
    load_checkpoint(path).tensors["a"].zero_()
    assert path.read_bytes() == before


def test_a_name_that_is_no_unicode_text_is_read(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "good.safetensors", {"w": torch.ones(2)})
    odd = tmp_path / os.fsdecode(b"odd_\xff.safetensors")
    try:
        (tmp_path / "good.safetensors").rename(odd)
    except OSError:
        pytest.skip("the file system has no such names")
    assert load_checkpoint(odd).tensors.keys() == {"w"}
