"""`estimate`: from a network, its loss and ε to reports."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypedDict, Unpack, overload

import torch
from torch import Tensor, nn

from nncomplexity.codecs import Entropy, codec_named
from nncomplexity.errors import InputError
from nncomplexity.file import CoarseFile, Constant, LowRank, Pieces, exact, form_of, weigh
from nncomplexity.linalg import (
    RANKED,
    SMALL,
    Sketch,
    effective_rank,
    effective_rank_of,
    effective_ranks,
    large_matrix,
    matrix_view,
    usual_switches,
)
from nncomplexity.measure.arguments import (
    LARGEST_SEED,
    SeveralEps,
    check_function,
    checked_eps,
    checked_method,
    checked_seed,
    plain_eps,
    whole_number,
)
from nncomplexity.measure.lossless import LosslessFile
from nncomplexity.measure.report import Layer, RelativeTo, Report, Subject, best_of
from nncomplexity.network import (
    Base,
    Distortion,
    Divergence,
    Faithfulness,
    LossFn,
    Patterns,
    TensorSpec,
    base_of,
    check_network,
    constant_loss,
    is_finite,
    kept_exactly,
    left_as_it_was,
    preserved_random_state,
    stacked,
)
from nncomplexity.search import (
    DESCENT,
    LOSSLESS,
    Candidate,
    Found,
    Method,
    Problem,
    Progress,
    StopSearch,
    TimeLimit,
    unseen,
)
from nncomplexity.words import Eps, Relative, listed, plain_numbers


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
    faithfulness: Divergence | None
    seeds: int


@overload
def estimate(model: nn.Module | Mapping[str, Tensor], loss_fn: LossFn, eps: Eps, **options: Unpack[Options]) -> Report: ...


@overload
def estimate(
    model: nn.Module | Mapping[str, Tensor], loss_fn: LossFn, eps: SeveralEps, **options: Unpack[Options]
) -> tuple[Report, ...]: ...


def estimate(
    model: nn.Module | Mapping[str, Tensor],
    loss_fn: LossFn,
    eps: Eps | SeveralEps,
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
    faithfulness: Divergence | None = None,
    seeds: int = 1,
) -> Report | tuple[Report, ...]:
    """Bits of the smallest file whose decoded weights have a loss within ε of the model's (Eqs. 5-7 of DeMoss et al. 2025).

    Args:
        model: a module, or a mapping of names to tensors. Its weights, mode, gradients and device do not change.
        loss_fn: `loss_fn(module)` or `loss_fn(mapping)`, deterministic, returning a float or a 0-d tensor. The report's `warnings`
            have possible mistakes, such as dropout that is on. Or a `Divergence` from the model's own outputs: the loss of the
            model is then 0, and the loss of a file is its distortion.
        eps: the distortion bound in the loss's own unit (nats per example for cross-entropy), or several, also as an array or a
            1-d tensor. 0 means lossless. `Relative(0.01)` is a hundredth of |L(0) − L(θ)|, the distance to all weights zero.
        method: "tight" (the best search there is), "bayes" (Algorithm 1), "quantize" (Algorithm 2), or a method object.
        codec: "entropy", "bzip2", "xz", "gzip" or "zstd"; None takes the method's own.
        budget: loss evaluations for each ε; None takes the method's default.
        seed: fixes the random choices of the search; the same seed gives the same file.
        include: glob patterns on tensor names: only tensors that match one are coarse-grained. None includes all.
        exclude: glob patterns of tensors to keep exactly; their bits are counted.
        relative_to: a base, whose bits are free: a module or tensors by name. The bits are then those of what the model has beyond
            the base, K(θ | θ₀): differences of tensors that the base has in the same shape, and all other tensors whole.
        time_limit: seconds after which a search ends with the best file so far, at its next evaluation; several ε share them
            evenly. The result is not the same twice.
        progress: called as `progress(evaluations done, evaluations in all, what)`.
        faithfulness: a `Divergence` that measures how faithful the file is, if the search uses a loss. The search does not use it.
        seeds: number of searches, with the seeds from `seed` on. Each ε gets the smallest file of all, and `spread` has the
            variation of the sizes. The effort is that of all searches, and they share a time limit evenly.

    Returns one report, or a tuple of them in the order of `eps`. A larger ε never has the larger file.

    Raises InputError where an argument isn't usable, the loss isn't the same for the same weights, or a module doesn't follow its weights.

    >>> import torch
    >>> weights = {"w": torch.eye(8) + 0.01 * torch.randn(8, 8, generator=torch.Generator().manual_seed(0))}
    >>> report = estimate(weights, lambda w: ((w["w"] - torch.eye(8)) ** 2).sum(), eps=0.01, method="quantize")
    >>> report.distortion <= 0.01, report.bits < report.subject.raw_bits
    (True, True)
    """
    asked = checked_eps(eps)
    chosen, seed, count = checked_method(method, budget), checked_seed(seed), whole_number("seeds", seeds, 1)
    if seed + count - 1 > LARGEST_SEED:
        raise InputError(f"seeds: expected at most {LARGEST_SEED - seed + 1} from seed {seed} on, got {count}")
    check_function("progress", progress)
    if not isinstance(faithfulness, Divergence | None):
        raise InputError(f"faithfulness: expected a Divergence, got {type(faithfulness).__name__}")
    seconds = None if time_limit is None else TimeLimit(time_limit).seconds / count
    runs: list[Sequence[Report]] = []
    for done in range(count):
        runs.append(
            _searched(
                *(model, loss_fn, asked, chosen),
                codec=codec,
                seed=seed + done,
                include=include,
                exclude=exclude,
                relative_to=relative_to,
                time_limit=seconds,
                progress=_told(progress, done, count),
                faithfulness=faithfulness,
            )
        )
        if any(report.interrupted for report in runs[-1]):
            break
    reports = runs[0] if count == 1 else best_of(runs)
    return tuple(reports) if isinstance(plain_eps(eps), Sequence) else reports[0]


def _told(progress: Progress | None, done: int, count: int) -> Progress | None:
    """The progress of one of several searches, as a part of the progress of all."""
    if progress is None or count == 1:
        return progress
    return lambda spent, total, what: progress(spent + done * total, count * total, f"search {done + 1} of {count}, {what}")


def _searched(
    model: nn.Module | Mapping[str, Tensor],
    loss_fn: LossFn,
    asked: list[Eps],
    chosen: Method,
    *,
    codec: str | None,
    seed: int,
    include: Patterns,
    exclude: Patterns,
    relative_to: nn.Module | Mapping[str, Tensor] | Base | None,
    time_limit: float | None,
    progress: Progress | None,
    faithfulness: Divergence | None,
) -> tuple[Report, ...]:
    """The reports of one search, in the order of the ε; arguments are those of `estimate`, checked."""
    clock = _Clock()
    limit = None if time_limit is None else TimeLimit(time_limit)
    with (
        preserved_random_state(),
        usual_switches(),
        _kept(relative_to) as base,
        Distortion(model, loss_fn, base, _least(asked)) as distortion,
    ):
        about = _relative_to(distortion)
        kept = kept_exactly(distortion.skeleton, distortion.coded, include, exclude) | _unchanged(distortion)
        zero_loss = constant_loss(distortion)
        values = [_absolute(one, distortion.original, zero_loss) for one in asked]
        distortion.sound.ask(_least(values))
        watched = _Watched(progress or unseen)
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
            zero_loss=zero_loss,
            divergence=None if distortion.divergence is None else distortion.divergence.kind,
        )
        outputs = distortion.divergence
        if outputs is None and faithfulness is not None:
            outputs = distortion.against(faithfulness)
        faithful: dict[int, Faithfulness] = {}
        nothing_new = lossless.unchanged()
        searched = sorted({value for value in values if value > 0 and not nothing_new}, reverse=True)
        found = dict(zip(searched, chosen.search(problem, searched), strict=True)) if searched else {}
        ranks = _effective_ranks(problem)
        share = clock.since(found.values(), len(values))
        answers, withins = [], []
        for value in values:
            pool = [entry.best for entry in found.values() if entry.best and problem.feasible(entry.best, value)]
            best = min((one for one in pool if one.bits <= lossless.bits), key=lambda candidate: candidate.bits, default=None)
            smaller = best is not None and best.bits < lossless.bits
            withins.append(value == 0 or nothing_new or best is not None)
            answers.append(best if best is not None and smaller and value > 0 else lossless.candidate)
        reports = []
        for value, one, candidate, within in zip(values, asked, problem.confirmed(answers), withins, strict=True):
            effort = found.get(value, Found(None, 0.0, 0.0, 0.0))
            stopped = watched.stopped and effort.stopped
            twice = values.count(value)
            layers, shared_bits = _layers(candidate.file, ranks)
            if outputs is not None and id(candidate.file) not in faithful:
                faithful[id(candidate.file)] = distortion.faithfulness(outputs, problem.decoded(candidate.file))
            faith = faithful.get(id(candidate.file))
            doubts = faith.warnings(candidate.bits, value, distortion.divergence.fresh) if faith and distortion.divergence else ()
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
                    eps_relative=one.share if isinstance(one, Relative) else None,
                    origin=candidate.origin or chosen.name,
                    interrupted=stopped,
                    begun=not stopped or effort.evaluations > 0,
                    warnings=(*distortion.sound.warnings.values(), *_lost(effort, candidate), *doubts),
                    faithfulness=faith,
                )
            )
    return tuple(reports)


class _Watched:
    """A progress callback that remembers whether it has ended a search."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self.stopped = progress, False

    def __call__(self, done: float, total: float, what: str) -> None:
        try:
            self._progress(done, total, what)
        except StopSearch:
            self.stopped = True
            raise


