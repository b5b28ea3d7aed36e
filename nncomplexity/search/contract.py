"""What a search is given, what it must give back, and the one way to turn an idea into a candidate."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor

from nncomplexity.codecs import Codec
from nncomplexity.errors import InputError
from nncomplexity.file import (
    CoarseFile,
    CoarseTensor,
    Decoded,
    Piece,
    dense,
    dense_of,
    exact,
    narrow,
    overflows,
    united,
    weigh,
    write,
)
from nncomplexity.linalg import LARGEST_SYMBOL, SMALL, large_network, symbols
from nncomplexity.network import Distortion, Layout, Skeleton, TensorSpec, stacked
from nncomplexity.words import is_number, plain_number, plain_numbers

Progress = Callable[[float, float, str], None]
"""progress(evaluations done, evaluations in all, what is going on); it may raise `StopSearch`."""


class StopSearch(Exception):  # noqa: N818 - it is no error
    """Raised by a progress callback to end a search: the best file so far is confirmed, at one more evaluation, and is the answer."""


class UntilStopped:
    """A search, or a part of one, that a `StopSearch` ends.

    Where the loss fails and progress is then told to stop, that is the end, too: Ctrl-C reaches the processes that a loss has started
    before the search hears of it.

    Args:
        progress: the search's.

    Attributes:
        stopped: whether it was ended so.
    """

    def __init__(self, progress: Progress) -> None:
        self.stopped, self._progress = False, progress

    def __enter__(self) -> "UntilStopped":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        ended = isinstance(error, StopSearch) or (isinstance(error, InputError) and self._to_end())
        self.stopped |= ended
        return ended

    def _to_end(self) -> bool:
        try:
            self._progress(0, 1, "stopping")
        except StopSearch:
            return True
        return False


def unseen(done: float, total: float, what: str) -> None:
    """Progress that nobody watches."""


DESCENT, ALLOCATION, COMPENSATED, MOVES, UNIFORM, ROUNDING, LOSSLESS = (
    "descent",
    "bit allocation",
    "bit allocation with compensated rounding",
    "moves without gradient",
    "uniform quantization",
    "rounding without descent",
    "lossless",
)
"""What a file may come from: gradients; a step and a form for each tensor by the Lagrangian; the same,
rounded for the inputs of each layer; single moves; one step for all weights; a step
and perhaps a rank for each tensor, from which a descent would begin; the network as it is. A method may have words of its own."""


class Deadline(Protocol):
    """When searches must end; what they report progress to raises `StopSearch` then."""

    def share(self, count: int) -> None:
        """To be called as each of so many searches that are left begins, which then gets its even part of the time."""


@dataclass(frozen=True)
class Candidate:
    """A file, and the loss measured on the weights that it decodes to."""

    file: CoarseFile
    loss: float
    distortion: float
    paper_bytes: int | None = None
    """What the authors' recipe gives for the same weights, where the method is one of the paper's."""
    origin: str = ""
    """What it comes from, in words; empty where the method's name says all there is to say."""

    @property
    def bits(self) -> int:
        return self.file.bits


