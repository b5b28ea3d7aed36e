"""The differentiable rate: about how many bits symbols take, and the gradient by the latents behind them.

The entropy coder expects of entry (i, j) of a matrix the magnitude μ_ij = (mean of row i) · (mean of column j) / (mean of all), and codes
it about as a geometric law of that mean does (`nncomplexity.codecs.scales`). A magnitude a then takes

    R(a) = a · log₂((1 + μ) / μ) + log₂(1 + μ)   bits, and one for the sign where a > 0,

which is linear in a: the rate pulls every latent to zero by log₂((1 + μ) / μ), most of all where a row or column is nearly empty.
"""

from collections.abc import Sequence

from torch import Tensor

_BELIEF = 4.0
"""Entries of the matrix's mean that each row and column is taken to have besides its own, as in the coder."""
_LEAST = 1e-4
"""The smallest expected magnitude."""


class Rate:
    """The slopes of the rate at the symbols of some parts, of which each is T matrices (T, m, n) or T vectors (T, n).

    Attributes:
        slopes: bits for each unit of magnitude, in the shapes of the parts.
        bits: about what all symbols take.
    """

    def __init__(self) -> None:
        self.slopes: list[Tensor] = []
        self.bits = 0.0

    def update(self, symbols: Sequence[Tensor]) -> None:
        """Work the slopes out anew from the symbols as they are now."""
        self.bits, self.slopes = 0.0, []
        for part in symbols:
            magnitudes = part.abs()
            matrices = magnitudes.flatten(2) if part.dim() > 2 else magnitudes.reshape(len(part), -1, 1)
            expected = _expected(matrices).reshape(part.shape)
            slope = ((1 + expected) / expected).log2_()
            self.bits += float((magnitudes * slope).sum() + expected.log1p().sum() * 1.4426950408889634 + (magnitudes > 0).sum())
            self.slopes.append(slope)

    def gradient(self, index: int, latent: Tensor) -> Tensor:
        """∂R/∂u of a part: towards zero everywhere, by one bit more below 1, where the sign goes too."""
        return latent.sign() * (self.slopes[index] + (latent.abs() < 1))


def _expected(magnitudes: Tensor) -> Tensor:
    """μ (T, m, n) of magnitudes (T, m, n)."""
    _, rows, columns = magnitudes.shape
    mean = magnitudes.flatten(1).mean(1)[:, None, None].clamp(min=0.01 / max(rows * columns, 1))
    if rows == 1 or columns == 1:
        return mean.clamp(min=_LEAST).expand_as(magnitudes)
    by_row = (magnitudes.sum(2, keepdim=True) + _BELIEF * mean) / (columns + _BELIEF)
    by_column = (magnitudes.sum(1, keepdim=True) + _BELIEF * mean) / (rows + _BELIEF)
    return (by_row * by_column / mean).clamp_(min=_LEAST)
