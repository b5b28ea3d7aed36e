"""The front door: from a network, its loss and ε to reports."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict, Unpack, overload

import torch
from torch import Tensor, nn

from nncomplexity.arguments import SeveralEps, check_function, checked_eps, checked_method, checked_seed, plain_eps
from nncomplexity.bitstream import CoarseFile
from nncomplexity.coarse import Constant, LowRank, Pieces, exact, form_of
from nncomplexity.codecs import codec_named
from nncomplexity.codecs.entropy import Entropy
from nncomplexity.distortion import Distortion, LossFn, preserved_random_state
from nncomplexity.errors import InputError
from nncomplexity.listing import listed
from nncomplexity.lossless import LosslessFile
from nncomplexity.lowrank import matrix_view
from nncomplexity.payload import weigh
from nncomplexity.plain import plain_numbers
from nncomplexity.relative import Base, base_of
from nncomplexity.report import Layer, RelativeTo, Report, Subject
from nncomplexity.search.contract import Found, Method, Problem, Progress, unseen
from nncomplexity.search.timing import TimeLimit
from nncomplexity.selection import Patterns, kept_exactly
from nncomplexity.sizes import RANKED, SMALL, large_matrix
from nncomplexity.sketch import Sketch
from nncomplexity.spectral import effective_rank, effective_rank_of, effective_ranks
from nncomplexity.weights import TensorSpec, is_finite, stacked


class Options(TypedDict, total=False):
    """What `estimate` takes besides a network, its loss and ε."""

    method: str | Method
    codec: str | None
    budget: float | None
    seed: int
    include: Patterns
    exclude: Patterns
    relative_to: nn.Module | Mapping[str, Tensor] | Base | None
    time_limit: float | None
    progress: Progress | None


@overload
def estimate(model: nn.Module | Mapping[str, Tensor], loss_fn: LossFn, eps: float, **options: Unpack[Options]) -> Report: ...


@overload
def estimate(
    model: nn.Module | Mapping[str, Tensor], loss_fn: LossFn, eps: SeveralEps, **options: Unpack[Options]
) -> tuple[Report, ...]: ...


def estimate(
    model: nn.Module | Mapping[str, Tensor],
    loss_fn: LossFn,
    eps: float | SeveralEps,
    *,
    method: str | Method = "tight",
    codec: str | None = None,
    budget: float | None = None,
    seed: int = 0,
    include: Patterns = None,
    exclude: Patterns = None,
    relative_to: nn.Module | Mapping[str, Tensor] | Base | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> Report | tuple[Report, ...]:
    """Bits of the smallest file whose decoded weights have a loss within ε of the model's (Eqs. 5-7 of DeMoss et al. 2025).

    Args:
        model: a module, or a mapping of names to tensors. It is left as it is: weights, mode, gradients, device.
        loss_fn: `loss_fn(module)` or `loss_fn(mapping)`, deterministic, returning a float or a 0-d tensor.
        eps: the distortion bound in the loss's own unit (nats per example for cross-entropy), or several, also as an array or a
            1-d tensor. 0 means lossless.
        method: "tight" (the best search there is), "bayes" (Algorithm 1), "quantize" (Algorithm 2), or a method object.
        codec: "entropy", "bzip2", "xz", "gzip" or "zstd"; None takes the method's own.
        budget: loss evaluations for each ε; None takes the method's default.
        seed: makes the search's choices; the same seed gives the same file.
        include: glob patterns on tensor names: only tensors that match one are coarse-grained. None includes all.
        exclude: glob patterns of tensors to keep exactly as they are; they are paid for without loss.
        relative_to: a base, whose bits are free: a module or tensors by name. What is measured is then what the model has beyond it,
            K(θ | θ₀): the differences of the tensors that the base has in the same shape, and whole tensors where it has none.
        time_limit: seconds after which a search ends with the best file so far, at its next evaluation; several ε share them evenly. What
            is found within a time isn't the same twice.
        progress: called as `progress(evaluations done, evaluations in all, what)`.

    Returns one report, or a tuple of them in the order of `eps`. A larger ε never has the larger file.

    Raises InputError where an argument isn't usable.

    >>> import torch
    >>> weights = {"w": torch.eye(8) + 0.01 * torch.randn(8, 8, generator=torch.Generator().manual_seed(0))}
    >>> report = estimate(weights, lambda w: ((w["w"] - torch.eye(8)) ** 2).sum(), eps=0.01, method="quantize")
    >>> report.distortion <= 0.01, report.bits < report.subject.raw_bits
    (True, True)
    """
    values = checked_eps(eps)
    base = relative_to if relative_to is None or isinstance(relative_to, Base) else base_of(relative_to, "relative_to")
    chosen, seed = checked_method(method, budget), checked_seed(seed)
    check_function("progress", progress)
    clock = _Clock()
    limit = None if time_limit is None else TimeLimit(time_limit)
    with preserved_random_state(), Distortion(model, loss_fn, base) as distortion:
        about = _relative_to(distortion)
        kept = kept_exactly(distortion.skeleton, distortion.coded, include, exclude) | _unchanged(distortion)
        watched = progress or unseen
        coder = codec_named(chosen.codec if codec is None else codec)
        problem = Problem(
            *(distortion, coder, seed, watched if limit is None else limit.watching(watched), kept),
            deadline=limit,
        )
        lossless = LosslessFile(problem)
        skeleton = distortion.stored
        subject = Subject(
            *(skeleton.parameters, skeleton.raw_bits, lossless.bits_by_codec),
            *(distortion.original, distortion.left_out, about),
        )
        nothing_new = lossless.unchanged()
        searched = sorted({value for value in values if value > 0 and not nothing_new}, reverse=True)
        found = dict(zip(searched, chosen.search(problem, searched), strict=True)) if searched else {}
        ranks = _effective_ranks(problem)
        share = clock.since(found.values(), len(values))
        reports = []
        for value in values:
            pool = [entry.best for entry in found.values() if entry.best and problem.feasible(entry.best, value)]
            best = min((one for one in pool if one.bits <= lossless.bits), key=lambda candidate: candidate.bits, default=None)
            smaller = best is not None and best.bits < lossless.bits
            within = value == 0 or nothing_new or best is not None
            effort = found.get(value, Found(None, 0.0, 0.0, 0.0))
            twice = values.count(value)
            candidate = best if best is not None and smaller and value > 0 else lossless.candidate
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
                    time_limit=None if limit is None else limit.seconds,
                    time_is_up=limit is not None and limit.reached,
                )
            )
    return tuple(reports) if isinstance(plain_eps(eps), Sequence) else reports[0]


class _Clock:
    """Wall and processor time of a run; what no single ε spent is split evenly among them."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def since(self, found: Iterable[Found], count: int) -> tuple[float, float]:
        spent = list(found)
        wall = time.perf_counter() - self._wall - sum(entry.seconds for entry in spent)
        cpu = time.process_time() - self._cpu - sum(entry.cpu_seconds for entry in spent)
        return max(wall, 0.0) / count, max(cpu, 0.0) / count


