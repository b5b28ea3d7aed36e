"""The differentiable rate: an estimate of the bits of symbols, and its gradient by the latents.

The entropy coder expects of entry (i, j) of a matrix the magnitude μ_ij = (mean of row i) · (mean of column j) / (mean of all), and codes
it about as a geometric distribution with this mean does (`nncomplexity.codecs.scales`). A magnitude a then takes

    R(a) = a · log₂((1 + μ) / μ) + log₂(1 + μ)   bits, and one for the sign if a > 0.

R is linear in a. Its slope log₂((1 + μ) / μ) is largest if a row or a column is nearly empty, so that nearly empty rows and columns vanish.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import hardshrink

_BELIEF = 4.0
"""The weight of the prior, as in the coder: the mean of a row or column includes so many entries with the mean of the matrix."""
_BELOW_ONE = 1 - 2.0**-24
"""The largest number of float32 below 1."""
_LEAST = 1e-4
"""The smallest expected magnitude."""


class Rate:
    """The slopes of the rate of some matrices (T, m, n) or vectors (T, n), T of one shape together.

    Attributes:
        slopes: bits for each unit of magnitude, of all parts one after another.
    """

    def __init__(self) -> None:
        self.slopes = self._with_sign = torch.zeros(0)

    def update(self, symbols: Sequence[Tensor]) -> None:
        """Compute the slopes from the present symbols."""
        self.slopes = torch.cat([_expected(part.abs()).reciprocal_().add_(1).log2_().reshape(-1) for part in symbols])
        self._with_sign = self.slopes + 1

    def gradient(self, latents: Tensor) -> Tensor:
        """∂R/∂u of all parts one after another. It points away from zero. Below magnitude 1 it is one bit larger: a zero needs no sign."""
        # The second term is sign(u) from magnitude 1 on. A comparison of elements would take several times as long.
        return latents.sign().mul_(self._with_sign).sub_(hardshrink(latents, _BELOW_ONE).sign_())


def _expected(magnitudes: Tensor) -> Tensor:
    """μ of magnitudes, in their shape."""
    matrices = magnitudes.flatten(2) if magnitudes.dim() > 2 else magnitudes.reshape(len(magnitudes), -1, 1)
    _, rows, columns = matrices.shape
    # An empty matrix would otherwise have an infinite slope, and nothing could become nonzero again.
    mean = matrices.mean((1, 2), keepdim=True).clamp(min=0.01 / max(rows * columns, 1))
    if rows == 1 or columns == 1:  # the mean of a line of one element would be that element itself
        return mean.clamp(min=_LEAST).expand_as(matrices).clone()
    by_row = (matrices.sum(2, keepdim=True) + _BELIEF * mean) / (columns + _BELIEF)
    by_column = (matrices.sum(1, keepdim=True) + _BELIEF * mean) / (rows + _BELIEF)
    return (by_row / mean * by_column).clamp_(min=_LEAST)
