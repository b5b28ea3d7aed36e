"""Finds the checkpoints that match patterns, and the run of each."""

import glob
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from nncomplexity.checkpoint import (
    PICKLE,
    SHARD,
    STANDARD,
    SUFFIXES,
    USUAL,
    ZIP,
    Clear,
    Count,
    PathParts,
    Step,
    StepRule,
    find_step,
    head_of,
    is_of_trainer,
    is_safetensors,
    is_shard,
    is_standard,
    labels,
    natural_key,
    path_parts,
    place_of,
    stem_of,
    varying,
)
from nncomplexity.errors import InputError
from nncomplexity.words import listed, path_of

_DATA = (".npz", ".npy", ".pkl", ".pickle", ".zip")
"""Endings of files that may be checkpoints but usually are other data. Such a file is taken only if the pattern has its ending."""


@dataclass(frozen=True)
class Source:
    """A checkpoint: a file, an index of shards, or a model's folder."""

    path: str
    """The path, as the user typed it."""
    run: str
    """The folder of its run, as the user typed it: the folder above the part of the path with the step. If two networks in a folder have
    the same step, the rest of their names is added."""
    varying: Count | None = None
    """The number in the file's name, if the name has no word for steps and the names of the other files differ only in this number."""

    @property
    def identity(self) -> str:
        """A key that is the same for all ways to type the path."""
        return os.path.realpath(self.path)

    def rule(self, steps: StepRule) -> StepRule:
        """The rule that finds the step of this checkpoint."""
        return steps if self.varying is None else replace(steps, varying=self.varying)


def find_sources(
    patterns: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    least: int = 1,
    steps: StepRule = USUAL,
    on_note: Callable[[str], None] | None = None,
) -> list[Source]:
    """The checkpoints that match the patterns, each once, with numbers in names sorted by value.

    A pattern may have `*`, `?`, `[…]`, and `**` for any number of folders. For a folder that matches, the checkpoint with a
    standard name is used. If the user types a folder without such a checkpoint, all files in it are taken. For shards, the index is used.
    Other files that trainers write, such as the state of an optimizer, are left out.

    Args:
        patterns: one pattern or several, as the user typed them.
        least: the least number of checkpoints for each pattern; 0 allows patterns that match nothing yet.
        steps: the rule for steps, which also separates runs.
        on_note: called with a sentence on the files that were left out.

    Returns:
        The checkpoints, each with its run.

    Raises:
        InputError: a pattern matches nothing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for file in ("step_9.pt", "step_10.pt", "optimizer.pt"):
    ...         _ = Path(name, file).write_bytes(b"")
    ...     [PurePath(source.path).name for source in find_sources(f"{name}/*")]
    ['step_9.pt', 'step_10.pt']
    """
    typed = patterns_of(patterns)
    found: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for pattern in typed:
        here = _matches(pattern, left_out)
        if len(here) < least:
            raise InputError(f"checkpoints: {_nothing(pattern)}")
        for path in here:
            network = _network_of(path)
            if network not in found or (Path(found[network]).is_symlink() and not Path(path).is_symlink()):
                found[network] = path  # not the path of a link: a name such as `latest` has no step
    # A file that one pattern leaves out is taken if another pattern names it.
    for why in dict.fromkeys(left_out.values()):
        names = [PurePath(path).name for path, one in left_out.items() if one == why and os.path.realpath(path) not in found]
        if names and on_note:
            on_note(f"left out {why}: {listed(names)}")
    return _with_runs(sorted(found.values(), key=lambda path: natural_key(PurePath(path))), steps)


def named_step(path: str, rule: StepRule) -> Step | None:
    """The step in a checkpoint's path. The content of the file is not read."""
    return find_step(_file(path) if rule.pattern else Path(_file(path)).absolute(), {}, rule)


def patterns_of(given: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """The patterns as a list. Raises InputError if there is none, or if one is no text."""
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, str | os.PathLike) else [given]
    if not several:
        raise InputError("checkpoints: expected files, folders or patterns such as 'run/*.safetensors', got none")
    for one in several:
        path_of(one, "checkpoints")
    return [os.fspath(one) for one in several]


def _with_runs(paths: Sequence[str], steps: StepRule) -> list[Source]:
    """The checkpoints at these paths, each with its run."""
    sources = {path: Source(path, "") for path in paths}
    if steps.pattern is None:
        for path, count in _varying(paths).items():
            sources[path] = replace(sources[path], varying=count)
    places = {path: place_of(_file(path), source.rule(steps)) for path, source in sources.items()}
    parts = {path: path_parts(_file(path), places[path]) for path in sources}
    folders: dict[str, dict[str, PathParts]] = {}
    for path, one in parts.items():
        whole = places[path] is None and Path(path).is_dir()  # model folders belong together, whatever their names are
        folders.setdefault(str(PurePath(path).parent) if whole else one.folder, {})[path] = one
    for folder, inside in folders.items():
        steps_found = [(path, place.count.value) for path in inside if (place := places[path]) is not None]
        for path, label in labels(inside, steps_found).items():
            sources[path] = replace(sources[path], run=str(PurePath(folder, label)))
    return list(sources.values())


