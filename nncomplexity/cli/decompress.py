"""The command `decompress`: writes a `.coarse` file as a checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

import nncomplexity
from nncomplexity.cli.basefile import base_file, read_on
from nncomplexity.cli.options import BaseKey, BasePath, CoarseFile, Limit
from nncomplexity.cli.outputs import check_writable
from nncomplexity.errors import InputError
from nncomplexity.words import printable


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
