"""Reading and writing `.safetensors` files, with ties.

The format has no ties. So `safetensors.torch.save_model` writes a tied tensor under one of its names, and adds {other name: this name} to the
metadata for each other name. Reading and writing here follow this convention.
"""

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from nncomplexity.checkpoint.contents import FORMAT, Contents
from nncomplexity.checkpoint.stepkeys import AMONG_WEIGHTS, number_in
from nncomplexity.errors import FormatError, InputError
from nncomplexity.file import save_bytes
from nncomplexity.network import skeleton_of
from nncomplexity.words import listed

_RESERVED = "__metadata__"
"""The key in a header that is not the name of a tensor."""


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins like a .safetensors file: with the header's length, of which four bytes are always zero, and a JSON object."""
    return head[4:9] == b"\0\0\0\0{"


def read_safetensors(file: Path, content: bytes) -> Contents:
    """All tensors of a file with these bytes, in the order of their names.

    Raises:
        FormatError: the file is cut or damaged.
        InputError: a tensor has a dtype with which PyTorch can't compute.
    """
    try:
        tensors = safetensors.torch.load(content)
        metadata = _metadata(content)
    except KeyError as error:  # the safetensors library doesn't know this dtype
        kind = str(error.args[0])
        names = [name for name, about in _header(content).items() if name != _RESERVED and about.get("dtype") == kind]
        raise InputError(
            f"{file}: expected tensors of dtypes that can be read, got {kind} in {listed(names)}; convert them first"
        ) from error
    except (SafetensorError, ValueError) as error:
        what = "a .safetensors file that is cut or damaged; fetch it again"
        raise FormatError(f"{file}: {what} ({str(error).splitlines()[0]})") from error
    numbers = {name: value for name in AMONG_WEIGHTS & tensors.keys() if (value := _whole_number(tensors[name])) is not None}
    numbers |= {name: value for name, text in metadata.items() if (value := number_in(text)) is not None}
    return Contents({name: tensors[name] for name in sorted(tensors)}, metadata, ties=metadata, counters=numbers)


def _metadata(content: bytes) -> dict[str, str]:
    """The metadata in a header that was checked before."""
    return dict(_header(content).get(_RESERVED) or {})


def _header(content: bytes) -> dict[str, dict[str, Any]]:
    (length,) = struct.unpack_from("<Q", content)
    header: dict[str, dict[str, Any]] = json.loads(content[8 : 8 + length])
    return header


def _whole_number(tensor: Tensor) -> int | float | None:
    # A floating-point tensor with the name of a count, such as `step`, may be a weight.
    return None if tensor.dtype.is_floating_point else number_in(tensor)


def save_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a .safetensors file, completely or not at all. A tied tensor is written once, with its other names in the metadata.

    Raises:
        InputError: the file can't be written, or a tensor has a dtype that the format does not have or a name that it reserves.
    """
    if _RESERVED in tensors:
        raise InputError(f"{path}: safetensors has no room for a tensor named {_RESERVED!r}; rename it")
    kept: dict[str, Tensor] = {}
    metadata = {FORMAT: "pt"}
    for spec in skeleton_of(tensors).tensors:
        # A tensor with the name `FORMAT` is always written: the metadata entry of this name is the format, so it can't be a tie.
        first, *others = sorted(spec.names, key=lambda name: (name != FORMAT, name))
        # The format refuses tensors that share storage, as two slices of one tensor do.
        kept[first] = tensors[first].detach().cpu().contiguous().clone()
        metadata |= dict.fromkeys(others, first)
    try:
        content = safetensors.torch.save(kept, metadata)
    except (KeyError, ValueError, SafetensorError) as error:
        raise InputError(f"{path}: safetensors can't store these tensors ({error}); convert them first") from error
    save_bytes(path, content)
