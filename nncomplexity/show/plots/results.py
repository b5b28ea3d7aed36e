"""The content of results files as dataclasses: networks, their results at each ε, and failures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nncomplexity.errors import InputError
from nncomplexity.linalg import Fit


@dataclass(frozen=True)
class LayerBits:
    """How one tensor was coded; `bits` may be a fraction."""

    # `nncomplexity.measure.Layer` adds further fields to these.

    name: str
    shape: tuple[int, ...]
    form: str
    rank: int | None
    step: float | None
    """The step of a dense tensor, or the geometric mean of its two factors' steps."""
    bits: float
    effective_rank: float | None
    layout: str | None = None
    """The layout of the tensor, with the form of each block; None for the usual matrix."""


@dataclass(frozen=True)
class BoundValue:
    """A bound on the risk on unseen data. Values that the file doesn't have are None."""

    value: float
    risk: float | None
    n: int | None
    delta: float | None
    kind: str | None
    chance: float | None
    vacuous: bool
    bits_needed: float | None = None
    constant_risk: float | None = None
    """The risk of a constant answer, on the same examples."""
    constant_bound: float | None = None
    """The bound on a constant answer, which takes no bits."""


@dataclass(frozen=True)
class Measurement:
    """The result of one network at one ε, which is a `Share` if it was given as a share.

    Losses are in the loss's own unit, sizes in bits.
    """

    eps: float
    bits: float
    coarse_loss: float | None = None
    distortion: float | None = None
    within: bool = True
    """False if the lossless file is the answer."""
    paper_bytes: int | None = None
    evaluations: float | None = None
    mdl_bits: float | None = None
    """bits + n·loss/ln 2 of the decoded weights (Eq. 8 of DeMoss et al. 2025)."""
    critical_bits: float | None = None
    """Bits for each weight of the coarsest uniform quantizer within ε."""
    bound: BoundValue | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """On the decoded weights, by name."""
    layers: tuple[LayerBits, ...] = ()
    shared_bits: float | None = None
    origin: str | None = None
    """The origin of the file."""
    warnings: tuple[str, ...] = ()
    bits_error: float = 0.0
    """The standard error of `bits`, if they are a mean over seeds."""
    agreement: float | None = None
    """The share of inputs of the search on which the decoded network gives the original's answer."""
    held_out_agreement: float | None = None
    """The share of held-out inputs on which it does."""
    spread: tuple[float, float] | None = None
    """Mean and standard deviation of ln(bits) over several searches."""
    searches: int | None = None
    """The number of these searches."""
    others: Mapping[str, float] = field(default_factory=dict)
    """Other metrics of the decoded weights, such as losses."""
    eps_in_units: float | None = None
    """ε in the loss's unit, even if it was given as a share; None if this value isn't known."""
    seconds: float | None = None
    """The time for this ε alone; None if only the time for all ε together is known."""


@dataclass(frozen=True)
class CurveSummary:
    """The summary of a curve.json."""

    hull: tuple[float, ...]
    """The ε on the lower convex hull."""
    fits: tuple[Fit, ...]
    best_fit: str | None
    mdl_eps: float | None = None
    """The ε of the smallest description length."""


@dataclass(frozen=True)
class Network:
    """One measured network: a row of a results.jsonl, or a report.json."""

    source: str
    """The results file, as typed."""
    run: str
    checkpoint: str
    kind: str = "checkpoint"
    """"checkpoint", or a calibration: "untrained", "constant", "shuffled"."""
    step: float | None = None
    step_name: str | None = None
    """What a step is, such as "epoch"; None if it is not known."""
    seed: int | None = None
    sha256: str | None = None
    method: str | None = None
    loss: float | None = None
    parameters: int | None = None
    raw_bits: float | None = None
    bzip2_bits: float | None = None
    l2_norm: float | None = None
    effective_rank: float | None = None
    llc: float | None = None
    llc_error: float | None = None
    """The standard error over chains."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Error rates and accuracies of the original weights, by name."""
    others: Mapping[str, float] = field(default_factory=dict)
    """Other metrics of the original weights, such as losses."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    zero_loss: float | None = None
    spent: Mapping[str, float] = field(default_factory=dict)
    """`evaluations`, `seconds` and `cpu_seconds` for all ε together, as far as they are known."""
    points: tuple[Measurement, ...] = ()
    curve: CurveSummary | None = None

    def at(self, eps: float) -> Measurement | None:
        """The result at ε; None if there is none."""
        return next((point for point in self.points if point.eps == eps), None)


@dataclass(frozen=True)
class Failure:
    """A checkpoint that could not be measured, and why."""

    source: str
    run: str
    checkpoint: str
    step: float | None
    seed: int | None
    error: str
    kind: str = "checkpoint"


@dataclass(frozen=True)
class ResultsSource:
    """A file that was read."""

    name: str
    form: str
    """"results.jsonl", "report.json" or "curve.json"."""
    sha256: str


@dataclass(frozen=True, eq=False)
class Results:
    """The content of one or several files. If a network appears twice, the last one counts.

    Two are equal only if they are one object. So a cache can use them as keys (`runs_of`).
    """

    networks: tuple[Network, ...]
    """Checkpoints, in the order of the files."""
    calibrations: tuple[Network, ...]
    failures: tuple[Failure, ...]
    sources: tuple[ResultsSource, ...]
    cut_lines: int = 0
    """The number of incomplete lines, which a killed run may leave at the end."""
    named_step: str | None = None
    """The name of a step, instead of the one in the files."""

    @cached_property
    def step_name(self) -> str:
        """The name of a step: for example "epoch", if all networks with a step agree; otherwise "step"."""
        names = {network.step_name for network in self.networks if network.step is not None}
        return self.named_step or (names.pop() if len(names) == 1 else None) or "step"

    @property
    def versions(self) -> str:
        """The versions of nncomplexity that measured; "" if the files don't have them."""
        found = {str(network.settings["version"]) for network in self.networks if "version" in network.settings}
        return f"nncomplexity {', '.join(sorted(found))}" if found else ""

    @property
    def eps(self) -> tuple[float, ...]:
        """Every ε that was measured, from large to small."""
        return tuple(sorted({point.eps for network in self.networks for point in network.points}, reverse=True))

    @property
    def eps_over_training(self) -> tuple[float, ...]:
        """The ε that were measured for at least half as many networks as the most frequent ε.

        The others give no curve over training.
        """
        stepped = [network for network in self.networks if network.step is not None] or self.networks
        counts = {eps: sum(network.at(eps) is not None for network in stepped) for eps in self.eps}
        return tuple(eps for eps in self.eps if 2 * counts[eps] >= max(counts.values()))

    def chosen_eps(self, wanted: tuple[float, ...], *, over_training: bool = False) -> tuple[float, ...]:
        """`wanted` from large to small, or every ε if none is given. Raises InputError if one was not measured."""
        for eps in wanted:
            if eps not in self.eps:
                raise InputError(f"eps: {eps:g} was not measured; choose among {', '.join(f'{one:g}' for one in self.eps)}")
        return tuple(sorted(set(wanted), reverse=True)) or (self.eps_over_training if over_training else self.eps)
