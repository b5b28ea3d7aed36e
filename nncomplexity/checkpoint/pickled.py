"""Reads files of `torch.save` (.pt, .pth, .bin, .ckpt) without running code from them.

`torch.load(weights_only=True)` makes tensors and basic containers, and refuses every other type. It gets replacements for the types that
training loops save with the weights (`training_state`), and placeholders for all other types (`placeholders`). Whole modules are read from
the placeholders (`modules`).
"""

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from nncomplexity.checkpoint.archive import check_backed, check_records
from nncomplexity.checkpoint.contents import Contents
from nncomplexity.checkpoint.counters import counters_of
from nncomplexity.checkpoint.kinds import what_archive_it_is
from nncomplexity.checkpoint.legacy import ClassWithSource, is_legacy, legacy_names, without_sources
from nncomplexity.checkpoint.modules import modules_opened
from nncomplexity.checkpoint.placeholders import Inert, InertList, InertMapping, foreign, named, names_in, refused
from nncomplexity.checkpoint.selection import select, tensors_of
from nncomplexity.checkpoint.training_state import stand_ins
from nncomplexity.errors import FormatError, InputError
from nncomplexity.network import skeleton_of
from nncomplexity.words import listed

ZIP = b"PK\x03\x04"
PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

REMEDY = "where it was made, save the weights alone: torch.save(model.state_dict(), FILE)"
_DAMAGED = "a pickled checkpoint that is cut or damaged; fetch it again"
_OBJECT = "data.pkl"


def read_pickled(file: Path, content: bytes, key: str | None) -> Contents:
    """The state dict in a file of torch.save. Tensors with one storage are tied. Numbers and texts at the file's top level are its metadata.

    Args:
        file: the file's name, for messages.
        content: the file's bytes, a zip archive or the older format.
        key: where the state dict is; see `select`.

    Raises:
        FormatError: the file is damaged, or torch.save did not write it.
        InputError: the file names functions that can run code, such as `eval`, or it isn't clear which state dict is meant.
    """
    found, notes = _unpickled(file, content)
    contents = chosen_of(found, key, str(file), notes)
    if not is_legacy(content):
        check_backed(file, contents.tensors.values(), content)
    return contents


def chosen_of(found: object, key: str | None, where: str, notes: list[str]) -> Contents:
    """The network and the other content among the objects of a file. `notes` say how the file was read.

    Raises:
        InputError: it isn't clear which object is the network.
    """
    chosen = select(found, key, where)
    tensors, left_out = tensors_of(chosen.state)
    tied = skeleton_of(tensors).expand(tensors)
    content: Mapping[Any, Any] = found if isinstance(found, Mapping) else {}
    metadata = {
        name: str(value) for name, value in content.items() if isinstance(name, str) and isinstance(value, (str, int, float))
    }
    said = list(notes)
    if chosen.guessed:
        others = f", not the one under {listed(chosen.others)}" if chosen.others else ""
        said.append(f"took the state dict under {chosen.key!r}{others}; --key names another")
    if left_out:
        said.append(f"left out entries that are no tensors: {listed(left_out)}")
    numbers = counters_of(content, chosen.state)
    return Contents({name: tied[name] for name in tensors}, metadata, counters=numbers, key=chosen.key, notes=tuple(said))


def _unpickled(file: Path, content: bytes) -> tuple[object, list[str]]:
    """The objects in a file, and notes on how they were read."""
    legacy = is_legacy(content)
    if not legacy:
        _check_archive(file, content)
    # First without placeholders, because most files need none.
    try:
        return _loaded(content, {}), []
    except UnpicklingError as error:
        message = str(error)
    except Exception as error:  # a damaged pickle can cause any exception
        raise FormatError(f"{file}: {_not_ours(error)}") from error
    # PyTorch has one exception for a refused type and for a damaged file. Only its message distinguishes them.
    if "GLOBAL" not in message and "persistent_load" not in message:
        raise FormatError(f"{file}: {_not_ours(UnpicklingError(message))}")
    return _with_stand_ins(file, content, legacy=legacy)


def _with_stand_ins(file: Path, content: bytes, *, legacy: bool) -> tuple[object, list[str]]:
    try:
        names = legacy_names(content) if legacy else _archive_names(content)
        if acting := refused(names):
            raise InputError(f"{file}: it asks for {listed(acting)}, which is not loaded because that can run code; {REMEDY}")
        kinds: dict[str, type] = dict.fromkeys(names, Inert)
        if legacy:
            content = without_sources(content)
            kinds[f"{ClassWithSource.__module__}.{ClassWithSource.__qualname__}"] = ClassWithSource
        found, classes = modules_opened(_filled(content, kinds), str(file))
    except InputError:
        raise
    except Exception as error:
        if "Tensor subclass" in str(error):
            raise InputError(f"{file}: its tensors are of a special class, {listed(foreign(names))}; {REMEDY}") from error
        raise FormatError(f"{file}: {_not_ours(error)}") from error
    if not classes:
        return found, [f"read objects of other types than tensors as data, without their code: {listed(foreign(names))}"]
    where = [f"{kind} under {path!r}" if path else kind for path, kind in classes.items()]
    return found, [f"read a whole module, {listed(where)}, by the names of its state_dict(), without its code"]


def _filled(content: bytes, kinds: dict[str, type]) -> object:
    """The objects. A class that is a dictionary or a list needs a placeholder that can be filled, and only a failed attempt shows this."""
    while True:
        try:
            return _loaded(content, kinds)
        except UnpicklingError as error:
            wanted = re.search(r"Can only (SETITEMS?|append|extend) .*got <class '([\w.]+)'>", str(error))
            # Each class changes at most once, so the loop ends for any file.
            if not wanted or kinds.get(wanted[2]) is not Inert:
                raise
            kinds[wanted[2]] = InertMapping if wanted[1].startswith("SET") else InertList


def _loaded(content: bytes, kinds: Mapping[str, type]) -> Any:
    classes = [named(name, kind) for name, kind in kinds.items()]
    with warnings.catch_warnings(), stand_ins(classes):
        warnings.simplefilter("ignore")  # about pickle protocols; an unreadable file is an error anyway
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _check_archive(file: Path, content: bytes) -> None:
    """Raises FormatError if a zip file is damaged, or if torch.save did not write it."""
    try:
        names = check_records(content)
    except zipfile.BadZipFile as error:
        raise FormatError(f"{file}: {_DAMAGED} ({error})") from error
    last = {name.rpartition("/")[2] for name in names}
    # A TorchScript archive has a data.pkl too.
    if _OBJECT not in last or "constants.pkl" in last:
        raise FormatError(f"{file}: {what_archive_it_is(names)}")


def _archive_names(content: bytes) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = next(name for name in archive.namelist() if name.rpartition("/")[2] == _OBJECT)
        return names_in(io.BytesIO(archive.read(entry)))


def _not_ours(error: Exception) -> str:
    if "Unsupported operand" in str(error):
        return f"a pickle of a protocol that isn't read, or a damaged one; {REMEDY}"
    detail = next(iter(str(error).splitlines()), type(error).__name__)
    return _DAMAGED if isinstance(error, UnpicklingError) else f"{_DAMAGED} ({detail[:120]})"
