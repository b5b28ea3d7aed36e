"""Verification of a `.coarse` file: what can be claimed of it, claim by claim, measured anew on the decoded weights."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nncomplexity.bounds import bound, rounded_up
from nncomplexity.checkpoint import Checkpoint
from nncomplexity.errors import FormatError, InputError
from nncomplexity.file import CoarseFile, read_settled
from nncomplexity.network import (
    Divergence,
    DivergenceFrom,
    Faithfulness,
    Probe,
    Skeleton,
    Task,
    architecture_of,
    constant_loss_of,
    random,
    result_of,
    skeleton_of,
)
from nncomplexity.words import Eps, Relative

RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-6
"""How far a loss or risk may be from the one reported: the weights are the same bits everywhere, the sums of a loss are not."""


@dataclass(frozen=True)
class Claim:
    """Something said of a file, and whether it holds."""

    name: str
    holds: bool
    figures: str
    """What was found, and beside it what was claimed."""


@dataclass(frozen=True)
class Verification:
    """What a file was found to be. Losses are in the loss function's unit, nats per example for cross-entropy."""

    bits: int
    file_bits: int
    coarse_loss: float
    loss: float | None
    """The original's loss: measured where its checkpoint is given, else as reported, else None."""
    distortion: float | None
    eps: float | None
    risk: float | None
    claims: tuple[Claim, ...]
    faithfulness: Faithfulness | None = None
    """How faithful the decoded weights are to the original, where its checkpoint is given and outputs are known."""
    relative_to: Mapping[str, str | None] | None = None
    """`path`, as typed, and `sha256` of the base on which the file was decoded; None where it is relative to none."""

    @property
    def holds(self) -> bool:
        """Whether every claim does."""
        return all(claim.holds for claim in self.claims)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; a loss that is not finite is None."""
        finite = self.coarse_loss if math.isfinite(self.coarse_loss) else None
        distortion = self.distortion if self.distortion is not None and math.isfinite(self.distortion) else None
        faith = self.faithfulness and self.faithfulness.to_dict()
        return {**asdict(self), "coarse_loss": finite, "distortion": distortion, "faithfulness": faith, "holds": self.holds}


@dataclass(frozen=True)
class Reported:
    """What a report.json says of one file, and of the network that it was made from."""

    result: Mapping[str, Any]
    loss: float
    sha256: str | None
    base_sha256: str | None = None


def check_claims(
    file: CoarseFile,
    task: Task,
    *,
    against: Checkpoint | None = None,
    eps: Eps | None = None,
    reported: Reported | None = None,
    faithfulness: Divergence | None = None,
) -> Verification:
    """Measure a decoded file anew and check what is claimed of it.

    The payload's bits need no claim to be checked against: the decoder got by on the skeleton and the payload alone, and used the
    payload up. What is left to check is that the skeleton is nothing but the architecture, which only the original can tell.

    Args:
        file: what was read.
        task: the user's functions; its risk is measured where it has one.
        against: the original. Claimed then: the architecture is the same, and |L(θ) − L(θ̃)| ≤ ε (Eq. 7 of DeMoss et al. 2025).
        eps: the bound on the distortion, or a share that makes one; the reported one where it is None.
        reported: what a report says. Claimed then: each of its figures, the losses up to rounding.
        faithfulness: by which to say how faithful the file is to the original. Where the task's loss is a divergence, it is that one.

    Returns:
        The claims, each with whether it holds.

    Raises:
        InputError: the loss or the risk can't be measured at all; one that is not finite is a claim that fails.
    """
    weights = file.weights()
    task, outputs = _with_outputs(task, against, faithfulness)
    coarse_loss = task.loss(weights)
    faith = None if outputs is None else _faithfulness(task, outputs, weights)
    risk = task.risk(weights) if task.risk_fn else None
    on_base = "" if file.base_sha256 is None else f" on the base {_short(file.base_sha256)}"
    claims = [
        Claim("bits", True, f"{file.bits:,} in the payload, which decodes to {file.skeleton.parameters:,} parameters{on_base}"),
        Claim("loss", math.isfinite(coarse_loss), f"{coarse_loss:.6g} of the decoded weights"),
    ]
    loss = reported.loss if reported else None
    if against is not None:
        original = architecture_of(task.network(against.tensors))
        claims.append(Claim("architecture", *_same_architecture(file.skeleton, original)))
        loss = task.loss(against.tensors)
        if not math.isfinite(loss):
            raise InputError(f"--against: expected a finite loss of the original weights, got {loss}; check data and model")
        if loss == coarse_loss and _is_same_for_others(task, weights, loss):
            claims.append(Claim("weights", False, f"{loss:.6g} is the loss of random weights, too: it doesn't follow them"))
    eps = eps if eps is not None or reported is None else float(reported.result["eps"])
    if isinstance(eps, Relative):
        eps = None if loss is None else eps.of(loss=loss, zero_loss=constant_loss_of(task.loss, weights))
    distortion = None if loss is None else abs(loss - coarse_loss)
    if distortion is not None and eps is not None:
        figures = f"{distortion:.6g} = |{loss:.6g} − {coarse_loss:.6g}|, at most ε = {eps:g} claimed"
        claims.append(Claim("distortion", distortion <= eps, figures))
    if reported:
        if reported.base_sha256 or file.base_sha256:
            same = reported.base_sha256 == file.base_sha256
            claims.append(Claim("reported base", same, f"{_short(file.base_sha256)}, {_short(reported.base_sha256)} claimed"))
        claims += _reported_claims(reported, file, coarse_loss, risk)
        # A difference of two losses is no better known than they are.
        of = max(abs(reported.loss), abs(coarse_loss))
        claims.append(_close("reported distortion", float(distortion or 0.0), reported.result["distortion"], of=of))
        if against is not None:
            same = against.sha256 == reported.sha256
            claims.append(Claim("reported sha256", same, f"{against.sha256[:12]}…, {str(reported.sha256)[:12]}… claimed"))
            claims.append(_close("reported loss", float(loss or 0.0), reported.loss))
        if faith is not None:
            claims += _faithful_claims(reported.result.get("faithfulness"), faith)
    base = None if file.base is None else {"path": file.base.path, "sha256": file.base.sha256}
    return Verification(file.bits, file.file_bits, coarse_loss, loss, distortion, eps, risk, tuple(claims), faith, base)


def _with_outputs(task: Task, against: Checkpoint | None, given: Divergence | None) -> tuple[Task, DivergenceFrom | None]:
    """The task with a loss that can be measured: a divergence is from the original; and the divergence from it, where there is one."""
    divergence = task.loss_fn if isinstance(task.loss_fn, Divergence) else given
    if divergence is None:
        return task, None
    if against is None:
        raise InputError(
            "--against: expected the original network, from whose outputs the divergence is, got none; add --against CHECKPOINT"
        )
    found: DivergenceFrom = _called("--outputs", divergence.against, task, against.tensors)
    return (replace(task, loss_fn=found) if isinstance(task.loss_fn, Divergence) else task), found


def _faithfulness(task: Task, outputs: DivergenceFrom, weights: Mapping[str, Tensor]) -> Faithfulness:
    found: Faithfulness = _called("--outputs", outputs.faithfulness, task, weights)
    return found


def _called(option: str, function: Callable[[Any], Any], task: Task, weights: Mapping[str, Tensor]) -> Any:
    """What a function that calls the user's outputs gives for a network with these weights."""

    def outputs(network: Any) -> Any:
        return function(network)

    with task.place():
        return result_of(option, outputs, lambda: task.network(weights))


