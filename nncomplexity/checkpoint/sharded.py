"""Reads checkpoints in several files. An index in JSON says for each name which shard has it.

The index is the file that Hugging Face's libraries write as `model.safetensors.index.json` or `pytorch_model.bin.index.json`:
`{"metadata": {...}, "weight_map": {name: file}}`. Shards must be in the folder of the index.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from torch import Tensor

from nncomplexity.checkpoint.contents import Contents
from nncomplexity.checkpoint.kinds import what_it_is
from nncomplexity.checkpoint.safetensors import is_safetensors
from nncomplexity.checkpoint.single import read_single
from nncomplexity.checkpoint.stepkeys import number_in
from nncomplexity.errors import FormatError, InputError
from nncomplexity.file import Reading
from nncomplexity.words import is_file, listed

_SHOWN = 100
"""The largest number of characters of a name in a message."""


@dataclass(frozen=True)
class Index:
    """The content of the index at `path`: the shard of each name."""

    path: Path
    weight_map: Mapping[str, str]
    metadata: Mapping[str, str]

    @property
    def shards(self) -> tuple[str, ...]:
        """The names of the shards, sorted."""
        return tuple(sorted(set(self.weight_map.values())))

    @property
    def files(self) -> tuple[Path, ...]:
        """The shards, in the order of their names."""
        return tuple(self.path.parent / shard for shard in self.shards)


def is_index(file: Path, content: bytes) -> bool:
    """Whether to read a file as an index: it is a JSON object, or it has the name of an index."""
    return not is_safetensors(content) and (content[:64].lstrip().startswith(b"{") or file.name.endswith(".index.json"))


def read_index(path: Path, content: bytes) -> Index:
    """The index of shards with these bytes, which are from the file `path`.

    Raises:
        FormatError: it is not an index, or it names a shard outside its folder.
    """
    try:
        document: Any = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        what = what_it_is(content)
        detail = f"{error}); fetch it again" if "JSON" in what else f"it is {what})"
        raise FormatError(f"{path}: no index of shards, because it is no JSON ({detail}") from error
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(shard, str) for shard in weight_map.values()):
        came = f"the keys {listed(map(str, document)) or 'of an empty object'}" if isinstance(document, dict) else "no object"
        raise FormatError(
            f'{path}: no index of shards; expected {{"weight_map": {{name: file}}}} in it, or name the checkpoint itself; got {came}'
        )
    for shard in weight_map.values():
        if not _stays_inside(shard):
            raise FormatError(
                f"{path}: expected shards in the folder of the index, got {shard[:_SHOWN]!r}, which leads out of its folder; fetch it again"
            )
    about = document.get("metadata")
    metadata = (
        {name: str(value) for name, value in about.items() if isinstance(value, (str, int, float))}
        if isinstance(about, dict)
        else {}
    )
    return Index(path, weight_map, metadata)


def read_shards(index: Index, reading: Reading) -> tuple[Contents, str]:
    """The tensors of all shards, and a digest: the SHA-256 of the lines `DIGEST  NAME` of the shards, sorted by name.

    `sha256sum SHARDS | sha256sum` prints the same digest. Tensors that are not in the index are left out, with a note.

    Raises:
        InputError: a shard is missing.
        FormatError: a shard is damaged, or does not have a tensor that the index says it has.
    """
    missing = [file.name[:_SHOWN] for file in index.files if not is_file(file)]
    if missing:
        raise InputError(
            f"{index.path}: {len(missing)} of its {len(index.shards)} shards are missing: {listed(missing)}; fetch them"
        )
    found: dict[str, dict[str, Tensor]] = {}
    metadata = dict(index.metadata)
    ties = dict(index.metadata)
    counters: dict[str, int | float] = {}
    unlisted: list[str] = []
    lines = ""
    for shard, file in zip(index.shards, index.files, strict=True):
        content = reading.content(file)
        contents = read_single(file, content)
        lines += f"{hashlib.sha256(content).hexdigest()}  {shard}\n"
        del content  # frees the memory before the next shard is read
        found[shard] = contents.tensors
        metadata |= contents.metadata
        ties |= contents.ties
        counters |= contents.counters
        unlisted += [name for name in contents.tensors if name not in index.weight_map]
    for name, shard in index.weight_map.items():
        if name not in found[shard]:
            holders = [other for other in index.shards if name in found[other]]
            where = f"but it is in {listed(holders)}" if holders else "but it is in none"
            raise FormatError(f"{index.path}: expected {name!r} in {shard}, {where}; fetch index and shards again")
    for shard, tensors in found.items():
        wrong = next((name for name in tensors if index.weight_map.get(name, shard) != shard), None)
        if wrong is not None:
            raise FormatError(
                f"{index.path}: {wrong!r} is in {index.weight_map[wrong]} and in {shard}; fetch index and shards again"
            )
    tensors = {name: found[shard][name] for name, shard in index.weight_map.items()}
    notes = (f"left out tensors that are in a shard and not in the index: {listed(unlisted)}",) if unlisted else ()
    counters |= {name: value for name, text in index.metadata.items() if (value := number_in(text)) is not None}
    return Contents(tensors, metadata, ties, counters, notes=notes), hashlib.sha256(lines.encode()).hexdigest()


def _stays_inside(shard: str) -> bool:
    """Whether a path stays inside the folder of the index, on any operating system."""
    windows, posix = PureWindowsPath(shard), PurePosixPath(shard)
    anchored = windows.anchor or posix.anchor
    return bool(windows.name) and not anchored and ".." not in windows.parts and shard.isprintable()
