"""From results.jsonl, report.json and curve.json to plain values. docs/results.md says what stands in them."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nncomplexity.errors import InputError
from nncomplexity.fits import Fit
from nncomplexity.plots.results import BoundValue, Curve, Failure, LayerBits, Measurement, Network, Results, Source

Json = Mapping[str, Any]
SCHEMA = 1
CALIBRATIONS = ("untrained", "constant", "shuffled")
METRIC_ENDINGS = ("error", "accuracy")
_EXPECTED = "expected a results.jsonl, report.json or curve.json, as track --out, measure --json and curve --json write"
_SETTINGS = (
    "method",
    "codec",
    "budget",
    "seed",
    "loss_fn",
    "model",
    "risk_fn",
    "n",
    "delta",
    "metrics",
    "device",
    "version",
    "torch",
)


def read_results(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Results:
    """What one or several results files say, together.

    A line of a results.jsonl that is cut is no line, and counted. Of two lines on one checkpoint, seed and method the last counts,
    and a failure that a later line makes good is none.

    Raises InputError, in one line, where a file can't be read, is something else, or where nothing in them was measured.
    """
    names = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not names:
        raise InputError(f"results: {_EXPECTED}, got no file")
    found: dict[tuple[object, ...], Network | Failure] = {}
    sources, cut = [], 0
    for name in dict.fromkeys(str(name) for name in names):
        content = _bytes(name)
        entries, form, lost = _entries(name, content)
        cut += lost
        sources.append(Source(name, form, hashlib.sha256(content).hexdigest()))
        for where, entry in entries:
            try:
                one = _network(name, entry) if form == "results.jsonl" else _reported(name, entry)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InputError(f"{where}: {_EXPECTED}, got {_reason(error)}") from error
            found = {key: old for key, old in found.items() if not (isinstance(old, Failure) and _made_good(old, one))}
            if isinstance(one, Network) or not any(_made_good(one, old) for old in found.values() if isinstance(old, Network)):
                found[_key(one)] = one
    networks = [one for one in found.values() if isinstance(one, Network)]
    failures = tuple(one for one in found.values() if isinstance(one, Failure))
    measured = tuple(one for one in networks if one.kind == "checkpoint")
    if not measured:
        failed = f"{len(failures)} failed: {failures[0].error:.200}" if failures else "it has no whole line"
        raise InputError(f"{', '.join(source.name for source in sources)}: no checkpoint was measured there; {failed}")
    calibrations = tuple(one for one in networks if one.kind != "checkpoint")
    return Results(measured, calibrations, failures, tuple(sources), cut)


def _key(one: Network | Failure) -> tuple[object, ...]:
    if isinstance(one, Failure):
        return (True, one.run, one.checkpoint, one.step, one.seed, one.kind)
    if one.kind != "checkpoint":
        return (False, one.run, one.checkpoint, one.step, one.seed, one.kind, one.method)
    return (False, one.run, one.checkpoint, one.step, one.seed)


def _made_good(failure: Failure, other: Network | Failure) -> bool:
    """Whether the other is of the same network; the step of one that couldn't be read may not be known."""
    same = (failure.run, failure.kind, failure.seed) == (other.run, other.kind, other.seed)
    if failure.kind != "checkpoint":
        return same
    return same and failure.checkpoint == other.checkpoint and (bool(failure.checkpoint) or failure.step == other.step)


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _bytes(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name}: cannot read it ({error.strerror}); {_EXPECTED}") from error


def _entries(name: str, content: bytes) -> tuple[list[tuple[str, Json]], str, int]:
    """The objects in a file, each with its place; which of the three files it is; and how many lines are cut."""
    text = content.decode("utf-8", errors="replace")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("results"), list):
        return [(name, whole)], "curve.json" if "curve" in whole else "report.json", 0
    entries: list[tuple[str, Json]] = []
    cut = 0
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


def _network(name: str, row: Json) -> Network | Failure:
    _check_schema(row)
    run, checkpoint = str(row.get("run") or name), str(row.get("checkpoint") or "")
    step, seed = _number(row.get("step")), _whole(row.get("seed"))
    kind = str(row.get("kind", "checkpoint"))
    if row["status"] != "measured":
        return Failure(name, run, checkpoint, step, seed, str(row.get("error") or "it doesn't say why"), kind)
    if kind != "checkpoint" and kind not in CALIBRATIONS:
        raise ValueError(f"kind {kind!r}")
    settings = _settings(row.get("settings") or {})
    return Network(
        **_about(row),
        source=name,
        run=run,
        checkpoint=checkpoint,
        kind=kind,
        step=step,
        seed=seed,
        method=settings.get("method"),
        bzip2_bits=_number(row.get("bzip2_bits")),
        l2_norm=_number(row.get("l2_norm")),
        effective_rank=_number(row.get("effective_rank")),
        metrics=dict(_metrics(row, "")),
        settings=settings,
        points=tuple(_point(row, float(eps), settings) for eps in row["eps"]),
    )