def _absolute(eps: Eps, loss: float, zero_loss: float | None) -> float:
    """ε in the loss's unit."""
    return eps.of(loss=loss, zero_loss=zero_loss) if isinstance(eps, Relative) else eps


def _least(values: Sequence[Eps]) -> float | None:
    """The smallest ε above 0.

    It is 0 if there is none, and None if it isn't known yet, because a share has no value before a loss is measured.
    """
    numbers = [value for value in values if not isinstance(value, Relative)]
    return min((value for value in numbers if value > 0), default=0.0) if len(numbers) == len(values) else None


def _lost(effort: Found, answer: Candidate) -> tuple[str, ...]:
    """A warning if there were descents but the answer is not from a descent."""
    if not effort.descent_lost or answer.origin == DESCENT:
        return ()
    source = "is the lossless file" if answer.origin == LOSSLESS else f"comes from {answer.origin}"
    return (
        f"The descent was lost: the answer {source}, as nothing that was found by descent within ε is smaller; "
        "another seed or a larger budget may find a smaller file.",
    )


@contextmanager
def _kept(given: nn.Module | Mapping[str, Tensor] | Base | None) -> Iterator[Base | None]:
    """The base, as a copy of the caller's tensors. If a loss changes these tensors, they have their own values again at the end."""
    if given is None or isinstance(given, Base):
        yield given
        return
    check_network(given, "relative_to")
    with left_as_it_was(given, "relative_to") as tensors:
        yield base_of(tensors, "relative_to")