def _relative_to(distortion: Distortion) -> RelativeTo | None:
    """What the report says of the base; raises InputError where it has none of the network's tensors."""
    base, specs = distortion.base, distortion.stored.tensors
    if base is None:
        return None
    without = tuple(spec.name for spec in specs if spec.base is None)
    if len(without) == len(specs):
        names = [listed(names, most=2) for names in (without, list(base.tensors))]
        raise InputError(
            f"relative_to: expected tensors of the model's names and shapes, such as {names[0]}, got none; it has {names[1]}"
        )
    return RelativeTo(base.path, base.sha256, without, base.unused(distortion.stored))


def _unchanged(distortion: Distortion) -> frozenset[str]:
    """First names of the tensors that are the base's: they stay, since nothing costs less."""

    def unchanged(spec: TensorSpec) -> bool:
        return not distortion.coded[spec.name].any() or exact(distortion.weights[spec.name], spec.base) == Constant(0)

    return frozenset(spec.name for spec in distortion.skeleton.tensors if spec.base is not None and unchanged(spec))


def _effective_ranks(problem: Problem) -> dict[str, float | None]:
    """Of each tensor by first name; None where there is none. Small matrices of one shape are decomposed together."""
    found: dict[str, float | None] = {spec.name: None for spec in problem.skeleton.tensors}
    shapes: dict[tuple[int, int], list[str]] = {}
    for spec in problem.skeleton.tensors:
        weight, shape = problem.weights[spec.name], matrix_view(spec.shape)
        if shape is None or not weight.is_floating_point():
            continue
        if spec.count <= SMALL:
            shapes.setdefault(shape, []).append(spec.name)
        elif is_finite(weight):
            found[spec.name] = _effective_rank(weight.reshape(shape))
    for shape, names in shapes.items():
        matrices = stacked([problem.weights[name].reshape(shape).double() for name in names])
        finite = plain_numbers(torch.isfinite(matrices).flatten(1).all(1))
        if all(finite):
            found |= zip(names, effective_ranks(matrices), strict=True)
        else:
            found |= {name: effective_rank(matrix) for name, matrix, fine in zip(names, matrices, finite, strict=True) if fine}
    return found


def _effective_rank(matrix: Tensor) -> float | None:
    if not large_matrix(matrix.shape):
        return effective_rank(matrix.double())
    return effective_rank_of(Sketch(matrix).values()) if min(matrix.shape) <= RANKED else None


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
        form = form_of(coarse)
        layout = _layout(coarse, spec) if isinstance(coarse, Pieces) else None
        one = coarse.pieces[0] if isinstance(coarse, Pieces) and len(coarse.pieces) == 1 else coarse
        step = math.sqrt(one.step_a * one.step_b) if isinstance(one, LowRank) else getattr(one, "step", None)
        rank = one.rank if isinstance(one, LowRank) else None
        if not spec.quantizable and form == "dense":  # integers, which are their own symbols
            form, step = "lossless", None
        if spec.base is not None and form == "zero":
            form = "unchanged"
        dtype, relative = str(spec.dtype).removeprefix("torch."), spec.base is not None
        about = spec.names, dtype, relative, layout
        layers.append(Layer(spec.name, spec.shape, form, rank, step, bits * scale, ranks[spec.name], *about))
    return tuple(layers), file.bits - sum(layer.bits for layer in layers)


def _layout(coarse: Pieces, spec: TensorSpec) -> str:
    """A tensor's layout in words, with the forms and ranks of its blocks."""
    told = coarse.layout.told(spec.real.shape)
    if len(coarse.pieces) == 1:
        return told
    forms = [f"low rank {piece.rank}" if isinstance(piece, LowRank) else form_of(piece) for piece in coarse.pieces]
    return f"{told}: {', '.join(forms)}"
