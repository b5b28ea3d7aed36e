"""The rate–distortion curve of a network: bits at many ε, with hull, fits and ε* (Eqs. 5 and 8 of DeMoss et al. 2025)."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Unpack

from torch import Tensor, nn

from nncomplexity.bounds import Bound, DescriptionLength, LossUnit, check_loss_unit
from nncomplexity.bounds import bound as promise
from nncomplexity.errors import InputError
from nncomplexity.linalg import Fit, best_of, fitted, lower_hull
from nncomplexity.measure.arguments import SeveralEps, check_function, checked_eps, python_eps
from nncomplexity.measure.estimate import Options, check_options, estimate
from nncomplexity.measure.report import Report, check_left_out, json_text, reports_dict
from nncomplexity.network import (
    Distortion,
    LossFn,
    ModuleOrTensors,
    check_network,
    constant_loss,
    constant_risk,
    left_as_it_was,
    numbers_left_out,
    preserved_random_state,
    risk_of,
    tensors_of,
)
from nncomplexity.show import curve_html
from nncomplexity.words import GRID, Eps, default_grid, shown

DEFAULT_EPS = GRID
"""The default ε for a loss on the scale of a cross-entropy (`default_eps`)."""

Risk = Callable[[dict[str, Tensor]], float]


@dataclass(frozen=True)
class Curve:
    """A report for each ε, in the given order, with bounds, description lengths, hull and fits.

    Attributes:
        reports: one for each ε. A larger ε never has a larger file.
        bounds: the bound of each report; None if no risk was measured. A prefix code's bound holds for all its files at once, so
            choosing the best one is free.
        lengths: the description length with each report's network; None without n, and for a loss that is not a code length.
        hull: the ε whose points (distortion, bits) are on the lower convex hull, 0 for the lossless file, from small to large.
        fits: bits = a·ln(distortion) + b, the paper's formula, and bits = b·distortion^a; empty with fewer than three points.
    """

    reports: tuple[Report, ...]
    bounds: tuple[Bound | None, ...]
    lengths: tuple[DescriptionLength | None, ...]
    hull: tuple[float, ...]
    fits: tuple[Fit, ...]

    def __repr__(self) -> str:
        """The ends of the curve in one line. The reports are attributes, and `_repr_html_` shows them."""
        eps, bits = [report.eps for report in self.reports], [report.bits for report in self.reports]
        return f"Curve({len(eps)} ε from {max(eps):g} to {min(eps):g}, {min(bits):,} to {max(bits):,} bits, {len(self.hull)} on the hull)"

    @property
    def best_fit(self) -> Fit | None:
        """The fit with the larger R²; None if both have R² < 0."""
        return best_of(self.fits)

    @property
    def mdl(self) -> tuple[Report, DescriptionLength] | None:
        """The report at ε*, with the least description length, model bits + n·loss/ln 2 (Eq. 8); None without lengths."""
        known = [(report, length) for report, length in zip(self.reports, self.lengths, strict=True) if length]
        return min(known, key=lambda one: one[1].total_bits, default=None)

    @property
    def best_bound(self) -> tuple[Report, Bound] | None:
        """The report with the smallest bound; None without bounds."""
        known = [(report, promise) for report, promise in zip(self.reports, self.bounds, strict=True) if promise]
        return min(known, key=lambda one: (one[1].value, one[0].bits), default=None)

    @property
    def evaluations(self) -> float:
        """Loss evaluations of all ε together."""
        return sum(report.evaluations for report in self.reports)

    @property
    def seconds(self) -> float:
        """Wall time of all ε together, in seconds."""
        return sum(report.seconds for report in self.reports)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all ε together, in seconds."""
        return sum(report.cpu_seconds for report in self.reports)

    def to_dict(self) -> dict[str, Any]:
        """The key `curve` of curve.json (docs/results.md)."""
        best, mdl, bound = self.best_fit, self.mdl, self.best_bound
        return {
            "hull": list(self.hull),
            "fits": dict[str, Any].fromkeys(("log", "power")) | {fit.kind: asdict(fit) for fit in self.fits},
            "best_fit": best and best.kind,
            "mdl": mdl and {"eps": mdl[0].eps, **asdict(mdl[1]), "total_bits": mdl[1].total_bits, "file": None},
            "best_bound": bound
            and {"eps": bound[0].eps, **{key: getattr(bound[1], key) for key in ("value", "vacuous", "chance", "constant_bound")}},
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        }

    def to_json(self) -> str:
        """curve.json of this curve alone."""
        return json_text({**reports_dict(self.reports), "curve": self.to_dict()})

    def _repr_html_(self) -> str:
        """HTML for a notebook: a picture of bytes against distortion, and a table of the points."""
        return curve_html(
            [report.to_dict() for report in self.reports],
            asdict(self.reports[0].subject),
            self.to_dict(),
            bounds=[None if bound is None else bound.value for bound in self.bounds],
            lengths=[None if length is None else length.total_bits for length in self.lengths],
            promise=self.best_bound and self.best_bound[1].sentence(),
        )


