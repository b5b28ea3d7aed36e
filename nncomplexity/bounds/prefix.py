"""The bits that mark the end of a payload: prefix codes and the Elias delta code.

A bound that holds for all files at once gives a file of K bits the weight 2^(−K). The weights must add up to at most 1
(Kraft's inequality). They do if no file is the beginning of another one, that is, if the decoder finds the end of the
payload by itself. For other payloads, the bits of the length are added to K, in a code that marks its own end.
"""

import math
from typing import SupportsIndex

from nncomplexity.bounds.arguments import LARGEST_COUNT
from nncomplexity.words import checked_count


def elias_delta_bits(k: SupportsIndex) -> int:
    """Length in bits of the Elias delta code of k ≥ 1: N + 2·⌊log₂(N + 1)⌋ + 1, with N = ⌊log₂ k⌋.

    The code is the number of binary digits of k in the Elias gamma code, followed by these digits without the leading one. It is
    prefix-free, so the sum of 2^(−length) over all k is at most 1. Source: P. Elias, "Universal codeword sets and
    representations of the integers", IEEE Transactions on Information Theory 21 (1975).

    Raises:
        InputError: ``k`` is not a whole number from 1 to 2^53.

    >>> [elias_delta_bits(k) for k in (1, 2, 3, 4, 8, 16, 1_000_000)]
    [1, 4, 4, 5, 8, 9, 28]
    """
    return _delta_bits(checked_count("k", k, 1, LARGEST_COUNT, "a whole number from 1 to 2**53"))


def prefix_free_bits(bits: float, *, self_delimiting: bool) -> float:
    """Bits of a payload with its end: K if it marks its own end, otherwise K + elias_delta_bits(⌈K/8⌉ + 1).

    The length is counted in bytes. One is added because a payload may be empty, and the Elias delta code begins at 1.

    >>> prefix_free_bits(8000.0, self_delimiting=True)
    8000.0
    >>> prefix_free_bits(8000.0, self_delimiting=False)
    8016.0
    """
    return bits if self_delimiting else bits + _delta_bits(math.ceil(bits / 8) + 1)


def _delta_bits(k: int) -> int:
    digits = k.bit_length()
    return digits + 2 * (digits.bit_length() - 1)
