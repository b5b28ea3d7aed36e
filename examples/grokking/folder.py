"""A run's folder: what train.py writes, and what resuming, measuring and drawing read.

    config.json                          the configuration
    metrics.jsonl                        a line for each recorded epoch
    measurements/METHOD.jsonl            a line for each measured epoch and ε, with all that the search reported
    checkpoints/epoch_000418.safetensors the weights at each recorded epoch, with the configuration in the metadata
    state.pt                             where training resumes

Every file is replaced as a whole or grows by whole lines, so that a run can continue from the folder after a kill at any time.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from examples.grokking.complexity import Settings
from examples.grokking.config import Config, read_config
from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.errors import InputError
from nncomplexity.file import save_bytes

Line = dict[str, Any]


class RunFolder:
    """The files of one run. They are created if they don't exist.

    Raises:
        InputError: if the folder holds a run with other settings, or cannot be written to.
    """

    def __init__(self, path: str | Path, config: Config, settings: Settings) -> None:
        self.path = Path(path)
        self.config = config
        self.settings = settings
        content = json.loads(json.dumps({"training": asdict(config), "measuring": asdict(settings)}))
        if (self.path / "config.json").exists():
            before = read_config(self.path)
            before["measuring"].setdefault("distortion", Settings().distortion)  # a run of the time when there was only this one
            different = {name for part in content for name in content[part] if content[part][name] != before[part].get(name)}
            if different:
                raise InputError(f"{path}: holds a run with another {', '.join(sorted(different))}; name another folder")
        try:
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
            (self.path / "measurements").mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{path}: cannot be written to ({error.strerror}); name another folder") from None
        save_bytes(self.path / "config.json", json.dumps(content, indent=2).encode())

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """The folder of an existing run."""
        content = read_config(path)
        settings = Settings(**(content["measuring"] | {"eps": tuple(content["measuring"]["eps"])}))
        return cls(path, Config(**content["training"]), settings)

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def measurements(self, kind: str) -> Path:
        """The file of the measurements of one kind (`Settings.kind`)."""
        return self.path / "measurements" / f"{kind}.jsonl"

    def save_checkpoint(self, epoch: int, weights: Mapping[str, Tensor]) -> None:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        # A single entry, because safetensors writes several in an order that changes from run to run.
        metadata = {"config": json.dumps(asdict(self.config), sort_keys=True)}
        save_bytes(self._checkpoint(epoch), safetensors.torch.save(tensors, metadata))

    def load_checkpoint(self, epoch: int) -> dict[str, Tensor]:
        return load_checkpoint(self._checkpoint(epoch)).tensors

    def checkpoints(self) -> list[int]:
        """The epochs whose weights are stored, in order."""
        return sorted(int(path.stem.removeprefix("epoch_")) for path in (self.path / "checkpoints").glob("epoch_*.safetensors"))

    def save_state(self, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        save_bytes(self.path / "state.pt", buffer.getvalue())

    def load_state(self) -> dict[str, Any] | None:
        """The state from which to resume; None if training has not been interrupted yet."""
        path = self.path / "state.pt"
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises all exceptions of its zip and pickle readers
            raise InputError(f"{path}: it is damaged ({type(error).__name__}); delete the folder and start again") from None
        return state

    def _checkpoint(self, epoch: int) -> Path:
        return self.path / "checkpoints" / f"epoch_{epoch:06d}.safetensors"


def read_lines(path: Path) -> list[Line]:
    """The lines of a .jsonl file. An incomplete last line, after a kill, is ignored. A file that doesn't exist has no lines."""
    if not path.exists():
        return []
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    try:
        return [json.loads(line) for line in whole]
    except ValueError as error:
        raise InputError(f"{path}: not JSON lines written by train.py ({error})") from None


def append_line(path: Path, line: Line) -> None:
    """Append one line, and flush it to the file before returning."""
    with path.open("a") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")


def keep_lines(path: Path, wanted: Callable[[Line], bool]) -> list[Line]:
    """Delete all other lines of the file, and return the remaining ones."""
    kept = [line for line in read_lines(path) if wanted(line)]
    if path.exists():
        save_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
    return kept
