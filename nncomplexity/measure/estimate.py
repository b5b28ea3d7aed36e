"""`estimate`: from a network, its loss and ε to reports."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypedDict, Unpack, overload

from nncomplexity.codecs import codec_named
from nncomplexity.errors import InputError
from nncomplexity.file import CoarseFile, Constant, exact
from nncomplexity.linalg import usual_switches
from nncomplexity.measure.arguments import SeveralEps, check_function, checked_eps, checked_method, checked_seeds, python_eps
from nncomplexity.measure.layers import layers_of, ranks_by_name
from nncomplexity.measure.lossless import LosslessFile
from nncomplexity.measure.report import RelativeTo, Report, Subject, best_of
from nncomplexity.measure.seeds import searches
from nncomplexity.network import (
    Base,
    Distortion,
    Divergence,
    DivergenceFrom,
    Faithfulness,
    LossFn,
    ModuleOrTensors,
    Patterns,
    TensorSpec,
    base_of,
    check_network,
    constant_loss,
    kept_exactly,
    left_as_it_was,
    preserved_random_state,
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
from nncomplexity.words import Eps, Relative, listed
from nncomplexity.workers import checked_executor


class SearchOptions(TypedDict, total=False):
    """The search options that all searching functions accept. `estimate` explains each of them."""

    method: str | Method
    codec: str | None
    budget: float | None
    seed: int
    seeds: int
    include: Patterns
    exclude: Patterns
    time_limit: float | None
    progress: Progress | None
    executor: Executor | None


class Options(SearchOptions, total=False):
    """The options of `estimate`: its arguments except the network, its loss and ε."""

    relative_to: ModuleOrTensors | Base | None
    faithfulness: Divergence | None


def check_options(options: Options) -> None:
    """Check the names of options of `estimate`, and its method and budget.

    Raises:
        InputError: method or budget is not usable.
        TypeError: there is no option of that name.
    """
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(
            f"expected options of estimate, got {', '.join(sorted(unknown))}; expected {', '.join(Options.__annotations__)}"
        )
    checked_method(options.get("method", "tight"), options.get("budget"))


@overload
def estimate(model: ModuleOrTensors, loss_fn: LossFn, eps: Eps, **options: Unpack[Options]) -> Report: ...


@overload
def estimate(model: ModuleOrTensors, loss_fn: LossFn, eps: SeveralEps, **options: Unpack[Options]) -> tuple[Report, ...]: ...


def estimate(
    model: ModuleOrTensors,
    loss_fn: LossFn,
    eps: Eps | SeveralEps,
    *,
    method: str | Method = "tight",
    codec: str | None = None,
    budget: float | None = None,
    seed: int = 0,
    include: Patterns = None,
    exclude: Patterns = None,
    relative_to: ModuleOrTensors | Base | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    faithfulness: Divergence | None = None,
    seeds: int = 1,
    executor: Executor | None = None,
) -> Report | tuple[Report, ...]:
    """Bits of the smallest file whose decoded weights have a loss within ε of the model's (Eqs. 5-7 of DeMoss et al. 2025).

    Args:
        model: a module, or a mapping of names to tensors. Its weights, mode, gradients and device do not change.
        loss_fn: `loss_fn(module)` or `loss_fn(mapping)`, deterministic, returning a float or a 0-d tensor. The report's `warnings` name
            possible mistakes, such as active dropout. It can also be a `Divergence` from the model's own outputs: the loss of the model is
            then 0, and the loss of a file is its distortion.
        eps: the distortion bound in the loss's own unit (nats per example for cross-entropy), or several, also as an array or a
            1-d tensor. 0 means lossless. `Relative(0.01)` is a hundredth of |L(0) − L(θ)|, the distance to all weights zero.
        method: "tight" (the smallest files), "allocate" (without gradients), "bayes" (Algorithm 1), "quantize" (Algorithm 2), or a method
            object.
        codec: "entropy", "bzip2", "xz", "gzip" or "zstd"; None takes the method's default codec.
        budget: loss evaluations for each ε. None takes the method's default. For "tight", this is to search until a doubling of the effort
            saves less than 3 % (`report.converged`).
        seed: fixes the random choices of the search; the same seed gives the same file.
        include: glob patterns on tensor names: only tensors that match one are coarse-grained. None includes all.
        exclude: glob patterns of tensors to keep exactly; their bits are counted.
        relative_to: a base, whose bits are free: a module or tensors by name. The bits are then K(θ | θ₀): a tensor that the base has in
            the same shape is coded as the difference from it, and every other tensor is coded whole.
        time_limit: seconds after which a search ends at its next evaluation, with the best file so far. Several ε share the time
            evenly. The result then depends on the machine's speed, so it is not reproducible.
        progress: called as `progress(evaluations done, evaluations in all, what)`.
        faithfulness: a `Divergence` that measures how faithful the file is, if the search uses a loss. The search does not use it.
        seeds: number of searches, with the seeds from `seed` on. Each ε gets the smallest file of all searches, and `spread` has the
            variation of the sizes. The reported effort is the sum over the searches, and they share a time limit evenly.
        executor: a `concurrent.futures.Executor`, or a Dask client. Each of its workers searches with one seed at a time
            (docs/distributed.md). The result is the same as without an executor.

    Returns:
        One report, or a tuple of them in the order of `eps`. A larger ε never has the larger file.

    Raises:
        InputError: an argument isn't usable, the loss isn't the same for the same weights, the loss of a module doesn't depend on its
            weights, or the executor takes no more work.

    >>> import torch
    >>> weights = {"w": torch.eye(8) + 0.01 * torch.randn(8, 8, generator=torch.Generator().manual_seed(0))}
    >>> report = estimate(weights, lambda w: ((w["w"] - torch.eye(8)) ** 2).sum(), eps=0.01, method="quantize")
    >>> report.distortion <= 0.01, report.bits < report.subject.raw_bits
    (True, True)
    """
    request = _Request(
        asked=checked_eps(eps),
        method=checked_method(method, budget),
        codec=codec,
        include=include,
        exclude=exclude,
        relative_to=relative_to,
        time_limit=None if time_limit is None else TimeLimit(time_limit).seconds,
        faithfulness=faithfulness,
    )
    every_seed, executor = checked_seeds(seed, seeds), checked_executor(executor)
    check_function("progress", progress)
    if request.time_limit is not None:  # the limit is for the whole call, however many searches run at once
        request = replace(request, time_limit=request.time_limit / len(every_seed))
    runs = searches(partial(_searched, model, loss_fn, request), every_seed, executor, progress)
    reports = runs[0] if len(every_seed) == 1 else best_of(runs)
    return tuple(reports) if isinstance(python_eps(eps), Sequence) else reports[0]


@dataclass(frozen=True)
class _Request:
    """The checked arguments of `estimate` that each of its searches needs."""

    asked: list[Eps]
    method: Method
    codec: str | None
    include: Patterns
    exclude: Patterns
    relative_to: ModuleOrTensors | Base | None
    time_limit: float | None
    """In seconds, for all ε of one search together."""
    faithfulness: Divergence | None

    def __post_init__(self) -> None:
        if not isinstance(self.faithfulness, Divergence | None):
            raise InputError(f"faithfulness: expected a Divergence, got {type(self.faithfulness).__name__}")


def _searched(
    model: ModuleOrTensors, loss_fn: LossFn, request: _Request, seed: int, progress: Progress | None
) -> tuple[Report, ...]:
    """The reports of one search, in the order of the ε."""
    clock = _Clock()
    # Each search makes its own TimeLimit, because its clock starts when it is made.
    limit = None if request.time_limit is None else TimeLimit(request.time_limit)
    with (
        preserved_random_state(),
        usual_switches(),
        _kept(request.relative_to) as base,
        Distortion(model, loss_fn, base, _least(request.asked)) as distortion,
    ):
        prepared = _prepare(distortion, request, seed, progress or unseen, limit)
        found = _search(prepared)
        ranks = ranks_by_name(prepared.problem)
        share = clock.since(found.values(), len(prepared.values))
        return tuple(_report(prepared, answer, found, ranks, share) for answer in _choose(prepared, found))


@dataclass(frozen=True)
class _Prepared:
    """Everything that a search needs."""

    request: _Request
    problem: Problem
    values: list[float]
    """Each ε in the loss's unit, in the order of the argument `eps`."""
    lossless: LosslessFile
    nothing_new: bool
    """Whether the network equals its base. Then nothing is smaller than its lossless file."""
    subject: Subject
    outputs: DivergenceFrom | None
    """The divergence that measures how faithful a file is."""
    limit: TimeLimit | None
    watched: "_Watched"
    faithful: dict[int, Faithfulness] = field(default_factory=dict)
    """The faithfulness of each measured file, by the file's `id`. Several ε often have the same file."""

    def faithfulness(self, file: CoarseFile) -> Faithfulness | None:
        """How faithful a file is; None without a divergence."""
        if self.outputs is None:
            return None
        if id(file) not in self.faithful:
            self.faithful[id(file)] = self.problem.distortion.faithfulness(self.outputs, self.problem.decoded(file))
        return self.faithful[id(file)]


