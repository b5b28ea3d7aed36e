"""Codecs of users: they are registered by name and number, written to files and read back. Unknown ones are refused."""

import re
import zlib

import numpy as np
import pytest
import torch

from nncomplexity.codecs import CODECS, Codec, General, codec_named, codec_numbered, number_of, register_codec, registry
from nncomplexity.errors import FormatError, InputError
from nncomplexity.file import Dense, read, write
from nncomplexity.network import skeleton_of


def unpack(payload: bytes, most: int) -> bytes:
    return zlib.decompressobj().decompress(payload, most)


def own(name: str = "own") -> General:
    return General(name, zlib.compress, unpack)


@pytest.fixture(autouse=True)
def none_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.parametrize("number", [128, 200, 255])
def test_a_registered_codec_writes_files_that_are_read_back(number: int) -> None:
    register_codec(own(), number)
    symbols = np.random.default_rng(number).integers(-3, 4, (5, 4))
    file = write(skeleton_of({"w": torch.zeros(5, 4)}), [Dense(symbols, 0.5)], codec_named("own"))
    assert file.payload[:2] == bytes([0xFF, number])
    again = read(file.content)
    assert again.codec.name == "own"
    assert torch.equal(again.weights()["w"], torch.from_numpy(symbols).float() / 2)


@pytest.mark.parametrize("number", [128, 255])
def test_a_file_of_an_unknown_codec_says_what_to_do(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    register_codec(own(), number)
    file = write(skeleton_of({"w": torch.zeros(2)}), [Dense(np.ones((2,), dtype=np.int64), 0.5)], codec_named("own"))
    monkeypatch.setattr(registry, "_registered", {})
    with pytest.raises(FormatError, match=f"payload names codec {number}, .*; register the codec that wrote the file"):
        read(file.content)


@pytest.mark.parametrize("number", [-1, 0, 5, 127, 256, 128.0, True, "128", None])
def test_numbers_outside_the_users_range_are_refused(number: int) -> None:
    with pytest.raises(InputError, match=re.escape(f"number: expected a whole number from 128 to 255, got {number!r}")):
        register_codec(own(), number)


@pytest.mark.parametrize("name", [codec.name for codec in CODECS])
def test_the_names_of_the_package_are_taken(name: str) -> None:
    with pytest.raises(InputError, match=f"codec: the name '{name}' belongs to another codec; choose another name"):
        register_codec(own(name), 128)


def test_two_codecs_of_users_need_two_names_and_two_numbers() -> None:
    register_codec(own("first"), 128)
    with pytest.raises(InputError, match="codec: the name 'first' belongs to another codec"):
        register_codec(own("first"), 129)
    with pytest.raises(InputError, match="number: 128 belongs to the codec 'first'; choose another number"):
        register_codec(own("second"), 128)
    register_codec(own("second"), 129)
    assert [number_of(codec_named(name)) for name in ("first", "second")] == [128, 129]


def test_registering_again_replaces() -> None:
    register_codec(own(), 128)
    later: Codec = own()
    register_codec(later, 128)
    assert codec_named("own") is later
    assert codec_numbered(128) is later


def test_what_is_no_codec_is_refused() -> None:
    with pytest.raises(
        InputError, match="codec: expected an object with name, writer and reader, got 7 without name, writer, reader"
    ):
        register_codec(7, 128)  # type: ignore[arg-type]


def test_a_codec_without_a_number_writes_no_file() -> None:
    with pytest.raises(InputError, match=r"codec: 'own' has no number in a file; call nncomplexity\.codecs\.register_codec first"):
        write(skeleton_of({"w": torch.zeros(2)}), [Dense(np.ones((2,), dtype=np.int64), 0.5)], own())
    with pytest.raises(InputError, match=re.escape("codec: expected one of entropy, bzip2, xz, gzip, zstd, got 'own'")):
        codec_named("own")


@pytest.mark.parametrize("number", range(1, len(CODECS)))
def test_the_packages_own_numbers_stay(number: int) -> None:
    assert codec_numbered(number) is CODECS[number]
    assert number_of(CODECS[number]) == number
