"""Shards and their index: they are read as one network with one digest. If they disagree, the message says how."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.errors import FormatError, InputError

FIRST = {"embed.weight": torch.arange(6.0).reshape(2, 3), "norm": torch.ones(3, dtype=torch.float16)}
SECOND = {"head.weight": torch.full((2, 3), -1.0), "count": torch.tensor(9)}
STEMS = {"safetensors": "model", "bin": "pytorch_model"}
KINDS = pytest.mark.parametrize("kind", list(STEMS))


def name_of(kind, number):
    return f"{STEMS[kind]}-{number:05d}-of-00002.{kind}"


def write(folder, kind="safetensors", *, shards=(FIRST, SECOND), weight_map=None, metadata=None):
    """Write a folder as Hugging Face does. Returns the index."""
    for number, tensors in enumerate(shards, 1):
        path = folder / name_of(kind, number)
        save_file(tensors, path, {"format": "pt"}) if kind == "safetensors" else torch.save(tensors, path)
    index = folder / f"{STEMS[kind]}.{kind}.index.json"
    default = {name: name_of(kind, number) for number, tensors in enumerate((FIRST, SECOND), 1) for name in tensors}
    document = {"metadata": metadata or {"total_size": 60}, "weight_map": default if weight_map is None else weight_map}
    index.write_text(json.dumps(document))
    return index


@KINDS
def test_shards_are_one_checkpoint(tmp_path, kind):
    index = write(tmp_path, kind)
    checkpoint = load_checkpoint(index)
    assert checkpoint.tensors.keys() == {**FIRST, **SECOND}.keys()
    assert all(torch.equal(checkpoint.tensors[name], tensor) for name, tensor in {**FIRST, **SECOND}.items())
    assert checkpoint.path == index
    assert checkpoint.files == tuple(tmp_path / name_of(kind, number) for number in (1, 2))
    assert checkpoint.metadata["total_size"] == "60"
    assert (checkpoint.key, checkpoint.notes) == (None, ())


def test_an_index_that_an_editor_saved_with_a_byte_order_mark(tmp_path):
    index = write(tmp_path)
    index.write_text(index.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert load_checkpoint(index).tensors.keys() == {**FIRST, **SECOND}.keys()


@KINDS
def test_the_digest_is_that_of_the_digests(tmp_path, kind):
    index = write(tmp_path, kind)
    names = [name_of(kind, number) for number in (1, 2)]
    lines = "".join(f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    assert load_checkpoint(index).sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_the_name_of_the_format_is_no_tie(tmp_path):
    shards = ({**FIRST, "pt": torch.ones(2)}, SECOND)
    weight_map = {name: name_of("safetensors", number) for number, tensors in enumerate(shards, 1) for name in tensors}
    index = write(tmp_path, shards=shards, weight_map=weight_map, metadata={"format": "pt"})
    assert load_checkpoint(index).tensors.keys() == weight_map.keys()


@KINDS
def test_a_folder_is_its_index_and_a_shard_alone_is_itself(tmp_path, kind):
    index = write(tmp_path, kind)
    (tmp_path / "config.json").write_text("{}")
    found = load_checkpoint(tmp_path)
    assert (found.path, found.notes) == (index, (f"read {index.name} of the folder",))
    assert load_checkpoint(tmp_path / name_of(kind, 2)).tensors.keys() == SECOND.keys()


def test_shards_in_a_folder_below_are_allowed(tmp_path):
    (tmp_path / "below").mkdir()
    save_file(FIRST, tmp_path / "below" / "one.safetensors")
    index = write(tmp_path, shards=(), weight_map=dict.fromkeys(FIRST, "below/one.safetensors"))
    assert load_checkpoint(index).tensors.keys() == FIRST.keys()


def test_names_tied_in_the_index_come_back_tied(tmp_path):
    tensors = load_checkpoint(write(tmp_path, metadata={"lm_head.weight": "embed.weight", "total_size": 60})).tensors
    assert tensors["lm_head.weight"] is tensors["embed.weight"]


def test_what_the_index_does_not_name_is_left_out_and_said(tmp_path):
    index = write(tmp_path, shards=({**FIRST, "inv_freq": torch.ones(2)}, SECOND))
    checkpoint = load_checkpoint(index)
    assert "inv_freq" not in checkpoint.tensors
    assert checkpoint.notes == ("left out tensors that are in a shard and not in the index: inv_freq",)


def test_the_step_is_the_folders(tmp_path):
    (tmp_path / "checkpoint-500").mkdir()
    assert load_checkpoint(write(tmp_path / "checkpoint-500")).step == 500
    assert load_checkpoint(write(tmp_path, metadata={"step": 20})).step == 20


@KINDS
def test_missing_shards_are_counted_and_named(tmp_path, kind):
    index = write(tmp_path, kind)
    (tmp_path / name_of(kind, 2)).unlink()
    with pytest.raises(InputError, match=rf"1 of its 2 shards are missing: {name_of(kind, 2)}; fetch them"):
        load_checkpoint(index)


@KINDS
def test_a_damaged_shard_is_named(tmp_path, kind):
    index, shard = write(tmp_path, kind), tmp_path / name_of(kind, 1)
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(FormatError, match=rf"{shard.name}: .*cut or damaged"):
        load_checkpoint(index)


@KINDS
def test_a_name_in_the_wrong_shard(tmp_path, kind):
    index = write(tmp_path, kind, shards=(SECOND, FIRST))
    words = rf"expected 'embed\.weight' in {name_of(kind, 1)}, but it is in {name_of(kind, 2)}"
    with pytest.raises(FormatError, match=words):
        load_checkpoint(index)


def test_a_name_in_no_shard_and_one_in_two(tmp_path):
    with pytest.raises(FormatError, match=r"expected 'count' in .*00002\.safetensors, but it is in none"):
        load_checkpoint(write(tmp_path, shards=(FIRST, {"head.weight": SECOND["head.weight"]})))
    with pytest.raises(FormatError, match=r"'count' is in .*00002-of-00002\.safetensors and in .*00001-of-00002\.safetensors"):
        load_checkpoint(write(tmp_path, shards=({**FIRST, "count": torch.tensor(1)}, SECOND)))


@pytest.mark.parametrize(
    "shard",
    [
        "../secret.safetensors",
        "/etc/secret",
        "a/../../secret",
        "..\\secret",
        "C:\\secret",
        "C:secret",
        "\\secret",
        "",
        ".",
        "a\0b",
        "..",
    ],
)
def test_a_shard_that_leads_out_of_the_folder_is_refused(tmp_path, shard):
    (tmp_path / "model").mkdir()
    save_file(FIRST, tmp_path / "secret.safetensors")
    index = write(tmp_path / "model", weight_map=dict.fromkeys(FIRST, shard))
    with pytest.raises(
        FormatError, match=r"expected shards in the folder of the index, got .*, which leads out of its folder"
    ) as caught:
        load_checkpoint(index)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no index of shards, because it is no JSON"),
        (b'{"weight_map": ', "no index of shards, because it is no JSON"),
        (b'{"weight_map": "\xff"}', "no index of shards, because it is no JSON"),
        (b"[" * 100_000, "no index of shards, because it is no JSON"),
        (b"[]", 'expected {"weight_map": {name: file}} in it'),
        (b'{"hidden_size": 8}', "or name the checkpoint itself; got the keys hidden_size"),
        (b'{"error": "Repository not found"}', "got the keys error"),
        (b"<!DOCTYPE html><title>404</title>", "because it is no JSON (it is an HTML page, '404'"),
        (b'{"weight_map": {}}', 'expected {"weight_map"'),
        (b'{"weight_map": {"a": 3}}', 'expected {"weight_map"'),
    ],
)
def test_what_is_no_index(tmp_path, content, words):
    (tmp_path / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises(FormatError) as caught:
        load_checkpoint(tmp_path / "model.safetensors.index.json")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_is_no_checkpoint(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    with pytest.raises(FormatError, match=r"config\.json: no index of shards"):
        load_checkpoint(tmp_path / "config.json")


def test_an_index_takes_no_key(tmp_path):
    with pytest.raises(InputError, match=r"key: expected none, because .* is an index of shards.*got 'model'; leave it out"):
        load_checkpoint(write(tmp_path), key="model")


def test_an_index_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json: cannot read it \(No such file or directory\)"):
        load_checkpoint(tmp_path / "model.safetensors.index.json")
