"""The differentiable rate: an estimate of the bits of symbols, and its gradient by the latents.

The entropy coder expects of entry (i, j) of a matrix the magnitude μ_ij = (mean of row i) · (mean of column j) / (mean of all), and codes
it about as a geometric distribution with this mean does (`nncomplexity.codecs.scales`). A magnitude a then takes

    R(a) = a · log₂((1 + μ) / μ) + log₂(1 + μ)   bits, and one for the sign if a > 0.

R is linear in a. Its slope log₂((1 + μ) / μ) is largest if a row or a column is nearly empty, so that nearly empty rows and columns vanish.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_BELIEF = 4.0
"""The weight of the prior, as in the coder: the mean of a row or column includes so many entries with the mean of the matrix."""
_LEAST = 1e-4
"""The smallest expected magnitude."""


class Rate:
    """The rate of some matrices (T, m, n) or vectors (T, n), T of one shape together, of symbols, and its slopes.

    Attributes:
        slopes: bits for each unit of magnitude, of all parts one after another.
        bits: the rate of all parts together.
    """

    def __init__(self) -> None:
        self.slopes = torch.zeros(0)
        self.bits = 0.0

    def update(self, symbols: Sequence[Tensor]) -> None:
        """Compute rate and slopes from the present symbols."""
        self.bits, slopes = 0.0, []
        for part in symbols:
            magnitudes = part.abs()
            matrices = magnitudes.flatten(2) if part.dim() > 2 else magnitudes.reshape(len(part), -1, 1)
            expected = _expected(matrices).reshape(part.shape)
            slope = ((1 + expected) / expected).log2_()
            self.bits += float((magnitudes * slope).sum() + expected.log1p().sum() * 1.4426950408889634 + (magnitudes > 0).sum())
            slopes.append(slope.reshape(-1))
        self.slopes = torch.cat(slopes)

    def gradient(self, latents: Tensor) -> Tensor:
        """∂R/∂u of all parts one after another. It points away from zero. Below magnitude 1 it is one bit larger: a zero needs no sign."""
        return (latents.abs() < 1).to(latents).add_(self.slopes).mul_(latents.sign())


def _expected(magnitudes: Tensor) -> Tensor:
    """μ (T, m, n) of magnitudes (T, m, n)."""
    _, rows, columns = magnitudes.shape
    mean = magnitudes.flatten(1).mean(1)[:, None, None].clamp(min=0.01 / max(rows * columns, 1))
    if rows == 1 or columns == 1:
        return mean.clamp(min=_LEAST).expand_as(magnitudes)
    by_row = (magnitudes.sum(2, keepdim=True) + _BELIEF * mean) / (columns + _BELIEF)
    by_column = (magnitudes.sum(1, keepdim=True) + _BELIEF * mean) / (rows + _BELIEF)
    return (by_row * by_column / mean).clamp_(min=_LEAST)
