"""The file: golden files, each kind of damage, hostile files with a correct checksum, and the same weights on every machine."""

import hashlib
import json
import os
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nncomplexity.codecs import CODECS, Codec, codec_named
from nncomplexity.errors import FormatError, InputError
from nncomplexity.file import (
    DEFAULT_LIMIT,
    CoarseFile,
    CoarseTensor,
    Constant,
    Dense,
    LowRank,
    encode,
    load,
    read,
    read_file,
    save_bytes,
    weigh,
    write,
)
from nncomplexity.file.coarse import lossless
from nncomplexity.network import DIMENSIONS, Skeleton, TensorSpec, base_of, skeleton_of
from tests.framing import framed
from tests.golden import make, reference

GOLDEN = Path(__file__).parents[1] / "golden"
LATEST = GOLDEN / "version2"
every_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


def content_of(tensor: torch.Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    return tensor.dtype, tuple(tensor.shape), lossless(tensor).data.tobytes()


def small() -> CoarseFile:
    weights = {"w": torch.zeros(6, 4), "b": torch.zeros(3), "tied": torch.zeros(0)}
    weights["tied"] = weights["w"]
    tensors: list[CoarseTensor] = [Dense(np.arange(24).reshape(6, 4) % 5 - 2, 0.5), Constant(1)]
    return write(skeleton_of(weights), tensors, codec_named("entropy"))


def refused(content: bytes, limit: int = DEFAULT_LIMIT) -> str:
    with pytest.raises(FormatError) as caught:
        read(content, limit=limit)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- golden files


@every_codec
@pytest.mark.parametrize("folder", [GOLDEN, LATEST], ids=["version 1", "version 2"])
def test_golden_files_decode_to_the_weights_beside_them(codec: Codec, folder: Path) -> None:
    content = (folder / f"{codec.name}.coarse").read_bytes()
    expected = load_file(folder / "expected.safetensors")
    file = read(content)
    weights = file.weights()
    assert file.codec is codec
    assert file.version == content[8] == (2 if folder == LATEST else 1)
    assert {name: content_of(tensor) for name, tensor in weights.items()} == {
        name: content_of(tensor) for name, tensor in expected.items()
    }
    assert weights["embed.weight"] is weights["unembed.weight"]
    assert reference.decode(content) == {name: lossless(tensor).data.tobytes() for name, tensor in expected.items()}


@pytest.mark.parametrize("folder", [GOLDEN, LATEST], ids=["version 1", "version 2"])
def test_the_tensors_of_a_file_weigh_what_it_takes_in_its_version(folder: Path) -> None:
    file = read((folder / "entropy.coarse").read_bytes())
    assert sum(weigh(file.skeleton, file.tensors, file.version)) == pytest.approx(file.bits, abs=16)


@every_codec
def test_golden_files_are_what_is_written_today(codec: Codec) -> None:
    content = (LATEST / f"{codec.name}.coarse").read_bytes()
    file = read(content)
    if codec.name == "entropy":  # the results of a compressor may change with its version
        assert write(file.skeleton, file.tensors, codec).content == content
    skeleton, tensors = make.content()
    assert skeleton == file.skeleton
    assert {name: content_of(tensor) for name, tensor in write(skeleton, tensors, codec).weights().items()} == {
        name: content_of(tensor) for name, tensor in file.weights().items()
    }


@every_codec
def test_decoded_tensors_lie_row_by_row(codec: Codec) -> None:
    """A loss may add in another order if the layout in memory is another. So candidates and files must have the same layout."""
    file = write(*make.content(), codec)
    assert all(tensor.is_contiguous() for tensor in file.weights().values())


def test_the_frame_is_laid_out_as_the_page_says() -> None:
    file = small()
    names = b'[[["w","tied"],"float32",[6,4]],[["b"],"float32",[3]]]'
    head = b"\x89COARSE\n" + b"\x02\x00" + len(names).to_bytes(4, "little") + len(file.payload).to_bytes(8, "little")
    assert file.content[:-32] == head + names + file.payload
    assert file.content[-32:] == hashlib.sha256(file.content[:-32]).digest()
    assert file.bits == 8 * len(file.payload)
    assert file.file_bits == 8 * len(file.content)


# --- the same weights everywhere


def test_weights_are_the_same_in_another_process_under_another_number_of_threads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"a": torch.zeros(300, 200), "b": torch.zeros(150, 40, dtype=torch.bfloat16)}
    tensors = [
        LowRank(rng.integers(-(2**20), 2**20, (300, 60)), rng.integers(-(2**20), 2**20, (60, 200)), 0.1 / 3, 0.7),
        Dense(rng.integers(-300, 300, (150, 40)), 1 / 3),
    ]
    file = write(skeleton_of(weights), tensors, codec_named("entropy"))
    save_bytes(tmp_path / "w.coarse", file.content)
    program = (
        "import sys, hashlib, torch\n"
        "from nncomplexity.file.bitstream import load\n"
        "weights = load(sys.argv[1])\n"
        "digest = hashlib.sha256(b''.join(t.view(torch.uint8).numpy().tobytes() for t in weights.values())).hexdigest()\n"
        "print(torch.get_num_threads(), digest)\n"
    )
    here = hashlib.sha256(b"".join(t.view(torch.uint8).numpy().tobytes() for t in file.weights().values())).hexdigest()
    threads = "2" if torch.get_num_threads() == 1 else "1"
    counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    arguments = [sys.executable, "-c", program, str(tmp_path / "w.coarse")]
    done = subprocess.run(arguments, env=os.environ | counts, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [threads, here]


def test_the_skeleton_in_a_file_depends_on_no_value() -> None:
    """With other weights of the same network, the bytes before the payload are the same, except for the payload's length."""

    def start(seed: int, value: int) -> bytes:
        rng = np.random.default_rng(seed)
        weights = {"w": torch.full((40, 30), float(value)), "b": torch.zeros(3), "n": torch.tensor(seed)}
        tensors = [Dense(rng.integers(-9, 9 + seed, (40, 30)), 0.5**seed), Constant(value), lossless(torch.tensor(seed))]
        file = write(skeleton_of(weights), tensors, codec_named("entropy"))
        return file.content[:14] + file.content[22 : -32 - len(file.payload)]

    assert start(1, 0) == start(2, 1) == start(3, 0)


def test_tied_weights_are_coded_once_and_come_back_tied() -> None:
    shared = torch.ones(50, 40)
    tensors = [Dense(np.random.default_rng(0).integers(-9, 9, (50, 40)), 0.5)]
    tied = write(skeleton_of({"a": shared, "b": shared}), tensors, codec_named("entropy"))
    equal = skeleton_of({"a": shared, "b": shared.clone()})
    untied = write(equal, tensors * 2, codec_named("entropy"))
    weights, apart = tied.weights(), untied.weights()
    assert weights["a"] is weights["b"]
    assert apart["a"] is not apart["b"]
    assert tied.bits < 0.6 * untied.bits


@every_codec
def test_what_write_returns_is_what_a_reader_finds(codec: Codec, tmp_path: Path) -> None:
    file = write(*make.content(), codec)
    save_bytes(tmp_path / "model.coarse", file.content)
    again = read_file(tmp_path / "model.coarse")
    assert (again.content, again.payload, again.codec) == (file.content, file.payload, codec)
    loaded = load(tmp_path / "model.coarse")
    assert {name: content_of(tensor) for name, tensor in loaded.items()} == {
        name: content_of(tensor) for name, tensor in file.weights().items()
    }


# --- damage


def test_every_damaged_byte_is_noticed() -> None:
    content = small().content
    skeleton_length = int.from_bytes(content[10:14], "little")
    for index in range(len(content)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = content[:index] + bytes([content[index] ^ flip]) + content[index + 1 :]
            words = refused(damaged)
            if index < 8:
                assert words.startswith(r"no .coarse file: expected it to begin with b'\x89COARSE\n', got")
            elif index < 10:
                assert "this program reads versions 1 and 2; use the one that wrote the file" in words
            elif index < 22:
                assert f"its header promises {54 + skeleton_length + len(small().payload)} bytes" not in words
                assert "is cut: its header promises" in words or "is followed by something else: its header promises" in words
            else:
                assert words == ".coarse file is damaged: its checksum does not match; fetch it again"


def test_every_cut_is_noticed() -> None:
    content = small().content
    for length in range(len(content)):
        words = refused(content[:length])
        if length < 8:
            assert words.startswith("no .coarse file: expected it to begin with")
        elif length < 22:
            assert words == f".coarse file is cut: its header takes 22 bytes, got {length}"
        else:
            assert words == f".coarse file is cut: its header promises {len(content)} bytes, got {length}"


def test_what_follows_a_file_is_noticed() -> None:
    content = small().content
    words = f".coarse file is followed by something else: its header promises {len(content)} bytes, got {len(content) + 1}"
    assert refused(content + b"\0") == words


def test_a_payload_that_goes_on_is_refused_though_the_checksum_is_sound() -> None:
    file, names = small(), [[["w", "tied"], "float32", [6, 4]], [["b"], "float32", [3]]]
    assert read(framed(names, file.payload, 2)).content == file.content
    assert refused(framed(names, file.payload + b"\1", 2)) == (
        "payload goes on or ends otherwise than its decisions do: it is damaged"
    )


def test_a_newer_version_is_named() -> None:
    assert (
        refused(framed([], version=7)) == ".coarse version 7: this program reads versions 1 and 2; use the one that wrote the file"
    )


# --- hostile files: the checksum is correct, and the rest is not

WRITER = "skeleton is not what a writer makes"
SPELLED = "it is spelled otherwise, which could hide something"
ENTRY = '[["w"],"float32",[2]]'
SKELETONS = {
    "no JSON": (b"hello", WRITER),
    "no text": (b"\xff\xfe\xfd", WRITER),
    "nothing": (b"", WRITER),
    "a number": (b"3", WRITER),
    "an object": (b"{}", SPELLED),
    "deep": (b"[" * 200_000 + b"]" * 200_000, f"{WRITER} (RecursionError"),
    "too few fields": (b'[[["w"],"float32"]]', WRITER),
    "no dtype": (b'[[["w"],"float33",[2]]]', f"{WRITER} (KeyError: 'float33')"),
    "dtype of another kind": (b'[[["w"],["float32"],[2]]]', WRITER),
    "quantized dtype": (b'[[["w"],"qint8",[2]]]', f"{WRITER} (KeyError: 'qint8')"),
    "name of another kind": (b'[[[1],"float32",[2]]]', f"{WRITER} (TypeError: a name is 1)"),
    "names as one string": (b'[["ab","float32",[2]]]', SPELLED),
    "no name": (b'[[[],"float32",[2]]]', "skeleton names a tensor twice or not at all"),
    "a name twice": (f"[{ENTRY},{ENTRY}]".encode(), "skeleton names a tensor twice or not at all"),
    "a name twice in one entry": (b'[[["w","w"],"float32",[2]]]', "skeleton names a tensor twice or not at all"),
    "a broken name": (b'[[["\\ud800"],"float32",[2]]]', WRITER),
    "negative": (b'[[["w"],"float32",[-1]]]', f"{WRITER} (TypeError: a shape holds -1)"),
    "fraction": (b'[[["w"],"float32",[2.0]]]', f"{WRITER} (TypeError: a shape holds 2.0)"),
    "truth": (b'[[["w"],"float32",[true]]]', f"{WRITER} (TypeError: a shape holds True)"),
    "no number": (b'[[["w"],"float32",[NaN]]]', f"{WRITER} (TypeError: a shape holds nan)"),
    "infinite": (b'[[["w"],"float32",[1e999]]]', f"{WRITER} (TypeError: a shape holds inf)"),
    "beyond 2^48": (b'[[["w"],"float32",[0,281474976710656]]]', f"{WRITER} (TypeError: a shape holds 281474976710656)"),
    "thousands of digits": (b'[[["w"],"float32",[1' + b"0" * 4200 + b"]]]", f"{WRITER} (TypeError: a shape holds 1000"),
    "more digits than Python reads": (b'[[["w"],"float32",[1' + b"0" * 9000 + b"]]]", f"{WRITER} (ValueError"),
    "65 dimensions": (
        b'[[["w"],"float32",[' + b",".join([b"1"] * 65) + b"]]]",
        f"{WRITER} (ValueError: a shape has 65 dimensions)",
    ),
    "a million dimensions": (
        b'[[["w"],"float32",[' + b",".join([b"9"] * 10**6) + b"]]]",
        f"{WRITER} (ValueError: a shape has 1000000 dim",
    ),
    "as many complex dimensions as there are": (
        f'[{ENTRY},[["z"],"complex64",['.encode() + b",".join([b"1"] * DIMENSIONS) + b"]]]",
        f"{WRITER} (ValueError: a complex tensor has {DIMENSIONS} dimensions, and its real and imaginary parts one more)",
    ),
    "white space": (f"[{ENTRY}] ".encode(), SPELLED),
    "escaped letter": (b'[[["\\u0077"],"float32",[2]]]', SPELLED),
    "UTF-16": (f"[{ENTRY}]".encode("utf-16"), SPELLED),
    "byte order mark": (f"[{ENTRY}]".encode("utf-8-sig"), SPELLED),
    "minus zero": (b'[[["w"],"float32",[-0]]]', SPELLED),
}


@pytest.mark.parametrize(("text", "words"), SKELETONS.values(), ids=SKELETONS)
def test_skeletons_that_no_writer_makes_are_refused(text: bytes, words: str) -> None:
    message = refused(framed(text))
    assert words in message
    assert len(message) < 250


def test_names_of_any_text_are_kept() -> None:
    names = ['quote "', "back\\slash", "line\nbreak", "tab\t", "nul\0", "\x1f\x7f", "名前", "\u2028", "🙂", ""]
    skeleton = Skeleton(tuple(TensorSpec((name,), (), torch.float32) for name in names))
    file = write(skeleton, [Constant(0)] * len(names), codec_named("entropy"))
    assert list(read(file.content).weights()) == names


@pytest.mark.parametrize(
    "shape",
    [[10**12], [10**6, 10**6], [2**47] * DIMENSIONS, [0, 10**12], [2**47, 0, 2**47], [1 << 30, 5]],
    ids=lambda shape: str(shape)[:20],
)
@pytest.mark.parametrize("payload", [b"", b"\x10", b"\x80\x01", b"\xff\x01BZh9"])
def test_absurd_sizes_are_refused_before_anything_is_made(shape: list[int], payload: bytes) -> None:
    tracemalloc.start()
    words = refused(framed([[["w"], "float32", shape]], payload))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "bytes of weights, above the limit of 1073741824; raise it if you trust the file" in words
    assert peak < 1 << 20


def test_the_limit_is_the_callers() -> None:
    skeleton = Skeleton((TensorSpec(("w",), (1000,), torch.float32), TensorSpec(("e",), (0, 10), torch.float32)))
    content = write(skeleton, [Constant(0), Constant(0)], codec_named("entropy")).content
    assert read(content, limit=4040).weights()["w"].shape == (1000,)
    assert "decodes to 4040 bytes of weights, above the limit of 4039" in refused(content, limit=4039)


def test_many_empty_tensors_take_time_in_proportion_to_their_text() -> None:
    count = 3000
    entries = [[[f"w{index}"], "float32", [0, 2**15]] for index in range(count)]
    assert all(tensor.numel() == 0 for tensor in read(framed(entries), limit=1 << 31).weights().values())
    assert "above the limit" in refused(framed(entries), limit=1 << 20)


def test_a_short_payload_for_many_elements_decodes_within_bounds() -> None:
    """The decoder reads zeros beyond the end. So a few bytes may stand for many symbols, as many as the limit allows."""
    for payload in (b"\x30", b"\x50\x80", b"\x7f" * 40):
        content = framed([[["w"], "float32", [300, 200]]], payload)
        tracemalloc.start()
        try:
            assert read(content).weights()["w"].shape == (300, 200)
        except FormatError:
            continue
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 16 * 240_000 + (1 << 20)


def test_a_sound_checksum_around_a_damaged_payload_gives_weights_or_a_refusal() -> None:
    rng = np.random.default_rng(0)
    file = write(*make.content(), codec_named("entropy"))
    entries = json.loads(file.content[22 : 22 + int.from_bytes(file.content[10:14], "little")])
    outcomes = set()
    for _ in range(300):
        payload = bytearray(file.payload)
        payload[rng.integers(len(payload))] ^= 1 << rng.integers(8)
        try:
            outcomes.add(len(read(framed(entries, bytes(payload).rstrip(b"\0"))).weights()))
        except FormatError:
            outcomes.add(0)
    assert outcomes <= {0, len(file.weights())}
    assert outcomes != {0}


def test_a_float_dtype_that_has_no_form_in_a_file_is_named() -> None:
    skeleton = Skeleton((TensorSpec(("w",), (2,), torch.float8_e5m2fnuz),))
    with pytest.raises(
        InputError, match="weights: tensors of dtype float8_e5m2fnuz have no form in a file; expected one of float64"
    ):
        write(skeleton, [Constant(0)], codec_named("entropy"))


def test_a_name_that_is_no_text_is_refused() -> None:
    skeleton = Skeleton((TensorSpec(("\ud800",), (2,), torch.float32),))
    with pytest.raises(InputError, match="weights: the name of a tensor is not valid Unicode"):
        write(skeleton, [Constant(0)], codec_named("entropy"))


# --- reading and writing


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.coarse: cannot read it \(No such file or directory\); name a \.coarse file"):
        load(tmp_path / "gone.coarse")


def test_what_is_wrong_with_a_file_is_said_of_its_path(tmp_path: Path) -> None:
    path = tmp_path / "model.coarse"
    path.write_bytes(small().content[:-1])
    with pytest.raises(FormatError, match=r"model\.coarse: \.coarse file is cut"):
        load(path)


def test_files_are_written_whole_with_the_permissions_of_any_other(tmp_path: Path) -> None:
    target = tmp_path / "model.coarse"
    save_bytes(target, b"old")
    save_bytes(target, b"new")
    (tmp_path / "other").write_bytes(b"")
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.coarse", "other"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    target = tmp_path / "model.coarse"
    target.write_bytes(b"old")

    def interrupted(*_: object) -> None:
        raise error

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises((KeyboardInterrupt, InputError)) as caught:
        save_bytes(target, b"new")
    if isinstance(error, OSError):
        assert str(caught.value).endswith("model.coarse: cannot write it (No space left on device)")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.coarse"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    words = r"gone/model\.coarse: cannot write there \(No such file or directory\); name a folder that exists"
    with pytest.raises(InputError, match=words):
        save_bytes(tmp_path / "gone" / "model.coarse", b"")


def test_a_payload_is_shorter_than_any_byte_codecs() -> None:
    skeleton, tensors = make.content()
    assert len(encode(skeleton, tensors, codec_named("entropy"))) < min(
        len(encode(skeleton, tensors, codec)) for codec in CODECS[1:]
    )


def test_long_names_and_links_are_written_as_they_are(tmp_path: Path) -> None:
    name = tmp_path / ("a" * 251)
    save_bytes(name, b"long")
    assert name.read_bytes() == b"long"
    (tmp_path / "link").symlink_to("there")
    save_bytes(tmp_path / "link", b"linked")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_bytes() == b"linked"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_on_its_base_has_weights_and_without_it_none() -> None:
    base, weights = base_of({"w": torch.arange(4.0)}), {"w": torch.tensor([0.0, 1.5, 2.0, 2.5])}
    skeleton = base.under(skeleton_of(weights))
    content = write(skeleton, [Dense(np.array([0, 1, 0, -1]), 0.5)], codec_named("entropy"), base).content
    assert torch.equal(read(content).on(base).weights()["w"], weights["w"])
    with pytest.raises(InputError, match="base"):
        read(content).weights()