def _prepare(distortion: Distortion, request: _Request, seed: int, progress: Progress, limit: TimeLimit | None) -> _Prepared:
    """Prepare a search: which tensors may change, each ε in the loss's unit, and the lossless file."""
    about = _relative_to(distortion)
    kept = kept_exactly(distortion.skeleton, distortion.coded, request.include, request.exclude) | _unchanged(distortion)
    # A relative ε is a share of the distance to this loss, so this loss is measured before ε is computed.
    zero_loss = constant_loss(distortion)
    values = [_absolute(one, distortion.original, zero_loss) for one in request.asked]
    # The tolerated noise of the loss depends on the smallest ε, which is known only now.
    distortion.sound.set_smallest_eps(_least(values))
    watched = _Watched(progress)
    problem = Problem(
        distortion=distortion,
        codec=codec_named(request.method.codec if request.codec is None else request.codec),
        seed=seed,
        progress=watched if limit is None else limit.watching(watched),
        kept=kept,
        deadline=limit,
    )
    lossless = LosslessFile(problem)
    outputs = distortion.divergence
    subject = Subject(
        parameters=distortion.stored.parameters,
        raw_bits=distortion.stored.raw_bits,
        lossless_bits=lossless.bits_by_codec,
        loss=distortion.original,
        left_out=distortion.left_out,
        relative_to=about,
        zero_loss=zero_loss,
        divergence=None if outputs is None else outputs.kind,
    )
    if outputs is None and request.faithfulness is not None:
        outputs = distortion.against(request.faithfulness)
    return _Prepared(request, problem, values, lossless, lossless.unchanged(), subject, outputs, limit, watched)