class _Clock:
    """Wall and processor time of a run. Time that belongs to no single ε is divided evenly among them."""

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
    """First names of the tensors that are equal to the base's. They do not change, because no other file is smaller."""

    def unchanged(spec: TensorSpec) -> bool:
        return not distortion.coded[spec.name].any() or exact(distortion.weights[spec.name], spec.base) == Constant(0)

    return frozenset(spec.name for spec in distortion.skeleton.tensors if spec.base is not None and unchanged(spec))


def _effective_ranks(problem: Problem) -> dict[str, float | None]:
    """The effective rank of each tensor by first name; None if it has none. Small matrices of one shape are decomposed together."""
    found: dict[str, float | None] = {spec.name: None for spec in problem.skeleton.tensors}
    shapes: dict[tuple[int, int], list[str]] = {}
    for spec in problem.skeleton.tensors:
        weight, shape = problem.weights[spec.name], matrix_view(spec.shape)
        if shape is None or not weight.is_floating_point():
            continue
        if spec.count <= SMALL and not large_matrix(shape):
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
    """The layers of a file, and the bits that belong to no single layer.

    A byte codec codes all tensors as one string. Its bits are divided in proportion to the bits of each tensor with the entropy
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
        if not spec.quantizable and form == "dense":  # integers are their own symbols
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