def _point(row: Json, eps: float, settings: Json) -> Measurement:
    at = f"@{eps:g}"
    value = _number(row.get(f"bound{at}"))
    bound = None
    if value is not None:
        vacuous = bool(row.get(f"vacuous{at}", value >= 1))
        n, delta = _whole(settings.get("n")), _number(settings.get("delta"))
        bound = BoundValue(value, _number(row.get(f"risk{at}")), n, delta, None, None, vacuous)
    return Measurement(
        eps=eps,
        bits=_needed(row, f"bits{at}"),
        coarse_loss=_number(row.get(f"coarse_loss{at}")),
        distortion=_number(row.get(f"distortion{at}")),
        within=bool(row.get(f"within{at}", True)),
        paper_bytes=_whole(row.get(f"paper_bytes{at}")),
        evaluations=_number(row.get(f"evaluations{at}")),
        mdl_bits=_number(row.get(f"mdl_bits{at}")),
        bound=bound,
        metrics=dict(_metrics(row, at)),
        layers=_layers(row.get(f"layers{at}")),
        shared_bits=_number(row.get(f"shared_bits{at}")),
    )


def _reported(name: str, report: Json) -> Network:
    _check_schema(report)
    checkpoint = str(report.get("checkpoint") or Path(name).name)
    results = report["results"]
    settings = _settings({**report, "method": results[0].get("method"), "codec": results[0].get("codec")} if results else report)
    for result in results:
        if bound := result.get("bound"):
            settings |= {key: bound[key] for key in ("n", "delta") if bound.get(key) is not None}
    return Network(
        **_about(report),
        source=name,
        run=str(Path(checkpoint).parent),
        checkpoint=checkpoint,
        step=_number(report.get("step")),
        seed=_whole(report.get("seed")),
        method=settings.get("method"),
        bzip2_bits=_number((report.get("lossless_bits") or {}).get("bzip2")),
        settings=settings,
        points=tuple(_result(result) for result in results),
        curve=_curve(report["curve"]) if report.get("curve") else None,
    )


def _result(result: Json) -> Measurement:
    bound = result.get("bound")
    return Measurement(
        eps=_needed(result, "eps"),
        bits=_needed(result, "bits"),
        coarse_loss=_number(result.get("coarse_loss")),
        distortion=_number(result.get("distortion")),
        within=bool(result.get("within", True)),
        paper_bytes=_whole(result.get("paper_bytes")),
        evaluations=_number(result.get("evaluations")),
        mdl_bits=_number((result.get("description_length") or {}).get("total_bits")),
        bound=_bound(bound) if bound else None,
        layers=_layers(result.get("layers")),
        shared_bits=_number(result.get("shared_bits")),
    )


def _bound(bound: Json) -> BoundValue:
    value, chance = _needed(bound, "value"), _number(bound.get("chance"))
    vacuous = bool(bound.get("vacuous", value >= (1.0 if chance is None else chance)))
    n, delta, kind = _whole(bound.get("n")), _number(bound.get("delta")), bound.get("kind")
    return BoundValue(value, _number(bound.get("risk")), n, delta, kind, chance, vacuous, _number(bound.get("bits_needed")))


def _curve(curve: Json) -> Curve:
    fits = tuple(
        Fit(kind, _needed(fit, "a"), _needed(fit, "b"), _needed(fit, "r2"))
        for kind, fit in (curve.get("fits") or {}).items()
        if kind in ("log", "power") and fit
    )
    hull = tuple(float(eps) for eps in curve.get("hull") or ())
    return Curve(hull, fits, curve.get("best_fit"), _number((curve.get("mdl") or {}).get("eps")))


def _layers(layers: Sequence[Json] | None) -> tuple[LayerBits, ...]:
    return tuple(
        LayerBits(
            name=" = ".join(layer.get("names") or [str(layer["name"])]),
            shape=tuple(int(extent) for extent in layer.get("shape") or ()),
            form=str(layer.get("form", "")),
            rank=_whole(layer.get("rank")),
            step=_number(layer.get("step")),
            bits=_needed(layer, "bits"),
            effective_rank=_number(layer.get("effective_rank")),
        )
        for layer in layers or ()
    )


def _about(entry: Json) -> dict[str, Any]:
    sha256 = entry.get("sha256")
    return {
        "sha256": None if sha256 is None else str(sha256),
        "loss": _number(entry.get("loss")),
        "parameters": _whole(entry.get("parameters")),
        "raw_bits": _number(entry.get("raw_bits")),
    }


def _settings(settings: Json) -> dict[str, Any]:
    known = {key: settings[key] for key in _SETTINGS if settings.get(key) is not None}
    base = settings.get("relative_to")
    if isinstance(base, dict):
        known["relative_to"] = base.get("path") or f"a base of sha256 {base.get('sha256')!s:.12}…"
    return known


def _metrics(row: Json, at: str) -> Iterator[tuple[str, float]]:
    for key, value in row.items():
        name = key.removesuffix(at) if at else key
        number = _number(value)
        if key.endswith(at) and "@" not in name and name.endswith(METRIC_ENDINGS) and name != "error" and number is not None:
            yield name, number


def _check_schema(entry: Json) -> None:
    if entry.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"schema {entry['schema']!r}, which another version wrote")


def _needed(entry: Json, key: str) -> float:
    value = _number(entry[key])
    if value is None:
        raise ValueError(f"{key} = {entry[key]!r}")
    return value


def _number(value: object) -> float | None:
    """A finite number, None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
