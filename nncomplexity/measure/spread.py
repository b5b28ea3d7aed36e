"""The spread of the sizes of several searches, as the uncertainty of a measurement."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """The sizes from searches with different seeds, for one ε.

    Attributes:
        bits: the bits of the smallest file of each search.
        mean: mean of ln(bits).
        sd: standard deviation of ln(bits) over the searches, with n − 1; 0 for one search.

    >>> Spread.of([2500, 2600, 2700]).in_words()
    '325 ± 13'
    """

    bits: tuple[int, ...]
    mean: float
    sd: float

    @classmethod
    def of(cls, bits: Sequence[int]) -> "Spread":
        """The spread of the sizes that several searches of one ε ended with, in bits."""
        # A file of 0 bits has no logarithm, and counts as one of 1 bit.
        logs = [math.log(max(one, 1)) for one in bits]
        mean = sum(logs) / len(logs)
        variance = sum((one - mean) ** 2 for one in logs) / max(1, len(logs) - 1)
        return cls(tuple(bits), mean, math.sqrt(variance))

    def in_words(self) -> str:
        """The geometric mean in bytes, and one standard deviation of the logarithm, converted to bytes at the mean."""
        size = math.exp(self.mean) / 8
        return f"{size:,.0f} ± {size * self.sd:,.0f}"

    def to_dict(self) -> dict[str, Any]:
        """The key `spread` of a result in report.json."""
        return {"searches": len(self.bits), "bits": list(self.bits), "mean_ln_bits": self.mean, "sd_ln_bits": self.sd}
