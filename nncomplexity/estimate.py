"""The front door: from a network, its loss and ε to reports."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import overload

import numpy as np
from torch import Tensor, nn

from nncomplexity.bitstream import CoarseFile, write
from nncomplexity.coarse import LowRank, exact, form_of
from nncomplexity.codecs import CODECS, codec_named
from nncomplexity.codecs.entropy import Entropy
from nncomplexity.distortion import Distortion, LossFn, preserved_random_state
from nncomplexity.errors import InputError
from nncomplexity.lowrank import matrix_view
from nncomplexity.payload import encode, weigh
from nncomplexity.report import Layer, Report, Subject
from nncomplexity.search import method_named
from nncomplexity.search.contract import Candidate, Found, Method, Problem, Progress, unseen
from nncomplexity.selection import Patterns, kept_exactly
from nncomplexity.spectral import effective_rank
from nncomplexity.weights import is_finite


@overload
def estimate(
    model: nn.Module | Mapping[str, Tensor],
    loss_fn: LossFn,
    eps: float,
    *,
    method: str | Method = ...,
    codec: str | None = ...,
    budget: float | None = ...,
    seed: int = ...,
    include: Patterns = ...,
    exclude: Patterns = ...,
    progress: Progress | None = ...,
) -> Report: ...


@overload
def estimate(
    model: nn.Module | Mapping[str, Tensor],
    loss_fn: LossFn,
    eps: Sequence[float],
    *,
    method: str | Method = ...,
    codec: str | None = ...,
    budget: float | None = ...,
    seed: int = ...,
    include: Patterns = ...,
    exclude: Patterns = ...,
    progress: Progress | None = ...,
) -> tuple[Report, ...]: ...


def estimate(
    model: nn.Module | Mapping[str, Tensor],
    loss_fn: LossFn,
    eps: float | Sequence[float],
    *,
    method: str | Method = "tight",
    codec: str | None = None,
    budget: float | None = None,
    seed: int = 0,
    include: Patterns = None,
    exclude: Patterns = None,
    progress: Progress | None = None,
) -> Report | tuple[Report, ...]:
    """Bits of the smallest file whose decoded weights have a loss within ε of the model's (Eqs. 5-7 of DeMoss et al. 2025).

    Args:
        model: a module, or a mapping of names to tensors. It is left as it is: weights, mode, gradients, device.
        loss_fn: `loss_fn(module)` or `loss_fn(mapping)`, deterministic, returning a float or a 0-d tensor.
        eps: the distortion bound in the loss's own unit (nats per example for cross-entropy), or several. 0 means lossless.
        method: "tight" (the best search there is), "bayes" (Algorithm 1), "quantize" (Algorithm 2), or a method object.
        codec: "entropy", "bzip2", "xz", "gzip" or "zstd"; None takes the method's own.
        budget: loss evaluations for each ε; None takes the method's default.
        seed: makes the search's choices; the same seed gives the same file.
        include: glob patterns on tensor names: only tensors that match one are coarse-grained. None includes all.
        exclude: glob patterns of tensors to keep exactly as they are; they are paid for without loss.
        progress: called as `progress(evaluations done, evaluations in all, what)`.

    Returns one report, or a tuple of them in the order of `eps`. A larger ε never has the larger file.

    Raises InputError where an argument isn't usable.

    >>> import torch
    >>> weights = {"w": torch.eye(8) + 0.01 * torch.randn(8, 8, generator=torch.Generator().manual_seed(0))}
    >>> report = estimate(weights, lambda w: ((w["w"] - torch.eye(8)) ** 2).sum(), eps=0.01, method="quantize")
    >>> report.distortion <= 0.01, report.bits < report.subject.raw_bits
    (True, True)
    """
    values = _checked_eps(eps)
    if isinstance(method, str):
        chosen = method_named(method, budget)
    elif budget is None:
        chosen = method
    else:
        raise InputError("budget: a method object carries its own; set it there")
    clock = _Clock()
    with preserved_random_state(), Distortion(model, loss_fn) as distortion:
        kept = kept_exactly(distortion.skeleton, distortion.weights, include, exclude)
        problem = Problem(distortion, codec_named(codec or chosen.codec), seed, progress or unseen, kept)
        subject, fallback = _lossless(problem)
        searched = sorted({value for value in values if value > 0}, reverse=True)
        found = dict(zip(searched, chosen.search(problem, searched), strict=True)) if searched else {}
        ranks = {spec.name: _effective_rank(problem.weights[spec.name]) for spec in problem.skeleton.tensors}
        share = clock.since(found.values(), len(values))
        reports = []
        for value in values:
            pool = [entry.best for entry in found.values() if entry.best and problem.feasible(entry.best, value)]
            best = min(pool, key=lambda candidate: candidate.bits, default=fallback)
            within = value == 0 or best.bits < fallback.bits
            effort = found.get(value, Found(None, 0.0, 0.0, 0.0))
            twice = values.count(value)
            candidate = best if within and value > 0 else fallback
            layers, shared_bits = _layers(candidate.file, ranks)
            reports.append(
                Report(
                    eps=value,
                    method=chosen.name,
                    bits=candidate.bits,
                    file_bits=candidate.file.file_bits,
                    coarse_loss=candidate.loss,
                    distortion=candidate.distortion,
                    evaluations=effort.evaluations / twice,
                    seconds=effort.seconds / twice + share[0],
                    cpu_seconds=effort.cpu_seconds / twice + share[1],
                    shared_bits=shared_bits,
                    paper_bytes=candidate.paper_bytes,
                    layers=layers,
                    subject=subject,
                    file=candidate.file,
                    within=within,
                )
            )
    return tuple(reports) if isinstance(eps, Sequence) else reports[0]


class _Clock:
    """Wall and processor time of a run; what no single ε spent is split evenly among them."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def since(self, found: Iterable[Found], count: int) -> tuple[float, float]:
        spent = list(found)
        wall = time.perf_counter() - self._wall - sum(entry.seconds for entry in spent)
        cpu = time.process_time() - self._cpu - sum(entry.cpu_seconds for entry in spent)
        return max(wall, 0.0) / count, max(cpu, 0.0) / count


