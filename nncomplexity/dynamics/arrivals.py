"""Finds new checkpoints of a running training. Each is returned when it is complete."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nncomplexity.checkpoint import USUAL, StepRule
from nncomplexity.dynamics.resume import Known, known_of
from nncomplexity.dynamics.sources import Source, find_sources
from nncomplexity.words import checked_number, python_number

_PATIENCE = 5
"""An unreadable file that doesn't change counts as damaged after this many tries."""

Signature = tuple[tuple[str, int, int], ...]
"""Name, size and modification time of each file of a checkpoint."""


@dataclass(frozen=True)
class Follow:
    """How to wait for checkpoints.

    Attributes:
        poll: seconds between two checks for new files.
        idle_timeout: stop after this many seconds without a new checkpoint and without work; None is no limit.
        until: stop after the checkpoint of this training step; None is no limit.

    >>> Follow(poll=0)
    Traceback (most recent call last):
        ...
    nncomplexity.errors.InputError: poll: expected a number of seconds above 0, got 0
    """

    poll: float = 10.0
    idle_timeout: float | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "poll", checked_number("poll", self.poll, "a number of seconds above 0", lambda poll: poll > 0))
        for name in ("idle_timeout", "until"):
            if (given := python_number(getattr(self, name))) is not None and given != math.inf:  # infinity never ends, as None
                given = checked_number(name, given, "a number of at least 0", lambda value: value >= 0)
            object.__setattr__(self, name, given)


@dataclass
class _Seen:
    signature: Signature
    polls: int = 0
    given: bool = False


class Arrivals:
    """The checkpoints that match patterns, as soon as they are complete.

    A checkpoint is complete if its files did not change between two checks and it can be read. A checkpoint that doesn't change and
    can't be read counts as damaged after a while, and is returned too. A checkpoint that is overwritten is returned again.
    """

    def __init__(self, patterns: Sequence[str], poll: float, key: str | None = None, steps: StepRule = USUAL) -> None:
        self._patterns, self._poll, self._key, self._steps = patterns, poll, key, steps
        self._seen: dict[str, _Seen] = {}

    def arrived(self) -> list[tuple[Source, Known | None]]:
        """The checkpoints that became complete since the last check, with their content; None for a damaged one."""
        whole: list[tuple[Source, Known | None]] = []
        for source in find_sources(self._patterns, least=0, steps=self._steps):
            signature = _signature(Path(source.path))
            seen = self._seen.get(source.path)
            if seen is None or seen.signature != signature:
                self._seen[source.path] = seen = _Seen(signature)
                # An old file is complete at the first check. Only a file that changed recently must stay the same for one more check.
                newest = max((changed for _, _, changed in signature), default=0)
                if time.time() - newest / 1e9 < self._poll:
                    continue
            if seen.given or not signature:
                continue
            known = known_of(source, self._key, self._steps)
            if known is None:
                seen.polls += 1
                if seen.polls < _PATIENCE:
                    continue
            if _signature(Path(source.path)) == signature:  # otherwise the file changed while it was read
                seen.given = True
                whole.append((source, known))
        return whole

    def rest(self) -> list[tuple[Source, Known | None]]:
        """At the end, the checkpoints that were never returned, complete or not. So an incomplete one gets a row that says so."""
        given = {path for path, seen in self._seen.items() if seen.given and seen.signature == _signature(Path(path))}
        return [
            (source, known_of(source, self._key, self._steps))
            for source in find_sources(self._patterns, least=0, steps=self._steps)
            if source.path not in given
        ]


def _signature(path: Path) -> Signature:
    """The signature of a checkpoint. It is empty if the files have just disappeared."""
    # The shards of an index are beside it, so all files in its folder count.
    folder = path if path.is_dir() else path.parent
    try:
        files = [path] if path.is_file() and not path.name.endswith(".index.json") else sorted(folder.iterdir())
        return tuple((file.name, stat.st_size, stat.st_mtime_ns) for file in files if file.is_file() for stat in [file.stat()])
    except OSError:
        return ()
