"""The command line: options in, one call, a table or JSON out. docs/cli.md is its reference."""

import io
import json
import math
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import torch
import typer
from typer.main import get_command

from nncomplexity import table
from nncomplexity.bitstream import DEFAULT_LIMIT, read_file
from nncomplexity.bounds import Bound, DescriptionLength, bound, description_length
from nncomplexity.checkpoint import Checkpoint, load_checkpoint, save_safetensors
from nncomplexity.cli_show import add_commands
from nncomplexity.cli_track import add_command as add_track
from nncomplexity.codecs import codec_named
from nncomplexity.errors import InputError
from nncomplexity.estimate import estimate
from nncomplexity.outputs import (
    STDOUT,
    check_writable,
    names_by_eps,
    page_width,
    progress_bar,
    report_document,
    stdout_for_results,
    write_json,
)
from nncomplexity.report import SCHEMA, Report
from nncomplexity.search import method_named
from nncomplexity.taskmodule import Task, find_device, find_function
from nncomplexity.verify import check_claims, read_report
from nncomplexity.version import __version__
from nncomplexity.weights import check_numbers

DONE, CLAIM_FAILS, WRONG_CALL, NOT_WITHIN, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 130, 141

# typer carries a copy of click in some versions and depends on click in others; UsageError is BadParameter's parent in both.
_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]

