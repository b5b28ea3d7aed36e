"""Layouts of a tensor: in blocks, for fused projections and gates, or as another matrix (a folding).

The rank of a tensor depends on which of its axes are rows. A convolution kernel (out, in, height, width) may be the product of a filter along
the height and one along the width. It then has full rank as (out, in·height·width) and low rank as (out·height, in·width). A fused matrix
has queries, keys and values one below the other, and each of them may have its own rank. The elements are the same in every
layout. The file says which layout was used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from nncomplexity.network.weights import Skeleton, TensorSpec

MOST_BLOCKS = 64
"""The largest number of blocks of a tensor. It is part of the format: a decoder uses it to limit the memory for a file."""


class Layout(Protocol):
    """A way to divide a tensor into pieces, and to join the pieces again."""

    @property
    def count(self) -> int:
        """The number of pieces."""
        ...

    def shapes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """The shapes of the pieces of a tensor of this shape."""
        ...

    def apart(self, tensor: Tensor) -> list[Tensor]:
        """The pieces, as views if possible."""
        ...

    def together(self, pieces: Sequence[Tensor], shape: Sequence[int], /) -> Tensor:
        """The tensor of this shape with these pieces."""
        ...

    def in_words(self, shape: Sequence[int], /) -> str:
        """The layout in words, for a tensor of this shape."""
        ...


@dataclass(frozen=True)
class Blocks:
    """`count` equal blocks along an axis, 0 or 1.

    >>> [block.tolist() for block in Blocks(1, 2).apart(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]))]
    [[[1, 2], [5, 6]], [[3, 4], [7, 8]]]
    >>> Blocks(0, 3).in_words((96, 32))
    '3 blocks of rows'
    """

    axis: int
    count: int

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape can be divided into these blocks."""
        return 2 <= self.count <= MOST_BLOCKS and shape[self.axis] > 0 and shape[self.axis] % self.count == 0

    def shapes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """The shape of a block of a tensor of this shape, `count` times."""
        block = list(shape)
        block[self.axis] //= self.count
        return [tuple(block)] * self.count

    def apart(self, tensor: Tensor) -> list[Tensor]:
        """The blocks, views of the tensor."""
        return list(tensor.chunk(self.count, self.axis))

    def together(self, pieces: Sequence[Tensor], _: Sequence[int], /) -> Tensor:
        """The tensor of these blocks, joined along the axis."""
        return torch.cat(list(pieces), self.axis)

    def in_words(self, _: Sequence[int], /) -> str:
        """The number of blocks and their axis, in words."""
        return f"{self.count} blocks of {('rows', 'columns')[self.axis]}"


