"""The result of reading a file: its tensors, and what was chosen and left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

FORMAT = "format"
"""The metadata entry for the file's format, which is never a tie. The safetensors library writes "pt" there for PyTorch."""


@dataclass(frozen=True)
class Contents:
    """Tensors of one file, or of several shards together."""

    tensors: dict[str, Tensor]
    """By name, on the CPU. They share no memory with anything else."""
    metadata: dict[str, str]
    ties: Mapping[str, str] = field(default_factory=dict)
    """The names that the file does not have as tensors, each with the name that it is tied to."""
    counters: Mapping[str, int | float] = field(default_factory=dict)
    """The numbers in the file that are not weights, by their dotted paths."""
    key: str | None = None
    """The dotted path of the state dict in the file; None if the whole file is the state dict."""
    notes: tuple[str, ...] = ()
    """A sentence on each guess, and on each thing that was left out."""

    def tied(self) -> dict[str, Tensor]:
        """The tensors by all their names: tied names have the same tensor."""
        aliases = {
            alias: self.tensors[kept]
            for alias, kept in self.ties.items()
            if alias != FORMAT and kept in self.tensors and alias not in self.tensors
        }
        return {**self.tensors, **aliases}
