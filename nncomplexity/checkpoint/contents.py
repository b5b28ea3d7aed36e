"""What the readers of files give: tensors, and what was chosen and left out to get them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

FORMAT = "format"
"""What metadata say of the file under this name is never a tie; safetensors for PyTorch writes "pt" there."""


@dataclass(frozen=True)
class Contents:
    """Tensors of one file, or of several shards together."""

    tensors: dict[str, Tensor]
    """By name, on the CPU, in memory of their own."""
    metadata: dict[str, str]
    ties: Mapping[str, str] = field(default_factory=dict)
    """Names that were left out of the file for those that they are tied to, and that may be among the metadata."""
    counters: Mapping[str, int | float] = field(default_factory=dict)
    """Numbers that stand beside the tensors, by their dotted paths in the file."""
    key: str | None = None
    """The dotted path of the state dict within the file; None where the file is one."""
    notes: tuple[str, ...] = ()
    """What was guessed and what was left out, a sentence each."""

    def tied(self) -> dict[str, Tensor]:
        """The tensors, and under the names that are tied to them the same ones once more."""
        aliases = {
            alias: self.tensors[kept]
            for alias, kept in self.ties.items()
            if alias != FORMAT and kept in self.tensors and alias not in self.tensors
        }
        return {**self.tensors, **aliases}
