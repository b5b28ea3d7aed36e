"""Dead lines of a matrix: columns and rows of zeros, which may be marked instead of coded.

A unit that a network doesn't use is a row of zeros in one matrix, a column of zeros in the next, and a zero in a bias. So the marks of one
matrix predict those of another matrix with the same number of lines, and the model remembers which lines were dead.
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
"""Marks are considered only if they save at least this number of bits by an estimate."""


@dataclass(frozen=True)
class Marks:
    """Which lines of a matrix are alive, columns (columns,) and rows (rows,)."""

    columns: Flags
    rows: Flags

    @functools.cached_property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns that are alive."""
        return int(np.count_nonzero(self.rows)), int(np.count_nonzero(self.columns))

    @property
    def turned(self) -> bool:
        """Whether more columns than rows are alive. Then the transpose is coded."""
        return self.shape[1] > self.shape[0]

    def part(self, grid: Integers) -> Integers:
        """The living lines of symbols (columns, rows), in the orientation (columns, rows) of the coded matrix."""
        part = grid[np.ix_(self.columns, self.rows)]
        return np.ascontiguousarray(part.T if self.turned else part)

    def whole(self, cells: Integers) -> Integers:
        """The symbols (columns, rows) whose `part` is these cells (n,). Raises FormatError if a line that is marked as alive is dead."""
        along, across = self.shape
        part = cells.reshape(along, across).T if self.turned else cells.reshape(across, along)
        # An encoder marks every dead line. Otherwise two different files could hold the same tensor.
        if not (part.any(axis=0).all() and part.any(axis=1).all()):
            raise FormatError("a row or column of a matrix is dead and not marked: the payload is damaged")
        grid = np.zeros((self.columns.size, self.rows.size), dtype=cells.dtype)
        grid[np.ix_(self.columns, self.rows)] = part
        return grid


@dataclass
class DeadLines:
    """The state about dead lines that the matrices of a payload share.

    Attributes:
        marked: a tally of whether a matrix has marks.
        alive: a tally of whether a line is dead, for lines that were alive in the last matrix with this number of lines.
        dead: the same tally for lines that were dead in that matrix.
        known: for each number of lines, the lines that were dead in the last matrix with marks.
    """

    # Part of the format: most matrices have no marks, and a line usually stays as it was.
    marked: Tally = field(default_factory=lambda: Tally(np.array([8, 1]), 2))
    alive: Tally = field(default_factory=lambda: Tally(np.array([8, 1]), 2))
    dead: Tally = field(default_factory=lambda: Tally(np.array([1, 8]), 2))
    known: dict[int, Flags] = field(default_factory=dict)

    def code(self, coder: Coder, shape: tuple[int, int], marks: Marks | None = None) -> Marks:
        """Code the marks of a matrix with this number of columns and rows. Those of the columns come first.

        Raises:
            FormatError: all columns or all rows are dead.
        """
        columns = self._side(coder, None if marks is None else ~marks.columns, shape[0])
        rows = self._side(coder, None if marks is None else ~marks.rows, shape[1])
        if columns.all() or rows.all():
            raise FormatError("all columns or all rows of a matrix that isn't zero are marked as dead: the payload is damaged")
        return Marks(~columns, ~rows)

    def worthwhile(self, grid: Integers) -> Marks | None:
        """The marks of symbols (columns, rows), if they save more bits than they take by an estimate; otherwise None."""
        present = grid != 0
        marks = Marks(present.any(axis=1), present.any(axis=0))
        if marks.columns.all() and marks.rows.all():
            return None
        # The difference in bits between saying that a matrix has marks and that it has none.
        price = math.log2(float(self.marked.frequencies[0] / self.marked.frequencies[1]))
        # From two sums, because an array of the magnitudes of a large matrix would take much memory.
        mean = (2 * int(grid.sum(where=grid > 0)) - int(grid.sum())) / grid.size
        saved = _saved(marks, int(np.count_nonzero(present)), mean) - price
        if saved < _LEAST_SAVING:
            return None
        # The saving is an estimate; the bits of the marks are counted exactly. The tallies are copied, because nothing is coded yet.
        meter = Meter()
        DeadLines(self.marked, self.alive.copy(), self.dead.copy(), dict(self.known)).code(meter, grid.shape[:2], marks)
        return marks if meter.bits < saved else None

    def _side(self, coder: Coder, dead: Flags | None, count: int) -> Flags:
        """Code which lines (count,) of one side are dead: first those that were alive before, then those that were dead before."""
        last = self.known.get(count)
        # A line that was dead is likely to be dead again. So each of the two groups has its own tally.
        tallies = [flat_tally(2)] if last is None else [self.alive, self.dead]
        found = np.zeros(count, dtype=np.bool_)
        for group, tally in enumerate(tallies):
            chosen = np.full(count, True) if last is None else last == bool(group)
            given = None if dead is None else dead[chosen].astype(np.int64)
            found[chosen] = adaptive(coder, given, int(np.count_nonzero(chosen)), tally, FIRST_OF_OWN) == 1
        self.known[count] = found
        return found


def _saved(marks: Marks, used: int, mean: float) -> float:
    """An estimate of the bits that the zeros of dead lines take without marks, by the better of the table and the scale model.

    Args:
        marks: which lines are alive.
        used: the number of symbols that are not 0.
        mean: the mean magnitude of all symbols.

    Returns:
        Bits.
    """
    columns, rows = marks.columns.size, marks.rows.size
    left_rows, left_columns = marks.shape
    cells, left = columns * rows, left_rows * left_columns
    by_table = _spread(cells, used) - _spread(left, used)
    starts, sizes = blocks_of(rows)
    # A zero takes log₂(1 + μ) bits if the magnitude μ is expected, and μ falls with each zero that was read.
    a_column = float((sizes * np.log2(1 + 2 * BELIEF * mean / (starts + 2 * BELIEF))).sum())
    # The dead columns are counted already, so a row counts only its living part.
    a_row = float(np.log2(1 + BELIEF * mean / (np.arange(columns) + BELIEF)).sum()) * left_columns / columns
    # Without marks, the cheaper of the two models would be taken, so only its bits are saved.
    return min(by_table, (columns - left_columns) * a_column + (rows - left_rows) * a_row)


def _spread(cells: int, used: int) -> float:
    """n·log₂ n − z·log₂ z for n cells with z zeros: the part of the bits under an adaptive table that depends on n and z."""
    return sum(sign * count * math.log2(count) for sign, count in ((1, cells), (-1, cells - used)) if count)