_FUNCTION = "MODULE:FUNCTION"
LossFn = Annotated[str, typer.Option(metavar=_FUNCTION, help="The loss; mytask:loss is loss() in ./mytask.py.")]
Model = Annotated[
    str | None, typer.Option(metavar=_FUNCTION, help="Makes the nn.Module that the loss gets instead of a dict of tensors.")
]
RiskFn = Annotated[
    str | None, typer.Option(metavar=_FUNCTION, help="The error rate on the n training examples, in [0, 1]: gives the bound.")
]
Examples = Annotated[
    int | None, typer.Option("--n", metavar="N", min=1, help="Training examples, for the bound and the description length.")
]
Delta = Annotated[float, typer.Option(metavar="PROBABILITY", help="Failure probability of the bound.")]
Include = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Coarse-grain only tensors of such names, as 'encoder.*'; repeat it.")
]
Exclude = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Keep tensors of such names exactly; repeat it.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="Where the loss gets the weights: cpu, cuda, cuda:1, mps.")]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write JSON there; - prints it instead of the table.")]
Key = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The state dict in a pickled checkpoint, as a dotted path; else guessed, and said."),
]
Limit = Annotated[int, typer.Option(metavar="BYTES", min=1, help="Refuse a file that decodes to more.")]
CoarseFile = Annotated[str, typer.Argument(metavar="FILE.coarse", help="A file that measure --save wrote.")]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 verify found a claim that fails, or track a checkpoint; 2 the call or an input is wrong; "
    "3 nothing within ε was found smaller than the lossless file; 130 interrupted.",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. An error is one line on standard error.

    >>> main(["--version"])
    nncomplexity ...
    0
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ε must not end a measurement on a terminal that has none
    try:
        with get_command(app).make_context("nncomplexity", list(sys.argv[1:] if argv is None else argv)) as context:
            return int(context.command.invoke(context) or DONE)
    except typer.Exit as leave:
        return leave.exit_code
    except _UsageError as error:
        where = error.ctx.command_path if error.ctx else "nncomplexity"
        return _fail(f"{error.format_message().rstrip('.')}; see {where} --help", WRONG_CALL)
    except InputError as error:
        return _fail(str(error), WRONG_CALL)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Python flushes standard output once more when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def _version(wanted: bool) -> None:
    if wanted:
        print(f"nncomplexity {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """How many bits does what a neural network has learned take, and what does that promise about unseen data?

    'measure' looks for the smallest file that decodes to weights whose loss is within ε of the original's. The bits of that
    file bound the Kolmogorov complexity of what was learned, and with it the error on unseen data.

    \b
    With a model.safetensors here, and a mytask.py whose loss(weights) returns the training loss:
      nncomplexity measure model.safetensors --loss-fn mytask:loss --eps 0.01
    """


@app.command(short_help="Bits of the smallest file found within each ε.")
def measure(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="The network: .safetensors, .pt, .pth, .bin, .ckpt, an index of shards, a folder."
        ),
    ],
    loss_fn: LossFn,
    eps: Annotated[
        list[str], typer.Option(metavar="NUMBER", help="ε, in the loss's own unit; repeat it for several; 0 is lossless.")
    ],
    key: Key = None,
    model: Model = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="tight: the smallest files. bayes, quantize: the paper's Algorithms 1, 2.")
    ] = "tight",
    codec: Annotated[
        str | None, typer.Option(metavar="NAME", help="entropy, bzip2, xz, gzip or zstd; else the method's own.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Loss evaluations for each ε; else the method's own.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="The same seed gives the same file.")] = 0,
    include: Include = None,
    exclude: Exclude = None,
    device: Device = "cpu",
    risk_fn: RiskFn = None,
    n: Examples = None,
    delta: Delta = 0.05,
    save: Annotated[str | None, typer.Option(metavar="FILE", help="Write the .coarse file; {eps} in it stands for each ε.")] = None,
    json_file: Json = None,
) -> int:
    """Measure a network: the bits of the smallest file found within each ε.

    The loss function gets the weights θ as a dict of tensors (with --model, a module that holds them) and returns the mean loss
    on the training data, in nats per example for cross-entropy. It must be deterministic. A file is within ε when the weights θ'
    that it decodes to have |loss(θ) − loss(θ')| ≤ ε: 0.01 nats keeps almost all that was learned, 1 its outline.

    \b
    Two levels of detail, and the files:
      nncomplexity measure model.safetensors --loss-fn mytask:loss \\
          --eps 0.1 --eps 0.01 --save model_{eps}.coarse
    \b
    What the bits promise about unseen data, given the error rate on 2553 training examples:
      nncomplexity measure model.safetensors --loss-fn mytask:loss --eps 0.1 \\
          --risk-fn mytask:error --n 2553
    \b
    A checkpoint of a training loop, of which the averaged weights are meant:
      nncomplexity measure last.pt --key ema --loss-fn mytask:loss --eps 0.1
    \b
    A loss that takes a module, such as mytask.build() makes:
      nncomplexity measure model.safetensors --model mytask:build \\
          --loss-fn mytask:loss --eps 0.1
    """
    values = [_eps(text) for text in eps]
    search, codec_name = method_named(method, budget), codec and codec_named(codec).name
    _check_bound_options(risk_fn, n, delta)
    files = names_by_eps(save, eps)
    json_path = None if json_file == STDOUT else json_file
    check_writable([*files, json_path], inputs=[checkpoint])
    with stdout_for_results():
        task = _task(loss_fn, model, risk_fn, device)
        original = _load(checkpoint, key, task, outputs=[*files, json_path])
        check_numbers(original.tensors)
        network = task.network(original.tensors)
        if task.risk_fn:
            task.risk(original.tensors)  # what is wrong with it should show before the search, not after
        with progress_bar() as progress:
            reports = estimate(
                *(network, task.loss_fn, values),
                method=search,
                codec=codec_name,
                seed=seed,
                include=include or None,
                exclude=exclude or None,
                progress=progress,
            )
    about = {
        "checkpoint": checkpoint,
        "sha256": original.sha256,
        "key": original.key,
        "step": original.step,
        "loss_fn": loss_fn,
        "model": model,
        "risk_fn": risk_fn,
        "budget": search.budget,
        "seed": seed,
        "include": include,
        "exclude": exclude,
        "device": device,
        "version": __version__,
        "torch": torch.__version__,
    }
    lengths = [_description_length(report, n) for report in reports]
    bounds: list[Bound | None] = [None] * len(reports)
    try:
        for report, file in zip(reports, files, strict=True):
            if file is not None:
                report.save(file)
        with stdout_for_results():
            bounds = [_bound(report.bits, task.risk(report.coarse_weights()) if risk_fn else None, n, delta) for report in reports]
        document = report_document(reports, files, bounds, lengths, about)
        write_json(json_path, document)
    finally:  # what took long to find is shown even where it can't be written
        if json_file != STDOUT:
            print(table.measured(checkpoint, reports, bounds, lengths, width=page_width()), flush=True)
    if json_file == STDOUT:
        print(document, flush=True)
    elif written := [file for file in dict.fromkeys([*files, json_path]) if file is not None]:
        print(f"\nWritten: {', '.join(written)}", flush=True)
    return DONE if all(report.within for report in reports) else NOT_WITHIN


@app.command(short_help="Decode a .coarse file to .safetensors.")
def decompress(
    file: CoarseFile,
    out: Annotated[str, typer.Option(metavar="FILE", help="The .safetensors file to write.")],
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """Decode a .coarse file to a .safetensors checkpoint, with the same bits on every machine.

    \b
      nncomplexity decompress model.coarse --out coarse.safetensors
    """
    check_writable([out], inputs=[file])
    coarse = read_file(file, limit=limit)
    save_safetensors(out, coarse.weights())
    skeleton = coarse.skeleton
    print(
        f"wrote {out}: {len(skeleton.tensors):,} tensors, {skeleton.parameters:,} parameters, from {coarse.bits:,} bits", flush=True
    )


@app.command(short_help="Check what is claimed of a .coarse file.")
def verify(
    file: CoarseFile,
    loss_fn: LossFn,
    model: Model = None,
    against: Annotated[str | None, typer.Option(metavar="CHECKPOINT", help="The original network, as measure takes it.")] = None,
    key: Key = None,
    eps: Annotated[str | None, typer.Option(metavar="NUMBER", help="The ε that the file is claimed to keep.")] = None,
    claims: Annotated[
        str | None, typer.Option(metavar="REPORT", help="A report.json whose figures for this file to check.")
    ] = None,
    device: Device = "cpu",
    risk_fn: RiskFn = None,
    n: Examples = None,
    delta: Delta = 0.05,
    limit: Limit = DEFAULT_LIMIT,
    json_file: Json = None,
) -> int:
    """Check a .coarse file: decode it, measure bits and loss anew, and say which claims hold.

    With --against the original: the architecture is the same and, with --eps, the distortion is at most ε. With --claims a
    report: its figures for the file are true. Ends with exit code 1 where a claim fails.

    \b
      nncomplexity verify model.coarse --loss-fn mytask:loss \\
          --against model.safetensors --eps 0.01
      nncomplexity verify model.coarse --loss-fn mytask:loss --claims report.json
    """
    value = None if eps is None else _eps(eps)
    if value is not None and against is None and claims is None:
        raise InputError("--eps: it needs --against CHECKPOINT, which gives the original's loss")
    if key is not None and against is None:
        raise InputError("--key: it needs --against CHECKPOINT, in which it names the state dict")
    _check_bound_options(risk_fn, n, delta)
    json_path = None if json_file == STDOUT else json_file
    check_writable([json_path], inputs=[file, against, claims])
    coarse = read_file(file, limit=limit)
    reported = read_report(claims, file) if claims is not None else None
    with stdout_for_results():
        task = _task(loss_fn, model, risk_fn, device)
        original = _load(against, key, task, outputs=[json_path]) if against is not None else None
        found = check_claims(coarse, task, against=original, eps=value, reported=reported)
    promise = _bound(found.bits, found.risk, n, delta)
    extra = {"schema": SCHEMA, "version": __version__, "file": file, "bound": promise and promise.to_dict()}
    document = json.dumps({**extra, **found.to_dict()}, indent=1, ensure_ascii=False, allow_nan=False)
    write_json(json_path, document)
    print(document if json_file == STDOUT else table.verified(file, found, promise, width=page_width()), flush=True)
    return DONE if found.holds else CLAIM_FAILS


add_track(app)
add_commands(app)


def _fail(message: str, code: int) -> int:
    print(f"nncomplexity: {' '.join(message.split())}", file=sys.stderr)
    return code


def _eps(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise InputError(f"--eps: expected a finite number of at least 0, in the loss's own unit, got {text!r}")
    return value


def _task(loss_fn: str, model: str | None, risk_fn: str | None, device: str) -> Task:
    return Task(
        device=find_device(device),
        loss_fn=find_function(loss_fn, "--loss-fn"),
        build=find_function(model, "--model") if model is not None else None,
        risk_fn=find_function(risk_fn, "--risk-fn") if risk_fn is not None else None,
    )


def _load(path: str, key: str | None, task: Task, outputs: Sequence[str | None]) -> Checkpoint:
    """The network; what was guessed of it is said on standard error."""
    checkpoint = load_checkpoint(path, key)
    check_writable(outputs, inputs=[str(file) for file in checkpoint.files])  # a folder's files are known only now
    notes = list(checkpoint.notes)
    if prefix := task.prefix(checkpoint.tensors):
        notes.append(f"took {prefix!r} off the names, which fit the module of --model without it")
    for note in notes:
        print(f"nncomplexity: {path}: {note}", file=sys.stderr)
    return checkpoint


def _check_bound_options(risk_fn: str | None, n: int | None, delta: float) -> None:
    if risk_fn is not None and n is None:
        raise InputError("--n: expected the number of training examples that --risk-fn looks at, got none; add --n N")
    bound(0.0, risk=0.0, n=n or 1, delta=delta)


def _bound(bits: int, risk: float | None, n: int | None, delta: float) -> Bound | None:
    # A payload doesn't say where it ends, so its length is paid for.
    return None if risk is None or n is None else bound(bits, risk=risk, n=n, delta=delta, self_delimiting=False)


def _description_length(report: Report, n: int | None) -> DescriptionLength | None:
    """None without n, and for a negative loss, which is no code length."""
    return None if n is None or report.coarse_loss < 0 else description_length(report.bits, loss=report.coarse_loss, n=n)
