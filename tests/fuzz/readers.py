"""All readers of files, and what the program does with the content. They may raise only the package's own exceptions."""

import random
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.cli.compare_table import compared
from nncomplexity.cli.track_table import tracked
from nncomplexity.dynamics.job import Job
from nncomplexity.dynamics.results_file import ResultsFile, rows_of
from nncomplexity.dynamics.resume import Done
from nncomplexity.dynamics.settings import TrackSettings, settings_of
from nncomplexity.errors import InputError
from nncomplexity.file import CoarseFile, read
from nncomplexity.measure import Typed, check_claims, read_report
from nncomplexity.network import Task, check_numbers, skeleton_of
from nncomplexity.show import (
    Results,
    chart,
    common_eps,
    comparison,
    default_kind,
    differing_settings,
    page,
    read_results,
    side_by_side,
    sides_of,
)
from tests.fuzz import mutations, seeds

LIMIT = 1 << 24
"""The largest number of bytes of weights to which a .coarse file may decode."""
Read = Callable[[bytes, Path], None]
Damage = Callable[[bytes, bytes, random.Random], bytes]


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes:
        name: the name of the kind.
        seeds: valid files.
        damage: makes a damaged file from a valid file and another one.
        read: reads the bytes of a file and uses the content. It may write to the given folder.
        share: the reader's part of the time, relative to the other readers. Readers that draw pictures have the largest parts, because
            an input takes ten times as long there.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    damage: Damage
    read: Read
    share: int = 1

    def inputs(self, chance: random.Random) -> bytes:
        """One damaged file."""
        honest = self.seeds()
        return self.damage(chance.choice(honest), chance.choice(honest), chance)


def outcome(reader: Reader, content: bytes, folder: Path) -> BaseException | None:
    """The exception of a fault; None if the reader gives a result or raises one of the package's own exceptions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader.read(content, folder)
        except InputError as error:
            return None if str(error) else error
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return error
    return None


def _coarse(content: bytes, _: Path) -> None:
    file = read(content, limit=LIMIT)
    if file.base_sha256 is None:
        file.weights()


def _checkpoint(content: bytes, folder: Path) -> None:
    name = folder / "net.pt"
    name.write_bytes(content)
    found = load_checkpoint(name)
    check_numbers(found.tensors)
    skeleton_of(found.tensors)


def _index(content: bytes, folder: Path) -> None:
    (folder / "shard.safetensors").write_bytes(seeds.shard())
    name = folder / "model.safetensors.index.json"
    name.write_bytes(content)
    load_checkpoint(name)


@cache
def _honest() -> CoarseFile:
    return read(seeds.honest_file())


def _report(content: bytes, folder: Path) -> None:
    name = folder / "report.json"
    name.write_bytes(content)
    try:
        reported = read_report(name, "net.coarse")
    except InputError:
        pass
    else:
        typed = Typed(n=40, delta=0.05, chance=0.9, functions={"loss_fn": "mytask:loss"}, task=(), data=())
        check_claims(_honest(), Task(seeds.loss, risk_fn=seeds.error), reported=reported, typed=typed).to_dict()
    _shown(name)


def _shown(name: Path) -> None:
    results = read_results(name)
    chart(results, default_kind(results))
    page(results)
    both = side_by_side([results, _another()])
    sides = sides_of(both, [])
    eps = common_eps(sides, both.chosen_eps(()))
    compared(sides, eps, differing_settings(sides))
    comparison(both, eps=eps, steps=[])


@cache
def _another() -> Results:
    with tempfile.TemporaryDirectory() as folder:
        name = Path(folder, "results.jsonl")
        name.write_bytes(seeds.results()[0])
        return read_results(name)


@cache
def _settings() -> TrackSettings:
    return settings_of(seeds.loss, seeds.EPS, risk_fn=seeds.error, n=40, **seeds.SETTINGS)


def _results(content: bytes, folder: Path) -> None:
    name = folder / "results.jsonl"
    name.write_bytes(content)
    try:
        rows = rows_of(str(name))
        with ResultsFile(name) as file:
            Done(file.rows).row_of(Job("runs/a/step_1.safetensors", 0), "ab" * 32, ())
            file.check_settings(_settings())
            tracked(rows)
    except InputError:
        pass
    _shown(name)


def _lines(content: bytes, _: bytes, chance: random.Random) -> bytes:
    return mutations.lines_damaged(content, chance)


def _json(content: bytes, _: bytes, chance: random.Random) -> bytes:
    return mutations.json_damaged(content, chance)


@cache
def _checkpoints() -> dict[str, list[bytes]]:
    return seeds.checkpoints()


@cache
def _reports() -> dict[str, list[bytes]]:
    return seeds.reports()


READERS = (
    Reader("coarse", cache(seeds.coarse_files), mutations.coarse_damaged, _coarse, share=2),
    Reader("safetensors", lambda: _checkpoints()["safetensors"], mutations.bytes_damaged, _checkpoint),
    Reader("zip", lambda: _checkpoints()["zip"], mutations.zip_damaged, _checkpoint),
    Reader("legacy", lambda: _checkpoints()["legacy"], mutations.bytes_damaged, _checkpoint),
    Reader("module", lambda: _checkpoints()["module"][:1], mutations.zip_damaged, _checkpoint),
    Reader("legacy-module", lambda: _checkpoints()["module"][1:], mutations.bytes_damaged, _checkpoint),
    Reader("npz", lambda: _checkpoints()["npz"], mutations.zip_damaged, _checkpoint),
    Reader("pickle", lambda: _checkpoints()["pickle"], mutations.bytes_damaged, _checkpoint),
    Reader("index", lambda: _checkpoints()["index"], _json, _index),
    Reader("report", lambda: _reports()["report"], _json, _report, share=4),
    Reader("curve", lambda: _reports()["curve"], _json, _report, share=4),
    Reader("results", cache(seeds.results), _lines, _results, share=8),
)
