"""Certificates: a small report about one file, with hashes, that others can check from scratch.

A certificate has the keys of a report.json with one result, so a program that checks reports also checks certificates. It has further keys:
hashes of the file, of its decoded weights, of the source files of the functions, and of data. A certificate says what was measured. It is no
proof: verification measures everything again. The names of functions in it are for people: the person who verifies says which functions are
called.
"""

import hashlib
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from nncomplexity.bounds import Bound
from nncomplexity.checkpoint import Checkpoint
from nncomplexity.errors import InputError
from nncomplexity.file import CoarseFile
from nncomplexity.measure.claims import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE
from nncomplexity.measure.report import SCHEMA
from nncomplexity.measure.verify import Verification
from nncomplexity.network import Divergence, Task, base_of, constant_loss_of
from nncomplexity.version import __version__
from nncomplexity.words import Eps, Relative

_VERSION = 1


def certificate(
    file: CoarseFile,
    found: Verification,
    *,
    task: Task,
    against: Checkpoint,
    eps: Eps,
    bound: Bound | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The certificate of a file, as JSON values (docs/reliability.md lists its keys).

    Args:
        file: the file that was verified.
        found: the result of `check_claims`, which was given the original; every claim must be true.
        task: the functions by which the file was measured. Their source files are hashed.
        against: the original network.
        eps: the distortion bound as the user gave it.
        bound: the generalization bound, if a risk was measured.
        about: further keys, such as the names of files and functions.

    Returns:
        The certificate's keys.

    Raises:
        InputError: a claim fails, or there was no original to compare with.
    """
    if not found.holds or found.distortion is None:
        failing = next((claim for claim in found.claims if not claim.holds), None)
        raise InputError(
            f"certificate: {failing.name if failing else 'distortion'} fails, {failing.figures if failing else 'no --against'}"
        )
    # With the digest of the decoded weights, the author of another decoder can check that it decodes the same weights.
    weights = file.weights()
    result = {
        "eps": found.eps,
        "eps_relative": eps.share if isinstance(eps, Relative) else None,
        "codec": file.codec.name,
        "bits": found.bits,
        "file_bits": found.file_bits,
        "coarse_loss": found.coarse_loss,
        "distortion": found.distortion,
        "bound": bound and bound.to_dict(),
        "faithfulness": found.faithfulness and found.faithfulness.to_dict(),
    }
    divergence = task.loss_fn if isinstance(task.loss_fn, Divergence) else None
    given = dict(about or {})
    return {
        "schema": SCHEMA,
        "certificate": _VERSION,
        "file_sha256": hashlib.sha256(file.content).hexdigest(),
        "decoded_sha256": base_of(weights, "weights").sha256,
        "sha256": against.sha256,
        "key": against.key,
        "relative_to": found.relative_to and dict(found.relative_to),
        "parameters": file.skeleton.parameters,
        "raw_bits": file.skeleton.raw_bits,
        "loss": found.loss,
        "zero_loss": None if divergence else constant_loss_of(task.loss, weights),
        "divergence": divergence and divergence.kind,
        "task": list(hashes_of(task.files)),
        "tolerance": {"relative": RELATIVE_TOLERANCE, "absolute": ABSOLUTE_TOLERANCE},
        "device": str(task.device),
        "version": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{key: value for key, value in given.items() if key != "file"},
        "results": [{**result, "file": given.get("file")}],
    }


def hashes_of(files: Iterable[str]) -> tuple[dict[str, str], ...]:
    """The name without folders and the SHA-256 of each file, sorted by name, without duplicates.

    Raises:
        InputError: a file can't be read.

    >>> [one["file"] for one in hashes_of([__file__, __file__])]
    ['certificate.py']
    """
    found = set()
    for name in files:
        try:
            with Path(name).open("rb") as opened:
                found.add((Path(name).name, hashlib.file_digest(opened, "sha256").hexdigest()))
        except OSError as error:
            raise InputError(f"{name}: cannot read it ({error.strerror}); name a file") from error
    return tuple({"file": name, "sha256": digest} for name, digest in sorted(found))
