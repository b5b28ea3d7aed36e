"""Verification of a `.coarse` file: the claims about it are checked one by one, by measuring its decoded weights again."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from nncomplexity.checkpoint import Checkpoint
from nncomplexity.errors import InputError
from nncomplexity.file import CoarseFile
from nncomplexity.measure.claims import Claim
from nncomplexity.measure.rederived import Evidence, Typed, reported_claims
from nncomplexity.measure.reported import Reported
from nncomplexity.network import (
    Distortion,
    Divergence,
    DivergenceFrom,
    Faithfulness,
    Probe,
    Skeleton,
    Task,
    Threads,
    architecture_of,
    caches,
    constant_loss_of,
    random,
    result_of,
    skeleton_of,
)
from nncomplexity.words import Eps, Relative


@dataclass(frozen=True)
class Verification:
    """The result of a verification. Losses are in the loss function's unit, nats per example for cross-entropy."""

    bits: int
    file_bits: int
    coarse_loss: float
    loss: float | None
    """The original's loss: measured if its checkpoint is given, otherwise the reported one, otherwise None."""
    distortion: float | None
    eps: float | None
    risk: float | None
    claims: tuple[Claim, ...]
    faithfulness: Faithfulness | None = None
    """How faithful the decoded weights are to the original, if its checkpoint and a function for outputs are given."""
    relative_to: Mapping[str, str | None] | None = None
    """`path`, as the user gave it, and `sha256` of the file's base; None without a base."""
    on_trust: tuple[str, ...] = ()
    """Keys of the report that could not be checked with what was given."""

    @property
    def holds(self) -> bool:
        """Whether every claim is true."""
        return all(claim.holds for claim in self.claims)

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON. A loss that is not finite is None."""
        finite = self.coarse_loss if math.isfinite(self.coarse_loss) else None
        distortion = self.distortion if self.distortion is not None and math.isfinite(self.distortion) else None
        faith = self.faithfulness and self.faithfulness.to_dict()
        return {**asdict(self), "coarse_loss": finite, "distortion": distortion, "faithfulness": faith, "holds": self.holds}


def check_claims(
    file: CoarseFile,
    task: Task,
    *,
    against: Checkpoint | None = None,
    eps: Eps | None = None,
    reported: Reported | None = None,
    faithfulness: Divergence | None = None,
    typed: Typed | None = None,
) -> Verification:
    """Measure a decoded file again, and check the claims about it.

    A module that keeps numbers outside its weights is checked, too: its loss must be that of the weights that were loaded into it.

    The bits of the payload need no further check: the decoder had only the skeleton and the payload, and it used every byte of the
    payload. The skeleton could still hide learned numbers. Only a comparison with the original shows that it is the architecture and nothing
    more.

    Args:
        file: the file that was read.
        task: the user's functions. The risk is measured if the task has one.
        against: the original. With it, two claims are checked: the architecture is the same, and |L(θ) − L(θ̃)| ≤ ε (Eq. 7 of DeMoss et al.
            2025).
        eps: the bound on the distortion, or a share; None takes the reported ε.
        reported: what a report says. Each key that can be computed again is checked, losses up to rounding
            (`nncomplexity.measure.claims`). `on_trust` names the other keys.
        faithfulness: the divergence that measures how faithful the file is to the original. If the task's loss is a divergence, that one is
            used.
        typed: values that the caller gives, and that the report must not contradict. Its ε is replaced by `eps`.

    Returns:
        The measurements, and each claim with its verdict.

    Raises:
        InputError: the loss or the risk can't be measured. (A loss that is not finite is no error, but a claim that fails.)
    """
    with Threads(file.skeleton.parameters, [task.device]) as threads:
        found = _checked(file, task, against, reported, faithfulness, replace(typed or Typed(), eps=eps), threads)
    reason = _not_of_its_weights(task, file.weights())
    return found if reason is None else replace(found, claims=(*found.claims, Claim("weights", False, reason)))


def _checked(
    file: CoarseFile,
    task: Task,
    against: Checkpoint | None,
    reported: Reported | None,
    faithfulness: Divergence | None,
    typed: Typed,
    threads: Threads,
) -> Verification:
    """`check_claims`. `typed` has the ε of the caller."""
    weights = file.weights()
    with_outputs = partial(_with_outputs, task, against, faithfulness)
    # A divergence computes the original's outputs now, so this is then the first call of the user's code.
    task, outputs = threads.decide(with_outputs) if isinstance(task.loss_fn, Divergence) else with_outputs()
    # The first call of the user's loss, whose work decides the number of threads for the calls after it.
    coarse_loss = threads.decide(partial(task.loss, weights))
    faith = None if outputs is None else _faithfulness(task, outputs, weights)
    risk = task.risk(weights) if task.risk_fn else None
    on_base = "" if file.base_sha256 is None else f" on the base {file.base_sha256[:12]}…"
    claims = [
        # True, because a file that can't be decoded was refused when it was read.
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
        # Equal losses may mean a lossless file, or a loss that ignores its weights. The loss of random weights distinguishes the two.
        if loss == coarse_loss and _is_same_for_others(task, weights, loss):
            claims.append(
                Claim("weights", False, f"{loss:.6g} is the loss of random weights, too: it doesn't depend on the weights")
            )
    eps = typed.eps if typed.eps is not None or reported is None else float(reported.result["eps"])
    if isinstance(eps, Relative):
        eps = None if loss is None else eps.of(loss=loss, zero_loss=constant_loss_of(task.loss, weights))
    # Without the original, `loss` is the reported loss, which is taken on trust.
    distortion = None if loss is None else abs(loss - coarse_loss)
    if distortion is not None and eps is not None:
        figures = f"{distortion:.6g} = |{loss:.6g} − {coarse_loss:.6g}|, at most ε = {eps:g} claimed"
        claims.append(Claim("distortion", distortion <= eps, figures))
    on_trust: tuple[str, ...] = ()
    if reported:
        measured = None if against is None else loss
        evidence = Evidence(file, weights, task, coarse_loss, measured, risk, against, faith, typed)
        further, on_trust = reported_claims(reported, evidence)
        claims += further
    base = None if file.base is None else {"path": file.base.path, "sha256": file.base.sha256}
    return Verification(file.bits, file.file_bits, coarse_loss, loss, distortion, eps, risk, tuple(claims), faith, base, on_trust)


def _with_outputs(task: Task, against: Checkpoint | None, given: Divergence | None) -> tuple[Task, DivergenceFrom | None]:
    """The task with a loss that can be measured, and the divergence from the original's outputs, if there is one."""
    divergence = task.loss_fn if isinstance(task.loss_fn, Divergence) else given
    if divergence is None:
        return task, None
    if against is None:
        raise InputError(
            "--against: expected the original network, with whose outputs the divergence compares, got none; add --against CHECKPOINT"
        )
    found: DivergenceFrom = _called("--outputs", divergence.against, task, against.tensors)
    return (replace(task, loss_fn=found) if isinstance(task.loss_fn, Divergence) else task), found


