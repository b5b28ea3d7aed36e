"""Checkpoints as people have them: one file, several shards, a model's folder or a training loop's dictionary.

No code of a checkpoint is run to read it, and its bytes are mapped, not copied, wherever the format allows.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from nncomplexity.checkpoint.folder import model_file
from nncomplexity.checkpoint.safetensors import save_safetensors
from nncomplexity.checkpoint.sharded import is_index, read_index, read_shards
from nncomplexity.checkpoint.single import head_of, read_single
from nncomplexity.errors import InputError
from nncomplexity.paths import path_of
from nncomplexity.steps import step_of

__all__ = ["Checkpoint", "load_checkpoint", "save_safetensors"]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, and which file or files it is."""

    path: Path
    """The file that was read: of a folder the one in it, of shards their index."""
    sha256: str
    """Hexadecimal digest of the file's bytes; of shards that of the lines `DIGEST  NAME`, sorted by name."""
    tensors: dict[str, Tensor] = field(repr=False)
    """Tensors by name, on the CPU; tied names have one tensor. Bytes are read from disk when they are used."""
    metadata: dict[str, str] = field(repr=False)
    """Of a .safetensors file its own; of a pickled one the plain values at its top; of shards the index's too."""
    step: int | float | None = None
    """The training step, by metadata or name."""
    key: str | None = None
    """Where in the file the tensors are, a dotted path; None where the file is a state dict."""
    files: tuple[Path, ...] = ()
    """Every file that tensors came from."""
    notes: tuple[str, ...] = ()
    """What was guessed and what was left out, a sentence each."""


def load_checkpoint(path: str | os.PathLike[str], key: str | None = None) -> Checkpoint:
    """Read a checkpoint: a .safetensors file, one of torch.save, an index of shards, or a model's folder.

    A file's format is told by its content. The dictionary of a training loop is searched for the network's state dict.

    Args:
        path: the file or folder.
        key: where the state dict is in a pickled file: `model_state_dict`, or a dotted path such as `agent.policy`; `.` is the file's
            own dictionary. None takes the file's own, or guesses, and says so in `notes`.

    Raises InputError where there is no such file, where it holds other types than tensors and plain containers, or where it isn't
    clear which tensors are meant; FormatError where it is of another kind, cut or damaged.

    >>> import tempfile, torch
    >>> shared = torch.eye(2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_safetensors(Path(folder, "tied.safetensors"), {"embed": shared, "unembed": shared})
    ...     tied = load_checkpoint(Path(folder, "tied.safetensors"))
    ...     torch.save({"epoch": 7, "model": {"embed": shared}}, Path(folder, "last.pt"))
    ...     nested = load_checkpoint(Path(folder, "last.pt"))
    >>> tied.tensors["embed"] is tied.tensors["unembed"], tied.metadata["unembed"]
    (True, 'embed')
    >>> nested.key, nested.step, list(nested.tensors)
    ('model', 7, ['embed'])
    """
    file = path_of(path)
    if key is not None and not isinstance(key, str):
        raise InputError(f"key: expected a dotted path, such as 'model_state_dict', got {key!r}; leave it out to have it guessed")
    found_in_folder: tuple[str, ...] = ()
    try:
        if file.is_dir():
            file = model_file(file)
            found_in_folder = (f"read {file.name} of the folder",)
    except OSError as error:
        raise InputError(f"{file}: cannot read it ({error.strerror}); name a checkpoint") from error
    if is_index(file, head_of(file)):
        index = read_index(file)
        if key is not None:
            raise InputError(
                f"key: expected none, since {file} is an index of shards, in which nothing is nested, got {key!r}; leave it out"
            )
        contents, digest = read_shards(index)
        files = index.files
    else:
        contents, digest = read_single(file, key)
        files = (file,)
    step = step_of(contents.metadata, file.absolute())
    notes = (*found_in_folder, *contents.notes)
    return Checkpoint(file, digest, contents.tied(), contents.metadata, step, contents.key, files, notes)
