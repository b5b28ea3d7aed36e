"""The lengths of the Elias delta code, against the code itself."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomplexity.bounds import elias_delta_bits
from nncomplexity.bounds.prefix import prefix_free_bits
from nncomplexity.errors import InputError


def elias_gamma(k: int) -> str:
    digits = f"{k:b}"
    return "0" * (len(digits) - 1) + digits


def elias_delta(k: int) -> str:
    digits = f"{k:b}"
    return elias_gamma(len(digits)) + digits[1:]


def decode_elias_delta(stream: str) -> tuple[int, str]:
    """The integer at the beginning of a stream of bits, and the rest of the stream."""
    zeros = stream.index("1")
    length = int(stream[zeros : 2 * zeros + 1], 2)
    body, rest = stream[2 * zeros + 1 : 2 * zeros + length], stream[2 * zeros + length :]
    return int("1" + body, 2), rest


@settings(deadline=None)
@given(k=st.integers(1, 2**53))
def test_length_is_that_of_the_code(k: int) -> None:
    assert elias_delta_bits(k) == len(elias_delta(k))


@settings(deadline=None)
@given(k=st.integers(1, 2**53), tail=st.text("01", max_size=20))
def test_the_code_says_where_it_ends(k: int, tail: str) -> None:
    assert decode_elias_delta(elias_delta(k) + tail) == (k, tail)


def test_no_word_begins_another() -> None:
    words = sorted(elias_delta(k) for k in range(1, 5000))
    # In sorted order, a word comes right before the words that begin with it.
    assert not any(longer.startswith(word) for word, longer in itertools.pairwise(words))


def test_kraft() -> None:
    # All integers of one number of binary digits have one length, so 2^53 of them are summed exactly.
    total = sum(Fraction(2**digits, 2 ** elias_delta_bits(2**digits)) for digits in range(53))
    assert Fraction(9, 10) < total <= 1


def test_lengths_never_fall() -> None:
    lengths = [elias_delta_bits(k) for k in range(1, 3000)]
    assert lengths == sorted(lengths)


def test_numpy_integers_are_integers() -> None:
    assert elias_delta_bits(np.int64(8)) == elias_delta_bits(8)


@pytest.mark.parametrize("k", [0, -3, 2.0, True, "4", 2**53 + 1])
def test_only_positive_integers_have_a_word(k: object) -> None:
    with pytest.raises(InputError, match=r"^k: expected a whole number from 1 to 2\*\*53, got "):
        elias_delta_bits(k)  # type: ignore[arg-type]


@pytest.mark.parametrize(("payload_bytes", "price"), [(0, 1), (1, 4), (2, 4), (3, 5), (999, 16)])
def test_a_payload_pays_for_its_length_in_bytes(payload_bytes: int, price: int) -> None:
    bits = 8.0 * payload_bytes
    assert price == len(elias_delta(payload_bytes + 1))
    assert prefix_free_bits(bits, self_delimiting=False) == bits + price
    assert prefix_free_bits(bits, self_delimiting=True) == bits
