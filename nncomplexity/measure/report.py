"""The result of a measurement: one report for each ε, and the facts about the network that they share."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from nncomplexity.bounds import Bound, DescriptionLength, Kind, LossUnit, bound, check_loss_unit, description_length, is_code_length
from nncomplexity.errors import InputError
from nncomplexity.file import CoarseFile, save_bytes
from nncomplexity.measure.spread import Spread
from nncomplexity.network import Agreement, Faithfulness, with_numbers
from nncomplexity.search import LOSSLESS
from nncomplexity.show import LayerBits, report_html
from nncomplexity.words import Relative, duration_in_words, listed, shape_in_words

SCHEMA = 1


@dataclass(frozen=True)
class RelativeTo:
    """The base of a relative measurement. Its bits are free."""

    path: str | None
    """The path or name of the base as the user gave it; None for tensors."""
    sha256: str
    """The digest of the base's tensors (docs/format.md)."""
    without_base: tuple[str, ...]
    """First names of the network's tensors that the base doesn't have in the same shape. They are coded whole."""
    unused: tuple[str, ...]
    """Names of the base's tensors that the network doesn't have."""


@dataclass(frozen=True)
class Subject:
    """Facts about the original network, for all of its reports."""

    parameters: int
    raw_bits: int
    lossless_bits: dict[str, int | None]
    """Bits of the lossless files, by codec. For a large network, only the bits of the entropy codec are computed, and the others
    are None."""
    loss: float
    left_out: tuple[str, ...] = ()
    """Names of the network's other content, which is not in the file: state that is not a tensor, and buffers outside its state
    dict. It counts as architecture."""
    relative_to: RelativeTo | None = None
    """The base, or None. With a base, all bits are those needed in addition to it."""
    zero_loss: float | None = None
    """L(0), the loss of the network with all weights zero; None if it isn't finite."""
    divergence: str | None = None
    """The kind of divergence, if the distortion is between functions; None for a loss."""

    @property
    def numbers_left_out(self) -> tuple[str, ...]:
        """The names in `left_out` whose content has numbers, which may have been learned."""
        return with_numbers(self.left_out)

    @property
    def least_lossless(self) -> int:
        """Bits of the smallest known lossless file."""
        return min(bits for bits in self.lossless_bits.values() if bits is not None)

    @property
    def compared(self) -> tuple[str, int]:
        """The codec that tables compare with, and its lossless bits. It is bzip2, as in the paper, if the bits with bzip2 are known."""
        bits = self.lossless_bits.get("bzip2")
        return ("entropy coding", self.least_lossless) if bits is None else ("bzip2", bits)

    def code_length(self, unit: LossUnit | None = None) -> bool:
        """Whether the loss is a code length of labels, in nats per example (`nncomplexity.bounds.is_code_length`)."""
        return self.divergence is None and is_code_length(unit, loss=self.loss, zero_loss=self.zero_loss)


@dataclass(frozen=True)
class Layer(LayerBits):
    """How one tensor of a measured network was coded. `bits` are −log₂ of the probabilities under which it was coded.

    `effective_rank` is exp(H_svd) of the original tensor as a matrix (Eq. 15). For a complex tensor it is that of the real view; with a base,
    that of the difference. It is None if the tensor is no matrix, or if the matrix is too large to decompose
    (`nncomplexity.linalg.sizes.RANKED`).
    """

    names: tuple[str, ...] = ()
    """All names of a tied tensor."""
    dtype: str = "float32"
    relative: bool = False
    """Whether form, rank, step and bits describe the difference from a base."""

    def __repr__(self) -> str:
        """The name, form and bits in one line; the rest are attributes."""
        rank = "" if self.rank is None else f", rank {self.rank}"
        step = "" if self.step is None else f", step {self.step:.3g}"
        return f"Layer({self.name!r}, {shape_in_words(self.shape)}, {self.form}{rank}{step}, {self.bits:,.1f} bits)"