def rate_distortion(
    model: ModuleOrTensors,
    loss_fn: LossFn,
    eps: SeveralEps | None = None,
    *,
    risk: Risk | None = None,
    n: int | None = None,
    delta: float = 0.05,
    chance: float | None = None,
    loss_unit: LossUnit | None = None,
    left_out_is_architecture: bool = False,
    **options: Unpack[Options],
) -> Curve:
    """Bits of the smallest file found within each of several ε, in one run.

    Each ε has the file that `estimate` finds for it alone, or a smaller one that was found for another ε. `quantize` measures its grid
    once for all ε.

    Args:
        model: a module, or a mapping of names to tensors; as for `estimate`.
        loss_fn: the loss of the module or mapping.
        eps: the ε, in the loss's unit or as shares; by default those of `default_eps`.
        risk: a function of decoded weights by name that returns their risk in [0, 1] on the n training examples, for the bounds.
        n: number of training examples, for the bounds and the description lengths.
        delta: failure probability of the bounds.
        chance: the risk of a guess, at which a bound is vacuous. None is 1; a bound that is not vacuous may then still be worse
            than a guess.
        loss_unit: "nats" if the loss is a cross-entropy in nats per example, which gives description lengths; "other" if it isn't.
            None decides it by the loss (`nncomplexity.bounds.is_code_length`).
        left_out_is_architecture: as for `Report.bound`.
        options: those of `estimate`: method, codec, budget (of a single measurement), seed, seeds, include, exclude, relative_to,
            time_limit, progress, faithfulness and executor.

    Returns:
        A report for each ε, the hull and the fits; with `risk` also bounds, with `n` also description lengths.

    `risk` is also measured once on the original weights, so that an error in it appears before the search.

    Raises:
        InputError: an argument isn't usable, or `risk` comes without n.
        TypeError: there is no option of that name.

    >>> import torch
    >>> weights = {"w": torch.eye(16) + 0.01 * torch.randn(16, 16, generator=torch.Generator().manual_seed(0))}
    >>> curve = rate_distortion(weights, lambda w: ((w["w"] - torch.eye(16)) ** 2).mean(), [0.03, 0.01, 0.001, 0.0001], budget=40)
    >>> sizes = [report.bits for report in curve.reports]
    >>> sizes == sorted(sizes), curve.evaluations <= 40 * 4
    (True, True)
    """
    if risk is not None and n is None:
        raise InputError("n: expected the number of training examples of `risk`, got none; pass n")
    check_options(options)
    check_function("risk", risk)
    check_network(model)
    check_loss_unit(loss_unit)
    if risk is not None:
        check_left_out(numbers_left_out(model), left_out_is_architecture)
    with nullcontext(model) if risk is None else left_as_it_was(model) as kept:  # a risk may load weights into the network
        if n is not None:
            # This bound of zero bits only checks the arguments, so that an error appears before the search.
            promise(0.0, risk=0.0 if risk is None else _first_risk(risk, kept), n=n, delta=delta, chance=chance)
        network = model if isinstance(model, nn.Module) else kept
        if eps is None:
            eps = default_eps(network, loss_fn)
        if not isinstance(python_eps(eps), Sequence):
            raise InputError(f"eps: expected a sequence of numbers, got {shown(eps)}; estimate takes a single one")
        reports = estimate(network, loss_fn, checked_eps(eps), **options)
        return curve_of(reports, risk=risk, n=n, delta=delta, chance=chance, loss_unit=loss_unit)


