"""The command `curve`: measures one network at many ε, and fits the rate–distortion curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

import nncomplexity
from nncomplexity.cli.curve_table import curve_table
from nncomplexity.cli.groups import DistortionGroup, NetworkGroup, OneNetworkRiskGroup, SearchGroup
from nncomplexity.cli.options import DONE, INTERRUPTED, NOT_WITHIN, Json, eps_value
from nncomplexity.cli.outputs import (
    Written,
    names_by_eps,
    no_length,
    page_width,
    report_document,
    stdout_for_results,
)
from nncomplexity.cli.subject import CommandInputs, load_inputs
from nncomplexity.errors import InputError
from nncomplexity.words import Eps, name_of

if TYPE_CHECKING:
    from nncomplexity.bounds import LossUnit
    from nncomplexity.measure import Curve

_NO_BEST = "--save-best: {why}, or leave --save-best out"


@dataclass(frozen=True)
class EpsGroup:
    """The ε at which the curve is measured."""

    eps: Annotated[
        list[str] | None, typer.Option(metavar="NUMBER|SHARE%", help="ε, as for measure. Can be repeated. Default: twelve values.")
    ] = None
    grid: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH:POINTS", help="ε on a logarithmic grid, as 0.001:1:12 or 0.1%:50%:9, instead of --eps."),
    ] = None

    def typed(self) -> list[str] | None:
        """Each ε as text; None if the loss decides them. Raises InputError if both options are given."""
        if self.eps and self.grid is not None:
            raise InputError("--grid: expected only this or --eps, got both; leave one out")
        return self.eps or (_grid(self.grid) if self.grid is not None else None)


@dataclass(frozen=True)
class FilesGroup:
    """The files that the curve is written to."""

    save: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the .coarse files. {eps} in the name stands for each ε.")
    ] = None
    save_best: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the file with the least description length, at ε*. Needs --n.")
    ] = None
    json_file: Json = None

    def written(self, eps: Sequence[str]) -> Written:
        """The output files for these ε."""
        return Written(tuple(names_by_eps(self.save, eps)), self.json_file, self.save_best)


def curve(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="The network: the same kinds of file as for measure.")],
    distortion: DistortionGroup,
    wanted: EpsGroup,
    network: NetworkGroup,
    searched: SearchGroup,
    risk: OneNetworkRiskGroup,
    files: FilesGroup,
) -> int:
    """Measure a network at many ε in one run, and fit the rate-distortion curve.

    With tight, each ε takes about the time of a single measurement, and at most --budget evaluations. The table has the lower convex hull,
    the paper's fit bits = a·ln(distortion) + b, and a power law. With --n it also has the ε of the least description length (MDL), and
    with --risk-fn the bound at each ε.

    \b
    Twelve ε from 2 to 0.0005 (or shares, for a loss on another scale), and a picture:
      nncomplexity curve model.safetensors --loss-fn mytask:loss --json curve.json
      nncomplexity plot curve.json --out curve.svg
    \b
    The least description length, and its file:
      nncomplexity curve model.safetensors --loss-fn mytask:loss --grid 0.001:1:12 \\
          --n 2553 --save-best model.coarse
    """
    typed, named, unit = wanted.typed(), distortion.named(), risk.unit()
    values: Sequence[Eps] = [eps_value(text) for text in typed or ()]
    search, promise = searched.checked(), risk.bound_options()
    if files.save_best is not None and risk.n is None:
        raise InputError("--save-best: it needs --n, the number of examples for the description length; add --n N")
    written = files.written(typed or [name_of(value) for value in nncomplexity.measure.DEFAULT_EPS])
    network.check(checkpoint, written.names)
    with stdout_for_results():
        subject = load_inputs(checkpoint, network, distortion.loss_fn, named, risk.risk_fn, written.names)
        task = subject.task
        if task.risk_fn:
            promise = promise.with_labels(subject.faithfulness or task.loss_fn)
        if not typed:
            # The default ε depend on the scale of the loss, so the names of the files are known only now, and checked again.
            values = nncomplexity.measure.default_eps(subject.network, task.loss_fn)
            written = files.written([name_of(value) for value in values])
            network.check(checkpoint, written.names)
        # This takes a few evaluations. Without it, a long search could end with no file to save.
        if files.save_best is not None:
            with task.place():
                _check_code_length(subject, unit)
    with nncomplexity.search.Interrupt(nncomplexity.search.FROM_OUTSIDE) as interrupt:
        with search.running(interrupt, task) as options:
            found = nncomplexity.measure.rate_distortion(
                subject.network,
                task.loss_fn,
                values,
                risk=task.risk if task.risk_fn else None,
                n=risk.n,
                delta=risk.delta,
                chance=promise.chance,
                loss_unit=unit,
                relative_to=subject.base,
                faithfulness=subject.faithfulness,
                left_out_is_architecture=risk.left_out_is_architecture,
                **options,
            )

        def document() -> dict[str, Any]:
            summary = found.to_dict()
            if summary["mdl"]:
                summary["mdl"]["file"] = files.save_best
            reports = report_document(found.reports, written.files, found.bounds, found.lengths, subject.about(**search.about()))
            return {**reports, "curve": summary}

        def page() -> str:
            why = no_length(found.reports, found.lengths, risk.n, unit)
            return curve_table(checkpoint, found, no_length=why, width=page_width())

        written.deliver(lambda: _save(found, written), document, page)
    if interrupt.caught:
        return INTERRUPTED
    if files.save_best is not None and found.mdl is None:
        raise InputError(_NO_BEST.format(why=nncomplexity.bounds.why_no_code_length(None, loss=-1.0, zero_loss=None)))
    within = [one.within for one in found.reports]
    # If the user named no ε, it is no failure that some of the default ones are too small for this network.
    return DONE if all(within) or (not typed and any(within)) else NOT_WITHIN


def _check_code_length(subject: CommandInputs, unit: LossUnit | None) -> None:
    """Raises InputError if the network's loss is no code length, because the search would then end with no file to save."""
    weights = subject.original.tensors
    zero_loss = nncomplexity.network.constant_loss_of(subject.task.loss, weights)
    loss = subject.task.loss(weights)  # this call comes last, because a module keeps the weights of the last call
    if not nncomplexity.bounds.is_code_length(unit, loss=loss, zero_loss=zero_loss):
        raise InputError(_NO_BEST.format(why=nncomplexity.bounds.why_no_code_length(unit, loss=loss, zero_loss=zero_loss)))


def _grid(text: str) -> list[str]:
    """ε in a short decimal form, from large to small. They are shares if both ends are."""
    # A single % leaves one end that is no number, so it gets the message below.
    percent = "%" if text.count("%") == 2 else ""
    try:
        low, high, points = text.split(":")
        values = (float(low.removesuffix(percent)), float(high.removesuffix(percent)), int(points))
    except ValueError:
        values = (0.0, 0.0, 0)
    if not (0 < values[0] < values[1] < float("inf") and 2 <= values[2] <= 1000):
        raise InputError(
            f"--grid: expected LOW:HIGH:POINTS with 0 < LOW < HIGH and 2 to 1000 points, such as 0.001:1:12, got {text!r}"
        )
    # Four digits, because the name of each file contains its ε.
    return [f"{value:.4g}{percent}" for value in np.geomspace(values[1], values[0], values[2])]


def _save(found: Curve, written: Written) -> None:
    """Write the files of --save and --save-best."""
    for report, file in zip(found.reports, written.files, strict=True):
        if file is not None:
            report.save(file)
    if written.best is not None and found.mdl is not None:
        found.mdl[0].save(written.best)
