"""The command `measure`: finds the smallest file within each ε, and prints its bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

import nncomplexity
from nncomplexity.cli import table
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
from nncomplexity.cli.subject import load_inputs

if TYPE_CHECKING:
    from nncomplexity.bounds import Bound


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
    distortion: DistortionGroup,
    network: NetworkGroup,
    searched: SearchGroup,
    risk: OneNetworkRiskGroup,
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
    named, unit, values = distortion.named(), risk.unit(), [eps_value(text) for text in eps]
    search, promise = searched.checked(), risk.bound_options()
    files = names_by_eps(save, eps)
    written = Written(tuple(files), json_file)
    network.check(checkpoint, written.names)
    with stdout_for_results():
        subject = load_inputs(checkpoint, network, distortion.loss_fn, named, risk.risk_fn, written.names)
        if risk.risk_fn:
            nncomplexity.measure.check_left_out(
                nncomplexity.network.numbers_left_out(subject.network), risk.left_out_is_architecture
            )
            promise = promise.with_labels(subject.faithfulness or subject.task.loss_fn)
    # Ctrl-C ends only the search. The best files so far are written and shown.
    with nncomplexity.search.Interrupt(nncomplexity.search.FROM_OUTSIDE) as interrupt:
        with search.running(interrupt, subject.task) as options:
            reports = nncomplexity.measure.estimate(
                subject.network,
                subject.task.loss_fn,
                values,
                relative_to=subject.base,
                faithfulness=subject.faithfulness,
                **options,
            )
        lengths = [None if risk.n is None else report.description_length(risk.n, unit) for report in reports]
        bounds: list[Bound | None] = [None] * len(reports)

        def save_files() -> None:
            for report, file in zip(reports, files, strict=True):
                if file is not None:
                    report.save(file)

        def document() -> dict[str, Any]:
            if risk.risk_fn and risk.n is not None:
                with stdout_for_results():
                    # In place, because the table shows the same bounds.
                    bounds[:] = nncomplexity.measure.bounds_of(
                        reports, subject.task.risk, n=risk.n, delta=risk.delta, chance=promise.chance
                    )
            return report_document(reports, files, bounds, lengths, subject.about(**search.about()))

        def page() -> str:
            why = no_length(reports, lengths, risk.n, unit)
            return table.measured(checkpoint, reports, bounds, lengths, no_length=why, width=page_width())

        written.deliver(save_files, document, page)
    if interrupt.caught:
        return INTERRUPTED
    return DONE if all(report.within for report in reports) else NOT_WITHIN