def _faithful_claims(said: Any, found: Faithfulness) -> list[Claim]:
    """The agreement and the divergence that a report says, on the searched inputs and on those held out."""
    claims = []
    for part in ("searched", "held_out"):
        there, here = (said or {}).get(part), getattr(found, part)
        if there is None or here is None:
            continue
        for key in ("agreement", "divergence"):
            if isinstance(there.get(key), int | float) and getattr(here, key) is not None:
                name = f"reported {key}" + ("" if part == "searched" else ", held out")
                claims.append(_close(name, getattr(here, key), float(there[key])))
    return claims


def _is_same_for_others(task: Task, weights: Mapping[str, Tensor], loss: float) -> bool:
    """Whether random weights have this very loss, too."""
    skeleton = skeleton_of(weights)
    others = Probe({spec.name: weights[spec.name] for spec in skeleton.tensors}, random)
    try:
        return any(map(others.moves, others)) and task.loss(skeleton.expand(others)) == loss
    except InputError:  # they have none
        return False


def read_report(path: str | os.PathLike[str], file: str | os.PathLike[str]) -> Reported:
    """What the report.json or curve.json at `path` says of a file: the result that names it, or the only one there is.

    Of the file that `curve --save-best` wrote, it is the result of the ε that the curve's `mdl` names with it.

    Raises:
        InputError: it can't be read or says nothing of the file.
        FormatError: it is no report.
    """
    try:
        document = json.loads(read_settled(lambda reading: reading.content(Path(path)), str(path), "a report.json"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: no report.json, since it is no JSON that can be read ({error})") from error
    try:
        results = document["results"]
        named = [result for result in results if _is_named(result, file)] or _best_of(document, file) or results
        if len(named) != 1:
            raise InputError(f"{path}: expected one result whose file is {Path(file).name!r}, got {len(named)} results without it")
        base = document.get("relative_to") or {}
        return Reported(_checked(named[0]), _number(document, "loss"), _text(document, "sha256"), _text(base, "sha256"))
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise FormatError(f"{path}: no report.json of this program ({type(error).__name__}: {error})") from error


def _best_of(document: Mapping[str, Any], file: str | os.PathLike[str]) -> list[Mapping[str, Any]]:
    best = (document.get("curve") or {}).get("mdl") or {}
    return [result for result in document["results"] if result["eps"] == best["eps"]][:1] if _is_named(best, file) else []


def _is_named(entry: Mapping[str, Any], file: str | os.PathLike[str]) -> bool:
    return Path(entry.get("file") or "").name == Path(file).name


def _checked(result: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in ("eps", "bits", "file_bits", "coarse_loss", "distortion"):
        _number(result, key)
    if promise := result.get("bound"):
        for key in ("risk", "value", "delta"):
            _number(promise, key)
        try:
            _bound_of(0, promise)
        except InputError as error:
            raise TypeError(f"bound: {error}") from error
    return result


def _number(holder: Mapping[str, Any], key: str) -> float:
    if isinstance(holder[key], bool) or not isinstance(holder[key], (int, float)) or not math.isfinite(holder[key]):
        raise TypeError(f"{key} is {holder[key]!r:.60}")
    return float(holder[key])


def _text(holder: Mapping[str, Any], key: str) -> str | None:
    value = holder.get(key)
    if not isinstance(value, str | None):
        raise TypeError(f"{key} is {value!r:.60}")
    return value


def _reported_claims(reported: Reported, file: CoarseFile, coarse_loss: float, risk: float | None) -> list[Claim]:
    result = reported.result
    claims = [
        Claim("reported bits", file.bits == result["bits"], f"{file.bits:,}, {result['bits']:,} claimed"),
        Claim("reported file_bits", file.file_bits == result["file_bits"], f"{file.file_bits:,}, {result['file_bits']:,} claimed"),
        _close("reported coarse_loss", coarse_loss, result["coarse_loss"]),
    ]
    if promise := result.get("bound"):
        if risk is not None:
            claims.append(_close("reported risk", risk, promise["risk"]))
        value = _bound_of(file.bits, promise)
        shown = f"{rounded_up(value)}, {rounded_up(promise['value'])} claimed"
        claims.append(replace(_close("reported bound", value, promise["value"]), figures=shown))
    return claims


def _bound_of(bits: int, promise: Mapping[str, Any]) -> float:
    """The bound that a payload of so many bits gives, by the risk, n, δ and kind that a report says."""
    risk, n, delta, kind = (promise[key] for key in ("risk", "n", "delta", "kind"))
    return bound(bits, risk=risk, n=n, delta=delta, kind=kind, self_delimiting=False).value


def _short(sha256: str | None) -> str:
    return "none" if sha256 is None else f"{sha256[:12]}…"


def _close(name: str, found: float, claimed: float, *, of: float = 0.0) -> Claim:
    """The claim that they are the same up to rounding, of what is as large as they are or as `of`."""
    holds = math.isclose(found, claimed, rel_tol=RELATIVE_TOLERANCE, abs_tol=max(ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE * of))
    return Claim(name, holds, f"{found:.6g}, {claimed:.6g} claimed")


def _same_architecture(coarse: Skeleton, original: Skeleton) -> tuple[bool, str]:
    def entries(skeleton: Skeleton) -> set[tuple[frozenset[str], tuple[int, ...], str]]:
        return {(frozenset(spec.names), spec.shape, str(spec.dtype)) for spec in skeleton.tensors}

    different = entries(coarse) ^ entries(original)
    if not different:
        return True, f"the same {len(original.tensors)} tensors as the original"
    names, shape, dtype = min(different, key=lambda entry: (sorted(entry[0]), entry[1], entry[2]))
    owner = "the file" if (names, shape, dtype) in entries(coarse) else "the original"
    tensor = f"{' = '.join(sorted(names))} {shape} {dtype.removeprefix('torch.')}"
    return False, f"{len(different)} differences, such as {tensor}, in {owner} alone"