@dataclass(frozen=True)
class Report:
    """The smallest file found whose decoded weights have a loss within ε of the original's.

    `bits` counts the payload. `coarse_loss` and `distortion` were measured on the decoded weights. `evaluations` may be a fraction,
    because a loss on a part of the examples counts as that part. Losses are in the loss's own unit, nats per example for
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
    """Sentences on possible mistakes, such as random numbers in the loss or a module in training mode, and on a descent that
    failed."""
    within: bool = True
    """False if nothing within ε was smaller than the lossless file, which is then the answer."""
    time_limit: float | None = None
    """The time limit of the run in seconds; None without a limit."""
    time_is_up: bool = False
    """Whether the time limit ended a search of the run. Then another run may find another file."""
    eps_relative: float | None = None
    """ε as a share of |L(0) − L(θ)|, if it was given as a share; otherwise None."""
    origin: str = ""
    """The origin of the file, such as "descent" or "uniform quantization"; "lossless" for the unchanged network."""
    interrupted: bool = False
    """Whether the search was ended early from outside, for example by Ctrl-C."""
    begun: bool = True
    """False if the search for this ε was ended before it began."""
    faithfulness: Faithfulness | None = None
    """How faithful the decoded weights are to the original, if its outputs are known."""
    converged: bool | None = None
    """Whether the last doubling of the search's effort saved too little to continue; None for a method without doublings."""
    last_gain: float | None = None
    """The share of the bits that the last doubling saved."""
    spread: Spread | None = None
    """The spread of several searches, of which this report has the best file; None for one search."""

    @property
    def agreement(self) -> Agreement | None:
        """Shares of inputs on which the file gives the original's answer, `searched` and `held_out`; None without outputs."""
        return None if self.faithfulness is None else self.faithfulness.agreement

    @property
    def loss(self) -> float:
        """L(θ) of the original weights."""
        return self.subject.loss

    @property
    def eps_told(self) -> str:
        """ε as text: its value in the loss's unit, and the share if it was given as a share."""
        return f"{self.eps:g}" if self.eps_relative is None else f"{self.eps:.4g} ({Relative(self.eps_relative)})"

    @property
    def status(self) -> str:
        """A sentence on how the search ended, and the warnings."""
        return " ".join([f"{self.outcome}.", *self.warnings]) if self.warnings else self.outcome

    @property
    def outcome(self) -> str:
        """One sentence on how the search ended."""
        if not self.begun:
            answer = "lossless file" if self.origin == LOSSLESS else "smallest file of another ε"
            return (
                f"interrupted before the search for ε = {self.eps_told} began: the {answer}, with {self.bits} bits, is the answer"
            )
        ended = (
            ""
            if self.time_limit is None or not self.time_is_up
            else f"before the time limit of {duration_in_words(self.time_limit)}"
        )
        ended = "before it was interrupted" if self.interrupted else ended
        if not self.within:
            remedy = "run it again" if self.interrupted else f"raise eps or {'the time limit' if ended else 'the budget'}"
            when = f" {ended}" if ended else ""
            return f"nothing within ε = {self.eps_told} was smaller than the lossless file{when}; {remedy}"
        by = "the lossless one" if self.origin == LOSSLESS else f"by {self.origin or self.method}"
        another = f", {ended}; another run may find another file" if ended else ""
        return f"found a file of {self.bits} bits within ε = {self.eps_told}, {by}{another}{self._course}"

    @property
    def _course(self) -> str:
        """Whether the search has converged, in words. The text is empty if this isn't known, or if the search was ended early."""
        if self.converged is None or self.last_gain is None or self.interrupted or self.time_is_up:
            return ""
        return (
            "; converged"
            if self.converged
            else f"; still falling: −{100 * self.last_gain:.0f} % in the last doubling of the effort"
        )

    def bound(
        self,
        *,
        risk: float,
        n: int,
        delta: float = 0.05,
        kind: Kind = "kl",
        range: tuple[float, float] = (0.0, 1.0),
        chance: float | None = None,
        constant_risk: float | None = None,
        left_out_is_architecture: bool = False,
    ) -> Bound:
        """The generalization bound from this file's bits (see `nncomplexity.bounds.bound`).

        Args:
            risk: empirical risk of the *decoded* weights, measured on the n training examples.
            n: number of training examples.
            delta: failure probability.
            kind: "kl" (the default), "hoeffding", "paper" (Eq. 4 as printed) or "best".
            range: the interval in which an example's risk lies.
            chance: the risk of a guess. A bound that is not better by a thousandth is vacuous. None means 1; a bound that is not
                vacuous may then still be worse than a guess.
            constant_risk: empirical risk of a constant answer, such as the network with all weights zero, for its bound.
            left_out_is_architecture: True says that the numbers which the network has and the file lacks
                (`subject.numbers_left_out`) were fixed before the n examples were seen, as masks are. A network with such numbers has
                no bound otherwise.

        Raises:
            InputError: an argument is out of its range, or `left_out_is_architecture` is needed.

        A payload doesn't mark its own end, so the bound also pays for its length in bytes, in an Elias delta code. Relative to a base, the
        bound holds only if the base was made without these n examples.
        """
        check_left_out(self.subject.numbers_left_out, left_out_is_architecture)
        return bound(
            self.bits,
            risk=risk,
            n=n,
            delta=delta,
            kind=kind,
            range=range,
            chance=chance,
            self_delimiting=False,
            constant_risk=constant_risk,
        )

    def description_length(self, n: int, loss_unit: LossUnit | None = None) -> DescriptionLength | None:
        """Bits of the model, and of the labels of n examples given the model. None for a loss that is not a code length.

        Args:
            n: number of examples.
            loss_unit: "nats" says that the loss is a cross-entropy in nats per example, "other" that it is not. None decides it by
                the loss of all weights zero, which is ln C for a cross-entropy with C classes
                (`nncomplexity.bounds.is_code_length`).
        """
        known = self.coarse_loss >= 0 and self.subject.code_length(check_loss_unit(loss_unit))
        return description_length(self.bits, loss=self.coarse_loss, n=n) if known else None

    def coarse_weights(self) -> dict[str, Tensor]:
        """The decoded tensors by name; tied names share one tensor."""
        return self.file.weights()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the `.coarse` file, completely or not at all."""
        save_bytes(path, self.file.content)

    def to_dict(self) -> dict[str, Any]:
        """The entry of this ε in `results` of report.json."""
        layers = [{**asdict(layer), "shape": list(layer.shape), "names": list(layer.names)} for layer in self.layers]
        keys = ("eps", "method", "bits", "file_bits", "coarse_loss", "distortion", "evaluations", "seconds", "cpu_seconds")
        return {
            **{key: getattr(self, key) for key in keys},
            "eps_relative": self.eps_relative,
            "origin": self.origin,
            "shared_bits": self.shared_bits,
            "paper_bytes": self.paper_bytes,
            "within": self.within,
            "warnings": list(self.warnings),
            "converged": self.converged,
            "last_gain": self.last_gain,
            "time_limit": self.time_limit,
            "time_is_up": self.time_is_up,
            "interrupted": self.interrupted,
            "faithfulness": self.faithfulness and self.faithfulness.to_dict(),
            "spread": self.spread and self.spread.to_dict(),
            "layers": layers,
        }

    def to_json(self) -> str:
        """report.json of this measurement alone."""
        return reports_json([self])

    def __repr__(self) -> str:
        """The result in one line; the rest are attributes, and a notebook shows them."""
        return (
            f"Report(eps={self.eps:g}, bits={self.bits}, distortion={self.distortion:.4g}, loss={self.loss:.4g}, "
            f"coarse_loss={self.coarse_loss:.4g}, method={self.method!r}, within={self.within}, {len(self.layers)} layers)"
        )

    def _repr_html_(self) -> str:
        """HTML for a notebook: the figures, a picture of bits by layer, and the table of layers."""
        return report_html(self.to_dict(), asdict(self.subject), self.outcome)


def check_left_out(names: Sequence[str], is_architecture: bool) -> None:
    """Raises InputError if the network has numbers that its file lacks, unless the user says that they were not learned."""
    if names and not is_architecture:
        raise InputError(
            f"left_out: a bound needs a file with everything that was learned, and the network has numbers outside the file: {listed(names)}; "
            "if they were fixed before the examples were seen, as masks are, say so by left_out_is_architecture=True, on the command line "
            "by --left-out-is-architecture; otherwise make them parameters or buffers of its state dict"
        )


def best_of(runs: Sequence[Sequence[Report]]) -> tuple[Report, ...]:
    """The smallest file for each ε from several searches, with the effort of all of them and their spread.

    A search that was ended early counts for its files. It counts for the spread only if there is no other.
    """
    found = []
    for several in zip(*runs, strict=True):
        # A file within ε is better than a smaller one that is not.
        best = min(several, key=lambda report: (not report.within, report.bits))
        # A search that was ended early has a larger file. Its size would make the spread over seeds look larger than it is.
        whole = [report for report in several if not report.interrupted] or list(several)
        spent = {key: sum(getattr(report, key) for report in several) for key in ("evaluations", "seconds", "cpu_seconds")}
        cut = {"interrupted": any(report.interrupted for report in several), "time_is_up": any(one.time_is_up for one in several)}
        if best.time_limit is not None:
            spent["time_limit"] = sum(report.time_limit or 0.0 for report in several)
        found.append(replace(best, **spent, **cut, begun=True, spread=Spread.of([report.bits for report in whole])))
    return tuple(found)


def reports_dict(reports: Sequence[Report], **about: Any) -> dict[str, Any]:
    """The content of report.json for several ε on one network. `about` has further keys of the top level, such as `checkpoint`."""
    subject = asdict(reports[0].subject)
    return {"schema": SCHEMA, **about, **subject, "results": [report.to_dict() for report in reports]}


def json_text(document: Mapping[str, Any]) -> str:
    """A document as the text of a JSON file. Raises ValueError for a NaN or an infinity, which JSON doesn't have."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)


def reports_json(reports: Sequence[Report], **about: Any) -> str:
    """The text of report.json for several ε on one network. `about` has further keys of the top level."""
    return json_text(reports_dict(reports, **about))
