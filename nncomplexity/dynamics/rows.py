"""Rows of a results.jsonl. docs/results.md describes the keys."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from nncomplexity.bounds import bound
from nncomplexity.dynamics.settings import FAITHFUL, Row, TrackSettings
from nncomplexity.errors import InputError
from nncomplexity.measure import Layer, LearningCoefficient, Report
from nncomplexity.network import is_finite, real_view, skeleton_of
from nncomplexity.words import Relative, error_line, name_of

ROW_SCHEMA = 1


@dataclass(frozen=True)
class UserValues:
    """The results of the user's functions for one set of weights."""

    risk: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def head(settings: TrackSettings, **about: Any) -> Row:
    """The first keys of every row: `kind`, `status`, the network and the settings. An ε that is a share has no value yet."""
    shares = [eps.share if isinstance(eps, Relative) else None for eps in settings.eps]
    eps = {"eps": [None if isinstance(eps, Relative) else eps for eps in settings.eps]}
    relative = {} if all(share is None for share in shares) else {"eps_relative": shares}
    return {"schema": ROW_SCHEMA, **about, **eps, **relative, "settings": settings.described()}


def measured_row(
    start: Row,
    settings: TrackSettings,
    norm: float,
    reports: Sequence[Report],
    original: UserValues,
    coarse: Sequence[UserValues],
    llc: LearningCoefficient | None = None,
    constant_risk: float | None = None,
) -> Row:
    """The row of a measured network.

    Args:
        start: the `head` of the row.
        settings: the settings of the measurement.
        norm: `l2_norm` of the original weights.
        reports: one for each ε, in the order of `settings.eps`.
        original: the results of the user's functions on the original weights.
        coarse: the results of the user's functions on the decoded weights of each report.
        llc: the local learning coefficient at the original weights, if the settings ask for it.
        constant_risk: the risk of the network with all weights zero, if it is known.
    """
    subject = reports[0].subject
    ranks = [layer.effective_rank for layer in reports[0].layers if layer.effective_rank is not None]
    row = {
        **start,
        "eps": [report.eps for report in reports],
        "parameters": subject.parameters,
        "raw_bits": subject.raw_bits,
        "loss": subject.loss,
        "zero_loss": subject.zero_loss,
        "l2_norm": _finite(norm),
        "effective_rank": fmean(ranks) if ranks else None,
        "bzip2_bits": subject.lossless_bits["bzip2"],
        "evaluations": sum(report.evaluations for report in reports),
        "seconds": sum(report.seconds for report in reports),
        "cpu_seconds": sum(report.cpu_seconds for report in reports),
        "warnings": list(dict.fromkeys(warning for report in reports for warning in report.warnings)),
    }
    if llc is not None:
        sampled = {"llc": llc.value, "llc_error": llc.error, "llc_drift": llc.drift, "llc_evaluations": llc.evaluations}
        row |= {name: value if value is None else _finite(value) for name, value in sampled.items()}
    if original.risk is not None and settings.n is not None:
        n, delta, chance = settings.n, settings.delta, settings.chance
        # A bound of 0 bits, for its constant_bound only. The risk of 1 is a placeholder.
        nothing = bound(0.0, risk=1.0, n=n, delta=delta, chance=chance, self_delimiting=False, constant_risk=constant_risk)
        row |= {"risk": original.risk, "constant_risk": constant_risk, "constant_bound": nothing.constant_bound}
    row |= {name: _finite(value) for name, value in original.metrics.items()}
    for eps, report, found in zip(settings.eps, reports, coarse, strict=True):
        row |= {f"{key}@{name_of(eps)}": value for key, value in _at(report, found, settings).items()}
    return row


def failed_row(start: Row, error: str | BaseException) -> Row:
    """The row of a network that could not be measured."""
    return {**start, "status": "failed", "error": " ".join(_reason(error).split())}


def l2_norm(tensors: Mapping[str, Tensor]) -> float:
    """√Σθ² over all floating-point and complex tensors.

    Tied tensors count once. Tensors with infinities, such as masks, are left out.

    >>> l2_norm({"a": torch.tensor([3.0, 4.0]), "count": torch.tensor([9])})
    5.0
    """
    total = 0.0
    for spec in skeleton_of(tensors).tensors:
        tensor = tensors[spec.name].detach()
        if spec.quantizable and spec.count and is_finite(tensor):
            total += float(torch.linalg.vector_norm(real_view(tensor).double().cpu())) ** 2
    return math.sqrt(total)


def _at(report: Report, found: UserValues, settings: TrackSettings) -> Row:
    """The keys of one ε, without the ε."""
    row: Row = {
        "bits": report.bits,
        "coarse_loss": report.coarse_loss,
        "distortion": report.distortion,
        "within": report.within,
        "origin": report.origin,
        "warnings": list(report.warnings),
        "evaluations": report.evaluations,
    }
    if report.paper_bytes is not None:
        row["paper_bytes"] = report.paper_bytes
    if found.risk is not None and settings.n is not None:
        row["risk"] = found.risk
        try:
            promise = report.bound(risk=found.risk, n=settings.n, delta=settings.delta, chance=settings.chance)
            row |= {"bound": promise.value, "vacuous": promise.vacuous}
        except InputError as error:  # the network has numbers outside the file; the row is useful without a bound too
            row["warnings"].append(f"No bound: {error}")
    if settings.n is not None and (length := report.description_length(settings.n, settings.loss_unit)):
        row["mdl_bits"] = length.total_bits
    if report.faithfulness is not None:
        for prefix, part in (("", report.faithfulness.searched), ("held_out_", report.faithfulness.held_out)):
            known = {} if part is None else part.to_dict()
            row |= {f"{prefix}{key}": known[key] for key in FAITHFUL if known.get(key) is not None}
    row |= {name: _finite(value) for name, value in found.metrics.items()}
    return {**row, "layers": [_layer(layer) for layer in report.layers], "shared_bits": report.shared_bits}


def _layer(layer: Layer) -> Row:
    """The object of one layer. `layer_` distinguishes its keys from those of rows, so a table of layers can have a row's columns too."""
    return {
        "name": layer.name,
        "form": layer.form,
        "rank": layer.rank,
        "layer_step": layer.step,
        "bits": layer.bits,
        "layer_effective_rank": layer.effective_rank,
        "shape": list(layer.shape),
    }


def _reason(error: str | BaseException) -> str:
    if isinstance(error, str | InputError):
        return str(error)
    return error_line(error)


def _finite(value: float) -> float | None:
    """The value, or None for NaN and infinity, which JSON doesn't have."""
    return value if math.isfinite(value) else None
