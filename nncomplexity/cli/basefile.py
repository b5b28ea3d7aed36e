"""Loads the base that a command line names: a checkpoint to which other weights are relative."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nncomplexity
from nncomplexity.cli.outputs import check_writable
from nncomplexity.errors import InputError
from nncomplexity.words import printable

if TYPE_CHECKING:
    from nncomplexity.file import CoarseFile
    from nncomplexity.network import Base


@dataclass(frozen=True)
class BaseFile:
    """The path of a checkpoint, as the user typed it, and the place of the state dict in it."""

    path: str
    key: str | None
    option: str
    """The option that names the base, for messages."""

    def load(self, names: Iterable[str], outputs: Sequence[str | None] = ()) -> Base:
        """The base for tensors with these names. Guesses are reported on standard error.

        If the base has none of the names, the prefix of a wrapper is removed from its names.

        Raises:
            InputError: the base can't be read, or one of the outputs would overwrite it.
        """
        checkpoint = nncomplexity.checkpoint.load_checkpoint(self.path, self.key)
        check_writable(outputs, inputs=[str(file) for file in checkpoint.files])
        # A base may lack some tensors, such as a new head. If several prefixes fit, none is certain, and the names are not changed.
        found = nncomplexity.network.namings(checkpoint.tensors, [(name,) for name in names], whole=False)
        naming = found[0] if len(found) == 1 else nncomplexity.network.unchanged(checkpoint.tensors)
        # The checkpoint's notes advise --key, but the key of a base has an option of its own.
        notes = [note.replace("--key", f"{self.option}-key") for note in checkpoint.notes]
        notes += [note] if (note := naming.note("the network's")) else []
        for note in notes:
            print(printable(f"nncomplexity: {self.path}: {note}"), file=sys.stderr)
        return nncomplexity.network.base_of(naming.of(checkpoint.tensors), self.option, self.path)


def base_file(path: str | None, key: str | None, option: str) -> BaseFile | None:
    """The base that the options `option` and `option`-key name. Raises InputError for a key without a base."""
    if path is None and key is not None:
        raise InputError(f"{option}-key: it needs {option} CHECKPOINT, because it names the state dict in that file; add it")
    return None if path is None else BaseFile(path, key, option)


def read_on(file: str, base: BaseFile | None, *, limit: int | None, outputs: Sequence[str | None] = ()) -> CoarseFile:
    """The `.coarse` file with that name, with its base. Raises InputError if the base is missing or is another one."""
    coarse = nncomplexity.file.read_file(file, limit=nncomplexity.file.DEFAULT_LIMIT if limit is None else limit)
    names = [name for spec in coarse.skeleton.tensors for name in spec.names]
    given = base.load(names, outputs) if base else None
    try:
        return coarse.on(given)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
