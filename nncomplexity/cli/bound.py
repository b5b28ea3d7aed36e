"""The command `bound`: the smallest bound over all files of a search, on the decoded network and on the original."""

import json
import sys
from typing import Annotated, Any

import typer

from nncomplexity.cli.basefile import base_file
from nncomplexity.cli.options import (
    DONE,
    INTERRUPTED,
    BoundOptions,
    Chance,
    Classes,
    Codec,
    Delta,
    Device,
    Exclude,
    Include,
    Json,
    Key,
    LossFnOrOutputs,
    Method,
    Model,
    RelativeTo,
    RelativeToKey,
    Seeds,
    TimeLimit,
    eps_value,
    time_value,
)
from nncomplexity.cli.outputs import (
    STDOUT,
    check_writable,
    page_width,
    progress_bar,
    report_document,
    stdout_for_results,
    write_json,
)
from nncomplexity.cli.subject import load_subject
from nncomplexity.cli.table import page_of, spreads, warnings
from nncomplexity.codecs import codec_named
from nncomplexity.errors import InputError
from nncomplexity.measure import BestBound, best_bound
from nncomplexity.network import NamedDivergence, data_named, find_function, takes_arguments
from nncomplexity.search import FROM_OUTSIDE, Interrupt, method_named

_FUNCTION = "MODULE:FUNCTION"
_NO_CHANCE = (
    "nncomplexity: chance: taken as 1, the worst possible error rate, so 'not vacuous' says little; give --chance or --classes"
)


def bound(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="The network: the same kinds of file as for measure.")],
    risk_fn: Annotated[str, typer.Option(metavar=_FUNCTION, help="The error rate on the n training examples, in [0, 1].")],
    n: Annotated[int, typer.Option("--n", metavar="N", min=1, help="Training examples.")],
    loss_fn: LossFnOrOutputs = None,
    outputs: Annotated[
        str | None, typer.Option(metavar=_FUNCTION, help="outputs(network, inputs), for --unlabelled, --holdout and --inputs.")
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(metavar=_FUNCTION, help="Instead of --loss-fn: the search uses the divergence of --outputs on these inputs."),
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(metavar=_FUNCTION, help="A function that returns new unlabelled inputs, for a bound on the original network."),
    ] = None,
    holdout: Annotated[
        str | None,
        typer.Option(
            metavar=_FUNCTION,
            help="Returns labelled inputs kept out of training; or holdout(network), which returns the errors.",
        ),
    ] = None,
    chance: Chance = None,
    classes: Classes = None,
    delta: Delta = 0.05,
    model: Model = None,
    key: Key = None,
    eps: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER|SHARE%", help="ε of the files, as for measure. Can be repeated. Default: twelve values."),
    ] = None,
    method: Method = "tight",
    codec: Codec = None,
    budget: Annotated[int | None, typer.Option(metavar="N", min=1, help="As for curve. The default depends on the method.")] = None,
    time_limit: TimeLimit = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="The same seed gives the same file.")] = 0,
    seeds: Seeds = 1,
    include: Include = None,
    exclude: Exclude = None,
    relative_to: RelativeTo = None,
    relative_to_key: RelativeToKey = None,
    device: Device = "cpu",
    save: Annotated[str | None, typer.Option(metavar="FILE", help="Write the .coarse file with the smallest bound.")] = None,
    json_file: Json = None,
) -> int:
    """Search for the smallest bound on the error rate on unseen data, and print it in a sentence that you can quote.

    A prefix code's bound holds for all its files at once, so the search may choose ε. With --unlabelled, there is also a bound on the
    original network: the bound of a file plus an upper limit on how often the two networks disagree. With --holdout, there is also
    the test-set bound.

    \b
      nncomplexity bound model.safetensors --loss-fn mytask:loss --risk-fn mytask:error --n 2553 --classes 113
      nncomplexity bound model.safetensors --loss-fn mytask:loss --risk-fn mytask:error --n 2553 \\
          --outputs mytask:logits --unlabelled mytask:fresh --holdout mytask:test
    """
    seconds, search, codec_name = time_value(time_limit), method_named(method, budget), codec and codec_named(codec).name
    values = [eps_value(text) for text in eps] if eps else None
    promise = BoundOptions.checked(risk_fn, n, delta, chance, classes)
    if loss_fn is None and inputs is None:
        raise InputError("--loss-fn: expected MODULE:FUNCTION, or --outputs and --inputs instead, got neither")
    named = None if loss_fn is not None or inputs is None else NamedDivergence.of(outputs, inputs, None, "0")
    for option, value in (("--unlabelled", unlabelled), ("--inputs", inputs)):
        if value is not None and outputs is None:
            raise InputError(f"--outputs: expected MODULE:FUNCTION, for the network's outputs on {option}, got none; add it")
    json_path = None if json_file == STDOUT else json_file
    written_to = [save, json_path]
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
            divergence=named,
        )
        task = subject.task
        answers = None if outputs is None else find_function(outputs, "--outputs")
        fresh = None if unlabelled is None else _data(unlabelled, "--unlabelled")
        test = _holdout(holdout, outputs)
    with Interrupt(FROM_OUTSIDE) as interrupt:
        with stdout_for_results(), progress_bar(seconds) as progress, task.place():
            found = best_bound(
                *(subject.network, task.loss_fn),
                risk=task.risk_fn or (lambda _: 1.0),
                n=n,
                chance=promise.chance,
                delta=delta,
                outputs=answers,
                unlabelled=fresh,
                holdout=test,
                eps=values,
                method=search,
                codec=codec_name,
                seed=seed,
                seeds=seeds,
                include=include or None,
                exclude=exclude or None,
                relative_to=subject.base,
                time_limit=seconds,
                progress=interrupt.watching(progress),
            )
        if found.bound.chance == 1:
            print(_NO_CHANCE, file=sys.stderr)
        options = {
            "budget": search.budget,
            "time_limit": seconds,
            "seed": seed,
            "seeds": seeds,
            "include": include,
            "exclude": exclude,
        }
        about = subject.about(**options, unlabelled=unlabelled, holdout=holdout)
        document = json.loads(report_document([found.report], [save], [found.bound], [None], about))
        text = json.dumps({**document, "best_bound": found.to_dict()}, indent=1, ensure_ascii=False, allow_nan=False)
        try:
            if save is not None:
                found.report.save(save)
            write_json(json_path, text)
        finally:
            if json_file != STDOUT:
                print(told(checkpoint, found, page_width()), flush=True)
        if json_file == STDOUT:
            print(text, flush=True)
        elif written := [name for name in written_to if name is not None]:
            print(f"\nWritten: {', '.join(written)}", flush=True)
    return INTERRUPTED if interrupt.caught else DONE


