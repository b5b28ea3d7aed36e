"""The command `verify`: decodes a `.coarse` file, measures it again, and checks each claim about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import nncomplexity
from nncomplexity.cli import table
from nncomplexity.cli.file_check import CheckGroup, FileCheck
from nncomplexity.cli.options import DONE, FAILED, CoarseFile, Json
from nncomplexity.cli.outputs import STDOUT, page_width, write_json
from nncomplexity.errors import InputError
from nncomplexity.version import __version__
from nncomplexity.words import eps_named

if TYPE_CHECKING:
    from nncomplexity.measure import Typed


def verify(
    file: CoarseFile,
    against: Annotated[
        str | None, typer.Option(metavar="CHECKPOINT", help="The original network: the same kinds of file as for measure.")
    ] = None,
    eps: Annotated[
        str | None, typer.Option(metavar="NUMBER|SHARE%", help="The ε of the claim: the distortion is at most ε.")
    ] = None,
    claims: Annotated[
        str | None,
        typer.Option(metavar="REPORT", help="A report.json, a curve.json or a certificate. Its values for this file are checked."),
    ] = None,
    json_file: Json = None,
    *,
    checked: CheckGroup,
) -> int:
    """Check a .coarse file: decode it, measure bits and loss again, and say which claims are true.

    With --against, the claims are that the architecture is the original's and, with --eps, that the distortion is at most ε. With --claims,
    every value of the report or certificate that can be measured again is a claim. The other values are listed as taken on trust. An option
    that contradicts the report is a claim that fails. The exit code is 1 if a claim fails.

    \b
      nncomplexity verify model.coarse --loss-fn mytask:loss \\
          --against model.safetensors --eps 0.01
      nncomplexity verify model.coarse --loss-fn mytask:loss --claims report.json
    \b
    A file of a search with --outputs:
      nncomplexity verify model.coarse --outputs mytask:logits --inputs mytask:inputs \\
          --against model.safetensors --eps 0.1
    """
    value = None if eps is None else eps_named(eps, "--eps")
    if value is not None and against is None and claims is None:
        raise InputError("--eps: it needs --against CHECKPOINT, to measure the original's loss; add it")
    if checked.named() is not None and against is None:
        raise InputError("--outputs: it needs --against CHECKPOINT, to compare with the original's outputs; add it")
    if checked.key is not None and against is None:
        raise InputError("--key: it needs --against CHECKPOINT, because it names the state dict in that file; add it")
    if checked.data and claims is None:
        raise InputError("--data: it needs --claims CERTIFICATE, which has the hashes to compare with")
    json_path = None if json_file == STDOUT else json_file
    check = FileCheck.load(file, checked, against, inputs=[claims], out=json_path)
    reported = nncomplexity.measure.read_report(claims, file) if claims is not None else None
    found, bound = check.run(value, reported, _typed(checked, check))
    extra = {"schema": nncomplexity.measure.SCHEMA, "version": __version__, "file": file, "bound": bound and bound.to_dict()}
    document = nncomplexity.measure.json_text({**extra, **found.to_dict()})
    write_json(json_path, document)
    print(document if json_file == STDOUT else table.verified(file, found, bound, width=page_width()), flush=True)
    return DONE if found.holds else FAILED


def _typed(checked: CheckGroup, check: FileCheck) -> Typed:
    """The values from the command line, for comparison with a report."""
    functions = ("loss_fn", "model", "risk_fn", "outputs", "inputs", "divergence", "probe")
    return nncomplexity.measure.Typed(
        n=checked.n,
        delta=checked.delta,
        chance=check.bound.chance,
        functions={name: getattr(checked, name) for name in functions},
        task=nncomplexity.measure.hashes_of(check.task.files),
        data=None if checked.data is None else nncomplexity.measure.hashes_of(checked.data),
    )
