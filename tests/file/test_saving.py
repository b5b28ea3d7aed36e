"""Files are written completely and are on the disk, and killed processes leave nothing behind."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from nncomplexity.errors import InputError
from nncomplexity.file import saving
from nncomplexity.file.saving import save_bytes

fcntl = pytest.importorskip("fcntl")

KILLED = """
import os, signal, sys
from pathlib import Path
from nncomplexity.file import save_bytes
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
save_bytes(sys.argv[1], b"half")
"""


def test_what_a_killed_process_left_is_removed_at_the_next_write(tmp_path: Path) -> None:
    target = tmp_path / "net.coarse"
    target.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert done.returncode == -9
    assert target.read_bytes() == b"old"
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".nncomplexity.")]) == 1
    save_bytes(tmp_path / "other.coarse", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.coarse", "other.coarse"]


def test_what_is_being_written_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    handle, name = saving._temporary_file(tmp_path)
    (tmp_path / "notes.nncomplexity.").write_bytes(b"")
    (tmp_path / ".nncomplexity.folder").mkdir()
    (tmp_path / ".nncomplexity.link").symlink_to("notes.nncomplexity.")
    save_bytes(tmp_path / "net.coarse", b"new")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {Path(name).name, "notes.nncomplexity.", ".nncomplexity.folder", ".nncomplexity.link", "net.coarse"}
    os.close(handle)
    save_bytes(tmp_path / "net.coarse", b"new")
    assert not Path(name).exists()


def test_a_temporary_file_that_another_process_removed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, mkstemp = [], saving.tempfile.mkstemp

    def removed_once(**given: Any) -> tuple[int, str]:
        handle, name = mkstemp(**given)
        if not made:
            Path(name).unlink()
        made.append(name)
        return handle, name

    monkeypatch.setattr(saving.tempfile, "mkstemp", removed_once)
    save_bytes(tmp_path / "net.coarse", b"new")
    assert len(made) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["net.coarse"]


def test_many_writers_in_one_folder_take_nothing_from_each_other(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(25):
                save_bytes(tmp_path / f"{number}.coarse", bytes([turn]) * 1000)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {f"{n}.coarse": bytes([24]) * 1000 for n in range(4)}


def test_bytes_are_on_the_disk_before_the_file_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        told.append("folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "file")
        fsync(handle)

    def replaced(self: Path, target: Path) -> Path:
        told.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    save_bytes(tmp_path / "net.coarse", b"new")
    assert [one for one in told if one != "folder" or Path("/proc/self/fd").exists()] == (
        ["file", "name", "folder"] if Path("/proc/self/fd").exists() else ["file", "name", "file"]
    )


def test_without_locks_only_old_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "_fcntl", None)
    for name, age in ((".nncomplexity.new", 0), (".nncomplexity.old", 2 * saving._OLD)):
        (tmp_path / name).write_bytes(b"")
        changed = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (changed, changed))
    save_bytes(tmp_path / "net.coarse", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".nncomplexity.new", "net.coarse"]


def test_a_disk_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match=r"net\.coarse: cannot write it .Input/output error."):
        save_bytes(tmp_path / "net.coarse", b"new")
    assert list(tmp_path.iterdir()) == []