def told(checkpoint: str, found: BestBound, width: int) -> str:
    """The bounds as text, each with its network, then the sentence to quote."""
    report, bound_ = found.report, found.bound
    lines = [
        f"{checkpoint}: the smallest bound of {found.tried} files is at ε = {report.eps_told}, {report.bits // 8:,} bytes.",
        "",
        bound_.sentence(),
    ]
    if found.original is not None and found.original_report is not None:
        one, other = found.original, found.original_report
        lines += [
            "",
            f"On the original, with the file at ε = {other.eps_told}, {other.bits // 8:,} bytes: {one.value:.4f} = {one.decoded.value:.4f} "
            f"+ {one.limit:.4f}: the two disagree on {one.disagreements:,} of {one.m:,} unlabelled inputs.",
        ]
    if found.holdout is not None:
        lines += ["", f"From the holdout alone: {found.holdout.sentence()}"]
    lines += [*spreads([report]), *warnings([report]), "", found.sentence()]
    return page_of(lines, width)


def _data(name: str, option: str) -> Any:
    data = data_named(name, option)
    if callable(data) and not hasattr(data, "__iter__"):
        raise InputError(f"{option}: expected a function without arguments that returns inputs, got {name}, which has arguments")
    return data


def _holdout(name: str | None, outputs: str | None) -> Any:
    """The holdout's data, or a function of the network."""
    if name is None or takes_arguments(function := find_function(name, "--holdout")):
        return None if name is None else function
    if outputs is None:
        raise InputError("--outputs: expected MODULE:FUNCTION, for the network's answers on --holdout, got none; add it")
    return _data(name, "--holdout")
