"""Files that change while they are read: the content is that of one moment, or the reader says that there was none."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from nncomplexity import estimate
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.dynamics import track
from nncomplexity.errors import FormatError, InputError
from nncomplexity.file import Reading, bitstream, read_settled, reading
from nncomplexity.file.reading import ChangedError
from nncomplexity.show import read_results
from tests.rows import row, write_rows

SIZE = 1 << 18
FORMATS = pytest.mark.parametrize("form", ["safetensors", "zip", "legacy", "npz", "pickle"])


def content_of(form: str, value: float, folder: Path, size: int = SIZE) -> bytes:
    """A checkpoint with one tensor, whose values are all equal."""
    tensor, file = torch.full((size,), value), folder / "made"
    if form == "safetensors":
        return save({"w": tensor})
    if form == "npz":
        np.savez(file, w=tensor.numpy())
        return file.with_suffix(".npz").read_bytes()
    if form == "pickle":
        return pickle.dumps({"w": tensor.numpy()})
    torch.save({"w": tensor}, file, _use_new_zipfile_serialization=form == "zip")
    return file.read_bytes()


@FORMATS
def test_what_was_read_stays_whatever_becomes_of_the_file(tmp_path: Path, form: str) -> None:
    file = tmp_path / "net.ckpt"
    file.write_bytes(before := content_of(form, 1.0, tmp_path))
    checkpoint = load_checkpoint(file)
    file.write_bytes(b"")  # if the file were mapped, SIGBUS would end the process now
    assert bool((checkpoint.tensors["w"] == 1).all())
    assert checkpoint.sha256 == hashlib.sha256(before).hexdigest()
    if Path("/proc/self/maps").exists():
        assert str(file) not in Path("/proc/self/maps").read_text()


@pytest.fixture
def written_all_the_time(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, dict[str, float]]]:
    """A file that a thread overwrites in place as fast as it can, and the value that the file has at each digest."""
    contents = [content_of(request.param, value, tmp_path) for value in (1.0, 2.0)]
    file, ended = tmp_path / "last.pt", threading.Event()
    file.write_bytes(contents[0])

    def write() -> None:
        while not ended.wait(0.002):
            for content in contents:
                file.write_bytes(content)

    thread = threading.Thread(target=write)
    thread.start()
    yield file, {hashlib.sha256(content).hexdigest(): value for content, value in zip(contents, (1.0, 2.0), strict=True)}
    ended.set()
    thread.join()


@pytest.mark.parametrize("written_all_the_time", ["safetensors", "zip", "legacy"], indirect=True)
def test_no_checkpoint_is_half_old_and_half_new(
    written_all_the_time: tuple[Path, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAUSES", (0.001,) * 4)
    file, values = written_all_the_time
    for _ in range(20):
        try:
            found = load_checkpoint(file)
        except (ChangedError, FormatError):
            continue
        assert bool((found.tensors["w"] == values[found.sha256]).all())


def test_a_file_that_is_exchanged_as_a_whole_is_read_each_time(tmp_path: Path) -> None:
    file, ended = tmp_path / "last.safetensors", threading.Event()
    save_file({"w": torch.ones(100)}, file)

    def write() -> None:
        while not ended.is_set():
            save_file({"w": torch.ones(100)}, tmp_path / "new")
            (tmp_path / "new").replace(file)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(50):
            assert Reading("a file").content(file)
    finally:
        ended.set()
        thread.join()


def test_what_changes_once_is_read_again_and_what_changes_each_time_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAUSES", (0.0, 0.0, 0.0))
    file, calls = tmp_path / "net", [0]
    file.write_bytes(b"0")

    def read(attempt: Reading, changes: int) -> bytes:
        content = attempt.content(file)
        calls[0] += 1
        if calls[0] <= changes:
            file.write_bytes(b"%d" % calls[0] * 2)
        return content

    assert read_settled(lambda attempt: read(attempt, 1), "net", "a file") == b"11"
    calls[0] = 0
    with pytest.raises(
        ChangedError, match=r"net: it was written each of 3 times that it was read; wait until it is whole, or name a copy"
    ):
        read_settled(lambda attempt: read(attempt, 9), "net", "a file")
    assert calls == [3]


def test_a_change_that_leaves_size_and_time_as_they_are_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "net"
    file.write_bytes(b"old old old")
    holds = reading._holds

    def written_between(opened: Any, content: bytes) -> bool:
        status = file.stat()
        with file.open("r+b") as other:
            other.write(b"new")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        return holds(opened, content)

    monkeypatch.setattr(reading, "_holds", written_between)
    with pytest.raises(ChangedError, match="net: it was written while it was read"):
        Reading("a file").content(file)


def test_a_half_written_file_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAUSES", (0.05, 0.1, 0.2, 0.4, 0.8))
    file, whole = tmp_path / "last.safetensors", save({"w": torch.ones(1000)})
    file.write_bytes(whole[:100])
    thread = threading.Timer(0.02, lambda: file.write_bytes(whole))
    thread.start()
    assert load_checkpoint(file).tensors["w"].numel() == 1000
    thread.join()


def test_shards_of_two_moments_are_not_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]

    def write(value: float) -> None:
        for part, name in enumerate(names):
            save_file({f"w{part}": torch.full((10,), value)}, tmp_path / name)

    write(1.0)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"w{part}": name for part, name in enumerate(names)}}))
    content, calls = Reading.content, [0]

    def after_the_first_shard(attempt: Reading, file: Path) -> bytes:
        if file.name == names[1] and not calls[0]:
            calls[0] += 1
            write(2.0)
        return content(attempt, file)

    monkeypatch.setattr(Reading, "content", after_the_first_shard)
    tensors = load_checkpoint(index).tensors
    assert calls == [1]
    assert {float(tensor[0]) for tensor in tensors.values()} == {2.0}


@pytest.mark.parametrize("method", ["quantize"])
def test_a_checkpoint_that_is_cut_during_its_measurement_has_a_row_of_what_was_read(workplace: Path, method: str) -> None:
    Path("run").mkdir()
    for step in (1, 2):
        save_file({"w": torch.linspace(-1, 1, 2000) * step}, f"run/step_{step}.safetensors")
    digests = [hashlib.sha256(Path(f"run/step_{step}.safetensors").read_bytes()).hexdigest() for step in (1, 2)]

    def loss(weights: Any) -> torch.Tensor:
        for step in (1, 2):
            os.truncate(f"run/step_{step}.safetensors", 8 if step == 1 else 10**4)
        return (weights["w"] ** 2).mean()

    first, second = track("run/*", loss, 0.1, method=method, budget=5)
    assert (first["status"], first["sha256"], first["loss"]) == ("measured", digests[0], pytest.approx(1 / 3, rel=1e-2))
    assert (second["status"], "cut or damaged" in second["error"]) == ("failed", True)


def test_a_file_of_ours_is_read_as_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = estimate({"w": torch.ones(4)}, lambda weights: float(weights["w"].sum()), 0.1, budget=5)
    report.save(tmp_path / "net.coarse")
    monkeypatch.setattr(reading, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(reading, "_holds", lambda opened, content: False)
    with pytest.raises(ChangedError, match=r"net\.coarse: it was written each of 2 times"):
        bitstream.load(tmp_path / "net.coarse")
    with pytest.raises(ChangedError, match=r"rows\.jsonl: it was written each of 2 times"):
        read_results(write_rows(tmp_path / "rows.jsonl", [row()]))


def test_what_does_not_fit_into_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"w": torch.ones(4)}, tmp_path / "net.safetensors")

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(reading, "_holds", fail)
    with pytest.raises(InputError, match=r"net\.safetensors: its 80 bytes don't fit into memory"):
        load_checkpoint(tmp_path / "net.safetensors")


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(save({"w": torch.ones(4)})))
    thread.start()
    assert load_checkpoint(tmp_path / "pipe").tensors["w"].sum() == 4
    thread.join()


PEAK = """
import os, sys
from nncomplexity.checkpoint import load_checkpoint
def bytes_of(what):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(what)).split()[1])
for form in sys.argv[1:]:
    load_checkpoint(f"{form}-small")
    before = bytes_of("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # the peak is that of this process from now on
    load_checkpoint(f"{form}-large")
    print((bytes_of("VmHWM") - before) / os.stat(f"{form}-large").st_size)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc for the peak")
def test_reading_takes_less_than_two_and_a_half_times_the_checkpoint(tmp_path: Path) -> None:
    forms = ("safetensors", "zip", "legacy")
    for form in forms:
        for name, size in (("small", 100), ("large", 1 << 23)):
            (tmp_path / f"{form}-{name}").write_bytes(content_of(form, 1.0, tmp_path, size))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *(str(tmp_path / form) for form in forms)], capture_output=True, text=True, check=True
    )
    taken = dict(zip(forms, map(float, done.stdout.split()), strict=True))
    assert all(1 < times < 2.5 for times in taken.values()), taken
