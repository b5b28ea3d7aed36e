"""A model's folder: the network in it is found. If it isn't clear which file is the network, the message lists the files."""

import pytest
import torch
from safetensors.torch import save_file

from nncomplexity.checkpoint import STANDARD, load_checkpoint
from nncomplexity.checkpoint.folder import model_file
from nncomplexity.errors import InputError


def fill(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize("count", range(1, len(STANDARD) + 1))
def test_the_first_standard_name_is_taken(tmp_path, count):
    fill(tmp_path, *STANDARD[-count:], "config.json", "other.safetensors", "other.pt")
    assert model_file(tmp_path).name == STANDARD[-count]


def test_a_trainers_folder(tmp_path):
    folder = tmp_path / "checkpoint-500"
    folder.mkdir()
    fill(folder, "config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "training_args.bin")
    save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    checkpoint = load_checkpoint(folder)
    assert checkpoint.path == folder / "model.safetensors"
    assert (checkpoint.step, checkpoint.notes) == (500, ("read model.safetensors of the folder",))


def test_an_adapters_folder(tmp_path):
    fill(tmp_path, "adapter_config.json", "README.md")
    save_file({"lora_A.weight": torch.ones(1, 2)}, tmp_path / "adapter_model.safetensors")
    assert load_checkpoint(tmp_path).tensors.keys() == {"lora_A.weight"}


@pytest.mark.parametrize("name", ["net.pt", "diffusion_pytorch_model.safetensors", "best.ckpt", "tf.safetensors.index.json"])
def test_the_only_checkpoint_is_taken_whatever_its_name(tmp_path, name):
    fill(
        tmp_path, name, "config.json", "optimizer.pt", "x-00001-of-00002.safetensors", "x-00002-of-00002.safetensors", ".hidden.pt"
    )
    assert model_file(tmp_path).name == name


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "it is a folder without a checkpoint: it is empty; name a checkpoint"),
        (("config.json", "optimizer.pt"), "it is a folder without a checkpoint: config.json, optimizer.pt; name a checkpoint"),
        (("b.pt", "a.safetensors"), "it is a folder with 2 checkpoints and no model.safetensors: a.safetensors, b.pt; name one"),
        ([f"{number}.pt" for number in range(9)], "0.pt, 1.pt, 2.pt, 3.pt, 4.pt, 5.pt, and 3 more; name one"),
    ],
)
def test_a_folder_that_is_not_clear_is_listed(tmp_path, names, words):
    with pytest.raises(InputError) as caught:
        load_checkpoint(fill(tmp_path, *names))
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the folder \(No such file or directory\)"):
        model_file(tmp_path / "absent")