def _file(path: str) -> PurePath:
    """The path itself, or for a folder the path of a file with a standard name in it."""
    return PurePath(path, STANDARD[0]) if Path(path).is_dir() else PurePath(path)


def _varying(paths: Iterable[str]) -> dict[str, Count]:
    """The numbers in which the names of files differ, for files without a word for steps in their names."""
    names: dict[PurePath, dict[str, str]] = {}
    for path in paths:
        file, place = PurePath(path), place_of(PurePath(path))
        if _file(path) == file and not is_standard(file) and (place is None or place.count.clear == Clear.BARE):
            names.setdefault(file.parent, {})[path] = stem_of(file.name)
    found: dict[str, Count] = {}
    for inside in names.values():
        counts = varying(inside.values())
        found |= {path: counts[stem] for path, stem in inside.items() if stem in counts}
    return found


def _matches(pattern: str, left_out: dict[str, str]) -> list[str]:
    """The paths of checkpoints that match a pattern, without shards. Other matches are added to `left_out`, with the reason."""
    if Path(pattern).is_dir() and not _is_model(pattern):
        pattern = os.path.join(glob.escape(pattern), "*")  # noqa: PTH118 -- keeps what was typed, './' included
    # A name that exists is not a pattern, even if it has a bracket or a star.
    if os.path.lexists(pattern):
        return _without_shards([pattern], {})
    if not glob.has_magic(pattern):
        return []
    found = []
    for path in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 -- keeps what was typed, './' included
        if Path(path).is_dir():
            found += [path] if _is_model(path) else []
        elif is_of_trainer(PurePath(path).name) and path.endswith((*SUFFIXES, *_DATA)):
            left_out[path] = "files that trainers write with a network"
        elif _is_checkpoint(path, pattern):
            found.append(path)
    return _without_shards(found, left_out)


def _without_shards(paths: Iterable[str], left_out: dict[str, str]) -> list[str]:
    """The paths, with the index instead of its shards. Shards without an index are left out."""
    kept: dict[str, None] = {}
    for path in paths:
        shard = SHARD.fullmatch(path)
        index = f"{shard[1]}{shard[2]}.index.json" if shard else path
        if shard and Path(index).exists():
            kept[index] = None
        elif is_shard(PurePath(path).name):
            left_out[path] = "shards without their index"
        else:
            kept[path] = None
    return list(kept)


def _is_model(path: str) -> bool:
    return any(Path(path, name).is_file() for name in STANDARD)


def _is_checkpoint(path: str, pattern: str) -> bool:
    """Whether a matching file is a checkpoint: by its ending, or by its first bytes if the pattern has no ending."""
    ending = PurePath(pattern).suffix
    if path.endswith(SUFFIXES) or (ending and not glob.has_magic(ending)):
        return True
    if path.endswith(_DATA):
        return False
    try:
        head = head_of(Path(path))
    except InputError:
        return False
    return is_safetensors(head) or head.startswith((ZIP, *PICKLE))


def _network_of(path: str) -> str:
    """The file that would be read, with links resolved."""
    file = next((Path(path, name) for name in STANDARD if Path(path, name).is_file()), Path(path))
    return os.path.realpath(file)


def _nothing(pattern: str) -> str:
    if not glob.has_magic(pattern):
        if is_shard(PurePath(pattern).name) and Path(pattern).exists():
            return f"{pattern!r} is a shard without its index; name the index, or the folder with both"
        if not Path(pattern).exists():
            return f"there is no {pattern!r}; name a checkpoint, a folder, or a pattern such as 'run/*.safetensors'"
        return f"the folder {pattern!r} holds no checkpoint; name a checkpoint, a folder, or a pattern such as 'run/*.safetensors'"
    folder = pattern
    while glob.has_magic(folder):
        folder = str(PurePath(folder).parent)
    if not Path(folder).is_dir():
        return f"{pattern!r} matches nothing, because there is no folder {folder!r}; give another pattern"
    names = sorted(entry.name for entry in Path(folder).iterdir() if not entry.name.startswith("."))
    return f"{pattern!r} matches no checkpoint; {folder!r} holds {listed(names) or 'nothing'}; change the pattern"
