"""Which checkpoints patterns mean, and which run each belongs to."""

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from nncomplexity.checkpoint.folder import NO_NETWORK, STANDARD, SUFFIXES
from nncomplexity.checkpoint.pickled import PICKLE, ZIP
from nncomplexity.checkpoint.safetensors import is_safetensors
from nncomplexity.checkpoint.single import head_of
from nncomplexity.errors import InputError
from nncomplexity.listing import listed
from nncomplexity.paths import path_of
from nncomplexity.steps import natural_key, step_of

_SHARD = re.compile(r"(.+)-[0-9]+-of-[0-9]+(\.\w+)")


@dataclass(frozen=True)
class Source:
    """A checkpoint as typed: a file, an index of shards, or a model's folder."""

    path: str
    run: str
    """The folder that holds it, as typed; the next one up where the folder's name is all that tells the step."""

    @property
    def identity(self) -> str:
        """One for all ways to type the path."""
        return os.path.realpath(self.path)


def find_sources(patterns: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, least: int = 1) -> list[Source]:
    """The checkpoints that the patterns match, in the order in which people number them, each once.

    A pattern may hold `*`, `?`, `[…]`, and `**` for any number of folders. Of a folder that matches, a checkpoint of a standard name is
    taken; a folder that is typed out and has none stands for all that is in it. Shards stand for their index. What trainers write
    beside a network, such as the state of an optimizer, is left out.

    Args:
        patterns: one or several, as typed.
        least: 0 allows patterns that match nothing yet.

    Raises InputError where a pattern matches nothing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for file in ("step_9.pt", "step_10.pt", "optimizer.pt"):
    ...         _ = Path(name, file).write_bytes(b"")
    ...     [PurePath(source.path).name for source in find_sources(f"{name}/*")]
    ['step_9.pt', 'step_10.pt']
    """
    typed = patterns_of(patterns)
    found: dict[str, Source] = {}
    for pattern in typed:
        here = _matches(pattern)
        if len(here) < least:
            raise InputError(f"checkpoints: {_nothing(pattern)}")
        for path in here:
            network = _network_of(path)
            if network not in found or (Path(found[network].path).is_symlink() and not Path(path).is_symlink()):
                found[network] = Source(path, _run(path))  # a link such as `latest` doesn't tell the step
    return sorted(found.values(), key=lambda source: natural_key(PurePath(source.path)))


def patterns_of(given: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """One pattern or several, as typed. Raises InputError where there is none, or one that is no text."""
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, str | os.PathLike) else [given]
    if not several:
        raise InputError("checkpoints: expected files, folders or patterns such as 'run/*.safetensors', got none")
    for one in several:
        path_of(one, "checkpoints")
    return [os.fspath(one) for one in several]


def _matches(pattern: str) -> list[str]:
    """Paths of checkpoints, without shards, as typed."""
    if Path(pattern).is_dir() and not _is_model(pattern):
        pattern = os.path.join(glob.escape(pattern), "*")  # noqa: PTH118 -- keeps what was typed, './' included
    if os.path.lexists(pattern):
        return _without_shards([pattern])
    if not glob.has_magic(pattern):
        return []
    paths = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 -- keeps what was typed, './' included
    return _without_shards(path for path in paths if (_is_model(path) if Path(path).is_dir() else _is_checkpoint(path, pattern)))


def _without_shards(paths: Iterable[str]) -> list[str]:
    """An index in the place of its shards; shards without one are left out."""
    kept: dict[str, None] = {}
    for path in paths:
        shard = _SHARD.fullmatch(path)
        index = f"{shard[1]}{shard[2]}.index.json" if shard else path
        if not shard or Path(index).exists():
            kept[index] = None
    return list(kept)


def _is_model(path: str) -> bool:
    return any(Path(path, name).is_file() for name in STANDARD)


def _is_checkpoint(path: str, pattern: str) -> bool:
    """Whether a file that a pattern matches is meant: by its ending, or by its beginning where the pattern leaves the ending open."""
    name, ending = PurePath(path).name, PurePath(pattern).suffix
    if NO_NETWORK.fullmatch(name):
        return bool(_SHARD.fullmatch(name))
    if name.endswith(SUFFIXES) or (ending and not glob.has_magic(ending)):
        return True
    try:
        head = head_of(Path(path))
    except InputError:
        return False
    return is_safetensors(head) or head.startswith((ZIP, *PICKLE))


def _network_of(path: str) -> str:
    """The file that would be read, whatever it is called."""
    file = next((Path(path, name) for name in STANDARD if Path(path, name).is_file()), Path(path))
    return os.path.realpath(file)


def _run(path: str) -> str:
    file = PurePath(path)
    by_folder = not Path(path).is_dir() and step_of({}, PurePath(file.name)) is None and step_of({}, file) is not None
    return str(file.parent.parent if by_folder else file.parent)


def _nothing(pattern: str) -> str:
    if not glob.has_magic(pattern):
        if _SHARD.fullmatch(PurePath(pattern).name) and Path(pattern).exists():
            return f"{pattern!r} is a shard without its index; name the index, or the folder with both"
        if not Path(pattern).exists():
            return f"there is no {pattern!r}; name a checkpoint, a folder, or a pattern such as 'run/*.safetensors'"
        return f"the folder {pattern!r} holds no checkpoint; name a checkpoint, a folder, or a pattern such as 'run/*.safetensors'"
    folder = pattern
    while glob.has_magic(folder):
        folder = str(PurePath(folder).parent)
    if not Path(folder).is_dir():
        return f"{pattern!r} matches nothing, since there is no folder {folder!r}; name another"
    names = sorted(entry.name for entry in Path(folder).iterdir() if not entry.name.startswith("."))
    return f"{pattern!r} matches no checkpoint; {folder!r} holds {listed(names) or 'nothing'}; change the pattern"
