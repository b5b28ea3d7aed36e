"""The command `bound`: the smallest bound over all files of a search, on the decoded network and on the original."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

import nncomplexity
from nncomplexity.cli.groups import NetworkGroup, SearchGroup
from nncomplexity.cli.options import (
    CHANCE_BY_LABELS,
    DONE,
    INTERRUPTED,
    BoundOptions,
    Chance,
    Classes,
    Delta,
    Json,
    LeftOutIsArchitecture,
    LossFnOrOutputs,
    eps_value,
)
from nncomplexity.cli.outputs import Written, page_width, report_document, stdout_for_results
from nncomplexity.cli.subject import load_inputs
from nncomplexity.cli.table import page_of, spreads, warnings
from nncomplexity.errors import InputError
from nncomplexity.words import counted

if TYPE_CHECKING:
    from nncomplexity.measure import BestBound
    from nncomplexity.network import NamedDivergence

_FUNCTION = "MODULE:FUNCTION"
_NO_CHANCE = (
    "nncomplexity: chance: taken as 1, the worst possible error rate, so 'not vacuous' may still be worse than a guess; give --chance or "
    "--classes"
)


@dataclass(frozen=True)
class ErrorGroup:
    """The error rate that is bounded, and the error rate of a guess."""

    risk_fn: Annotated[str, typer.Option(metavar=_FUNCTION, help="The error rate on the n training examples, in [0, 1].")]
    n: Annotated[int, typer.Option("--n", metavar="N", min=1, help="Training examples.")]
    chance: Chance = None
    classes: Classes = None
    left_out_is_architecture: LeftOutIsArchitecture = False
    delta: Delta = 0.05

    def checked(self) -> BoundOptions:
        """The settings of the bound. Raises InputError if they give no bound."""
        return BoundOptions.checked(self.risk_fn, self.n, self.delta, self.chance, self.classes)


@dataclass(frozen=True)
class AnswersGroup:
    """The loss of the search, and the network's answers on inputs that it wasn't trained on."""

    loss_fn: LossFnOrOutputs = None
    outputs: Annotated[
        str | None, typer.Option(metavar=_FUNCTION, help="outputs(network, inputs), for --unlabelled, --holdout and --inputs.")
    ] = None
    inputs: Annotated[
        str | None,
        typer.Option(metavar=_FUNCTION, help="Instead of --loss-fn: the search uses the divergence of --outputs on these inputs."),
    ] = None
    unlabelled: Annotated[
        str | None,
        typer.Option(metavar=_FUNCTION, help="A function that returns new unlabelled inputs, for a bound on the original network."),
    ] = None
    holdout: Annotated[
        str | None,
        typer.Option(
            metavar=_FUNCTION,
            help="A function that returns labelled inputs kept out of training; or holdout(network), which returns the errors.",
        ),
    ] = None

    def named(self) -> NamedDivergence | None:
        """The divergence of the search, if there is no loss. Raises InputError if there is neither, or if outputs are missing."""
        if self.loss_fn is None and self.inputs is None:
            raise InputError("--loss-fn: expected MODULE:FUNCTION, or --outputs and --inputs instead, got neither")
        # --outputs alone is for --unlabelled and --holdout. It makes a distortion only together with --inputs, and without a loss.
        by_outputs = self.loss_fn is None and self.inputs is not None
        named = nncomplexity.network.NamedDivergence.of(self.outputs, self.inputs, None, "0") if by_outputs else None
        for option, value in (("--unlabelled", self.unlabelled), ("--inputs", self.inputs)):
            if value is not None and self.outputs is None:
                raise InputError(f"--outputs: expected MODULE:FUNCTION, for the network's outputs on {option}, got none; add it")
        return named


def bound(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="The network: the same kinds of file as for measure.")],
    error: ErrorGroup,
    answers: AnswersGroup,
    network: NetworkGroup,
    searched: SearchGroup,
    eps: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER|SHARE%", help="ε of the files, as for measure. Can be repeated. Default: twelve values."),
    ] = None,
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
    search, values = searched.checked(), [eps_value(text) for text in eps] if eps else None
    promise, named = error.checked(), answers.named()
    written = Written((save,), json_file)
    network.check(checkpoint, written.names)
    with stdout_for_results():
        subject = load_inputs(checkpoint, network, answers.loss_fn, named, error.risk_fn, written.names)
        task = subject.task
        outputs = None if answers.outputs is None else nncomplexity.network.find_function(answers.outputs, "--outputs")
        fresh = None if answers.unlabelled is None else _data(answers.unlabelled, "--unlabelled")
        test = _holdout(answers.holdout, answers.outputs)
    with nncomplexity.search.Interrupt(nncomplexity.search.FROM_OUTSIDE) as interrupt:
        with search.running(interrupt, task) as options:
            found = nncomplexity.measure.best_bound(
                subject.network,
                task.loss_fn,
                risk=task.risk_fn or (lambda _: 1.0),  # --risk-fn is required, so the default is only for the type checker
                n=error.n,
                chance=promise.chance,
                delta=error.delta,
                outputs=outputs,
                unlabelled=fresh,
                holdout=test,
                eps=values,
                relative_to=subject.base,
                left_out_is_architecture=error.left_out_is_architecture,
                **options,
            )
        # Without a given chance, every bound below the worst error rate counts as not vacuous. The user must be warned of this.
        if found.chance_from is not None:
            print(CHANCE_BY_LABELS.format(found.bound.chance, found.chance_from), file=sys.stderr)
        elif found.bound.chance == 1:
            print(_NO_CHANCE, file=sys.stderr)

        def save_file() -> None:
            if save is not None:
                found.report.save(save)

        def document() -> dict[str, Any]:
            about = subject.about(**search.about(), unlabelled=answers.unlabelled, holdout=answers.holdout)
            return {**report_document([found.report], [save], [found.bound], [None], about), "best_bound": found.to_dict()}

        written.deliver(save_file, document, lambda: bound_in_words(checkpoint, found, page_width()))
    return INTERRUPTED if interrupt.caught else DONE


def bound_in_words(checkpoint: str, found: BestBound, width: int) -> str:
    """The bounds as text, each with the network that it is about, and then the sentence to quote."""
    report, bound_ = found.report, found.bound
    lines = [
        f"{checkpoint}: the smallest bound of {counted(found.tried, 'file')} is at ε = {report.eps_told}, {report.bits // 8:,} bytes.",
        "",
        bound_.sentence(),
    ]
    if found.original is not None and found.original_report is not None:
        one, other = found.original, found.original_report
        lines += [
            "",
            f"On the original, with the file at ε = {other.eps_told}, {other.bits // 8:,} bytes: {one.value:.4f} = {one.decoded.value:.4f} "
            f"+ {one.limit:.4f}: the two disagree on {one.disagreements:,} of {counted(one.m, 'unlabelled input')}.",
        ]
    if found.holdout is not None:
        lines += ["", f"From the holdout alone: {found.holdout.sentence()}"]
    lines += [*spreads([report]), *warnings([report]), "", found.sentence()]
    return page_of(lines, width)


def _data(name: str, option: str) -> Any:
    data = nncomplexity.network.data_named(name, option)
    # `data_named` calls a function without arguments. So what can still be called, and is no data, is a function with arguments.
    if callable(data) and not hasattr(data, "__iter__"):
        raise InputError(f"{option}: expected a function without arguments that returns inputs, got {name}, which has arguments")
    return data


def _holdout(name: str | None, outputs: str | None) -> Any:
    """The data of the holdout, or the user's function of the network."""
    if name is None or nncomplexity.network.takes_arguments(function := nncomplexity.network.find_function(name, "--holdout")):
        return None if name is None else function
    if outputs is None:
        raise InputError("--outputs: expected MODULE:FUNCTION, for the network's answers on --holdout, got none; add it")
    return _data(name, "--holdout")
