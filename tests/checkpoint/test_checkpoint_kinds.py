"""Files that are no checkpoints: their first bytes show what they are, and one line says what to do."""

import bz2
import gzip
import io
import lzma
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nncomplexity import estimate
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.errors import FormatError, InputError


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pt"))
    return content.getvalue()


def array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.ones(2))
    return content.getvalue()


def scripted() -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), content)
    return content.getvalue()


def coarse() -> bytes:
    return estimate({"w": torch.ones(2)}, lambda weights: float(weights["w"].sum()), 0.1, budget=5).file.content


PAGE = "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<title>\n  Sign in · Hub\n</title></head><body>…"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file; wait until it is written, or fetch it again"),
        (bytes(100), "a file that begins with zeros"),
        (bytes([7]) * 100, "no checkpoint; name a .safetensors file, one of torch.save"),
        (PAGE.encode(), "an HTML page, 'Sign in · Hub', which a server sent instead of the file; fetch the file itself"),
        (b"\n <html><body>404</body></html>", "an HTML page, which a server sent"),
        (b"\xef\xbb\xbf<!doctype HTML><title>x</title>" + b"y" * 10_000, "an HTML page, 'x', which"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document, which a storage service sent"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "a pointer of Git LFS .* git lfs pull"),
        (b"/annex/objects/SHA256E-s12--4d7a.pt\n", "a pointer of git-annex .* git annex get"),
        (b"../../blobs/3ab45f99", "a symbolic link stored as text, to '../../blobs/3ab45f99', as in zip downloads"),
        (b"weights/model.pt\n", "a symbolic link stored as text, to 'weights/model.pt'"),
        (b"model_v2.safetensors", "a symbolic link stored as text, to 'model_v2.safetensors'"),
        (b"Entry not found", "no checkpoint, but a text, 'Entry not found'; name a .safetensors file"),
        (b"https://example.org/model.pt", "no checkpoint, but a text, 'https://example.org/model.pt'"),
        (("Grüße, " * 2000).encode(), "no checkpoint, but a text, .Grüße, Grüße.*….; name"),
        (gzip.compress(b"x", mtime=0), "a gzip archive; unpack it"),
        (bz2.compress(b"x"), "a bzip2 archive; unpack it"),
        (lzma.compress(b"x"), "an xz archive; unpack it"),
        (b"\x28\xb5\x2f\xfd" + bytes(9), "a zstandard archive; unpack it"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(9), "a 7z archive"),
        (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
        (tarred(), "a tar archive; unpack it, and name the checkpoint that is in it"),
        (zipped("model.pt", "readme.md"), "a zip archive that torch.save did not write, of model.pt, readme.md; unpack it"),
        (zipped("a", "b", "c", "d", "e"), "of a, b, c, and 2 more; unpack it"),
        (zipped(), "an empty zip archive; name"),
        (zipped("metadata.json", "config.json", "model.weights.h5"), r"a Keras model; where it was made, .* numpy\.savez"),
        (zipped("net/archive_format", "net/models/model.json"), r"a program of torch\.export; .*torch\.export\.load\(FILE\)"),
        (zipped("[Content_Types].xml", "word/document.xml"), "an office document"),
        (b"\x89HDF\r\n\x1a\n" + bytes(9), r"an HDF5 file, as Keras writes; where it was made, .* numpy\.savez\(FILE, \*\*arrays\)"),
        (b"GGUF\x03\0\0\0", "a GGUF file of llama.cpp; name the checkpoint that it was made from"),
        (b"tjgg\x03\0\0\0", "a GGML file of llama.cpp"),
        (b"\x1c\0\0\0TFL3\x14\0", "a TensorFlow Lite model"),
        (b"\x18\0\0\0PTMF\x14\0", "a model of PyTorch Mobile"),
        (b"\x18\0\0\0ET12\x14\0", "an ExecuTorch program"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x9c\x01", "an ONNX model; where it was made"),
        (b"\x81\xa6params\x82\xa5Dense", "a MessagePack file, as Flax writes; where it was made"),
        (b"\xde\x00\x20\xa6params", "a MessagePack file, as Flax writes"),
        (array(), "one array of NumPy, which has no name; write arrays by their names"),
        (
            scripted(),
            r"a TorchScript archive; save its weights alone: torch\.save\(torch\.jit\.load\(FILE\)\.state_dict\(\), NEW\)",
        ),
        (coarse(), "a .coarse file, not a checkpoint; decompress it first"),
        (b'{"error": "Repository not found"}', "no index of shards; .*got the keys error"),
        (b"[1, 2]", "a JSON document"),
    ],
)
def test_first_bytes_tell_what_a_file_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=words) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_distributed_checkpoint_is_named_for_what_it_is(tmp_path: Path) -> None:
    for name in (".metadata", "__0_0.distcp", "__1_0.distcp"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(
        InputError, match=r"a checkpoint of torch\.distributed\.checkpoint, in parts; .*dcp_to_torch_save\(FOLDER, FILE\)"
    ):
        load_checkpoint(tmp_path)
