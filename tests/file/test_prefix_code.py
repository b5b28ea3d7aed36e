"""Every bit of information about the weights is counted: payloads with their lengths are a prefix code, and nothing else in a file is free."""

import itertools
import math

import numpy as np
import pytest
import torch

from nncomplexity.bounds import elias_delta_bits
from nncomplexity.bounds.kinds import paid_bits
from nncomplexity.codecs import CODECS, codec_named
from nncomplexity.errors import FormatError
from nncomplexity.file import CoarseTensor, Constant, Dense, Pieces, encode
from nncomplexity.file.payload import decode
from nncomplexity.network import Blocks, Skeleton, TensorSpec

ENTROPY = codec_named("entropy")
SKELETONS = {
    "a scalar": Skeleton((TensorSpec(("w",), (), torch.float32),)),
    "a matrix and truth values": Skeleton((TensorSpec(("w",), (2, 2), torch.float32), TensorSpec(("mask",), (2,), torch.bool))),
}


def accepted(skeleton: Skeleton, payloads: itertools.chain[bytes]) -> dict[bytes, list[CoarseTensor]]:
    found = {}
    for payload in payloads:
        try:
            found[payload] = decode(skeleton, payload)[1]
        except FormatError:
            continue
    return found


def all_payloads(length: int) -> itertools.chain[bytes]:
    return itertools.chain.from_iterable(map(bytes, itertools.product(range(256), repeat=count)) for count in range(length + 1))


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_all_short_payloads_and_their_lengths_keep_krafts_inequality(skeleton: Skeleton) -> None:
    """All payloads of one byte are tried, and one in twelve of two bytes. The next test shows that the sum has no gap."""
    found = accepted(skeleton, all_payloads(1))
    found |= accepted(skeleton, (bytes([first, second]) for first in range(0, 256, 12) for second in range(256)))
    assert b"" in found
    lengths = [8 * len(payload) for payload in found]
    assert len(found) > 1000
    for kind in ("kl", "paper"):
        assert math.fsum(2.0 ** -paid_bits(kind, bits) for bits in lengths) <= 1
    assert all(paid_bits("kl", bits) == bits + elias_delta_bits(bits // 8 + 1) for bits in lengths)


def test_the_prices_of_all_lengths_leave_room_for_as_many_payloads_as_there_are_strings() -> None:
    for kind in ("kl", "hoeffding", "paper"):
        assert math.fsum(2.0 ** (8 * count - paid_bits(kind, 8.0 * count)) for count in range(100_000)) <= 1


def named(*names: str) -> Skeleton:
    return Skeleton(tuple(TensorSpec((name,), (6, 4), torch.float32) for name in names))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_the_order_of_tensors_leaves_no_trace_in_a_payload(codec) -> None:
    rng = np.random.default_rng(0)
    symbols = {name: rng.integers(-9, 10, (6, 4)) for name in ("b", "a", "ä", "B", "layer.10", "layer.2")}
    payloads = {
        encode(named(*order), [Dense(symbols[name], 0.5) for name in order], codec)
        for order in itertools.islice(itertools.permutations(symbols), 0, 720, 91)
    }
    assert len(payloads) == 1
    _, decoded = decode(named("layer.2", "a", "B", "b", "layer.10", "ä"), payloads.pop())
    assert isinstance(decoded[1], Dense)
    assert (decoded[1].symbols == symbols["a"]).all()


# --- what a payload of a length may ask for


def many(count: int) -> Skeleton:
    return Skeleton(tuple(TensorSpec((f"{index:05}",), (1,), torch.float32) for index in range(count)))


def test_a_short_payload_has_few_tensors_that_are_not_constant() -> None:
    skeleton = many(3000)
    assert len(decode(skeleton, encode(skeleton, [Constant(1)] * 3000, ENTROPY))[1]) == 3000
    dull: list[CoarseTensor] = [Dense(np.zeros(1, dtype=np.int8), 0.5)] * 3000
    payload = encode(skeleton, dull, ENTROPY)
    assert len(payload) < (3000 - 1024) / 8
    with pytest.raises(FormatError, match=r"\d+: more tensors and pieces than a payload of this length may have; it is damaged"):
        decode(skeleton, payload)
    assert len(decode(many(1024), encode(many(1024), dull[:1024], ENTROPY))[1]) == 1024


def test_a_short_payload_has_few_pieces() -> None:
    skeleton = Skeleton(tuple(TensorSpec((f"{index:05}",), (64, 1), torch.float32) for index in range(40)))
    payload = encode(skeleton, [Pieces(Blocks(0, 64), (Constant(0),) * 64)] * 40, ENTROPY)
    with pytest.raises(FormatError, match="more tensors and pieces than a payload of this length may have"):
        decode(skeleton, payload)