@dataclass(frozen=True)
class Folding:
    """One matrix. Some axes of the tensor become its rows and the others its columns, both in the order of the tensor.

    Only axes longer than 1 count. The first of them always belongs to the rows. Bit i − 1 of `mask` says whether the i-th axis after
    it belongs to the rows too.

    >>> Folding(0b01).shapes((8, 4, 3, 5)), Folding(0b010).shapes((8, 4, 3, 5)), Folding(0).shapes((1, 4, 3, 3))
    ([(32, 15)], [(24, 20)], [(4, 9)])
    >>> Folding(0b010).in_words((8, 4, 3, 5))
    'axes 0, 2 × 1, 3'
    >>> Folding(0b010).apart(torch.arange(16).reshape(2, 2, 2, 2))[0].tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    """

    mask: int

    count = 1

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape has this folding, with at least one axis as columns."""
        return 0 not in shape and 0 <= self.mask < foldings(shape)

    def shapes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """The shape (m, n) of the matrix that a tensor of this shape folds into."""
        rows, columns = self._axes(shape)
        return [(prod(shape[axis] for axis in rows), prod(shape[axis] for axis in columns))]

    def apart(self, tensor: Tensor) -> list[Tensor]:
        """The one matrix (m, n) of the tensor."""
        rows, columns = self._axes(tensor.shape)
        return [tensor.permute(*rows, *columns).reshape(self.shapes(tensor.shape)[0])]

    def together(self, pieces: Sequence[Tensor], shape: Sequence[int], /) -> Tensor:
        """The tensor of this shape that folds into the matrix."""
        order = [axis for side in self._axes(shape) for axis in side]
        places = [order.index(axis) for axis in range(len(shape))]
        return pieces[0].reshape([shape[axis] for axis in order]).permute(places).contiguous()

    def in_words(self, shape: Sequence[int], /) -> str:
        """The axes of the rows and those of the columns, in words."""
        rows, columns = (", ".join(map(str, axes)) for axes in self._axes(shape))
        return f"axes {rows} × {columns}"

    def _axes(self, shape: Sequence[int]) -> tuple[list[int], list[int]]:
        first, *others = _long(shape)
        rows = [first, *(axis for place, axis in enumerate(others) if self.mask >> place & 1)]
        return rows, [axis for axis in range(len(shape)) if axis not in rows]


def foldings(shape: Sequence[int]) -> int:
    """The number of foldings of a shape.

    Each axis longer than 1, except the first, is in the rows or in the columns, and at least one is in the columns.

    >>> foldings((8, 4, 3, 3)), foldings((8, 4, 1, 1)), foldings((8,)), foldings(())
    (7, 1, 0, 0)
    """
    return max((1 << max(len(_long(shape)) - 1, 0)) - 1, 0)


class Arrangement:
    """The tensors of a network, some of them divided into pieces.

    Args:
        whole: the skeleton of the tensors, none of them complex.
        layouts: the layouts of the divided tensors, by first name.

    Attributes:
        skeleton: the skeleton of the pieces and of the undivided tensors, in the order of `whole`.
        pieces: the first names of the pieces.
    """

    def __init__(self, whole: Skeleton, layouts: Mapping[str, Layout]) -> None:
        self.layouts = dict(layouts)
        self._pieces = {spec.name: pieces_of(spec, layouts[spec.name]) for spec in whole.tensors if spec.name in layouts}
        self._shapes = {spec.name: spec.shape for spec in whole.tensors}
        self.pieces = frozenset(piece.name for pieces in self._pieces.values() for piece in pieces)
        # The pieces take the place of their tensor, because a file has the pieces of one tensor next to each other.
        self.skeleton = Skeleton(tuple(one for spec in whole.tensors for one in self._pieces.get(spec.name, [spec])))

    def apart(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The given whole tensors, with the divided ones replaced by their pieces."""
        found: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if name in self._pieces:
                pieces = self.layouts[name].apart(tensor)
                found |= {spec.name: piece for spec, piece in zip(self._pieces[name], pieces, strict=True)}
            else:
                found[name] = tensor
        return found

    def whole(self, tensors: Mapping[str, Tensor], name: str) -> Tensor:
        """One whole tensor by its first name, from a mapping that has the tensor or its pieces."""
        if name not in self._pieces or name in tensors:
            return tensors[name]
        return self.layouts[name].together([tensors[spec.name] for spec in self._pieces[name]], self._shapes[name])


def pieces_of(spec: TensorSpec, layout: Layout) -> list[TensorSpec]:
    """The specs of a tensor's pieces, each with a name made from the tensor's name and with its piece of the base."""
    shapes = layout.shapes(spec.shape)
    bases: Sequence[Tensor | None] = [None] * len(shapes) if spec.base is None else layout.apart(spec.base)
    return [
        replace(spec, names=(f"{spec.name}[{place}]",), shape=shape, base=base)
        for place, (shape, base) in enumerate(zip(shapes, bases, strict=True))
    ]


def _long(shape: Sequence[int]) -> list[int]:
    """The axes that are longer than 1."""
    return [axis for axis, extent in enumerate(shape) if extent > 1]
