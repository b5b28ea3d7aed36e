"""A trust region for a descent: the latents whose distortion is not far above ε.

A cycle at full learning rate may leave the neighbourhood of the original network. Given enough steps it often comes back within ε with a much
smaller file; with few steps it does not come back. A cycle in a trust region takes each step back after which

    d > min(√(ε · d₀), 10 ε),        d₀ the distortion of the network with all weights zero:

it returns to the last latents whose d was at most its target, forgets Adam's moments, and goes on with half the learning rate, which grows
again while d is within the target. √(ε · d₀) is halfway, on a logarithmic scale, from ε to a network that has learned nothing. Steps are
rejected in this way by trust-region methods (Conn, Gould and Toint 2000).
"""

import math
from collections.abc import Sequence

from nncomplexity.search.blocks import Block, Saved

_FARTHEST = 10.0
"""The largest distortion in a trust region, in ε."""
_FASTER = 1.25
"""By which factor the learning rate is higher again after each step that ends within the target."""
_SLOWEST = 1 / 64
"""The smallest factor of the learning rate. At that rate no step is taken back any more."""


class TrustRegion:
    """Which steps are taken back, and by how much the learning rate is lower.

    Args:
        eps: ε.
        target: the distortion at or below which latents are saved, in the unit of ε.
        nothing: d₀, the distortion of the network with all weights zero.

    Attributes:
        factor: of the learning rate.
    """

    def __init__(self, eps: float, target: float, nothing: float) -> None:
        farthest = _FARTHEST * eps
        self._limit = max(eps, min(math.sqrt(eps * nothing), farthest)) if math.isfinite(nothing) else farthest
        self._target = target
        self._saved: list[Saved] = []
        self.factor = 1.0

    def begin(self, blocks: Sequence[Block]) -> None:
        """Save the latents that a cycle starts with. After a cycle whose steps were taken back, the next one is twice as fast."""
        self._saved = [block.save() for block in blocks]
        self.factor = min(1.0, 2 * self.factor)

    def leaves(self, distortion: float, blocks: Sequence[Block]) -> bool:
        """Whether the latents have left the region. Then they are the saved ones again; within the target they are saved."""
        if distortion <= self._target:
            self._saved = [block.save() for block in blocks]
            self.factor = min(1.0, _FASTER * self.factor)
            return False
        if distortion <= self._limit or self.factor <= _SLOWEST:
            return False
        self.factor /= 2
        for block, saved in zip(blocks, self._saved, strict=True):
            block.restore(saved)
        return True
