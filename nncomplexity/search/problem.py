"""The problem that a search is given, and its candidates: files, each with the loss measured on what it decodes to."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from nncomplexity.codecs import Codec
from nncomplexity.file import (
    CoarseFile,
    CoarseTensor,
    Decoded,
    Piece,
    count_bits,
    dense,
    dense_of,
    exact,
    narrow,
    overflows,
    united,
    write,
)
from nncomplexity.linalg import LARGEST_SYMBOL, SMALL, large_network, symbols
from nncomplexity.network import Distortion, Layout, Skeleton, TensorSpec, stacked
from nncomplexity.search.stopping import Deadline, Progress, unseen
from nncomplexity.words import python_numbers


@dataclass(frozen=True)
class Candidate:
    """A file, and the loss measured on the weights that it decodes to."""

    file: CoarseFile
    loss: float
    distortion: float
    paper_bytes: int | None = None
    """The size by the authors' recipe, in bytes, for the methods of the paper; None for other methods."""
    origin: str = ""
    """The origin of the file, in words; empty if the method's name says enough."""

    @property
    def bits(self) -> int:
        """The length of the payload, in bits."""
        return self.file.bits


@dataclass(frozen=True)
class Problem:
    """What a search is given: the original network, its loss, whose calls are counted, and the codec of the answer."""

    distortion: Distortion
    codec: Codec
    seed: int = 0
    progress: Progress = unseen
    kept: frozenset[str] = frozenset()
    """First names of the tensors that stay exactly as they are, whatever their dtype."""
    deadline: Deadline | None = None
    """The limit on time, if there is one."""

    @property
    def skeleton(self) -> Skeleton:
        """The tensors as a search sees them: complex ones as pairs of real ones, and each piece of a layout as a tensor."""
        return self.distortion.skeleton

    @property
    def weights(self) -> dict[str, Tensor]:
        """The numbers to coarse-grain, by first name of `skeleton`: the original tensors, or their differences from a base.

        With or without a base, a coarse tensor decodes to whole weights, and the loss gets whole weights.
        """
        return self.distortion.coded

    def laid_out(self, layouts: Mapping[str, Layout]) -> "Problem":
        """The same problem with some tensors in pieces. `layouts` has the layout of each, by first name."""
        return replace(self, distortion=self.distortion.laid_out(layouts)) if layouts else self

    def whole(self, tensors: Sequence[CoarseTensor]) -> list[CoarseTensor]:
        """Coarse tensors of `skeleton` as a file has them: the pieces of a tensor are united."""
        layouts = self.distortion.arrangement.layouts
        if not layouts:
            return list(tensors)
        found, rest = list[CoarseTensor](), iter(tensors)
        for spec in self.distortion.stored.real.tensors:
            layout = layouts.get(spec.name)
            found.append(next(rest) if layout is None else united(layout, list(islice(rest, layout.count)), spec.shape))
        return found

    def count_bits(self, tensors: Sequence[CoarseTensor]) -> float:
        """Bits of coarse tensors of `skeleton` in a file, without the bits that belong to no single tensor."""
        return sum(count_bits(self.distortion.stored, self.whole(tensors)))

    def exact(self, spec: TensorSpec) -> Piece:
        """A tensor of the original, bit for bit."""
        return exact(self.distortion.weights[spec.name], spec.base)

    def quantized(self, spec: TensorSpec, step: float) -> Piece:
        """A tensor as multiples of one bin size (Eq. 11 of DeMoss et al. 2025).

        A tensor stays bit for bit if an element is more than 2³¹ bins, as in a mask of −10⁹: rounding to so fine a bin changes less than its
        dtype can show. It also stays if a multiple is beyond the range of its dtype.
        """
        if self.largest[spec.name] / step > LARGEST_SYMBOL:
            return self.exact(spec)
        coarse = dense(narrow(symbols(self.weights[spec.name], step)), step)
        return self.exact(spec) if overflows(coarse, spec) else coarse

    def all_quantized(self, specs: Sequence[TensorSpec], step: float) -> dict[str, Piece]:
        """`quantized` for several tensors, by first name. Small tensors share one operation, which saves time if there are thousands."""
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
        """The largest magnitude in each tensor that may be coarse-grained, by first name; 0 for an empty tensor."""
        found: dict[str, float] = {}
        shapes: dict[object, list[str]] = {}
        for spec in self.skeleton.tensors:
            if self.quantizable(spec):
                weight = self.weights[spec.name]
                shapes.setdefault((weight.shape, weight.dtype) if spec.count <= SMALL else spec.name, []).append(spec.name)
        for names in shapes.values():
            weights = stacked([self.weights[name] for name in names])
            sizes = (
                python_numbers(weights.reshape(len(names), -1).double().abs().amax(1)) if weights.numel() else [0.0] * len(names)
            )
            found |= zip(names, sizes, strict=True)
        return found

    def quantizable(self, spec: TensorSpec) -> bool:
        """Whether a search may change the tensor. All other tensors stay as `exact` has them."""
        return spec.quantizable and spec.name not in self.kept

    def candidate(self, tensors: Sequence[CoarseTensor], paper_bytes: int | None = None, origin: str = "") -> Candidate:
        """Write the tensors to a file, decode it, and measure the loss of the decoded weights: one evaluation.

        Args:
            tensors: the coarse tensors, in the order of `skeleton`.
            paper_bytes: see `Candidate`.
            origin: see `Candidate`.

        Returns:
            The file with its loss.
        """
        return self.written(self.whole(tensors), paper_bytes, origin)

    def written(self, whole: Sequence[CoarseTensor], paper_bytes: int | None = None, origin: str = "") -> Candidate:
        """`candidate` for tensors as a file has them, without pieces."""
        file = write(self.distortion.stored, whole, self.codec, self.distortion.base)
        return self.measured(file, paper_bytes, origin)

    def measured(self, file: CoarseFile, paper_bytes: int | None = None, origin: str = "") -> Candidate:
        """Measure the loss of a file's decoded weights: one evaluation."""
        loss = self.distortion.loss(self.decoded(file))
        return Candidate(file, loss, abs(loss - self.distortion.original), paper_bytes, origin)

    def decoded(self, file: CoarseFile) -> Mapping[str, Tensor]:
        """The weights of a file by name. Those of a large network are by first name alone, and each is decoded when it is used."""
        if file.base is None and large_network(self.skeleton.parameters):
            return Decoded(file.skeleton.real.tensors, file.tensors)
        return file.weights()

    def confirmed(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The answers of a search, each measured once more, in a fresh copy of the module into which its file is loaded.

        Raises:
            InputError: a loss is not the one that the search measured. Then something else than the weights changed it.
        """
        # Several ε may have one file as their answer. It is measured once.
        distinct = {id(one.file): one for one in candidates}
        found = self.distortion.sound.end([(self.decoded(one.file), one.loss) for one in distinct.values()])
        losses = dict(zip(distinct, found, strict=True))
        return [
            replace(one, loss=loss, distortion=abs(loss - self.distortion.original))
            for one, loss in ((one, losses[id(one.file)]) for one in candidates)
        ]

    def feasible(self, candidate: Candidate, eps: float) -> bool:
        """Whether d(θ, θ̃) ≤ ε (Eq. 7), less a margin for floating-point rounding. False if the distortion is NaN."""
        return self.distortion.is_within(candidate.distortion, eps)
