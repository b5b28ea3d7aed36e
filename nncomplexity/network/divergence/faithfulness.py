"""How faithful a file is to its network: agreement, flips and divergence, on the inputs of the search and on held-out inputs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

_MOST_ON_HELD_OUT = 1.5
"""A warning appears if the divergence on held-out inputs is more than this factor times ε."""


class Agreement(NamedTuple):
    """Shares of inputs on which the decoded network gives the same answer as the original."""

    searched: float | None
    held_out: float | None


@dataclass(frozen=True)
class Fidelity:
    """How faithful decoded weights are on some inputs.

    Attributes:
        inputs: number of inputs.
        divergence: mean divergence from the original's outputs, nats per example or token for `kl` and `bernoulli`.
        agreement: share of answers that are the same as the original's; for `mse` 1 − mse; None if outputs have no answers.
        right_to_wrong, wrong_to_right: shares of answers that changed from right to wrong, and from wrong to right; None without
            labels.
        most_bits: the bits of a table with one answer for each input (inputs × log₂ classes); None if outputs have no answers.
    """

    inputs: int
    divergence: float
    agreement: float | None
    right_to_wrong: float | None = None
    wrong_to_right: float | None = None
    most_bits: float | None = None

    @property
    def flips(self) -> float | None:
        """The share of answers that differ from the original's; None for `mse`, where agreement is not a share."""
        return None if self.agreement is None or self.most_bits is None else 1 - self.agreement

    def to_dict(self) -> dict[str, Any]:
        """The values for a report. A divergence that isn't finite becomes None."""
        return {key: _finite(value) for key, value in {**asdict(self), "flips": self.flips}.items()}

    def in_words(self) -> str:
        """One line of text.

        >>> Fidelity(100, 0.08, 0.98, 0.01, 0.0, 332.2).in_words()
        'agreement 0.98, divergence 0.08, 0.01 right to wrong, 0 wrong to right'
        """
        parts = [] if self.agreement is None else [f"agreement {self.agreement:.4g}"]
        parts.append(f"divergence {self.divergence:.4g}")
        if self.right_to_wrong is not None and self.wrong_to_right is not None:
            parts.append(f"{self.right_to_wrong:.4g} right to wrong, {self.wrong_to_right:.4g} wrong to right")
        return ", ".join(parts)


@dataclass(frozen=True)
class Faithfulness:
    """How faithful a file's decoded weights are, on the inputs of the search and on held-out inputs.

    Attributes:
        kind: the kind of the divergence.
        searched: the values on the inputs of the search.
        held_out: the values on inputs that the search did not use; None if there are none.
    """

    kind: str
    searched: Fidelity
    held_out: Fidelity | None

    @property
    def agreement(self) -> Agreement:
        """The shares of inputs on which the answers agree, on both sets of inputs."""
        return Agreement(self.searched.agreement, None if self.held_out is None else self.held_out.agreement)

    def to_dict(self) -> dict[str, Any]:
        """The key `faithfulness` of a result in report.json."""
        held_out = self.held_out and self.held_out.to_dict()
        return {"kind": self.kind, "searched": self.searched.to_dict(), "held_out": held_out}

    def in_words(self) -> list[str]:
        """Lines of text."""
        lines = [f"Faithful on the {self.searched.inputs:,} searched inputs: {self.searched.in_words()}."]
        if self.held_out is not None:
            lines.append(f"On {self.held_out.inputs:,} held-out inputs: {self.held_out.in_words()}.")
        return lines

    def warnings(self, bits: int, eps: float, fresh: bool) -> Sequence[str]:
        """Warnings that a file within ε may differ from the network on other inputs: one sentence each, with what to do.

        Args:
            bits: the bits of the file.
            eps: the ε of the search.
            fresh: whether each step of the search already used new inputs.
        """
        remedy = "search with more inputs" + ("" if fresh else ", or give a function that draws fresh ones")
        found = []
        # `not <=` instead of `>`, so that a NaN also gives the warning.
        if self.held_out is not None and not self.held_out.divergence <= _MOST_ON_HELD_OUT * eps:
            found.append(
                f"The divergence on held-out inputs is {self.held_out.divergence:.4g}, over {_MOST_ON_HELD_OUT:g} ε = "
                f"{_MOST_ON_HELD_OUT * eps:.4g}: the file is faithful only on the inputs of the search; {remedy}."
            )
        if self.searched.most_bits is not None and bits > self.searched.most_bits:
            found.append(
                f"The file has {bits:,} bits, and the answers to all {self.searched.inputs:,} searched inputs have at most "
                f"{self.searched.most_bits:,.0f}: these inputs can't show how much of the network is needed; {remedy}."
            )
        return found


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
