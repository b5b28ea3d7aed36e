"""One file of tensors of whichever format: told by its first bytes, not by its name."""

import hashlib
from pathlib import Path

from nncomplexity.bitstream import MAGIC
from nncomplexity.checkpoint.contents import Contents
from nncomplexity.checkpoint.pickled import PICKLE, ZIP, read_pickled
from nncomplexity.checkpoint.safetensors import is_safetensors, read_safetensors
from nncomplexity.errors import FormatError, InputError

_HEAD = 64
_LFS_POINTER = b"version https://git-lfs"
_EXPECTED = "a .safetensors file, one of torch.save (.pt, .pth, .bin, .ckpt), an index of shards or a model folder"


def head_of(file: Path) -> bytes:
    """The first bytes of a file. Raises InputError where it can't be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(_HEAD)
    except OSError as error:
        raise InputError(f"{file}: cannot read it ({error.strerror}); name {_EXPECTED}") from error


def read_single(file: Path, key: str | None = None) -> tuple[Contents, str]:
    """The tensors of one file, and the SHA-256 of its bytes in hexadecimal.

    Args:
        file: what to read.
        key: where in a pickled file the state dict is; None guesses.

    Raises InputError where the file can't be read or `key` leads nowhere, FormatError where it is of another kind, cut or damaged.
    """
    head = head_of(file)
    try:
        if is_safetensors(head):
            contents = read_safetensors(file)
        elif head.startswith((ZIP, *PICKLE)):
            return read_pickled(file, head, key), _digest(file)
        else:
            raise FormatError(f"{file}: {_what_it_is(head)}")
        digest = _digest(file)
    except OSError as error:
        raise InputError(f"{file}: cannot read it ({error.strerror or error}); name {_EXPECTED}") from error
    if key is not None:
        raise InputError(
            f"key: expected none, since {file} is a .safetensors file, in which nothing is nested, got {key!r}; leave it out"
        )
    return contents, digest


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _what_it_is(head: bytes) -> str:
    if head.startswith(MAGIC):
        return "a .coarse file, not a checkpoint; decompress it first"
    if head.startswith(_LFS_POINTER):
        return "a pointer of Git LFS in place of the file; fetch the file with git lfs pull"
    return f"no checkpoint; name {_EXPECTED}"
