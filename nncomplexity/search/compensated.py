"""Rounding with compensated errors: the columns of a weight that are not yet rounded compensate for the error of a rounded column.

Let H be the moment of a layer's inputs. An error E of the layer's weight W (m, k) adds tr(E·H·Eᵀ) to the squared error of its outputs. Columns
are rounded one by one, the columns with the largest inputs first. Each is rounded to the nearest multiples of the step size, and the later
columns then move to where the error is least (GPTQ; Frantar et al. 2023, arXiv 2210.17323). With the Cholesky factor U of H⁻¹ = Uᵀ·U, the
error w_j − ŵ_j of column j moves column i > j by −(w_j − ŵ_j)·U_ji / U_jj.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nncomplexity.codecs import SYMBOL_LIMIT
from nncomplexity.file import CoarseTensor, dense, narrow
from nncomplexity.network import Moment
from nncomplexity.search.forms import AT_ONCE, Factors, Form, Pruned, Uniform
from nncomplexity.search.latent import snapped

DAMPING = 0.01
"""This share of the mean diagonal of H is added to its diagonal: the value of the publication."""
_RIDGE = 1e-9
"""The same share if a factor is fitted: enough even if two components are nearly equal."""
_LEAST = 1e-290
"""Inputs with at most this energy count as zero: adding a share of the diagonal no longer changes H in float64."""
_TOGETHER = 64
"""The number of columns that are rounded before all later columns are updated at once."""


class Compensation:
    """The order of a weight's columns, and how the error of one column moves the others.

    Args:
        H: (k, k) the moment of the inputs, or its diagonal (k,) if the other elements are zero: then no error can be compensated. Columns
            whose inputs are all zero are rounded to zero, because they change nothing.
    """

    def __init__(self, H: Tensor) -> None:
        diagonal = Moment(H).diagonal
        self._order = torch.argsort(diagonal, descending=True, stable=True)
        self._used = int((diagonal > 0).sum())
        self._moves: Tensor | None = None
        if H.dim() == 1:
            return
        # In reversed order the inverse of the Cholesky factor of H is U, so H itself is never inverted.
        backwards = self._order[: self._used].flip(0)
        damped = H[backwards[:, None], backwards]
        damped.diagonal().add_(DAMPING * diagonal[self._order[: self._used]].mean())
        L = torch.linalg.cholesky(damped)
        del damped  # each of these matrices may be large
        U = torch.linalg.solve_triangular(L, torch.eye(self._used, dtype=torch.float64), upper=False).flip(0, 1)
        self._moves = U.div_(U.diagonal().clone()[:, None])

    def rounded(self, matrix: Tensor, alive: Tensor | None = None) -> Tensor:
        """Whole numbers (m, k), in float64.

        Args:
            matrix: (m, k) a weight in units of its step.
            alive: (m, k) whether each element may be other than zero.
        """
        if self._moves is None:
            nearest = matrix.double().round()
            nearest[:, self._order[self._used :]] = 0
            return nearest if alive is None else nearest.mul_(alive)
        left = self._columns(matrix)
        mask = None if alive is None else self._columns(alive)
        found = torch.zeros(matrix.T.shape, dtype=torch.float64)
        for first in range(0, self._used, _TOGETHER):
            last = min(first + _TOGETHER, self._used)
            errors = left[first:last]  # each row is a column of the weight; after rounding it holds the column's error
            for j in range(first, last):
                rounded = left[j].round()
                if mask is not None:
                    rounded *= mask[j]
                found[self._order[j]] = rounded
                left[j] -= rounded
                left[j + 1 : last].addr_(self._moves[j, j + 1 : last], left[j], alpha=-1)
            left[last:].addmm_(self._moves[first:last, last:].T, errors, alpha=-1)
        return found.T

    def _columns(self, matrix: Tensor) -> Tensor:
        """(used, m) the columns whose inputs aren't all zero, in the order of rounding."""
        return matrix.T[self._order[: self._used]].double()