def _search(prepared: _Prepared) -> dict[float, Found]:
    """What the method finds for each ε above 0, from the largest ε to the smallest."""
    searched = sorted({value for value in prepared.values if value > 0 and not prepared.nothing_new}, reverse=True)
    return dict(zip(searched, prepared.request.method.search(prepared.problem, searched), strict=True)) if searched else {}


@dataclass(frozen=True)
class _Answer:
    """The file that is the answer for one ε."""

    eps: float
    asked: Eps
    candidate: Candidate
    within: bool
    """False if no file was found that is within ε and not larger than the lossless file."""


def _choose(prepared: _Prepared, found: Mapping[float, Found]) -> list[_Answer]:
    """For each ε, the smallest of all files that are within it, or the lossless file if none is smaller."""
    problem, lossless = prepared.problem, prepared.lossless
    chosen: list[Candidate] = []
    withins: list[bool] = []
    for value in prepared.values:
        # A file within a smaller ε is also within this one. With all files in the pool, a larger ε never has a larger file.
        pool = [entry.best for entry in found.values() if entry.best and problem.feasible(entry.best, value)]
        best = min((one for one in pool if one.bits <= lossless.bits), key=lambda candidate: candidate.bits, default=None)
        # A file of exactly the lossless size counts as found, but the lossless file is then the better answer.
        smaller = best is not None and best.bits < lossless.bits
        withins.append(value == 0 or prepared.nothing_new or best is not None)
        chosen.append(best if best is not None and smaller and value > 0 else lossless.candidate)
    # Each answer is measured once more, in a fresh module that has never had other weights. The report states this loss.
    answers = zip(prepared.values, prepared.request.asked, problem.confirmed(chosen), withins, strict=True)
    return [_Answer(*answer) for answer in answers]


