"""The command `measure`: the bits of the smallest file found within each ε."""

from typing import Annotated

import typer

from nncomplexity.bounds import Bound
from nncomplexity.checkpoint import StepRule
from nncomplexity.cli import table
from nncomplexity.cli.basefile import base_file
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
from nncomplexity.cli.subject import load_subject
from nncomplexity.codecs import codec_named
from nncomplexity.measure import estimate
from nncomplexity.network import constant_risk
from nncomplexity.search import FROM_OUTSIDE, Interrupt, method_named


def measure(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="The network: a .safetensors, .pt, .pth, .bin, .ckpt or .npz file, an index of shards, or a folder.",
        ),
    ],
    eps: Annotated[
        list[str],
        typer.Option(
            metavar="NUMBER|SHARE%",
            help="ε, in the loss's own unit, or a share such as 1% of the distance to all weights zero. Can be repeated. 0 is lossless.",
        ),
    ],
    loss_fn: LossFnOrOutputs = None,
    outputs: Outputs = None,
    inputs: Inputs = None,
    divergence: DivergenceKind = None,
    probe: ProbeInputs = None,
    key: Key = None,
    step_pattern: StepPattern = None,
    step_key: StepKey = None,
    model: Model = None,
    method: Method = "tight",
    codec: Codec = None,
    budget: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Loss evaluations for each ε. The default depends on the method.")
    ] = None,
    time_limit: TimeLimit = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="The same seed gives the same file.")] = 0,
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
        str | None, typer.Option(metavar="FILE", help="Write the .coarse file. {eps} in the name stands for each ε.")
    ] = None,
    json_file: Json = None,
) -> int:
    """Measure a network: the bits of the smallest file found within each ε.

    The loss function gets the weights θ as a dict of tensors (with --model, a module that holds them) and returns the mean loss
    on the training data, in nats per example for cross-entropy. It must be deterministic. A file is within ε if its decoded
    weights θ' have |loss(θ) − loss(θ')| ≤ ε. At 0.01 nats, almost all that was learned is kept; at 1 nat, only what most examples need.

    \b
    Two ε, and their files:
      nncomplexity measure model.safetensors --loss-fn mytask:loss \\
          --eps 0.1 --eps 0.01 --save model_{eps}.coarse
    \b
    A bound on the error on unseen data, with 2553 training examples:
      nncomplexity measure model.safetensors --loss-fn mytask:loss --eps 0.1 \\
          --risk-fn mytask:error --n 2553 --classes 10
    \b
    A checkpoint of a training loop, with the averaged weights:
      nncomplexity measure last.pt --key ema --loss-fn mytask:loss --eps 0.1
    \b
    What fine-tuning added to a base:
      nncomplexity measure tuned.safetensors --relative-to base.safetensors \\
          --loss-fn mytask:loss --eps 0.1
    \b
    The complexity of this network by its outputs, with five searches:
      nncomplexity measure model.safetensors --outputs mytask:logits --inputs mytask:inputs \\
          --eps 0.1 --seeds 5
    \b
    A loss that takes a module, which mytask.build() makes:
      nncomplexity measure model.safetensors --model mytask:build \\
          --loss-fn mytask:loss --eps 0.1
    """
    named = distortion_of(loss_fn, outputs, inputs, divergence, probe)
    steps = StepRule(step_pattern, step_key)
    seconds, unit = time_value(time_limit), loss_unit_value(loss_unit)
    values = [eps_value(text) for text in eps]
    search, codec_name = method_named(method, budget), codec and codec_named(codec).name
    promise = BoundOptions.checked(risk_fn, n, delta, chance, classes)
    files = names_by_eps(save, eps)
    json_path = None if json_file == STDOUT else json_file
    written_to = [*dict.fromkeys(files), json_path]  # if an ε is typed twice, there is one file
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
    with Interrupt(FROM_OUTSIDE) as interrupt:
        with stdout_for_results(), progress_bar(seconds) as progress, task.place():
            reports = estimate(
                *(subject.network, task.loss_fn, values),
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
        lengths = [None if n is None else report.description_length(n, unit) for report in reports]
        bounds: list[Bound | None] = [None] * len(reports)
        try:
            for report, file in zip(reports, files, strict=True):
                if file is not None:
                    report.save(file)
            if risk_fn:
                with stdout_for_results():
                    constant = constant_risk(task.risk, subject.original.tensors)
                    risks = [task.risk(report.coarse_weights()) for report in reports]
                bounds = [promise.of(report.bits, risk, constant) for report, risk in zip(reports, risks, strict=True)]
            document = report_document(reports, files, bounds, lengths, about)
            write_json(json_path, document)
        finally:  # the result of a long search is shown even if it can't be written
            if json_file != STDOUT:
                why = no_length(reports, lengths, n, unit)
                print(table.measured(checkpoint, reports, bounds, lengths, no_length=why, width=page_width()), flush=True)
        if json_file == STDOUT:
            print(document, flush=True)
        elif written := [file for file in written_to if file is not None]:
            print(f"\nWritten: {', '.join(written)}", flush=True)
    if interrupt.caught:
        return INTERRUPTED
    return DONE if all(report.within for report in reports) else NOT_WITHIN