class Rounding:
    """Makes coarse tensors of forms. Errors are compensated for weights whose inputs are known.

    Args:
        moments: by first name of the weights.
        lean: whether to save memory, for large networks: how errors are compensated is computed for each piece anew. It takes as much
            memory as the moments.
    """

    def __init__(self, moments: Mapping[str, Moment], *, lean: bool = False) -> None:
        self._moments = {name: moment for name, moment in moments.items() if float(moment.diagonal.sum()) > _LEAST}
        self._compensations = {} if lean else {name: Compensation(moment.H) for name, moment in self._moments.items()}

    def piece(self, name: str, form: Form, weight: Tensor, precision: int, scale: float = 1.0) -> CoarseTensor:
        """The coarse tensor of a form of a weight.

        Args:
            name: the weight's first name.
            form: the form.
            weight: the numbers to code, in the weight's shape.
            precision: mantissa bits of the step sizes.
            scale: the factor by which step sizes are larger than those of the form, if errors are compensated.
        """
        if name in self._moments:
            if isinstance(form, Uniform | Pruned):
                return self._dense(name, replace(form, step=form.step * scale), weight, precision)
            if isinstance(form, Factors):
                return self._low_rank(name, form, weight, scale).piece(weight, precision)
        return form.piece(weight, precision)

    def _dense(self, name: str, form: Uniform | Pruned, weight: Tensor, precision: int) -> CoarseTensor:
        step = snapped(form.step, precision)
        moment = self._moments[name]
        matrix, compensation = moment.matrix(weight), self._compensation(name)
        alive = moment.matrix(form.alive.reshape(weight.shape)) if isinstance(form, Pruned) else None
        # The numbers of a mask may be at the end of the range of float64.
        room = min(torch.finfo(weight.dtype).max / step, SYMBOL_LIMIT)
        rows, parts = max(1, AT_ONCE // matrix.shape[1]), []
        # Rows don't depend on each other.
        for first in range(0, len(matrix), rows):
            those = slice(first, first + rows)
            rounded = compensation.rounded(matrix[those].double() / step, None if alive is None else alive[those])
            if not float(rounded.abs().max()) <= room:
                return form.piece(weight, precision)
            parts.append(narrow(rounded))
        symbols = torch.from_numpy(np.concatenate(parts))
        return dense(moment.back(symbols, weight.shape).numpy(), step)

    def _compensation(self, name: str) -> Compensation:
        return self._compensations.get(name) or Compensation(self._moments[name].H)

    def _low_rank(self, name: str, form: Factors, weight: Tensor, scale: float) -> Factors:
        """W ≈ s·A·B: B is fitted to A and rounded for inputs with moment H; then A is fitted to B and rounded for inputs with moment B·H·Bᵀ.

        Each of the two gets half of the scale.
        """
        moment = self._moments[name]
        W = moment.matrix(weight).double()
        given = form if moment.last else form.transposed()
        if W.shape != (len(given.A), given.B.shape[1]):
            return form
        fitted = torch.linalg.lstsq(given.A, W).solution / given.scale
        B = self._compensation(name).rounded(fitted / math.sqrt(scale))
        B = B[B.any(1)]
        if not len(B):
            return form
        inner = moment.inner(B, B)
        if not inner.diagonal().sum() > _LEAST:
            return form
        ridge = _RIDGE * inner.diagonal().mean() * torch.eye(len(B), dtype=torch.float64)
        A = torch.linalg.solve(inner + ridge, moment.inner(B, W)).T
        A = Compensation(inner).rounded(A / (abs(given.scale) * scale))
        kept = A.any(0)
        found = Factors(A[:, kept], B[kept], abs(given.scale) * scale)
        if not kept.any() or float(torch.stack([A.abs().max(), B.abs().max()]).max()) > SYMBOL_LIMIT:
            return form
        return found if moment.last else found.transposed()
