"""The result of a measurement: one report for each ε, and what several share about their network."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from nncomplexity.bitstream import CoarseFile, save_bytes
from nncomplexity.bounds import Bound, DescriptionLength, Kind, bound, description_length
from nncomplexity.durations import told
from nncomplexity.html.notebook import report_html

SCHEMA = 1


@dataclass(frozen=True)
class RelativeTo:
    """The base that a network was measured relative to, whose bits are free."""

    path: str | None
    """Where it came from, as typed; None for tensors."""
    sha256: str
    """Of the base's tensors (docs/format.md)."""
    without_base: tuple[str, ...]
    """First names of the tensors that the base doesn't have in this shape, coded as they are."""
    unused: tuple[str, ...]
    """Names of the base's tensors that the network doesn't have."""


@dataclass(frozen=True)
class Subject:
    """The original network, as every report on it says it."""

    parameters: int
    raw_bits: int
    lossless_bits: dict[str, int | None]
    """Bits of the lossless files, by codec; of a large network weighed under the entropy codec, and None for the others."""
    loss: float
    left_out: tuple[str, ...] = ()
    """What the network holds besides, taken for architecture: state that is no tensor, and buffers that its state dict leaves out."""
    relative_to: RelativeTo | None = None
    """The base, where there is one: bits, the lossless ones too, are then of what is needed beside it."""

    @property
    def least_lossless(self) -> int:
        """Bits of the smallest lossless file that is known."""
        return min(bits for bits in self.lossless_bits.values() if bits is not None)

    @property
    def compared(self) -> tuple[str, int]:
        """The codec that tables compare with, and its lossless bits: bzip2, the paper's, where it wasn't left out."""
        bits = self.lossless_bits.get("bzip2")
        return ("entropy coding", self.least_lossless) if bits is None else ("bzip2", bits)


@dataclass(frozen=True)
class Layer:
    """What became of one tensor. `bits` are −log₂ of the probabilities under which it was coded."""

    name: str
    shape: tuple[int, ...]
    form: str
    rank: int | None
    step: float | None
    """The step of a dense tensor, or the geometric mean of its two factors' steps."""
    bits: float
    effective_rank: float | None
    """exp(H_svd) of the original tensor's matrix view (Eq. 15), that of its real view where it is complex; on a base of the difference.

    None where there is no matrix, and for one whose short side is too long (`nncomplexity.sizes.RANKED`)."""
    names: tuple[str, ...] = ()
    """All names of a tied tensor."""
    dtype: str = "float32"
    relative: bool = False
    """Whether form, rank, step and bits are of the difference from a base."""
    layout: str | None = None
    """How the tensor is laid out where its matrix isn't its first axis against all others, and what became of each of several blocks."""


@dataclass(frozen=True)
class Report:
    """The smallest file found whose decoded weights have a loss within ε of the original's.

    `bits` counts the payload; `coarse_loss` and `distortion` were measured on weights that the file's bytes decode to. `evaluations` may be a
    fraction, since a loss on part of the examples counts as that part. Losses are in the closure's unit, nats per example for
    cross-entropy.
    """

    eps: float
    method: str
    bits: int
    file_bits: int
    coarse_loss: float
    distortion: float
    evaluations: float
    seconds: float
    cpu_seconds: float
    shared_bits: float
    paper_bytes: int | None
    layers: tuple[Layer, ...]
    subject: Subject
    file: CoarseFile = field(repr=False)
    warnings: tuple[str, ...] = ()
    """A sentence on each thing that was seen of the loss and may not be meant: random numbers, training mode, no gradient, and the like."""
    within: bool = True
    """False where all that was within ε was larger than the lossless file, which is then the answer."""
    time_limit: float | None = None
    """Seconds that the run was given; None where it was given all it needs."""
    time_is_up: bool = False
    """Whether they ended a search of the run, so that another run may find another file."""

    @property
    def loss(self) -> float:
        """L(θ) of the original weights."""
        return self.subject.loss

    @property
    def status(self) -> str:
        """A sentence on how the search ended, and the warnings."""
        return " ".join([f"{self.outcome}.", *self.warnings]) if self.warnings else self.outcome

    @property
    def outcome(self) -> str:
        """One sentence on how the search ended."""
        limit = "" if self.time_limit is None or not self.time_is_up else f" before the time limit of {told(self.time_limit)}"
        if self.within:
            return f"found a file of {self.bits} bits within ε = {self.eps:g}{limit}" + (
                ", by which another run may differ" if limit else ""
            )
        raised = "the time limit" if limit else "the budget"
        return f"nothing within ε = {self.eps:g} was smaller than the lossless file{limit}; raise eps or {raised}"

    def bound(
        self,
        *,
        risk: float,
        n: int,
        delta: float = 0.05,
        kind: Kind = "kl",
        range: tuple[float, float] = (0.0, 1.0),
        chance: float | None = None,
    ) -> Bound:
        """The generalization bound that this file's bits give (see `nncomplexity.bounds.bound`).

        Args:
            risk: empirical risk of the *decoded* weights, measured on the n training examples.
            n: number of training examples.
            delta: failure probability.
            kind: "kl" (the default), "hoeffding", "paper" (Eq. 4 as printed) or "best".
            range: the interval in which an example's risk lies.
            chance: the risk of a guess; a bound at or above it is vacuous. None means 1.

        A payload doesn't say where it ends, so its length in bytes is paid for with an Elias-delta code. Relative to a base the bound
        holds only where that was made without these n examples.
        """
        return bound(self.bits, risk=risk, n=n, delta=delta, kind=kind, range=range, chance=chance, self_delimiting=False)

    def description_length(self, n: int) -> DescriptionLength | None:
        """Bits to describe the labels of n examples with this file's help; None for a negative loss, which is no code length.

        The loss is taken for a cross-entropy in nats per example (see `nncomplexity.bounds.description_length`).
        """
        return None if self.coarse_loss < 0 else description_length(self.bits, loss=self.coarse_loss, n=n)

    def coarse_weights(self) -> dict[str, Tensor]:
        """The decoded tensors by name; tied names share one tensor."""
        return self.file.weights()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the `.coarse` file, whole or not at all."""
        save_bytes(path, self.file.content)

    def to_dict(self) -> dict[str, Any]:
        """The entry of this ε in `results` of report.json."""
        layers = [{**asdict(layer), "shape": list(layer.shape), "names": list(layer.names)} for layer in self.layers]
        keys = ("eps", "method", "bits", "file_bits", "coarse_loss", "distortion", "evaluations", "seconds", "cpu_seconds")
        return {
            **{key: getattr(self, key) for key in keys},
            "shared_bits": self.shared_bits,
            "paper_bytes": self.paper_bytes,
            "within": self.within,
            "warnings": list(self.warnings),
            "time_limit": self.time_limit,
            "time_is_up": self.time_is_up,
            "layers": layers,
        }

    def to_json(self) -> str:
        """report.json of this measurement alone."""
        return reports_json([self])

    def _repr_html_(self) -> str:
        """What a notebook shows: the figures, a picture of bits by layer, and the table of layers."""
        return report_html(self.to_dict(), asdict(self.subject), self.outcome)


def reports_json(reports: Sequence[Report], **about: Any) -> str:
    """report.json of several ε on one network; `about` goes to the top level (checkpoint, sha256 and the like)."""
    subject = asdict(reports[0].subject)
    content = {"schema": SCHEMA, **about, **subject, "results": [report.to_dict() for report in reports]}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
