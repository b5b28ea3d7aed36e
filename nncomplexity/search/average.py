"""The running mean of latents over the last steps of a descent (iterate averaging; Polyak and Juditsky 1992).

With rounded weights a descent does not come to rest: numbers next to a rounding threshold go back and forth, and the distortion with them, by
up to several ε from step to step. The mean of the latents stands still on one side of each threshold. Its distortion is often half as large.
"""

from collections.abc import Sequence

import torch

from nncomplexity.search.latent import Latent

_NEWEST = 0.1
"""The weight of the newest latents, so that the mean is over about ten steps."""


class Average:
    """The running mean ū ← ū + (u − ū) / 10 of latents, and of the logarithms of their scales.

    Args:
        latents: those whose mean it is, whose parts stay the same tensors. It begins at their present values.

    Attributes:
        latents: the mean. No other object shares their memory.
    """

    def __init__(self, latents: Sequence[Latent]) -> None:
        self._source = latents
        self.latents = [latent.copy() for latent in latents]
        self._parts, self._mean_parts = ([part for latent in side for part in latent.parts] for side in (latents, self.latents))

    def update(self) -> None:
        """One step towards the present latents."""
        for mean, latent in zip(self.latents, self._source, strict=True):
            mean.log_scale += _NEWEST * (latent.log_scale - mean.log_scale)
        torch._foreach_lerp_(self._mean_parts, self._parts, _NEWEST)

    def replace(self) -> None:
        """Put the mean in the place of the latents."""
        for mean, latent in zip(self.latents, self._source, strict=True):
            latent.log_scale = mean.log_scale
        torch._foreach_copy_(self._parts, self._mean_parts)
