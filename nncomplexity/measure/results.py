"""Results files as records, for tables in pandas and polars."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from nncomplexity.show import Failure, Measurement, Network
from nncomplexity.show import read_results as read_networks
from nncomplexity.words import Share

Record = dict[str, Any]
"""One row of a table: numbers, texts, truth values and None, by column."""
_SETTINGS = ("codec", "budget", "n", "delta", "loss_fn", "device", "version")


def read_results(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, layers: bool = False) -> list[Record]:
    """Results files as records: one for each network, seed and ε, or one for each layer of these.

    Every record has the same keys, and a value is a number, a text, a truth value or None, so that pandas and polars make a table of them:

        pandas.DataFrame(read_results("results.jsonl"))
        polars.DataFrame(read_results("results.jsonl"), infer_schema_length=None)

    docs/results.md has the columns. Losses are in the loss's own unit, sizes in bits, times in seconds. If a checkpoint and seed have
    several rows, the last one is used, as in figures. A network that could not be measured has one record, with its `error`.

    Args:
        paths: one or several files, each a results.jsonl, report.json or curve.json.
        layers: whether to give a record for each layer. A layer's own columns begin with `layer`.

    Returns:
        The records in the order of the files, with ε from large to small.

    Raises:
        InputError: a file can't be read, is no results file, or has no measurement.

    >>> first = read_results("docs/images/dynamics.jsonl")[0]
    >>> first["step"], first["eps"], first["parameters"]
    (1, 1.0, 211377)
    """
    found = read_networks(paths)
    records = [record for network in (*found.networks, *found.calibrations) for record in _of_network(network, layers=layers)]
    records += [_of_failure(failure) for failure in found.failures]
    columns = list(dict.fromkeys(key for record in records for key in record))
    return [{key: record.get(key) for key in columns} for record in records]


def _of_network(network: Network, *, layers: bool) -> Iterator[Record]:
    settings = {key: network.settings.get(key) for key in _SETTINGS}
    whole: Record = {
        "source": network.source,
        "run": network.run,
        "checkpoint": network.checkpoint,
        "sha256": network.sha256,
        "kind": network.kind,
        "status": "measured",
        "error": None,
        "step": network.step,
        "seed": network.seed,
        "method": network.method,
        **settings,
        "loss": network.loss,
        "zero_loss": network.zero_loss,
        "parameters": network.parameters,
        "raw_bits": network.raw_bits,
        "bzip2_bits": network.bzip2_bits,
        "l2_norm": network.l2_norm,
        "effective_rank": network.effective_rank,
        "llc": network.llc,
        "llc_error": network.llc_error,
        **{f"total_{key}": network.spent.get(key) for key in ("evaluations", "seconds", "cpu_seconds")},
    }
    for point in sorted(network.points, key=lambda one: -float(one.eps)):
        record = {**whole, **_of_point(point)}
        # A user's metric may have the name of a column. Then the column keeps its own value.
        record |= {name: value for name, value in {**network.metrics, **network.others}.items() if name not in record}
        record |= {f"coarse_{name}": value for name, value in {**point.metrics, **point.others}.items()}
        if not layers:
            yield record
            continue
        for layer in point.layers:
            yield {
                **record,
                "layer": layer.name,
                "layer_shape": "×".join(map(str, layer.shape)),
                "layer_form": layer.form,
                "layer_rank": layer.rank,
                "layer_step": layer.step,
                "layer_bits": layer.bits,
                "layer_effective_rank": layer.effective_rank,
            }


def _of_point(point: Measurement) -> Record:
    share = float(point.eps) if isinstance(point.eps, Share) else None
    bound, (mean, spread) = point.bound, point.spread or (None, None)
    return {
        "eps": point.eps_in_units,
        "eps_relative": share,
        "bits": point.bits,
        "within": point.within,
        "coarse_loss": point.coarse_loss,
        "distortion": point.distortion,
        "origin": point.origin,
        "paper_bytes": point.paper_bytes,
        "evaluations": point.evaluations,
        "seconds": point.seconds,
        "mdl_bits": point.mdl_bits,
        "critical_bits": point.critical_bits,
        "shared_bits": point.shared_bits,
        "agreement": point.agreement,
        "held_out_agreement": point.held_out_agreement,
        "searches": point.searches,
        "mean_ln_bits": mean,
        "sd_ln_bits": spread,
        "coarse_risk": bound and bound.risk,
        "bound": bound and bound.value,
        "vacuous": bound and bound.vacuous,
        "constant_risk": bound and bound.constant_risk,
        "constant_bound": bound and bound.constant_bound,
    }


def _of_failure(failure: Failure) -> Record:
    return {
        "source": failure.source,
        "run": failure.run,
        "checkpoint": failure.checkpoint,
        "kind": failure.kind,
        "status": "failed",
        "error": failure.error,
        "step": failure.step,
        "seed": failure.seed,
    }
