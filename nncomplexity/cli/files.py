"""The commands on files: `decompress` and `verify`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

import nncomplexity
from nncomplexity.cli import table
from nncomplexity.cli.basefile import base_file, read_on
from nncomplexity.cli.certify import Data
from nncomplexity.cli.options import (
    DONE,
    FAILED,
    BaseKey,
    BasePath,
    BoundOptions,
    Chance,
    Classes,
    CoarseFile,
    Device,
    DivergenceKind,
    Examples,
    Inputs,
    Json,
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
from nncomplexity.cli.outputs import STDOUT, check_writable, page_width, stdout_for_results, write_json
from nncomplexity.cli.subject import load_network, task_of
from nncomplexity.errors import InputError
from nncomplexity.version import __version__
from nncomplexity.words import eps_named, printable


def decompress(
    file: CoarseFile,
    out: Annotated[str, typer.Option(metavar="FILE", help="The .safetensors file to write.")],
    base: BasePath = None,
    base_key: BaseKey = None,
    limit: Limit = None,
) -> None:
    """Decode a .coarse file to a .safetensors checkpoint, with the same bits on every machine.

    \b
      nncomplexity decompress model.coarse --out coarse.safetensors
      nncomplexity decompress tuned.coarse --base base.safetensors --out coarse.safetensors
    """
    if out.endswith(nncomplexity.checkpoint.SUFFIXES) and not out.endswith(".safetensors"):
        raise InputError(f"--out: expected a name that ends in .safetensors, got {out}; choose such a name")
    check_writable([out], inputs=[file, base])
    coarse = read_on(file, base_file(base, base_key, "--base"), limit=limit, outputs=[out])
    nncomplexity.checkpoint.save_safetensors(out, coarse.weights())
    skeleton = coarse.skeleton
    print(
        f"wrote {printable(out)}: {len(skeleton.tensors):,} tensors, {skeleton.parameters:,} parameters, from {coarse.bits:,} bits",
        flush=True,
    )


def verify(
    file: CoarseFile,
    loss_fn: LossFnOrOutputs = None,
    outputs: Outputs = None,
    inputs: Inputs = None,
    divergence: DivergenceKind = None,
    probe: ProbeInputs = None,
    model: Model = None,
    base: BasePath = None,
    base_key: BaseKey = None,
    against: Annotated[
        str | None, typer.Option(metavar="CHECKPOINT", help="The original network: the same kinds of file as for measure.")
    ] = None,
    key: Key = None,
    eps: Annotated[
        str | None, typer.Option(metavar="NUMBER|SHARE%", help="The ε of the claim: the distortion is at most ε.")
    ] = None,
    claims: Annotated[
        str | None,
        typer.Option(metavar="REPORT", help="A report.json, a curve.json or a certificate. Its values for this file are checked."),
    ] = None,
    device: Device = "cpu",
    risk_fn: RiskFn = None,
    n: Examples = None,
    delta: Annotated[float | None, typer.Option(metavar="PROBABILITY", help="Failure probability of the bound; else 0.05.")] = None,
    chance: Chance = None,
    classes: Classes = None,
    left_out_is_architecture: LeftOutIsArchitecture = False,
    data: Data = None,
    limit: Limit = None,
    json_file: Json = None,
) -> int:
    """Check a .coarse file: decode it, measure bits and loss again, and say which claims are true.

    With --against the original: the architecture is the same and, with --eps, the distortion is at most ε. With --claims a
    report or a certificate: its figures for the file are true, and what nothing here tells is named as taken on trust. Ends with exit
    code 1 where a claim fails; an option that says otherwise than the report is one.

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
    named = distortion_of(loss_fn, outputs, inputs, divergence, probe)
    if named is not None and against is None:
        raise InputError("--outputs: it needs --against CHECKPOINT, to compare with the original's outputs; add it")
    if key is not None and against is None:
        raise InputError("--key: it needs --against CHECKPOINT, because it names the state dict in that file; add it")
    if data and claims is None:
        raise InputError("--data: it needs --claims CERTIFICATE, which has the hashes to compare with")
    promised = BoundOptions.checked(risk_fn, n, 0.05 if delta is None else delta, chance, classes)
    json_path = None if json_file == STDOUT else json_file
    check_writable([json_path], inputs=[file, base, against, claims, *(data or ())])
    coarse = read_on(file, base_file(base, base_key, "--base"), limit=limit, outputs=[json_path])
    reported = nncomplexity.measure.read_report(claims, file) if claims is not None else None
    with stdout_for_results():
        task = task_of(loss_fn, model, risk_fn, device, [json_path], named)
        original = load_network(against, key, task, outputs=[json_path]) if against is not None else None
        functions = {"loss_fn": loss_fn, "model": model, "risk_fn": risk_fn, "outputs": outputs, "inputs": inputs}
        typed = nncomplexity.measure.Typed(
            n=n,
            delta=delta,
            chance=promised.chance,
            functions={**functions, "divergence": divergence, "probe": probe},
            task=nncomplexity.measure.hashes_of(task.files),
            data=None if data is None else nncomplexity.measure.hashes_of(data),
        )
        found = nncomplexity.measure.check_claims(
            coarse,
            task,
            against=original,
            eps=value,
            reported=reported,
            faithfulness=None if named is None else named.make(),
            typed=typed,
        )
        if risk_fn:
            nncomplexity.measure.check_left_out(
                nncomplexity.network.numbers_left_out(task.network(coarse.weights())), left_out_is_architecture
            )
        constant = nncomplexity.network.constant_risk(task.risk, coarse.weights()) if risk_fn else None
    promise = promised.of(found.bits, found.risk, constant)
    extra = {"schema": nncomplexity.measure.SCHEMA, "version": __version__, "file": file, "bound": promise and promise.to_dict()}
    document = json.dumps({**extra, **found.to_dict()}, indent=1, ensure_ascii=False, allow_nan=False)
    write_json(json_path, document)
    print(document if json_file == STDOUT else table.verified(file, found, promise, width=page_width()), flush=True)
    return DONE if found.holds else FAILED
