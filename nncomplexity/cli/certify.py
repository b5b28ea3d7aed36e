"""The command `certify`: a small JSON that says what was found of a file, and of what exactly, for others to verify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

import nncomplexity
from nncomplexity.cli import table
from nncomplexity.cli.basefile import base_file, read_on
from nncomplexity.cli.options import (
    DONE,
    FAILED,
    BaseKey,
    BasePath,
    BoundOptions,
    Chance,
    Classes,
    CoarseFile,
    Delta,
    Device,
    DivergenceKind,
    Examples,
    Inputs,
    Key,
    LeftOutIsArchitecture,
    Limit,
    LossFnOrOutputs,
    Model,
    Outputs,
    ProbeInputs,
    RiskFn,
    distortion_of,
)
from nncomplexity.cli.outputs import check_writable, page_width, stdout_for_results, write_json
from nncomplexity.cli.subject import load_network, task_of
from nncomplexity.errors import InputError
from nncomplexity.words import eps_named, printable

Data = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="FILE", help="A file of data that the functions read, to be known by its hash; repeat it."),
]


def certify(
    file: CoarseFile,
    against: Annotated[
        str, typer.Option(metavar="CHECKPOINT", help="The original network: the same kinds of file as for measure.")
    ],
    eps: Annotated[str, typer.Option(metavar="NUMBER|SHARE%", help="The ε that the file keeps.")],
    out: Annotated[str, typer.Option(metavar="FILE", help="The certificate, a JSON.")],
    loss_fn: LossFnOrOutputs = None,
    outputs: Outputs = None,
    inputs: Inputs = None,
    divergence: DivergenceKind = None,
    probe: ProbeInputs = None,
    model: Model = None,
    base: BasePath = None,
    base_key: BaseKey = None,
    key: Key = None,
    device: Device = "cpu",
    risk_fn: RiskFn = None,
    n: Examples = None,
    delta: Delta = 0.05,
    chance: Chance = None,
    classes: Classes = None,
    left_out_is_architecture: LeftOutIsArchitecture = False,
    data: Data = None,
    limit: Limit = None,
) -> int:
    """Write a certificate of a .coarse file: what verify finds of it, with the hashes of the file, its weights, the task and the data.

    Others check it from scratch, on another machine and another version of PyTorch, by verify --claims. Where a claim fails, nothing is
    written, and the exit code is 1.

    \b
      nncomplexity certify model.coarse --loss-fn mytask:loss --against model.safetensors \\
          --eps 0.01 --risk-fn mytask:error --n 2553 --data train.npz --out certificate.json
      nncomplexity verify model.coarse --loss-fn mytask:loss --against model.safetensors \\
          --risk-fn mytask:error --n 2553 --data train.npz --claims certificate.json
    """
    value = eps_named(eps, "--eps")
    named = distortion_of(loss_fn, outputs, inputs, divergence, probe)
    promised = BoundOptions.checked(risk_fn, n, delta, chance, classes)
    check_writable([out], inputs=[file, base, against, *(data or ())])
    coarse = read_on(file, base_file(base, base_key, "--base"), limit=limit, outputs=[out])
    with stdout_for_results():
        task = task_of(loss_fn, model, risk_fn, device, [out], named)
        original = load_network(against, key, task, outputs=[out])
        found = nncomplexity.measure.check_claims(
            coarse, task, against=original, eps=value, faithfulness=None if named is None or loss_fn is None else named.make()
        )
        if risk_fn:
            nncomplexity.measure.check_left_out(
                nncomplexity.network.numbers_left_out(task.network(coarse.weights())), left_out_is_architecture
            )
        constant = nncomplexity.network.constant_risk(task.risk, coarse.weights()) if risk_fn else None
    promise = promised.of(found.bits, found.risk, constant)
    print(table.verified(file, found, promise, width=page_width()), flush=True)
    if not found.holds:
        return FAILED
    about: dict[str, Any] = {"checkpoint": Path(against).name, "loss_fn": loss_fn, "model": model, "risk_fn": risk_fn}
    about |= {
        **(named.described() if named else {}),
        "data": list(nncomplexity.measure.hashes_of(data or ())),
        "file": Path(file).name,
    }
    try:
        with stdout_for_results():
            document = nncomplexity.measure.certificate(
                coarse, found, task=task, against=original, eps=value, bound=promise, about=about
            )
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    write_json(out, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))
    print(f"\nWritten: {printable(out)}", flush=True)
    return DONE
