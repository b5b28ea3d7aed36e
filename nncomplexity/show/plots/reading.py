"""Reads one or several results.jsonl, report.json and curve.json files, and collects the results of each network."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from nncomplexity.errors import InputError
from nncomplexity.file import read_settled
from nncomplexity.show.plots.entries import JsonObject, network_of_report, network_of_row
from nncomplexity.show.plots.results import Failure, Network, Results, ResultsSource

_NAMED = "a results.jsonl, report.json or curve.json"
_EXPECTED = "expected a results.jsonl, report.json or curve.json, as track --out, measure --json and curve --json write"


def read_results(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Results:
    """The results of one or several files together.

    Cut lines of a results.jsonl are counted and not read. If two lines have the same checkpoint, seed and method, the last one counts. If
    they also have the same weights, the points of the first one at other ε are kept. A failure is dropped if there is a result for the
    same network. Two files may use one name for different weights or losses, for example for runs in different folders. The names of
    their runs then begin with the names of the files.

    Args:
        paths: one or several results.jsonl, report.json and curve.json files.

    Returns:
        The networks with their results, each once, and what failed.

    Raises:
        InputError: a file can't be read or is no results file, or no checkpoint was measured in them.
    """
    names = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not names:
        raise InputError(f"results: {_EXPECTED}, got no file")
    found: dict[tuple[object, ...], Network | Failure] = {}
    # The keys of each checkpoint: only entries of one checkpoint replace each other, and a run may have thousands.
    earlier: defaultdict[tuple[object, ...], dict[tuple[object, ...], None]] = defaultdict(dict)
    sources, cut = [], 0
    for name in dict.fromkeys(str(name) for name in names):
        content = _bytes(name)
        entries, form, lost = _entries(name, content)
        cut += lost
        sources.append(ResultsSource(name, form, hashlib.sha256(content).hexdigest()))
        for where, entry in entries:
            try:
                one = network_of_row(name, entry) if form == "results.jsonl" else network_of_report(name, entry)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InputError(f"{where}: {_EXPECTED}, got {_reason(error)}") from error
            before = earlier[_place(one)]
            for key in [key for key in before if key in found]:
                other = found[key]
                if _of_one_network(other, one) if isinstance(other, Failure) else _restepped(other, one):
                    del found[key]
            before.setdefault(_key(one))
            if isinstance(one, Network):
                found[_key(one)] = _with_others(one, found.get(_key(one)))
            elif not any(_of_one_network(one, old) for key in before if isinstance(old := found.get(key), Network)):
                found[_key(one)] = one
    networks = _one_for_each([one for one in found.values() if isinstance(one, Network)])
    failures = tuple(one for one in found.values() if isinstance(one, Failure))
    measured = tuple(one for one in networks if one.kind == "checkpoint")
    if not measured:
        failed = f"{len(failures)} failed: {failures[0].error:.200}" if failures else "it has no whole line"
        raise InputError(f"{', '.join(source.name for source in sources)}: no checkpoint was measured there; {failed}")
    calibrations = tuple(one for one in networks if one.kind != "checkpoint")
    return Results(measured, calibrations, failures, tuple(sources), cut)


def _place(one: Network | Failure) -> tuple[object, ...]:
    """What entries that can replace each other have in common (`_of_one_network`, `_restepped`)."""
    return one.source, one.kind, one.checkpoint if one.kind == "checkpoint" else None


def _key(one: Network | Failure) -> tuple[object, ...]:
    if isinstance(one, Failure):
        return (True, one.source, one.run, one.checkpoint, one.step, one.seed, one.kind)
    return (False, one.source, *_name(one))


def _name(one: Network) -> tuple[object, ...]:
    return one.run, one.checkpoint, one.step, one.seed, one.kind, one.method


def _measured(one: Network) -> tuple[object, ...]:
    """A key for the measurement: the weights (by digest, or by file without one) and the loss."""
    return one.sha256 or one.source, one.settings.get("loss_fn"), one.loss


def _with_others(network: Network, before: Network | Failure | None) -> Network:
    """The network with its points at other ε from other entries."""
    if not isinstance(before, Network) or not network.sha256 or _measured(before) != _measured(network):
        return network
    others = tuple(point for point in before.points if network.at(point.eps) is None)
    if not others:
        return network
    points = sorted((*network.points, *others), key=lambda point: -point.eps)
    return replace(network, points=tuple(points), curve=None)  # a summary of its own points does not fit the others


def _one_for_each(networks: list[Network]) -> list[Network]:
    """The networks of all files, each once.

    If files have other weights or losses with one name, runs are also named after the files.
    """
    measured: dict[tuple[object, ...], set[object]] = {}
    for one in networks:
        if one.kind == "checkpoint":
            measured.setdefault(_name(one), set()).add(_measured(one))
    several = {name[0] for name, ways in measured.items() if len(ways) > 1}
    found: dict[tuple[object, ...], Network] = {}
    for one in networks:
        if one.run in several:
            # Without its anchor, because joining a path with an absolute one would drop the first.
            run = PurePath(one.run)
            one = replace(one, run=str(PurePath(one.source, run.relative_to(run.anchor))))
        found[_name(one)] = _with_others(one, found.get(_name(one)))
    return list(found.values())


def _of_one_network(failure: Failure, other: Network | Failure) -> bool:
    """Whether the two entries are of the same network. The step of an unreadable checkpoint may be unknown."""
    same = (failure.source, failure.run, failure.kind, failure.seed) == (other.source, other.run, other.kind, other.seed)
    if failure.kind != "checkpoint":
        return same
    return same and failure.checkpoint == other.checkpoint and (bool(failure.checkpoint) or failure.step == other.step)


def _restepped(old: Network, new: Network | Failure) -> bool:
    """Whether a row repeats an older row of the same weights with another step.

    A call with another --step-pattern writes such rows.
    """
    return (
        isinstance(new, Network)
        and old.step != new.step
        and bool(old.checkpoint and old.sha256)
        and (old.source, old.checkpoint, old.sha256, old.seed, old.kind, old.method, old.loss)
        == (new.source, new.checkpoint, new.sha256, new.seed, new.kind, new.method, new.loss)
    )


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _bytes(name: str) -> bytes:
    return read_settled(lambda reading: reading.content(Path(name)), name, _NAMED)


def _entries(name: str, content: bytes) -> tuple[list[tuple[str, JsonObject]], str, int]:
    """The objects in a file, each with its place; the type of the file; and the number of cut lines."""
    # Some shells, such as PowerShell, redirect text as UTF-16, or put a byte order mark before it. A cut file may end in half a character.
    text = content.decode(json.detect_encoding(content), errors="replace")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("results"), list):
        return [(name, whole)], "curve.json" if "curve" in whole else "report.json", 0
    entries: list[tuple[str, JsonObject]] = []
    cut = 0
    # A line that can't be parsed is usually the end of a file whose writer was killed, or is still writing.
    # Not `splitlines`, which would also break at U+2028 and similar characters in a JSON string.
    for number, line in enumerate(text.split("\n") if whole is None else [text], start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            cut += 1
            continue
        if not isinstance(entry, dict) or "status" not in entry:
            raise InputError(f"{name}, line {number}: {_EXPECTED}, got {' '.join(line.split()):.40}")
        entries.append((f"{name}, line {number}", entry))
    if not entries:
        raise InputError(f"{name}: {_EXPECTED}, got {'an empty file' if not text.strip() else 'a file that is none of these'}")
    return entries, "results.jsonl", cut