@dataclass(frozen=True)
class Problem:
    """The original network, its counted loss, and the codec in which the answer is to be written."""

    distortion: Distortion
    codec: Codec
    seed: int = 0
    progress: Progress = unseen
    kept: frozenset[str] = frozenset()
    """First names of tensors that stay exactly as they are, whatever their dtype."""
    deadline: Deadline | None = None
    """Where the time is limited."""

    @property
    def skeleton(self) -> Skeleton:
        """That of what a search moves: complex tensors as pairs of reals, and those that are laid out otherwise as their pieces."""
        return self.distortion.skeleton

    @property
    def weights(self) -> dict[str, Tensor]:
        """What is to be coarse-grained, by first name of that skeleton: the original tensors, or their differences from a base.

        What a coarse tensor decodes to, and what a loss takes, are weights in either case.
        """
        return self.distortion.coded

    def laid_out(self, layouts: Mapping[str, Layout]) -> "Problem":
        """The same problem with these tensors in pieces, by first name."""
        return replace(self, distortion=self.distortion.laid_out(layouts)) if layouts else self

    def whole(self, tensors: Sequence[CoarseTensor]) -> list[CoarseTensor]:
        """Coarse tensors of this skeleton as those of a file: pieces in one."""
        layouts = self.distortion.arrangement.layouts
        if not layouts:
            return list(tensors)
        found, rest = list[CoarseTensor](), iter(tensors)
        for spec in self.distortion.stored.real.tensors:
            layout = layouts.get(spec.name)
            found.append(next(rest) if layout is None else united(layout, list(islice(rest, layout.count)), spec.shape))
        return found

    def weigh(self, tensors: Sequence[CoarseTensor]) -> float:
        """Bits of coarse tensors of this skeleton in a file, but for what they share."""
        return sum(weigh(self.distortion.stored, self.whole(tensors)))

    def exact(self, spec: TensorSpec) -> Piece:
        """A tensor of the original, bit for bit."""
        return exact(self.distortion.weights[spec.name], spec.base)

    def quantized(self, spec: TensorSpec, step: float) -> Piece:
        """A tensor as multiples of one bin size (Eq. 11).

        One that reaches beyond 2³¹ of them, as a mask of −10⁹ does, is kept bit for bit: such a multiple differs from it by less than its
        dtype tells apart. So is one that has a multiple beyond its dtype's range.
        """
        if self.largest[spec.name] / step > LARGEST_SYMBOL:
            return self.exact(spec)
        coarse = dense(narrow(symbols(self.weights[spec.name], step)), step)
        return self.exact(spec) if overflows(coarse, spec) else coarse

    def all_quantized(self, specs: Sequence[TensorSpec], step: float) -> dict[str, Piece]:
        """Each of these tensors as `quantized` has it, by first name; small ones in one operation."""
        found: dict[str, Piece] = {}
        together: dict[torch.dtype, list[TensorSpec]] = {}
        for spec in specs:
            if 0 < spec.count <= SMALL and self.largest[spec.name] / step <= LARGEST_SYMBOL:
                together.setdefault(self.weights[spec.name].dtype, []).append(spec)
            else:
                found[spec.name] = self.quantized(spec, step)
        for group in together.values():
            flat = torch.cat([self.weights[spec.name].reshape(-1) for spec in group])
            values = narrow(symbols(flat, step))
            for spec, coarse in zip(group, dense_of(values, [spec.shape for spec in group], step), strict=True):
                found[spec.name] = self.exact(spec) if overflows(coarse, spec) else coarse
        return found

    @functools.cached_property
    def largest(self) -> dict[str, float]:
        """The greatest size of an element of each tensor that may be coarse-grained; 0 where there is none."""
        found: dict[str, float] = {}
        shapes: dict[object, list[str]] = {}
        for spec in self.skeleton.tensors:
            if self.quantizable(spec):
                weight = self.weights[spec.name]
                shapes.setdefault((weight.shape, weight.dtype) if spec.count <= SMALL else spec.name, []).append(spec.name)
        for names in shapes.values():
            weights = stacked([self.weights[name] for name in names])
            sizes = plain_numbers(weights.reshape(len(names), -1).double().abs().amax(1)) if weights.numel() else [0.0] * len(names)
            found |= zip(names, sizes, strict=True)
        return found

    def quantizable(self, spec: TensorSpec) -> bool:
        """Whether a search may coarse-grain the tensor; all others it must pass on as `exact` has them."""
        return spec.quantizable and spec.name not in self.kept

    def candidate(self, tensors: Sequence[CoarseTensor], paper_bytes: int | None = None, origin: str = "") -> Candidate:
        """Write the tensors, decode what was written, measure its loss: one evaluation. `origin` says what they come from."""
        return self.written(self.whole(tensors), paper_bytes, origin)

    def written(self, whole: Sequence[CoarseTensor], paper_bytes: int | None = None, origin: str = "") -> Candidate:
        """The same of tensors that are whole, as those of a file are."""
        file = write(self.distortion.stored, whole, self.codec, self.distortion.base)
        return self.measured(file, paper_bytes, origin)

    def measured(self, file: CoarseFile, paper_bytes: int | None = None, origin: str = "") -> Candidate:
        """Measure the loss of a file's decoded weights: one evaluation."""
        loss = self.distortion.loss(self.decoded(file))
        return Candidate(file, loss, abs(loss - self.distortion.original), paper_bytes, origin)

    def decoded(self, file: CoarseFile) -> Mapping[str, Tensor]:
        """A file's weights by first name at least; those of a large network are decoded when they are asked for."""
        if file.base is None and large_network(self.skeleton.parameters):
            return Decoded(file.skeleton.real.tensors, file.tensors)
        return file.weights()

    def confirmed(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Answers as they are in a fresh copy of the module that their files are loaded into, measured at the end of a search.

        Raises InputError where they have other losses there than the search went by.
        """
        distinct = {id(one.file): one for one in candidates}
        found = self.distortion.sound.end([(self.decoded(one.file), one.loss) for one in distinct.values()])
        losses = dict(zip(distinct, found, strict=True))
        return [
            replace(one, loss=loss, distortion=abs(loss - self.distortion.original))
            for one, loss in ((one, losses[id(one.file)]) for one in candidates)
        ]

    def feasible(self, candidate: Candidate, eps: float) -> bool:
        """Eq. 7, less a margin for floating point; False for a NaN."""
        return candidate.distortion <= self.distortion.tolerance(eps)


@dataclass(frozen=True)
class Found:
    """A search's answer for one ε: its best candidate, or None where nothing was within ε, and what it took."""

    best: Candidate | None
    evaluations: float
    seconds: float
    cpu_seconds: float
    stopped: bool = False
    """Whether a `StopSearch` ended the search before it was done."""
    descent_lost: bool = False
    """Whether descents were made, and none of them found what the answer is or anything within ε."""
    last_gain: float | None = None
    """The share of the bits that the last doubling of the effort has saved; None for a search that doesn't go on by doublings."""
    converged: bool | None = None
    """Whether that was too little to go on; None for such a search."""


def checked_budget(budget: object, least: int) -> float:
    """A method's budget as Python's number; raises InputError where it isn't a finite number of at least so many evaluations."""
    plain = plain_number(budget)
    if not is_number(plain) or not least <= plain < math.inf:
        raise InputError(f"budget: expected a number of loss evaluations, at least {least}, got {plain!r}")
    return plain


class Method(Protocol):
    """A search. Its settings are its fields, checked when it is made."""

    @property
    def name(self) -> str: ...

    @property
    def codec(self) -> str:
        """The codec that its answers are written in unless the caller names another."""
        ...

    @property
    def budget(self) -> float | None:
        """Loss evaluations for each ε; None for a search that ends by itself."""
        ...

    def search(self, problem: Problem, eps: Sequence[float]) -> Sequence[Found]:
        """The smallest candidate found for each ε, in the order of `eps`, with a seed the same each time.

        A `StopSearch` from `problem.progress` ends the search early, with the best there is by then for each ε.
        """
        ...