def _report(
    prepared: _Prepared,
    answer: _Answer,
    found: Mapping[float, Found],
    ranks: Mapping[str, float | None],
    share: tuple[float, float],
) -> Report:
    """The report of an answer. `share` is this ε's part of the wall and processor time that belongs to no single ε."""
    candidate, limit, method = answer.candidate, prepared.limit, prepared.request.method
    # For ε = 0, and for a network that equals its base, there was no search.
    effort = found.get(answer.eps, Found(None, 0.0, 0.0, 0.0))
    stopped = prepared.watched.stopped and effort.stopped
    twice = prepared.values.count(answer.eps)  # an ε that is given more than once is searched once, so its effort is divided
    layers, shared_bits = layers_of(candidate.file, ranks)
    faith, divergence = prepared.faithfulness(candidate.file), prepared.problem.distortion.divergence
    doubts = faith.warnings(candidate.bits, answer.eps, divergence.fresh) if faith and divergence else ()
    return Report(
        eps=answer.eps,
        method=method.name,
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
        subject=prepared.subject,
        file=candidate.file,
        within=answer.within,
        time_limit=None if limit is None else limit.seconds,
        time_is_up=limit is not None and limit.reached,
        eps_relative=answer.asked.share if isinstance(answer.asked, Relative) else None,
        origin=candidate.origin or method.name,
        interrupted=stopped,
        begun=not stopped or effort.evaluations > 0,
        warnings=(*prepared.problem.distortion.sound.warnings.values(), *_lost(effort, candidate), *doubts),
        faithfulness=faith,
        converged=effort.converged,
        last_gain=effort.last_gain,
    )


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

    It is 0 if no ε is above 0. It is None if an ε is a share, because a share has no value before the loss is measured.
    """
    numbers = [value for value in values if not isinstance(value, Relative)]
    return min((value for value in numbers if value > 0), default=0.0) if len(numbers) == len(values) else None


def _lost(effort: Found, answer: Candidate) -> tuple[str, ...]:
    """A warning, if the descent failed and the answer comes from elsewhere."""
    if not effort.descent_lost or answer.origin == DESCENT:
        return ()
    source = "is the lossless file" if answer.origin == LOSSLESS else f"comes from {answer.origin}"
    return (
        f"The descent was lost: the answer {source}, because the descent found nothing smaller within ε; "
        "another seed or a larger budget may find a smaller file.",
    )


@contextmanager
def _kept(given: ModuleOrTensors | Base | None) -> Iterator[Base | None]:
    """The base, as a copy of the caller's tensors. If a loss changes the caller's tensors, they are restored at the end."""
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
        # The clocks are not read at the same instant, so a difference of zero may come out slightly negative.
        return max(wall, 0.0) / count, max(cpu, 0.0) / count


def _relative_to(distortion: Distortion) -> RelativeTo | None:
    """What the report says about the base. Raises InputError if the base has none of the network's tensors."""
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
    """First names of the tensors that equal the base's. They stay unchanged, because no other form of them takes fewer bits."""

    def unchanged(spec: TensorSpec) -> bool:
        return not distortion.coded[spec.name].any() or exact(distortion.weights[spec.name], spec.base) == Constant(0)

    return frozenset(spec.name for spec in distortion.skeleton.tensors if spec.base is not None and unchanged(spec))
