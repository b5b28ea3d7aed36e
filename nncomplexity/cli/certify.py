"""The command `certify`: writes a certificate, a small JSON file with verified claims about a file, which others can check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import nncomplexity
from nncomplexity.cli import table
from nncomplexity.cli.file_check import CheckGroup, FileCheck
from nncomplexity.cli.options import DONE, FAILED, CoarseFile
from nncomplexity.cli.outputs import page_width, stdout_for_results, write_json
from nncomplexity.errors import InputError
from nncomplexity.words import eps_named, printable


def certify(
    file: CoarseFile,
    against: Annotated[
        str, typer.Option(metavar="CHECKPOINT", help="The original network: the same kinds of file as for measure.")
    ],
    eps: Annotated[str, typer.Option(metavar="NUMBER|SHARE%", help="The ε of the claim: the distortion is at most ε.")],
    out: Annotated[str, typer.Option(metavar="FILE", help="The certificate to write, a JSON file.")],
    checked: CheckGroup,
) -> int:
    """Write a certificate of a .coarse file: the results of verify, with the hashes of the file, its weights, the task and the data.

    Others can check it from scratch with verify --claims, on another machine and with another version of PyTorch. If a claim fails, no
    certificate is written, and the exit code is 1.

    \b
      nncomplexity certify model.coarse --loss-fn mytask:loss --against model.safetensors \\
          --eps 0.01 --risk-fn mytask:error --n 2553 --data train.npz --out certificate.json
      nncomplexity verify model.coarse --loss-fn mytask:loss --against model.safetensors \\
          --risk-fn mytask:error --n 2553 --data train.npz --claims certificate.json
    """
    value = eps_named(eps, "--eps")
    check = FileCheck.load(file, checked, against, inputs=(), out=out)
    found, bound = check.run(value)
    print(table.verified(file, found, bound, width=page_width()), flush=True)
    if not found.holds or check.original is None:  # there is an original, because --against is required
        return FAILED
    named, data = check.named, list(nncomplexity.measure.hashes_of(checked.data or ()))
    about: dict[str, Any] = {name: getattr(checked, name) for name in ("loss_fn", "model", "risk_fn")}
    # Without folders: a certificate is for other machines, where the same files are in other places.
    about |= {"checkpoint": Path(against).name, **(named.described() if named else {}), "data": data, "file": Path(file).name}
    try:
        with stdout_for_results():
            document = nncomplexity.measure.certificate(
                check.coarse, found, task=check.task, against=check.original, eps=value, bound=bound, about=about
            )
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    write_json(out, nncomplexity.measure.json_text(document))
    print(f"\nWritten: {printable(out)}", flush=True)
    return DONE
