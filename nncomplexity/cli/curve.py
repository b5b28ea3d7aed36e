"""The command `curve`: one network at many ε, and the rate–distortion curve."""

import json
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import typer

from nncomplexity.bounds import LossUnit, is_code_length, why_no_code_length
from nncomplexity.checkpoint import StepRule
from nncomplexity.cli.basefile import base_file
from nncomplexity.cli.curve_table import curve_table
from nncomplexity.cli.options import (
    DONE,
    INTERRUPTED,
    NOT_WITHIN,
    BoundOptions,
    Chance,
    Classes,
    Codec,
    Delta,
    Device,
    DivergenceKind,
    Examples,
    Exclude,
    Include,
    Inputs,
    Json,
    Key,
    LossFnOrOutputs,
    LossIn,
    Method,
    Model,
    Outputs,
    ProbeInputs,
    RelativeTo,
    RelativeToKey,
    RiskFn,
    Seeds,
    StepKey,
    StepPattern,
    TimeLimit,
    distortion_of,
    eps_value,
    loss_unit_value,
    time_value,
)
from nncomplexity.cli.outputs import (
    STDOUT,
    check_writable,
    names_by_eps,
    no_length,
    page_width,
    progress_bar,
    report_document,
    stdout_for_results,
    write_json,
)
from nncomplexity.cli.subject import Subject, load_subject
from nncomplexity.codecs import codec_named
from nncomplexity.errors import InputError
from nncomplexity.measure import DEFAULT_EPS, Curve, default_eps, rate_distortion
from nncomplexity.network import constant_loss_of
from nncomplexity.search import FROM_OUTSIDE, Interrupt, method_named
from nncomplexity.words import Eps, name_of

_NO_BEST = "--save-best: {why}, or leave --save-best out"


