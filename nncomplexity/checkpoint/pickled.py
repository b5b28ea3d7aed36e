"""Files of `torch.save` (.pt, .pth, .bin, .ckpt), read without running code from them.

`torch.load(weights_only=True)` builds tensors and plain containers and refuses every other type; the types in `beside`, of what training
loops keep with the weights, it builds as plain values or empty objects. Files of the zip format, the one since PyTorch 1.6, are mapped:
a tensor's bytes are read from disk when they are used, and pages never used cost no memory. A file of the older format, or one whose
entries are compressed, has to be read whole.
"""

import os
import re
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from nncomplexity.checkpoint.beside import stand_ins
from nncomplexity.checkpoint.contents import Contents
from nncomplexity.checkpoint.selection import select, tensors_of
from nncomplexity.errors import FormatError, InputError
from nncomplexity.listing import listed
from nncomplexity.weights import skeleton_of

ZIP = b"PK\x03\x04"
PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

_REMEDY = "where it was made, save the weights alone: torch.save(model.state_dict(), FILE)"
_DAMAGED = "a pickled checkpoint that is cut or damaged; fetch it again"


def read_pickled(file: Path, head: bytes, key: str | None) -> Contents:
    """The state dict in a file of torch.save, names of one storage tied; the file's plain values at the top are its metadata.

    Args:
        file: what to read.
        head: its first bytes.
        key: where the state dict is; see `select`.

    Raises FormatError where the file is damaged or none of torch.save's; InputError where it holds other types than tensors, plain
    containers and those in `beside`, or no one state dict.
    """
    content = _unpickled(file, mapped=head.startswith(ZIP) and _can_be_mapped(file))
    chosen = select(content, key, str(file))
    tensors, left_out = tensors_of(chosen.state)
    tied = skeleton_of(tensors).expand(tensors)
    plain = {name: str(value) for name, value in content.items() if isinstance(name, str) and isinstance(value, (str, int, float))}
    notes = []
    if chosen.guessed:
        others = f", not the one under {listed(chosen.others)}" if chosen.others else ""
        notes.append(f"took the state dict under {chosen.key!r}{others}; --key names another")
    if left_out:
        notes.append(f"left out what is no tensor: {listed(left_out)}")
    return Contents({name: tied[name] for name in tensors}, plain, key=chosen.key, notes=tuple(notes))


def _unpickled(file: Path, *, mapped: bool) -> Any:
    try:
        with warnings.catch_warnings(), file.open("rb") as opened, stand_ins():
            warnings.simplefilter("ignore")  # on pickle protocols; what can't be read is an error below
            source = os.fspath(file) if mapped else opened
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except UnpicklingError as error:
        # PyTorch advises to load such a file with weights_only=False, which runs whatever is in it; that advice stops here.
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            message = (
                f"{file}: it holds more than tensors, an object of type {refused[1]}, which is not loaded since that can run code"
            )
            raise InputError(f"{message}; {_REMEDY}") from None
        raise FormatError(f"{file}: {_not_ours(error)}") from None
    except OSError:
        raise
    except Exception as error:  # the unpickler meets damage with whatever exception the next byte leads to
        raise FormatError(f"{file}: {_not_ours(error)}") from error


def _can_be_mapped(file: Path) -> bool:
    """Whether the entries of a zip file stand in it as they are; raises FormatError where they are not those of torch.save.

    A file that bears the name of a .safetensors file can't, since torch.load takes such a path for one.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise FormatError(f"{file}: {_DAMAGED} ({error})") from error
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise FormatError(
            f"{file}: a TorchScript archive; save its weights alone: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        )
    if "data.pkl" not in names:
        raise FormatError(f"{file}: a zip archive that torch.save did not write; {_REMEDY}")
    return file.suffix != ".safetensors" and all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)


def _not_ours(error: Exception) -> str:
    if "magic number" in str(error) or "Unsupported operand" in str(error):
        return f"a pickle that torch.save did not write, or a damaged one; {_REMEDY}"
    detail = next(iter(str(error).splitlines()), type(error).__name__)
    return _DAMAGED if isinstance(error, UnpicklingError) else f"{_DAMAGED} ({detail[:120]})"
