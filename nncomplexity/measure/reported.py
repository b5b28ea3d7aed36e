"""Reads what a report.json, a curve.json or a certificate says about one file, and checks the types of its values."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nncomplexity.bounds import bound
from nncomplexity.errors import FormatError, InputError
from nncomplexity.file import read_settled


@dataclass(frozen=True)
class Reported:
    """What a report says about one file, and about the original network.

    Attributes:
        result: the entry of the file's ε.
        loss: the loss of the original.
        sha256: the hash of the original's file.
        base_sha256: the hash of the base; None without a base.
        about: all keys of the report except its results.
        others: the number of results in the report that are about other files.
    """

    result: Mapping[str, Any]
    loss: float
    sha256: str | None
    base_sha256: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    others: int = 0


def read_report(path: str | os.PathLike[str], file: str | os.PathLike[str]) -> Reported:
    """What the report.json, curve.json or certificate at `path` says about a file.

    The file's result is the one that names the file. If none does, it is the only result. For a file of `curve --save-best`, the key `mdl`
    of the curve names the file and its ε.

    Raises:
        InputError: the report can't be read, or it says nothing about the file.
        FormatError: the document is no report.
    """
    try:
        document = json.loads(read_settled(lambda reading: reading.content(Path(path)), str(path), "a report.json"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: no report.json, since it is no JSON that can be read ({error})") from error
    try:
        results = document["results"]
        named = [result for result in results if _is_named(result, file)] or _best_of(document, file) or results
        # A renamed file is named by no result. If the report has only one result, it must be the right one.
        if len(named) != 1:
            raise InputError(f"{path}: expected one result whose file is {Path(file).name!r}, got {len(named)} results without it")
        base = document.get("relative_to") or {}
        about = {key: value for key, value in document.items() if key != "results"}
        loss, sha256 = _number(document, "loss"), _text(document, "sha256")
        return Reported(_checked(named[0]), loss, sha256, _text(base, "sha256"), about, len(results) - 1)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise FormatError(f"{path}: no report.json of this program ({type(error).__name__}: {error!s:.200})") from error


def bound_of(bits: int, promise: Mapping[str, Any]) -> Any:
    """The `Bound` of a payload of `bits` bits, with the risk, n, δ, kind, chance and constant risk of the report's bound."""
    risk, n, delta, kind = (promise[key] for key in ("risk", "n", "delta", "kind"))
    guess, constant = promise.get("chance"), promise.get("constant_risk")
    return bound(bits, risk=risk, n=n, delta=delta, kind=kind, chance=guess, constant_risk=constant, self_delimiting=False)


def _best_of(document: Mapping[str, Any], file: str | os.PathLike[str]) -> list[Mapping[str, Any]]:
    best = (document.get("curve") or {}).get("mdl") or {}
    # An ε that was given twice has two results for one file.
    return [result for result in document["results"] if result["eps"] == best["eps"]][:1] if _is_named(best, file) else []


def _is_named(entry: Mapping[str, Any], file: str | os.PathLike[str]) -> bool:
    # Without folders, because report and file may have been moved together.
    return Path(entry.get("file") or "").name == Path(file).name


def _checked(result: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in ("eps", "bits", "file_bits", "coarse_loss", "distortion"):
        _number(result, key)
    if promise := result.get("bound"):
        for key in ("risk", "value", "delta"):
            _number(promise, key)
        try:
            bound_of(0, promise)
        except InputError as error:
            raise TypeError(f"bound: {error}") from error
    if length := result.get("description_length"):
        for key in ("model_bits", "data_bits", "total_bits"):
            _number(length, key)
    if (share := result.get("eps_relative")) is not None and _number(result, "eps_relative") < 0:
        raise TypeError(f"eps_relative is {share!r}")
    if not isinstance(result.get("layers") or [], list) or not all(isinstance(one, dict) for one in result.get("layers") or []):
        raise TypeError("layers is no list of objects")
    return result


def _number(holder: Mapping[str, Any], key: str) -> float:
    if isinstance(holder[key], bool) or not isinstance(holder[key], (int, float)) or not math.isfinite(holder[key]):
        raise TypeError(f"{key} is {holder[key]!r:.60}")
    return float(holder[key])


def _text(holder: Mapping[str, Any], key: str) -> str | None:
    value = holder.get(key)
    if not isinstance(value, str | None):
        raise TypeError(f"{key} is {value!r:.60}")
    return value