def curve(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="The network: the same kinds of file as for measure.")],
    loss_fn: LossFnOrOutputs = None,
    outputs: Outputs = None,
    inputs: Inputs = None,
    divergence: DivergenceKind = None,
    probe: ProbeInputs = None,
    key: Key = None,
    step_pattern: StepPattern = None,
    step_key: StepKey = None,
    eps: Annotated[
        list[str] | None, typer.Option(metavar="NUMBER|SHARE%", help="ε, as for measure. Can be repeated. Default: twelve values.")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH:POINTS", help="ε on a logarithmic grid, as 0.001:1:12 or 0.1%:50%:9, instead of --eps."),
    ] = None,
    model: Model = None,
    method: Method = "tight",
    codec: Codec = None,
    budget: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Loss evaluations of a single measurement. The default depends on the method."),
    ] = None,
    time_limit: TimeLimit = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="The same seed gives the same files.")] = 0,
    seeds: Seeds = 1,
    include: Include = None,
    exclude: Exclude = None,
    relative_to: RelativeTo = None,
    relative_to_key: RelativeToKey = None,
    device: Device = "cpu",
    risk_fn: RiskFn = None,
    n: Examples = None,
    delta: Delta = 0.05,
    chance: Chance = None,
    classes: Classes = None,
    loss_unit: LossIn = None,
    save: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the .coarse files. {eps} in the name stands for each ε.")
    ] = None,
    save_best: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the file with the least description length, at ε*. Needs --n.")
    ] = None,
    json_file: Json = None,
) -> int:
    """Measure a network at many ε in one run, and fit the rate-distortion curve.

    With tight, all ε together cost less than three measurements of one ε. The table has the lower convex hull, the paper's fit
    bits = a·ln(distortion) + b and a power law, with --n the ε of the least description length (MDL), and with --risk-fn the bound
    at each ε.

    \b
    Twelve ε from 2 to 0.0005 (or shares, for a loss on another scale), and a picture:
      nncomplexity curve model.safetensors --loss-fn mytask:loss --json curve.json
      nncomplexity plot curve.json --out curve.svg
    \b
    The least description length, and its file:
      nncomplexity curve model.safetensors --loss-fn mytask:loss --grid 0.001:1:12 \\
          --n 2553 --save-best model.coarse
    """
    if eps and grid is not None:
        raise InputError("--grid: expected only this or --eps, got both; leave one out")
    typed = eps or (_grid(grid) if grid is not None else None)
    named = distortion_of(loss_fn, outputs, inputs, divergence, probe)
    steps = StepRule(step_pattern, step_key)
    seconds, unit = time_value(time_limit), loss_unit_value(loss_unit)
    values: Sequence[Eps] = [eps_value(text) for text in typed or ()]
    search, codec_name = method_named(method, budget), codec and codec_named(codec).name
    promise = BoundOptions.checked(risk_fn, n, delta, chance, classes)
    if save_best is not None and n is None:
        raise InputError("--save-best: it needs --n, the number of examples for the description length; add --n N")
    files = names_by_eps(save, typed or [name_of(value) for value in DEFAULT_EPS])
    json_path = None if json_file == STDOUT else json_file
    written_to = [*dict.fromkeys(files), save_best, json_path]  # if an ε is typed twice, there is one file
    base = base_file(relative_to, relative_to_key, "--relative-to")
    check_writable(written_to, inputs=[checkpoint, relative_to])
    with stdout_for_results():
        subject = load_subject(
            *(checkpoint, key),
            loss_fn=loss_fn,
            model=model,
            risk_fn=risk_fn,
            device=device,
            base=base,
            outputs=written_to,
            steps=steps,
            divergence=named,
        )
        task = subject.task
        if task.risk_fn:
            promise = promise.with_labels(subject.faithfulness or task.loss_fn)
        if not typed:
            values = default_eps(subject.network, task.loss_fn)
            files = names_by_eps(save, [name_of(value) for value in values])
            check_writable([*dict.fromkeys(files), save_best, json_path], inputs=[checkpoint, relative_to])
        if save_best is not None:
            with task.place():
                _check_code_length(subject, unit)
    with Interrupt(FROM_OUTSIDE) as interrupt:
        with stdout_for_results(), progress_bar(seconds) as progress, task.place():
            found = rate_distortion(
                *(subject.network, task.loss_fn, values),
                risk=task.risk if task.risk_fn else None,
                n=n,
                delta=delta,
                chance=promise.chance,
                loss_unit=unit,
                method=search,
                codec=codec_name,
                seed=seed,
                include=include or None,
                exclude=exclude or None,
                relative_to=subject.base,
                time_limit=seconds,
                progress=interrupt.watching(progress),
                faithfulness=subject.faithfulness,
                seeds=seeds,
            )
        about = subject.about(budget=search.budget, time_limit=seconds, seed=seed, seeds=seeds, include=include, exclude=exclude)
        report = json.loads(report_document(found.reports, files, found.bounds, found.lengths, about))
        summary = found.to_dict()
        if summary["mdl"]:
            summary["mdl"]["file"] = save_best
        document = json.dumps({**report, "curve": summary}, indent=1, ensure_ascii=False, allow_nan=False)
        try:
            written = _save(found, files, save_best)
            write_json(json_path, document)
        finally:  # the result of a long search is shown even if it can't be written
            if json_file != STDOUT:
                why = no_length(found.reports, found.lengths, n, unit)
                print(curve_table(checkpoint, found, no_length=why, width=page_width()), flush=True)
        if json_file == STDOUT:
            print(document, flush=True)
        elif written := [*written, *([json_path] if json_path else [])]:
            print(f"\nWritten: {', '.join(dict.fromkeys(written))}", flush=True)
    if interrupt.caught:
        return INTERRUPTED
    if save_best is not None and found.mdl is None:
        raise InputError(_NO_BEST.format(why=why_no_code_length(None, loss=-1.0, zero_loss=None)))
    within = [one.within for one in found.reports]
    return DONE if all(within) or (not typed and any(within)) else NOT_WITHIN


def _check_code_length(subject: Subject, unit: LossUnit | None) -> None:
    """Raises InputError where the network's loss is no code length: the search would only end without a file to save."""
    weights = subject.original.tensors
    zero_loss = constant_loss_of(subject.task.loss, weights)
    loss = subject.task.loss(weights)  # this call comes last, because a module keeps the weights of the last call
    if not is_code_length(unit, loss=loss, zero_loss=zero_loss):
        raise InputError(_NO_BEST.format(why=why_no_code_length(unit, loss=loss, zero_loss=zero_loss)))


def _grid(text: str) -> list[str]:
    """ε in a short decimal form, from large to small. They are shares if both ends are."""
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
    return [f"{value:.4g}{percent}" for value in np.geomspace(values[1], values[0], values[2])]


def _save(found: Curve, files: list[str | None], best: str | None) -> list[str]:
    """Write the files that were asked for, and return their names."""
    written = []
    for report, file in zip(found.reports, files, strict=True):
        if file is not None:
            report.save(file)
            written.append(file)
    if best is not None and found.mdl is not None:
        found.mdl[0].save(best)
        written.append(best)
    return written