def default_eps(model: ModuleOrTensors, loss_fn: LossFn) -> Sequence[Eps]:
    """Twelve ε for a curve: from 2 to 0.0005, or shares from 50 % to 0.01 %.

    The ε from 2 to 0.0005 fit a cross-entropy. They are used if the distance from the loss to the loss of all weights zero is from 2 to 20.
    Any other loss may be on another scale, and the ε are then shares of this distance. This takes a few evaluations. The arguments are
    those of `estimate`.
    """
    with preserved_random_state(), Distortion(model, loss_fn) as distortion:
        return default_grid(distortion.original, constant_loss(distortion))


def _first_risk(risk: Risk, kept: ModuleOrTensors) -> float:
    """The risk of the original weights, on the same device as decoded weights."""
    given = tensors_of(kept) if isinstance(kept, nn.Module) else kept
    return risk_of("risk", risk, lambda: {name: tensor.to("cpu", copy=True) for name, tensor in given.items()})


def curve_of(
    reports: Sequence[Report],
    *,
    risk: Risk | None = None,
    n: int | None = None,
    delta: float = 0.05,
    chance: float | None = None,
    loss_unit: LossUnit | None = None,
) -> Curve:
    """The curve of several reports on one network. The arguments are those of `rate_distortion`."""
    bounds: Sequence[Bound | None] = [None] * len(reports)
    if risk is not None and n is not None:
        bounds = bounds_of(reports, risk, n=n, delta=delta, chance=chance)
    lengths = [None if n is None else report.description_length(n, loss_unit) for report in reports]
    lossless = reports[0].subject.least_lossless
    points = [(report.distortion, float(report.bits)) for report in reports] + [(0.0, float(lossless))]
    eps = [report.eps for report in reports] + [0.0]
    corners = {points[index] for index in lower_hull(points)}  # several ε may have one file
    hull = tuple(value for value, point in sorted(zip(eps, points, strict=True)) if point in corners)
    # If nothing was found within ε, the report has the lossless file. It is not a coarse file, so the fits leave it out.
    within = [(report.distortion, float(report.bits)) for report in reports if report.within]
    return Curve(tuple(reports), tuple(bounds), tuple(lengths), hull, fitted(list(dict.fromkeys(within))))


def bounds_of(reports: Sequence[Report], risk: Risk, *, n: int, delta: float = 0.05, chance: float | None = None) -> list[Bound]:
    """The bound from each report's bits and the risk of its decoded weights.

    The caller has checked that the files contain everything that was learned (`check_left_out`).

    Args:
        reports: reports on one network.
        risk: as for `rate_distortion`.
        n: number of training examples.
        delta: failure probability of each bound.
        chance: the risk of a guess.

    Returns:
        A bound for each report.

    Raises:
        InputError: the risk can't be measured.
    """
    risks: dict[int, float] = {}  # several ε often have one file
    for report in reports:
        if id(report.file) not in risks:
            risks[id(report.file)] = risk_of("risk", risk, report.coarse_weights)
    # A file of 0 bits is the network with all weights zero. Its risk, which `constant_risk` would measure, is then known already.
    empty = next((risks[id(report.file)] for report in reports if report.bits == 0 and not report.subject.relative_to), None)
    # The user's risk may draw random numbers, and the caller's generators must not change.
    with preserved_random_state():
        constant = constant_risk(risk, reports[0].coarse_weights()) if empty is None else empty
    return [
        report.bound(
            risk=risks[id(report.file)], n=n, delta=delta, chance=chance, constant_risk=constant, left_out_is_architecture=True
        )
        for report in reports
    ]
