"""The network as it is: what lossless files of it take, and the one that is the answer where nothing smaller is within ε.

A large network (`nncomplexity.linalg.sizes`) is only weighed: its bits under the entropy codec are −log₂ of the coded probabilities, and the
other codecs, of which xz takes a second for some megabytes, are left out. Its lossless file is written when it is needed.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import overload

from nncomplexity.codecs import CODECS, Codec
from nncomplexity.file import CoarseTensor, Constant, encode, weigh, write
from nncomplexity.linalg import large_network
from nncomplexity.search import LOSSLESS, Candidate, Problem


class LosslessFile:
    """The lossless file of a problem's network, whose loss is the original's bit for bit.

    Attributes:
        bits_by_codec: bits under each codec; None for one that was left out.
        bits: the least of them.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._tensors: Sequence[CoarseTensor] = Originals(problem)
        self.bits_by_codec: dict[str, int | None] = dict.fromkeys(codec.name for codec in CODECS)
        if large_network(problem.skeleton.parameters):
            self._codec: Codec = CODECS[0]
            bits = {self._codec: 8 * math.ceil(sum(weigh(problem.distortion.stored, self._tensors)) / 8)}
        else:
            self._tensors = list(self._tensors)
            bits = {codec: 8 * len(encode(problem.distortion.stored, self._tensors, codec)) for codec in CODECS}
            self._codec = min(CODECS, key=lambda codec: bits[codec])
        self.bits_by_codec |= {codec.name: count for codec, count in bits.items()}
        self.bits = bits[self._codec]

    @functools.cached_property
    def candidate(self) -> Candidate:
        """The file, written, decoded and measured when first asked for: one evaluation."""
        distortion = self._problem.distortion
        file = write(distortion.stored, self._tensors, self._codec, distortion.base)
        candidate = self._problem.measured(file, origin=LOSSLESS)
        # Its weights are the original's bit for bit: another loss is the loss's own noise, or a fault.
        distortion.check_same(candidate.loss)
        return candidate

    def unchanged(self) -> bool:
        """Whether nothing of the network differs from its base."""
        return self._problem.distortion.base is not None and all(coarse == Constant(0) for coarse in self._tensors)


class Originals(Sequence[CoarseTensor]):
    """The original tensors in the cheapest exact forms, each made when it is asked for and not kept."""

    def __init__(self, problem: Problem) -> None:
        self._problem, self._specs = problem, problem.skeleton.tensors

    def __len__(self) -> int:
        return len(self._specs)

    @overload
    def __getitem__(self, index: int) -> CoarseTensor: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[CoarseTensor]: ...

    def __getitem__(self, index: int | slice) -> CoarseTensor | Sequence[CoarseTensor]:
        if isinstance(index, slice):
            return [self._problem.exact(spec) for spec in self._specs[index]]
        return self._problem.exact(self._specs[index])

    def __iter__(self) -> Iterator[CoarseTensor]:
        return (self._problem.exact(spec) for spec in self._specs)