def _checked_eps(eps: float | Sequence[float]) -> list[float]:
    values = list(eps) if isinstance(eps, Sequence) else [eps]
    if not values:
        raise InputError("eps: expected at least one value, got none")
    checked = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value) or value < 0:
            raise InputError(f"eps: expected a finite number of at least 0, in the loss's unit, got {value!r}")
        checked.append(float(value))
    return checked


def _lossless(problem: Problem) -> tuple[Subject, Candidate]:
    """The network as it is under every codec, and the smallest of the files, whose loss is the original's bit for bit."""
    skeleton, distortion = problem.distortion.stored, problem.distortion
    tensors = [exact(problem.weights[spec.name]) for spec in skeleton.tensors]
    bits = {codec.name: 8 * len(encode(skeleton, tensors, codec)) for codec in CODECS}
    file = write(skeleton, tensors, min(CODECS, key=lambda codec: bits[codec.name]))
    subject = Subject(skeleton.parameters, skeleton.raw_bits, bits, distortion.original, distortion.left_out)
    return subject, problem.measured(file)


def _effective_rank(tensor: Tensor) -> float | None:
    shape = matrix_view(tuple(tensor.shape))
    if shape is None or not tensor.is_floating_point() or not is_finite(tensor):
        return None
    return effective_rank(tensor.reshape(shape).double())


def _layers(file: CoarseFile, ranks: dict[str, float | None]) -> tuple[tuple[Layer, ...], float]:
    """The layers of a file and the bits that belong to none.

    A byte codec codes all tensors as one string, so its bits are shared out in proportion to what each tensor weighs under the entropy
    codec's models.
    """
    weights = weigh(file.skeleton, file.tensors)
    total = sum(weights)
    scale = 1.0 if total <= file.bits and isinstance(file.codec, Entropy) else file.bits / total if total else 0.0
    layers = []
    for spec, coarse, bits in zip(file.skeleton.tensors, file.tensors, weights, strict=True):
        step = math.sqrt(coarse.step_a * coarse.step_b) if isinstance(coarse, LowRank) else getattr(coarse, "step", None)
        rank = coarse.rank if isinstance(coarse, LowRank) else None
        form = form_of(coarse)
        if not spec.quantizable and form == "dense":  # integers, which are their own symbols
            form, step = "lossless", None
        dtype = str(spec.dtype).removeprefix("torch.")
        layers.append(Layer(spec.name, spec.shape, form, rank, step, bits * scale, ranks[spec.name], spec.names, dtype))
    return tuple(layers), file.bits - sum(layer.bits for layer in layers)
