"""How far apart several searches of one measurement end: uncertainty is part of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """The sizes that searches with different seeds found within one ε.

    Attributes:
        bits: of the smallest file of each search.
        mean: mean of ln(bits).
        sd: standard deviation of ln(bits) over the searches, by n − 1; 0 where there is one.

    >>> Spread.of([2500, 2600, 2700]).in_words()
    '325 ± 13'
    """

    bits: tuple[int, ...]
    mean: float
    sd: float

    @classmethod
    def of(cls, bits: Sequence[int]) -> "Spread":
        """The spread of the sizes that several searches of one ε ended with, in bits."""
        logs = [math.log(max(one, 1)) for one in bits]
        mean = sum(logs) / len(logs)
        variance = sum((one - mean) ** 2 for one in logs) / max(1, len(logs) - 1)
        return cls(tuple(bits), mean, math.sqrt(variance))

    def in_words(self) -> str:
        """The geometric mean in bytes, and one standard deviation of the logarithm, as it is there."""
        size = math.exp(self.mean) / 8
        return f"{size:,.0f} ± {size * self.sd:,.0f}"

    def to_dict(self) -> dict[str, Any]:
        """The key `spread` of a result in report.json."""
        return {"searches": len(self.bits), "bits": list(self.bits), "mean_ln_bits": self.mean, "sd_ln_bits": self.sd}
