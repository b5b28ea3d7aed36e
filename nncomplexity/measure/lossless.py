"""Lossless files of the network, and their sizes. The smallest one is the answer if nothing smaller is within ε.

For a large network (`nncomplexity.linalg.sizes`), only the bits of the entropy codec are computed, as −log₂ of the coded
probabilities. Other codecs are left out, because xz takes a second for a few megabytes. The lossless file is then written only when
it is needed.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import overload

from nncomplexity.codecs import CODECS, Codec
from nncomplexity.file import CoarseTensor, Constant, count_bits, lengths, write
from nncomplexity.linalg import large_network
from nncomplexity.search import LOSSLESS, Candidate, Problem


class LosslessFile:
    """The lossless file of a problem's network. Its loss is exactly the original's.

    Attributes:
        bits_by_codec: bits with each codec; None for codecs that are left out.
        bits: the smallest of them.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._tensors: Sequence[CoarseTensor] = Originals(problem)
        self.bits_by_codec: dict[str, int | None] = dict.fromkeys(codec.name for codec in CODECS)
        if large_network(problem.skeleton.parameters):
            # The first codec is entropy coding. Its bits are known without coding, rounded up here to whole bytes as in a payload.
            self._codec: Codec = CODECS[0]
            bits = {self._codec: 8 * math.ceil(sum(count_bits(problem.distortion.stored, self._tensors)) / 8)}
        else:
            self._tensors = list(self._tensors)
            sizes = lengths(problem.distortion.stored, self._tensors, CODECS)
            bits = {codec: 8 * size for codec, size in zip(CODECS, sizes, strict=True)}
            self._codec = min(CODECS, key=lambda codec: bits[codec])
        self.bits_by_codec |= {codec.name: count for codec, count in bits.items()}
        self.bits = bits[self._codec]

    @functools.cached_property
    def candidate(self) -> Candidate:
        """The file. It is written, decoded and measured when it is first needed, with one evaluation."""
        distortion = self._problem.distortion
        file = write(distortion.stored, self._tensors, self._codec, distortion.base)
        candidate = self._problem.measured(file, origin=LOSSLESS)
        # The decoded weights equal the original's bit for bit. If the loss differs all the same, it is noisy, or there is a fault.
        distortion.check_same(candidate.loss)
        return candidate

    def unchanged(self) -> bool:
        """Whether nothing of the network differs from its base."""
        return self._problem.distortion.base is not None and all(coarse == Constant(0) for coarse in self._tensors)


class Originals(Sequence[CoarseTensor]):
    """The original tensors in their smallest exact forms. Each form is computed when it is needed, and not kept, to save memory."""

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
