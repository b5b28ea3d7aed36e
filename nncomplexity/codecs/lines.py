"""Dead lines of a matrix: columns and rows of zeros, which may be marked instead of coded.

A unit that a network doesn't use is a row of one matrix and a column of the next, and an element of a bias. So the marks of one matrix
tell much about those of another that has as many lines, and a payload keeps in mind which were dead.
"""

import functools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nncomplexity.codecs.coder import Meter
from nncomplexity.codecs.contract import Coder, Integers
from nncomplexity.codecs.models import FIRST_OF_OWN, Tally, adaptive, flat_tally
from nncomplexity.codecs.scales import BELIEF, blocks_of
from nncomplexity.errors import FormatError

Flags = NDArray[np.bool_]

_LEAST_SAVING = 4.0
"""Bits that marks must save by estimate before they are weighed."""


@dataclass(frozen=True)
class Marks:
    """Which lines of a matrix are alive, columns (columns,) and rows (rows,)."""

    columns: Flags
    rows: Flags

    @functools.cached_property
    def shape(self) -> tuple[int, int]:
        """How many rows and columns are alive."""
        return int(np.count_nonzero(self.rows)), int(np.count_nonzero(self.columns))

    @property
    def turned(self) -> bool:
        """Whether more columns than rows are alive, so that their transpose is coded."""
        return self.shape[1] > self.shape[0]

    def part(self, grid: Integers) -> Integers:
        """The lines of symbols (columns, rows) that are alive, as (columns, rows) of the matrix that is coded."""
        part = grid[np.ix_(self.columns, self.rows)]
        return np.ascontiguousarray(part.T if self.turned else part)

    def whole(self, cells: Integers) -> Integers:
        """The symbols (columns, rows) of which these cells (n,) are `part`. Raises FormatError where a line of them is dead."""
        along, across = self.shape
        part = cells.reshape(along, across).T if self.turned else cells.reshape(across, along)
        if not (part.any(axis=0).all() and part.any(axis=1).all()):
            raise FormatError("a row or column of a matrix is dead and not marked: the payload is damaged")
        grid = np.zeros((self.columns.size, self.rows.size), dtype=cells.dtype)
        grid[np.ix_(self.columns, self.rows)] = part
        return grid


@dataclass
class DeadLines:
    """What a payload knows of dead lines.

    Attributes:
        marked: a tally of matrices whose dead lines are marked.
        alive: whether lines are dead that were alive where a matrix last had as many.
        dead: the same of lines that were dead.
        known: which lines were dead in the last matrix that marked so many of one side.
    """

    marked: Tally = field(default_factory=lambda: Tally(np.array([8, 1]), 2))
    alive: Tally = field(default_factory=lambda: Tally(np.array([8, 1]), 2))
    dead: Tally = field(default_factory=lambda: Tally(np.array([1, 8]), 2))
    known: dict[int, Flags] = field(default_factory=dict)

    def code(self, coder: Coder, shape: tuple[int, int], marks: Marks | None = None) -> Marks:
        """The marks of a matrix of this many columns and rows; those of columns come first.

        Raises:
            FormatError: all columns or all rows are dead.
        """
        columns = self._side(coder, None if marks is None else ~marks.columns, shape[0])
        rows = self._side(coder, None if marks is None else ~marks.rows, shape[1])
        if columns.all() or rows.all():
            raise FormatError("all columns or all rows of a matrix that isn't zero are marked as dead: the payload is damaged")
        return Marks(~columns, ~rows)

    def worthwhile(self, grid: Integers) -> Marks | None:
        """The marks of symbols (columns, rows) where they save more than they take, as far as an estimate tells; else None."""
        present = grid != 0
        marks = Marks(present.any(axis=1), present.any(axis=0))
        if marks.columns.all() and marks.rows.all():
            return None
        price = math.log2(float(self.marked.frequencies[0] / self.marked.frequencies[1]))
        saved = _saved(marks, int(np.count_nonzero(present)), float(np.abs(grid).mean())) - price
        if saved < _LEAST_SAVING:
            return None
        meter = Meter()
        DeadLines(self.marked, self.alive.copy(), self.dead.copy(), dict(self.known)).code(meter, grid.shape[:2], marks)
        return marks if meter.bits < saved else None

    def _side(self, coder: Coder, dead: Flags | None, count: int) -> Flags:
        """(count,) which lines of one side are dead, coded in up to three groups by what is known of them."""
        last = self.known.get(count)
        tallies = [flat_tally(2)] if last is None else [self.alive, self.dead]
        found = np.zeros(count, dtype=np.bool_)
        for group, tally in enumerate(tallies):
            chosen = np.full(count, True) if last is None else last == bool(group)
            given = None if dead is None else dead[chosen].astype(np.int64)
            found[chosen] = adaptive(coder, given, int(np.count_nonzero(chosen)), tally, FIRST_OF_OWN) == 1
        self.known[count] = found
        return found


def _saved(marks: Marks, used: int, mean: float) -> float:
    """About what the zeros of dead lines take where they aren't marked, by the cheaper of the two kinds of tables.

    Args:
        marks: which lines are alive.
        used: how many symbols aren't 0.
        mean: the mean magnitude of all.
    """
    columns, rows = marks.columns.size, marks.rows.size
    left_rows, left_columns = marks.shape
    cells, left = columns * rows, left_rows * left_columns
    by_table = _spread(cells, used) - _spread(left, used)
    starts, sizes = blocks_of(rows)
    a_column = float((sizes * np.log2(1 + 2 * BELIEF * mean / (starts + 2 * BELIEF))).sum())
    a_row = float(np.log2(1 + BELIEF * mean / (np.arange(columns) + BELIEF)).sum()) * left_columns / columns
    return min(by_table, (columns - left_columns) * a_column + (rows - left_rows) * a_row)


def _spread(cells: int, used: int) -> float:
    """n·log₂ n − z·log₂ z of n cells of which z are 0: what an adaptive table takes, but for what it takes for those that aren't."""
    return sum(sign * count * math.log2(count) for sign, count in ((1, cells), (-1, cells - used)) if count)
