"""Says what a file is if it is not a checkpoint, by its first bytes, and what to do about it."""

import re
from collections.abc import Collection
from pathlib import PurePath

from nncomplexity.file import MAGIC
from nncomplexity.words import listed, printable

EXPECTED = "a .safetensors file, one of torch.save (.pt, .pth, .bin, .ckpt), an index of shards, an .npz file or a model folder"

_ARRAYS = "where it was made, write its weights as arrays, numpy.savez(FILE, **arrays), and name that file"
_UNPACK = "unpack it, and name the checkpoint that is in it"
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (MAGIC, "a .coarse file, not a checkpoint; decompress it first"),
    (b"version https://git-lfs", "a pointer of Git LFS instead of the file; fetch the file with git lfs pull"),
    (b"/annex/objects/", "a pointer of git-annex instead of the file; fetch the file with git annex get"),
    (b"PK\x05\x06", f"an empty zip archive; name {EXPECTED}"),
    (b"\x1f\x8b", f"a gzip archive; {_UNPACK}"),
    (b"BZh", f"a bzip2 archive; {_UNPACK}"),
    (b"\xfd7zXZ\0", f"an xz archive; {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"a zstandard archive; {_UNPACK}"),
    (b"\x04\x22\x4d\x18", f"an LZ4 archive; {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {_UNPACK}"),
    (b"Rar!\x1a\x07", f"a RAR archive; {_UNPACK}"),
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file, as Keras writes; {_ARRAYS}"),
    (b"\x93NUMPY", "one array of NumPy, which has no name; write arrays by their names, numpy.savez(FILE, **arrays)"),
    (b"GGUF", "a GGUF file of llama.cpp; name the checkpoint that it was made from"),
    *((magic, "a GGML file of llama.cpp; name the checkpoint that it was made from") for magic in (b"lmgg", b"tjgg", b"fmgg")),
)
# Flatbuffers have their mark after four bytes.
_AT_FOUR = {
    b"TFL3": f"a TensorFlow Lite model; {_ARRAYS}",
    b"PTMF": "a model of PyTorch Mobile; name the checkpoint that it was made from",
    b"ET12": "an ExecuTorch program; name the checkpoint that it was made from",
}
_ONNX = re.compile(rb"\x08[\x01-\x20](\x12[\x01-\x7f][ -~]|:)")
"""The first fields of a ModelProto, as exporters write them: the version of the format, then the producer's name or the graph."""
_MESSAGE_PACK = re.compile(rb"([\x81-\x8f]|\xde..|\xdf....)([\xa1-\xbf]|\xd9.)[ -~]", re.DOTALL)
"""A map of MessagePack whose first key is a text."""
_TITLE = re.compile(r"<title[^>]*>\s*(.{1,200}?)\s*</title>", re.IGNORECASE | re.DOTALL)
_TAR, _HEAD, _LONGEST_LINK, _SHOWN = 257, 4096, 1024, 60
"""Where a tar archive has its mark, the number of bytes that are examined, the length in bytes of the longest file that may be a link, and the
characters of a text that a message shows."""


def what_it_is(content: bytes) -> str:
    """What a file with these bytes is, and what to do, as the end of a sentence. For an unknown file, it says what was expected.

    >>> print(what_it_is(b"<!DOCTYPE html><title>Sign in</title>"))
    an HTML page, 'Sign in', which a server sent instead of the file; fetch the file itself, after logging in if that is needed
    >>> print(what_it_is(b"../../blobs/3ab45f99"))
    a symbolic link stored as text, to '../../blobs/3ab45f99', as in zip downloads; name the file that it leads to, or fetch it
    """
    head = content[:_HEAD]
    if not head:
        return "an empty file; wait until it is written, or fetch it again"
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if kind := _AT_FOUR.get(head[4:8], ""):
        return kind
    if head[_TAR:].startswith(b"ustar"):
        return f"a tar archive; {_UNPACK}"
    if not head.strip(b"\0"):
        return "a file that begins with zeros, like one whose download or copy has not ended; fetch it again"
    if _ONNX.match(head):
        return f"an ONNX model; {_ARRAYS}"
    if _MESSAGE_PACK.match(head):
        return f"a MessagePack file, as Flax writes; {_ARRAYS}"
    return _text(content) or f"no checkpoint; name {EXPECTED}"


def what_archive_it_is(names: Collection[str]) -> str:
    """`what_it_is` for a zip archive with these names that is not a checkpoint.

    >>> print(what_archive_it_is(["model.pt", "readme.md"]))
    a zip archive that torch.save did not write, of model.pt, readme.md; unpack it, and name the checkpoint that is in it
    """
    last = {PurePath(name).name for name in names}
    if "constants.pkl" in last:
        return "a TorchScript archive; save its weights alone: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
    if "archive_format" in last or "serialized_exported_program.json" in last:
        return "a program of torch.export; save its weights alone: torch.save(torch.export.load(FILE).state_dict, NEW)"
    if "model.weights.h5" in last:
        return f"a Keras model; {_ARRAYS}"
    if "[Content_Types].xml" in last:
        return f"an office document; name {EXPECTED}"
    return f"a zip archive that torch.save did not write, of {listed(sorted(names))}; {_UNPACK}"


def _text(content: bytes) -> str | None:
    """What a text file is; None for other files."""
    try:
        # The end of the head may cut a character, which must not count as an error.
        text = content[:_HEAD].decode("utf-8-sig", errors="strict" if len(content) <= _HEAD else "ignore").strip()
    except UnicodeDecodeError:
        return None
    if not text or not all(one.isprintable() or one.isspace() for one in text):
        return None
    lower = text[:20].lower()
    if lower.startswith(("<!doctype html", "<html", "<head", "<body", "<script")):
        title = _TITLE.search(text)
        named = f", {' '.join(title[1].split())!r}," if title else ","
        return f"an HTML page{named} which a server sent instead of the file; fetch the file itself, after logging in if that is needed"
    if lower.startswith(("<?xml", "<error")):
        return "an XML document, which a storage service sent instead of the file; fetch the file itself"
    if lower.startswith(("{", "[")):
        return f"a JSON document; name {EXPECTED}"
    if len(content) <= _LONGEST_LINK and _is_link(text):
        return f"a symbolic link stored as text, to {text!r}, as in zip downloads; name the file that it leads to, or fetch it"
    shown = printable(" ".join(text.split()))
    return f"no checkpoint, but a text, {shown[:_SHOWN] + '…' * (len(shown) > _SHOWN)!r}; name {EXPECTED}"


def _is_link(text: str) -> bool:
    """Whether a text is the path of a file and nothing else."""
    path = PurePath(text)
    return not re.search(r"\s|://", text) and ("/" in text or path.suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt"))
