"""An earlier commit of this package as a peer: its source is taken from git, and a process of its own measures with it."""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.cases.networks import ROOT


class Source:
    """A process that measures with one version of the package. It starts when it is first asked.

    Args:
        folder: the folder in which `nncomplexity`, `benchmarks` and `examples` are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def measured(self, **asked: Any) -> dict[str, Any]:
        """The answer to `benchmarks.peers.source_worker.answer`. Raises RuntimeError if the process has ended."""
        process = self._process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):  # it had ended before it was asked
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{asked}: the process that measures has ended with code {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()

    def _started(self) -> "subprocess.Popen[str]":
        # Python finds packages in the current folder before those that are installed.
        command = [sys.executable, "-m", "benchmarks.peers.source_worker"]
        return subprocess.Popen(command, cwd=self._folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def source(commit: str | None) -> Iterator[Source]:
    """A process that measures with the package at a commit, or with the working tree if None.

    The benchmarks and the examples are today's, so that both versions see the same networks and losses.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if commit is not None:
            packed = subprocess.run(["git", "archive", commit, "nncomplexity"], cwd=ROOT, check=True, capture_output=True).stdout
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                archive.extractall(folder, filter="data")
            for part in ("benchmarks", "examples"):
                (folder / part).symlink_to(ROOT / part)
        process = Source(folder if commit is not None else ROOT)
        try:
            yield process
        finally:
            process.close()
