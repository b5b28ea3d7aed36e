"""Checkpoints that are damaged or hostile are refused in one line, and no byte of another record is read as a weight."""

import json
import os
import signal
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nncomplexity.checkpoint import load_checkpoint, single
from nncomplexity.checkpoint.archive import check_backed, check_records, check_unpacked
from nncomplexity.errors import FormatError, InputError

WEIGHTS = {"a": torch.arange(1000.0), "b": torch.ones(10)}
MIB = 1 << 20


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    torch.save(WEIGHTS, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes], form: int = zipfile.ZIP_STORED) -> Path:
    """The same archive with other content in its records."""
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w", form) as made:
        for record in given.infolist():
            made.writestr(zipfile.ZipInfo(record.filename), change(record.filename, given.read(record)), form)
    return target


def test_each_byte_of_a_tensor_is_covered_by_its_checksum(plain: Path) -> None:
    content = plain.read_bytes()
    start = content.index(WEIGHTS["a"].numpy().tobytes())
    for place in (0, 1, 1999, 3999):
        damaged = bytearray(content)
        damaged[start + place] ^= 1
        plain.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"net\.pt: a pickled checkpoint that is cut or damaged; fetch it again .Bad CRC-32"):
            load_checkpoint(plain)


def test_a_record_that_is_shorter_than_its_tensor(plain: Path, tmp_path: Path) -> None:
    short = rewritten(plain, tmp_path / "short.pt", lambda name, content: content[:100] if name.endswith("data/0") else content)
    with pytest.raises(FormatError, match=r"short\.pt: a pickled checkpoint that is cut or damaged"):
        load_checkpoint(short)


def test_tensors_that_are_longer_than_the_records_of_their_file_are_refused(plain: Path) -> None:
    """The archive as a version of PyTorch reads it that doesn't check a record's length."""
    tensors = [tensor.clone() for tensor in WEIGHTS.values()]
    check_backed(plain, tensors, plain.read_bytes())
    for longer in ([torch.zeros(100_000), *tensors[1:]], [tensors[0], torch.zeros(11)], [*tensors, torch.zeros(1)]):
        with pytest.raises(FormatError, match=r"a record is shorter than its tensor"):
            check_backed(plain, longer, plain.read_bytes())


def lengthened(content: bytes, name: bytes, size: int, *, sums: bool = True) -> bytes:
    """An archive whose directory gives a record another size. Without `sums`, all checksums are 0, as PyTorch may write them."""
    made, at = bytearray(content), 0
    while (at := made.find(b"PK\x01\x02", at)) >= 0:
        length = struct.unpack_from("<H", made, at + 28)[0]
        if not sums:
            struct.pack_into("<I", made, at + 16, 0)
        if made[at + 46 : at + 46 + length].endswith(name):
            struct.pack_into("<II", made, at + 20, size, size)
        at += 46
    return bytes(made)


@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("name", [b"data/0", b"data/1"])
def test_a_record_that_is_said_to_be_longer_than_it_is(plain: Path, tmp_path: Path, name: bytes, sums: bool) -> None:
    short = rewritten(plain, tmp_path / "short.pt", lambda one, content: content[:20] if one.endswith(name.decode()) else content)
    short.write_bytes(lengthened(short.read_bytes(), name, len(WEIGHTS["a" if name == b"data/0" else "b"]) * 4, sums=sums))
    with pytest.raises(FormatError, match=r"is shorter than its header says"):
        load_checkpoint(short)


@pytest.mark.parametrize("offset", [0x7FFFFFFF, 1 << 63])
def test_a_record_that_is_said_to_begin_behind_the_end(plain: Path, offset: int) -> None:
    content = plain.read_bytes()
    at = content.rfind(b"PK\x01\x02")
    name, extra, _ = struct.unpack_from("<HHH", content, at + 28)
    made = bytearray(content)
    struct.pack_into("<I", made, at + 42, min(offset, 0xFFFFFFFF))
    if offset > 0xFFFFFFFF:  # in a ZIP64 field, which makes the directory longer
        field = struct.pack("<HHQ", 1, 8, offset)
        struct.pack_into("<H", made, at + 30, extra + len(field))
        made[at + 46 + name + extra : at + 46 + name + extra] = field
        made = made[: made.rfind(b"PK\x06\x06")] + made[made.rfind(b"PK\x05\x06") :]
        struct.pack_into("<I", made, made.rfind(b"PK\x05\x06") + 12, made.rfind(b"PK\x05\x06") - made.find(b"PK\x01\x02"))
    with pytest.raises(zipfile.BadZipFile, match="does not begin before the archive's directory"):
        check_records(bytes(made))
    plain.write_bytes(made)
    with pytest.raises(FormatError, match=r"net\.pt: a pickled checkpoint that is cut or damaged"):
        load_checkpoint(plain)


def test_an_archive_without_checksums_is_read_as_pytorch_may_write_it(plain: Path) -> None:
    plain.write_bytes(lengthened(plain.read_bytes(), b"none", 0, sums=False))
    assert torch.equal(load_checkpoint(plain).tensors["a"], WEIGHTS["a"])


