"""`.safetensors` files, read and written, ties included.

The format can't say that two names share one tensor, so `safetensors.torch.save_model` leaves all but one of the names out and notes
each in the metadata, as {left out: kept}. Both directions here keep that custom.

`safe_open` maps the file: what `get_tensor` gives are views of the mapping, so that loading takes no memory and a byte is read when
it is used.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nncomplexity.bitstream import save_bytes
from nncomplexity.checkpoint.contents import FORMAT, Contents
from nncomplexity.errors import FormatError, InputError
from nncomplexity.weights import skeleton_of

_RESERVED = "__metadata__"
"""The key of a header that is no tensor."""


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is one: the length of its header, of which four bytes are always zero, then an object in JSON."""
    return head[4:9] == b"\0\0\0\0{"


def read_safetensors(file: Path) -> Contents:
    """All tensors of a file. Raises FormatError where it is cut or damaged, and InputError where its name is no Unicode text."""
    try:
        str(file).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{file}: its name is no Unicode text, which safetensors can't open; rename the file") from error
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 -- the file is no mapping
            return Contents(tensors, metadata, ties=metadata)
    except (SafetensorError, OSError) as error:
        what = "a .safetensors file that is cut or damaged; fetch it again"
        raise FormatError(f"{file}: {what} ({str(error).splitlines()[0]})") from error


def save_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a .safetensors file, whole or not at all; each tied tensor once, the other names noted in the metadata.

    Raises InputError where the file can't be written, a tensor has a dtype that the format lacks, or a name that it keeps to itself.
    """
    if _RESERVED in tensors:
        raise InputError(f"{path}: safetensors has no room for a tensor named {_RESERVED!r}; rename it")
    kept: dict[str, Tensor] = {}
    metadata = {FORMAT: "pt"}
    for spec in skeleton_of(tensors).tensors:
        # A tensor named like the entry of the metadata that names the format is kept, since it can't be noted there as tied.
        first, *others = sorted(spec.names, key=lambda name: (name != FORMAT, name))
        # The format refuses tensors that share storage, as two slices of one tensor do.
        kept[first] = tensors[first].detach().cpu().contiguous().clone()
        metadata |= dict.fromkeys(others, first)
    try:
        content = safetensors.torch.save(kept, metadata)
    except (KeyError, ValueError, SafetensorError) as error:
        raise InputError(f"{path}: safetensors has no form for these tensors ({error}); convert them first") from error
    save_bytes(path, content)
