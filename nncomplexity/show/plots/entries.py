"""The values of one entry of a results file, a line or a whole document. docs/results.md describes the entries."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from nncomplexity.bounds import vacuous_from
from nncomplexity.linalg import Fit
from nncomplexity.show.plots.results import BoundValue, CurveSummary, Failure, LayerBits, Measurement, Network
from nncomplexity.words import Share, names_in

JsonObject = Mapping[str, Any]
KNOWN_SCHEMA = 1
CALIBRATIONS = ("untrained", "constant", "shuffled")
METRIC_ENDINGS = ("error", "accuracy")
NO_METRICS = ("error", "llc_error")
"""Keys of rows that end in "error" and are not metrics: the reason of a failure, and a standard error."""
_LARGEST = 1e200
"""With larger numbers, the ends of an axis would be infinite."""
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
    "chance",
    "loss_unit",
    "metrics",
    "device",
    "version",
    "torch",
)
_NUMBERS = ("budget", "seed", "n", "delta", "chance")
"""The settings that are numbers."""


def network_of_row(name: str, row: JsonObject) -> Network | Failure:
    """The content of a line of the results.jsonl with this name.

    Raises:
        KeyError: it is not a row.
        TypeError: it is not a row.
        ValueError: it is not a row, or this version does not know its kind.
        AttributeError: it is not a row.
    """
    _check_schema(row)
    # A Tracker's rows have no file, and may have no run. The name of the results file is then used for the run.
    run, checkpoint = str(row.get("run") or name), str(row.get("checkpoint") or "")
    step, seed = _at_least_0(row, "step"), _whole(row.get("seed"))
    kind = str(row.get("kind", "checkpoint"))
    if row["status"] != "measured":
        return Failure(name, run, checkpoint, step, seed, str(row.get("error") or "no reason is given"), kind)
    # Rows of a later version may have kinds that figures of this one would draw wrongly.
    if kind != "checkpoint" and kind not in CALIBRATIONS:
        raise ValueError(f"kind {kind!r}")
    settings = _settings(row.get("settings") or {})
    if not row["eps"]:
        raise ValueError("a row without any ε")
    return Network(
        **_about(row),
        source=name,
        run=run,
        checkpoint=checkpoint,
        kind=kind,
        step=step,
        step_name=_step_name(row, checkpoint, step),
        seed=seed,
        method=settings.get("method"),
        bzip2_bits=_number(row.get("bzip2_bits")),
        l2_norm=_number(row.get("l2_norm")),
        effective_rank=_number(row.get("effective_rank")),
        llc=_number(row.get("llc")),
        llc_error=_number(row.get("llc_error")),
        metrics=dict(_metrics(row, "")),
        others=dict(_others(row, settings)),
        settings=settings,
        zero_loss=_number(row.get("zero_loss")),
        spent=_spent([row]),
        points=tuple(
            _point(row, eps, value, f"@{name}", settings)
            for eps, value, name in zip(_all_eps(row), row["eps"], names_in(row), strict=True)
        ),
    )


def _point(row: JsonObject, eps: float, in_units: object, at: str, settings: JsonObject) -> Measurement:
    value = _number(row.get(f"bound{at}"))
    bound = None
    if value is not None:
        n, delta, chance = _whole(settings.get("n")), _number(settings.get("delta")), _number(settings.get("chance"))
        vacuous = _vacuous(value, chance, row.get(f"vacuous{at}"))
        constant = {key: _number(row.get(key)) for key in ("constant_risk", "constant_bound")}
        bound = BoundValue(value, _number(row.get(f"risk{at}")), n, delta, None, chance, vacuous, **constant)
    return Measurement(
        eps=eps,
        bits=_bits(row, f"bits{at}"),
        coarse_loss=_number(row.get(f"coarse_loss{at}")),
        distortion=_at_least_0(row, f"distortion{at}"),
        within=bool(row.get(f"within{at}", True)),
        paper_bytes=_whole(row.get(f"paper_bytes{at}")),
        evaluations=_number(row.get(f"evaluations{at}")),
        mdl_bits=_number(row.get(f"mdl_bits{at}")),
        critical_bits=_number(row.get(f"critical_bits{at}")),
        bound=bound,
        metrics=dict(_metrics(row, at)),
        others=dict(_others(row, settings, at)),
        eps_in_units=_number(in_units),
        layers=_layers(row.get(f"layers{at}")),
        shared_bits=_number(row.get(f"shared_bits{at}")),
        origin=_words(row.get(f"origin{at}")),
        warnings=tuple(map(str, row.get(f"warnings{at}") or ())),
        agreement=_number(row.get(f"agreement{at}")),
        held_out_agreement=_number(row.get(f"held_out_agreement{at}")),
    )


def network_of_report(name: str, report: JsonObject) -> Network:
    """The content of a report.json or curve.json with this name. Raises the same errors if it is something else."""
    _check_schema(report)
    checkpoint = str(report.get("checkpoint") or Path(name).name)
    step = _at_least_0(report, "step")
    results = report["results"]
    if not results:
        raise ValueError("no result for any ε")
    settings = _settings({**report, "method": results[0].get("method"), "codec": results[0].get("codec")})
    for result in results:
        # A report has n and δ only in its bounds. A row has them in its settings.
        if bound := result.get("bound"):
            settings |= {key: bound[key] for key in ("n", "delta") if bound.get(key) is not None}
    return Network(
        **_about(report),
        source=name,
        run=str(Path(checkpoint).parent),
        checkpoint=checkpoint,
        step=step,
        step_name=_step_name(report, checkpoint, step),
        seed=_whole(report.get("seed")),
        method=settings.get("method"),
        bzip2_bits=_number((report.get("lossless_bits") or {}).get("bzip2")),
        zero_loss=_number(report.get("zero_loss")),
        spent=_spent(results),
        settings=settings,
        points=tuple(_result(result) for result in results),
        curve=_curve(report["curve"], results) if report.get("curve") else None,
    )


def _result(result: JsonObject) -> Measurement:
    bound, faithful, spread = result.get("bound"), result.get("faithfulness") or {}, result.get("spread") or {}
    logs = [_number(spread.get(key)) for key in ("mean_ln_bits", "sd_ln_bits")]
    return Measurement(
        eps=_eps(result["eps"], result.get("eps_relative")),
        bits=_bits(result, "bits"),
        coarse_loss=_number(result.get("coarse_loss")),
        distortion=_at_least_0(result, "distortion"),
        within=bool(result.get("within", True)),
        paper_bytes=_whole(result.get("paper_bytes")),
        evaluations=_number(result.get("evaluations")),
        mdl_bits=_number((result.get("description_length") or {}).get("total_bits")),
        bound=_bound(bound) if bound else None,
        layers=_layers(result.get("layers")),
        shared_bits=_number(result.get("shared_bits")),
        origin=_words(result.get("origin")),
        warnings=tuple(map(str, result.get("warnings") or ())),
        agreement=_number((faithful.get("searched") or {}).get("agreement")),
        held_out_agreement=_number((faithful.get("held_out") or {}).get("agreement")),
        spread=None if logs[0] is None or logs[1] is None else (logs[0], logs[1]),
        searches=_whole(spread.get("searches")),
        eps_in_units=_number(result["eps"]),
        seconds=_number(result.get("seconds")),
    )


def _bound(bound: JsonObject) -> BoundValue:
    value, chance = _needed(bound, "value"), _number(bound.get("chance"))
    vacuous = _vacuous(value, chance, bound.get("vacuous"))
    n, delta, kind = _whole(bound.get("n")), _number(bound.get("delta")), bound.get("kind")
    more = {key: _number(bound.get(key)) for key in ("bits_needed", "constant_risk", "constant_bound")}
    return BoundValue(value, _number(bound.get("risk")), n, delta, kind, chance, vacuous, **more)


def _vacuous(value: float, chance: float | None, said: object) -> bool:
    """Whether a bound is vacuous by the present rule. Files of older versions use a weaker rule."""
    return bool(said) or value >= vacuous_from(1.0 if chance is None else chance)


def _curve(curve: JsonObject, results: Sequence[JsonObject]) -> CurveSummary:
    fits = tuple(
        Fit(kind, _needed(fit, "a"), _needed(fit, "b"), _needed(fit, "r2"))
        for kind, fit in (curve.get("fits") or {}).items()
        if kind in ("log", "power") and fit
    )
    # The hull has ε in the loss's unit, and `Measurement.eps` may be a share.
    asked = {result["eps"]: _eps(result["eps"], result.get("eps_relative")) for result in results}
    hull = tuple(asked.get(eps, _eps(eps)) for eps in curve.get("hull") or ())
    least = _number((curve.get("mdl") or {}).get("eps"))
    return CurveSummary(hull, fits, curve.get("best_fit"), None if least is None else asked.get(least, least))


def _layers(layers: Sequence[JsonObject] | None) -> tuple[LayerBits, ...]:
    return tuple(
        LayerBits(
            name=" = ".join(layer.get("names") or [str(layer["name"])]),
            shape=tuple(extent for extent in layer.get("shape") or () if isinstance(extent, int)),
            form=str(layer.get("form", "")),
            rank=_whole(layer.get("rank")),
            # Rows have other names than reports, since a row has a step and an effective rank of its own.
            step=_number(layer.get("layer_step", layer.get("step"))),
            bits=_bits(layer, "bits"),
            effective_rank=_number(layer.get("layer_effective_rank", layer.get("effective_rank"))),
            layout=None if layer.get("layout") is None else str(layer["layout"]),
        )
        for layer in layers or ()
    )


def _about(entry: JsonObject) -> dict[str, Any]:
    sha256 = entry.get("sha256")
    return {
        "sha256": None if sha256 is None else str(sha256),
        "loss": _number(entry.get("loss")),
        "parameters": _whole(entry.get("parameters")),
        "raw_bits": _number(entry.get("raw_bits")),
    }


def _spent(entries: Sequence[JsonObject]) -> dict[str, float]:
    """What the measurement took for all ε together."""
    found: dict[str, float] = {}
    for key in ("evaluations", "seconds", "cpu_seconds"):
        known = [value for entry in entries if (value := _number(entry.get(key))) is not None]
        found |= {key: sum(known)} if known else {}
    return found


def _settings(settings: JsonObject) -> dict[str, Any]:
    known = {key: _plain(key, settings[key]) for key in _SETTINGS if settings.get(key) is not None}
    base = settings.get("relative_to")
    path, digest = (base.get("path"), base.get("sha256")) if isinstance(base, dict) else (None, base)  # a row has only the digest
    if path or digest:
        known["relative_to"] = path or f"a base of sha256 {digest!s:.12}…"
    return known


def _plain(key: str, value: Any) -> Any:
    """A setting as it is used: the names of metrics, a number, or a text."""
    if key == "metrics":
        names = [name for name in value if isinstance(name, str)] if isinstance(value, list | dict) else []
        return {name: str(value[name]) for name in names} if isinstance(value, dict) else names
    return value if isinstance(value, str) or (key in _NUMBERS and isinstance(value, int | float)) else str(value)


def _metrics(row: JsonObject, at: str) -> Iterator[tuple[str, float]]:
    for key, value in row.items():
        name = key.removesuffix(at) if at else key
        number = _number(value)
        metric = name.endswith(METRIC_ENDINGS) and name not in NO_METRICS
        # Without `at`, the metrics of the decoded weights are left out: their keys end with @ and an ε.
        if key.endswith(at) and "@" not in name and metric and number is not None:
            yield name, number


def _others(row: JsonObject, settings: JsonObject, at: str = "") -> Iterator[tuple[str, float]]:
    """The other metrics: their names end neither in "error" nor in "accuracy"."""
    for name in settings.get("metrics") or ():
        value = _number(row.get(f"{name}{at}"))
        if not name.endswith(METRIC_ENDINGS) and value is not None:
            yield name, value


def _step_name(entry: JsonObject, checkpoint: str, step: float | None) -> str | None:
    """What a step is: the entry's own word, or "epoch" if the checkpoint's name has the number next to that word."""
    word = entry.get("step_name")
    if isinstance(word, str) and word.strip():
        return word.strip()
    # Every number of eighteen digits fits into an int64.
    numbers = re.findall(r"epochs?[^a-z0-9]*([0-9]{1,18})", "/".join(PurePath(checkpoint).parts[-2:]).lower())
    return "epoch" if step is not None and any(int(number) == step for number in numbers) else None


def _check_schema(entry: JsonObject) -> None:
    if entry.get("schema", KNOWN_SCHEMA) != KNOWN_SCHEMA:
        raise ValueError(f"schema {entry['schema']!r}, which another version wrote")


def _needed(entry: JsonObject, key: str) -> float:
    value = _number(entry[key])
    if value is None:
        raise ValueError(f"{key} = {entry[key]!r}")
    return value


def _bits(entry: JsonObject, key: str) -> float:
    _at_least_0(entry, key)
    return _needed(entry, key)


def _all_eps(row: JsonObject) -> list[float]:
    return [_eps(eps, share) for eps, share in zip(row["eps"], row.get("eps_relative") or [None] * len(row["eps"]), strict=True)]


def _eps(value: object, share: object = None) -> float:
    """An ε, as a share if it was given as a share."""
    eps = _number(value if share is None else share)
    if eps is None or eps < 0:
        raise ValueError(f"eps = {value!r}" if share is None else f"eps_relative = {share!r}")
    return float(eps) if share is None else Share(eps)


def _words(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object) -> float | None:
    """A finite number that can be drawn; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        return None
    # Drawing would convert a whole number to a float. A larger one is not exact as a float, so it is converted here, once for all uses.
    return value if isinstance(value, float) or abs(value) < 1 << 53 else float(value)


def _at_least_0(entry: JsonObject, key: str) -> float | None:
    value = _number(entry.get(key))
    if value is not None and value < 0:
        raise ValueError(f"{key} = {value!r}")
    return value


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