def test_a_record_that_stands_there_twice(plain: Path) -> None:
    with zipfile.ZipFile(plain, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("net/data/0", bytes(4000))
    with pytest.raises(FormatError, match="two records have the same name"):
        load_checkpoint(plain)


def bomb(path: Path, name: str, mebibytes: int) -> Path:
    """An archive with a record of zeros, packed to a thousandth of its size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as record:
        for _ in range(mebibytes):
            record.write(bytes(MIB))
    return path


@pytest.mark.parametrize("name", ["net/data.pkl", "w.npy"])
def test_a_small_file_does_not_become_a_large_one(tmp_path: Path, name: str) -> None:
    small = bomb(tmp_path / "bomb.pt", name, 257)
    assert small.stat().st_size < MIB
    with pytest.raises(FormatError, match=r"bomb\.pt: .*it would unpack to 269,484,032 bytes"):
        load_checkpoint(small)


def test_compressed_weights_are_read(plain: Path, tmp_path: Path) -> None:
    assert load_checkpoint(rewritten(plain, tmp_path / "net2.pt", lambda _, content: content, zipfile.ZIP_DEFLATED)).tensors.keys()
    np.savez_compressed(tmp_path / "zeros.npz", w=np.zeros((1000, 1000)))
    assert load_checkpoint(tmp_path / "zeros.npz").tensors["w"].shape == (1000, 1000)


def test_what_a_record_hides_in_the_archive_is_not_read(tmp_path: Path) -> None:
    encrypted = tmp_path / "locked.npz"
    np.savez(encrypted, w=np.ones(3))
    content = bytearray(encrypted.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    encrypted.write_bytes(content)
    with pytest.raises(FormatError, match=r"locked\.npz: an \.npz archive that is cut or damaged"):
        load_checkpoint(encrypted)
    with pytest.raises(zipfile.BadZipFile):
        check_records(b"PK\x03\x04")


def test_many_views_of_one_memory_are_no_small_file(tmp_path: Path) -> None:
    memory = torch.zeros(MIB)
    check_unpacked(tmp_path, [memory] * 100, 4 * MIB)  # tied
    with pytest.raises(
        FormatError, match=r"its 100 bytes unpack to 272,629,760 bytes of tensors, more than those of any real checkpoint"
    ):
        check_unpacked(tmp_path, [memory[:] for _ in range(65)], 100)


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 3000 + "b", "é" * 200])
def test_a_shard_of_a_name_that_no_system_takes_is_missing(tmp_path: Path, name: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": f"{name}.safetensors"}}))
    with pytest.raises(InputError, match=r"index\.json: 1 of its 1 shards are missing") as caught:
        load_checkpoint(index)
    assert len(str(caught.value)) < 400
    index.write_text(json.dumps({"weight_map": {"w": f"../{name}"}}))
    with pytest.raises(FormatError, match="leads out of its folder") as caught:
        load_checkpoint(index)
    assert len(str(caught.value)) < 400


def test_a_name_that_is_too_long_is_named_in_short(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"path: expected the name of a file, got one too long for this system, 'xxx"):
        load_checkpoint("x" * 5000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_to_which_nobody_writes_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nncomplexity.file.reading._PATIENCE", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe: it is a pipe to which nobody writes; name a \.safetensors file"):
        load_checkpoint(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe: it is not a regular file; name a \.safetensors file"):
        single.head_of(tmp_path / "pipe")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_read_to_its_end_however_slowly_it_is_written(tmp_path: Path, plain: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    content = plain.read_bytes()

    def write() -> None:
        with (tmp_path / "pipe").open("wb", buffering=0) as pipe:
            for start in range(0, len(content), 1000):
                pipe.write(content[start : start + 1000])
                time.sleep(0.01)

    thread = threading.Thread(target=write)
    thread.start()
    assert torch.equal(load_checkpoint(tmp_path / "pipe").tensors["a"], WEIGHTS["a"])
    thread.join()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device without an end")
def test_a_device_is_not_read() -> None:
    with pytest.raises(InputError, match=r"/dev/zero: it is not a regular file; name a \.safetensors file"):
        load_checkpoint("/dev/zero")


@pytest.mark.parametrize("swallowed", [True, False])
def test_ctrl_c_while_a_checkpoint_is_read_is_no_damage(plain: Path, monkeypatch: pytest.MonkeyPatch, swallowed: bool) -> None:
    def interrupted(*_: object, **__: object) -> object:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if not swallowed:
                raise RuntimeError("could not determine the shape of object type 'torch.storage.UntypedStorage'") from None
        return WEIGHTS

    monkeypatch.setattr(torch, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_checkpoint(plain)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_checksum_is_that_of_the_zip_format(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr("data", b"123456789")
    content = (tmp_path / "one.zip").read_bytes()
    assert check_records(content) == ["data"]
    assert struct.pack("<I", zlib.crc32(b"123456789")) in content
