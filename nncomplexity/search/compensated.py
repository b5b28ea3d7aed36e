"""Rounding with compensated errors: what is lost in one column of a weight is made up for in the columns not yet rounded.

With the moment H of a layer's inputs an error E of its weight W (m, k) adds tr(E·H·Eᵀ) to the squared error of its outputs. Column by column,
those of the largest inputs first, each is rounded to the nearest multiples of the step, and the others move to the least error that is
then possible (GPTQ; Frantar et al. 2023, arXiv 2210.17323). In the basis of the Cholesky factor of H⁻¹ = Uᵀ·U the error w_j − ŵ_j of column
j moves column i > j by −(w_j − ŵ_j)·U_ji / U_jj.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nncomplexity.codecs import SYMBOL_LIMIT
from nncomplexity.file import CoarseTensor, dense, narrow
from nncomplexity.network import Moment
from nncomplexity.search.forms import Factors, Form, Pruned, Uniform
from nncomplexity.search.latent import snapped

DAMPING = 0.01
"""What is added to the diagonal of H, as a share of its mean: that of the publication."""
_RIDGE = 1e-9
"""The same where a factor is fitted: enough for components that are alike."""
_LEAST = 1e-290
"""The energy of inputs at or below which they are taken for zero: float64 has nothing to add to its diagonal."""
_TOGETHER = 64
"""Columns that are rounded before the ones after them move."""


class Compensation:
    """The order of a weight's columns, and how an error in one moves the others.

    Args:
        H: (k, k) the moment of the inputs. Columns whose inputs are all zero are rounded to zero: they change nothing.
    """

    def __init__(self, H: Tensor) -> None:
        diagonal = H.diagonal()
        self._order = torch.argsort(diagonal, descending=True, stable=True)
        self._used = int((diagonal > 0).sum())
        kept = self._order[: self._used]
        damped = H[kept][:, kept]
        damped.diagonal().add_(DAMPING * diagonal[kept].mean())
        # In reversed order: the inverse of that Cholesky factor is U, and H itself is never inverted.
        L = torch.linalg.cholesky(damped.flip(0, 1))
        U = torch.linalg.solve_triangular(L, torch.eye(self._used, dtype=torch.float64), upper=False).flip(0, 1)
        self._moves = U / U.diagonal()[:, None]

    def rounded(self, matrix: Tensor, alive: Tensor | None = None) -> Tensor:
        """Whole numbers (m, k), in float64.

        Args:
            matrix: (m, k) a weight in units of its step.
            alive: (m, k) 0 where an element is to be zero, and 1 elsewhere.
        """
        left = self._columns(matrix)
        mask = None if alive is None else self._columns(alive)
        found = torch.zeros(matrix.T.shape, dtype=torch.float64)
        for first in range(0, self._used, _TOGETHER):
            last = min(first + _TOGETHER, self._used)
            errors = left[first:last]  # each row is a column of the weight, and is its error when it is rounded
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
        """(used, m) the columns whose inputs aren't all zero, in their order."""
        return matrix.T[self._order[: self._used]].double()


class Rounding:
    """Forms as coarse tensors, with compensated errors where the inputs of their weight are known.

    Args:
        moments: by first name of the weights.
    """

    def __init__(self, moments: Mapping[str, Moment]) -> None:
        self._moments = {name: moment for name, moment in moments.items() if float(moment.H.diagonal().sum()) > _LEAST}
        self._compensations = {name: Compensation(moment.H) for name, moment in self._moments.items()}

    def piece(self, name: str, form: Form, weight: Tensor, precision: int, scale: float = 1.0) -> CoarseTensor:
        """The coarse tensor of a form of a weight.

        Args:
            name: the weight's first name.
            form: what it is coded as.
            weight: what is coded, in its shape.
            precision: mantissa bits of the steps.
            scale: by how much steps are larger than those of the form, where errors are compensated.
        """
        if name in self._compensations:
            if isinstance(form, Uniform | Pruned):
                return self._dense(name, replace(form, step=form.step * scale), weight, precision)
            if isinstance(form, Factors):
                return self._low_rank(name, form, weight, scale).piece(weight, precision)
        return form.piece(weight, precision)

    def _dense(self, name: str, form: Uniform | Pruned, weight: Tensor, precision: int) -> CoarseTensor:
        step = snapped(form.step, precision)
        moment = self._moments[name]
        alive = moment.matrix(form.alive.reshape(weight.shape)) if isinstance(form, Pruned) else None
        rounded = self._compensations[name].rounded(moment.matrix(weight).double() / step, alive)
        symbols = moment.back(rounded, weight.shape)
        largest = float(symbols.abs().max())
        # What a mask holds may be at the end of the range.
        room = torch.finfo(weight.dtype).max / step
        return dense(narrow(symbols), step) if largest <= min(room, SYMBOL_LIMIT) else form.piece(weight, precision)

    def _low_rank(self, name: str, form: Factors, weight: Tensor, scale: float) -> Factors:
        """W ≈ s·A·B with B fitted to A and rounded for inputs with moment H, and then A fitted to that, for inputs with moment B·H·Bᵀ.

        Half of the scale goes to each of them.
        """
        moment = self._moments[name]
        W = moment.matrix(weight).double()
        given = form if moment.last else form.transposed()
        if W.shape != (len(given.A), given.B.shape[1]):
            return form
        fitted = torch.linalg.lstsq(given.A, W).solution / given.scale
        B = self._compensations[name].rounded(fitted / math.sqrt(scale))
        B = B[B.any(1)]
        if not len(B):
            return form
        inner = B @ moment.H @ B.T
        if not inner.diagonal().sum() > _LEAST:
            return form
        ridge = _RIDGE * inner.diagonal().mean() * torch.eye(len(B), dtype=torch.float64)
        A = torch.linalg.solve(inner + ridge, B @ moment.H @ W.T).T
        A = Compensation(inner).rounded(A / (abs(given.scale) * scale))
        kept = A.any(0)
        found = Factors(A[:, kept], B[kept], abs(given.scale) * scale)
        if not kept.any() or float(torch.stack([A.abs().max(), B.abs().max()]).max()) > SYMBOL_LIMIT:
            return form
        return found if moment.last else found.transposed()