def _faithfulness(task: Task, outputs: DivergenceFrom, weights: Mapping[str, Tensor]) -> Faithfulness:
    found: Faithfulness = _called("--outputs", outputs.faithfulness, task, weights)
    return found


def _called(option: str, function: Callable[[Any], Any], task: Task, weights: Mapping[str, Tensor]) -> Any:
    """The result of a function that calls the user's outputs, for a network with these weights."""

    # Messages quote the name of the function: it must be the user's `outputs`, not that of a method of this package.
    def outputs(network: Any) -> Any:
        return function(network)

    with task.place():
        return result_of(option, outputs, lambda: task.network(weights))


def _is_same_for_others(task: Task, weights: Mapping[str, Tensor], loss: float) -> bool:
    """Whether random weights have the same loss."""
    skeleton = skeleton_of(weights)
    others = Probe({spec.name: weights[spec.name] for spec in skeleton.tensors}, random)
    try:
        return any(map(others.moves, others)) and task.loss(skeleton.expand(others)) == loss
    except InputError:  # the loss of random weights can't be measured, so it is not the same
        return False


def _not_of_its_weights(task: Task, weights: Mapping[str, Tensor]) -> str | None:
    """Why the loss of a module isn't that of its weights, if it keeps numbers outside of them. None if it is, or if it keeps none."""
    network = task.network(weights)
    if not isinstance(network, nn.Module) or not caches(network):
        return None
    try:
        with task.place(), Distortion(network, task.loss_fn):
            return None
    except InputError as error:
        return str(error).removeprefix("model: ")


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
