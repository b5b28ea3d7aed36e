"""Checkpoints: the tensors in a safetensors file, ties included.

A safetensors file can't say that two names share one tensor, so `safetensors.torch.save_model` leaves all but one of the names out
and notes each in the metadata, as {left out: kept}. Both directions here keep that custom.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nncomplexity.bitstream import MAGIC, save_bytes
from nncomplexity.errors import FormatError, InputError
from nncomplexity.weights import skeleton_of

_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint's file holds, and which file it is."""

    path: Path
    sha256: str
    """Hexadecimal digest of the file's bytes."""
    tensors: dict[str, Tensor]
    """Tensors by name, on the CPU; tied names have one tensor."""
    metadata: dict[str, str]


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a .safetensors file.

    Raises InputError where there is no such file and FormatError where it is of another kind, cut or damaged.

    >>> import tempfile, torch
    >>> shared = torch.eye(2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_safetensors(Path(folder, "tied.safetensors"), {"embed": shared, "unembed": shared})
    ...     checkpoint = load_checkpoint(Path(folder, "tied.safetensors"))
    >>> checkpoint.tensors["embed"] is checkpoint.tensors["unembed"], checkpoint.metadata["unembed"]
    (True, 'embed')
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise InputError(f"{file}: it is a folder; name a .safetensors file in it")
        with file.open("rb") as opened:
            head = opened.read(9)
            opened.seek(0)
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file}: cannot read it ({error.strerror}); name a .safetensors file") from error
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 -- the file is no mapping
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{file}: {_what_it_is(head)} ({str(error).splitlines()[0]})") from error
    for alias, kept in metadata.items():
        if kept in tensors and alias not in tensors:
            tensors[alias] = tensors[kept]
    return Checkpoint(file, digest, tensors, metadata)


def save_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a .safetensors file, whole or not at all; each tied tensor once, the other names noted in the metadata.

    Raises InputError where the file can't be written, or a tensor has a dtype that the format lacks.
    """
    kept: dict[str, Tensor] = {}
    metadata = {"format": "pt"}
    for spec in skeleton_of(tensors).tensors:
        first, *others = sorted(spec.names)
        # The format refuses tensors that share storage, as two slices of one tensor do.
        kept[first] = tensors[first].detach().cpu().contiguous().clone()
        metadata |= dict.fromkeys(others, first)
    try:
        content = safetensors.torch.save(kept, metadata)
    except (KeyError, ValueError, SafetensorError) as error:
        raise InputError(f"{path}: safetensors has no form for these tensors ({error}); convert them first") from error
    save_bytes(path, content)


def _what_it_is(head: bytes) -> str:
    if head.startswith(MAGIC):
        return "a .coarse file, not a checkpoint; decompress it first"
    if head[8:] == b"{":
        return "a .safetensors file that is cut or damaged; fetch it again"
    if head.startswith(_PICKLES):
        return "a pickled checkpoint; load it with torch and write it with safetensors.torch.save_file"
    return "no .safetensors file, the one format that is read"
