"""Reads one file of tensors in any format. The format is recognised by the first bytes, not by the name."""

from pathlib import Path

from nncomplexity.checkpoint.archive import check_unpacked
from nncomplexity.checkpoint.arrays import is_arrays, read_archive, read_arrays
from nncomplexity.checkpoint.contents import Contents
from nncomplexity.checkpoint.kinds import EXPECTED, what_it_is
from nncomplexity.checkpoint.legacy import is_legacy
from nncomplexity.checkpoint.pickled import PICKLE, ZIP, read_pickled
from nncomplexity.checkpoint.safetensors import is_safetensors, read_safetensors
from nncomplexity.errors import FormatError, InputError

_HEAD = 64


def head_of(file: Path) -> bytes:
    """The first bytes of a file. Raises InputError if it can't be read, or is not a regular file."""
    try:
        if file.exists() and not file.is_file():  # opening a pipe would wait for a writer
            raise InputError(f"{file}: it is not a regular file; name {EXPECTED}")
        with file.open("rb") as opened:
            return opened.read(_HEAD)
    except OSError as error:
        raise InputError(f"{file}: cannot read it ({error.strerror}); name {EXPECTED}") from error


def read_single(file: Path, content: bytes, key: str | None = None) -> Contents:
    """The tensors of one file.

    Args:
        file: the file's name, for messages.
        content: the file's bytes.
        key: the path of the state dict in a pickled file; None chooses it by a rule (`select`).

    Raises:
        InputError: there is nothing at `key`.
        FormatError: the file has another format, is cut or damaged, or unpacks to far more than its length.
    """
    contents = _contents(file, content, key)
    check_unpacked(file, contents.tensors.values(), len(content))
    return contents


def _contents(file: Path, content: bytes, key: str | None) -> Contents:
    if is_safetensors(content):
        contents = read_safetensors(file, content)
    # Before pickles, because an .npz file and a file of torch.save are both zip archives.
    elif content.startswith(ZIP) and is_arrays(content):
        contents = read_archive(file, content)
    elif content.startswith((ZIP, *PICKLE)):
        read = read_pickled if content.startswith(ZIP) or is_legacy(content) else read_arrays
        try:
            return read(file, content, key)
        except RecursionError as error:
            raise FormatError(f"{file}: its dictionaries are nested too deeply to be a checkpoint's; fetch it again") from error
    else:
        raise FormatError(f"{file}: {what_it_is(content)}")
    if key is not None:
        kind = "a .safetensors" if is_safetensors(content) else "an .npz"
        raise InputError(
            f"key: expected none, because {file} is {kind} file, in which nothing is nested, got {key!r}; leave it out"
        )
    return contents
