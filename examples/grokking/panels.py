"""The figures of DeMoss et al. 2025 as data: which curves are in which panel."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from examples.grokking.complexity import Settings
from examples.grokking.curves import Curve, Group, Run, Series
from examples.grokking.folder import Line
from nncomplexity.bounds import bound, description_length
from nncomplexity.bounds.hoeffding import paper_bits

FAILURE_PROBABILITY = 0.05


@dataclass(frozen=True)
class View:
    """Which measurements to draw: the method, ε, whether sizes are bytes by the paper's recipe, and the distortion."""

    method: str = "tight"
    eps: str = "1"
    paper_bytes: bool = False
    distortion: str = "loss"

    @property
    def kind(self) -> str:
        return Settings((self.eps,), self.method, distortion=self.distortion).kind

    @property
    def options(self) -> str:
        """The options of measure.py for such measurements, without ε."""
        return f"--method {self.method}" + ("" if self.distortion == "loss" else f" --distortion {self.distortion}")

    def bytes(self, line: Line) -> float:
        size = line["paper_bytes"] if self.paper_bytes else line["bits"] / 8
        if size is None:
            raise MissingError(f"the method {self.method} has no paper_bytes; leave --paper-bytes out")
        return float(size)

    def complexity(self, group: Group, label: str = "complexity") -> Curve:
        """Bytes by epoch."""
        return _curve(group, label, self.series, self.command(group))

    def series(self, run: Run) -> Series:
        return run.measured(self.kind, self.eps, self.bytes)

    def command(self, group: Group, extra: str = "") -> str:
        runs = " ".join(str(run.path) for run in group.runs)
        return f"measure.py {runs} {self.options}{extra or f' --eps {self.eps}'}"


@dataclass(frozen=True)
class Panel:
    """Curves over one axis. The curves of `right` have their own axis."""

    title: str
    y_label: str
    curves: tuple[Curve, ...]
    x_label: str = "epoch"
    fits: tuple[Curve | None, ...] = ()
    """Curves of best fit, one for each of `curves`, or none at all; None for a curve without a fit."""
    right: tuple[Curve, ...] = ()
    right_label: str = ""
    unit: str = ""
    """"bytes" where `curves` are sizes."""
    log_y: bool = False
    levels: tuple[tuple[float, str], ...] = ()
    """Horizontal lines with their names."""


class MissingError(Exception):
    """Says which runs or measurements are missing for a figure."""


@dataclass(frozen=True)
class Figure:
    """One figure: its caption, and the function that makes its panels from groups of runs."""

    caption: str
    panels: Callable[[Sequence[Group], View], list[Panel]]


def _with(groups: Sequence[Group], regularizer: str) -> list[Group]:
    found = [group for group in groups if group.config.regularizer == regularizer]
    if not found:
        raise MissingError(f"there is no run of train.py --regularizer {regularizer}")
    return found


def _curve(group: Group, label: str, series: Callable[[Run], Series], remedy: str) -> Curve:
    curve = group.curve(label, series)
    if curve is None or not curve.x:
        raise MissingError(f"first run {remedy}")
    return curve


def _metric(name: str) -> Callable[[Run], Series]:
    return lambda run: run.metric(name)


def _title(group: Group, *, regularizer: bool = False) -> str:
    config = group.config
    parts = [config.operation, config.regularizer if regularizer else "", "summed" if config.attention == "summed" else ""]
    return ", ".join(part for part in parts if part)


def _by_operation(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that differ only in the regularizer, by operation."""
    found: dict[tuple[object, ...], list[Group]] = {}
    for group in groups:
        config = group.config
        found.setdefault((config.operation, config.prime, config.attention, config.layers), []).append(group)
    return list(found.values())


def _against_unregularized(groups: Sequence[Group], view: View) -> list[Panel]:
    compared = [family for family in _by_operation(groups) if {"full", "none"} <= {g.config.regularizer for g in family}]
    if not compared:
        raise MissingError("no task has runs of both train.py --regularizer full and --regularizer none")
    return [
        Panel(
            _title(family[0]),
            "complexity",
            tuple(view.complexity(group, group.config.regularizer) for group in family),
            unit="bytes",
        )
        for family in compared
    ]


def _accuracies(group: Group, prefix: str = "") -> tuple[Curve, ...]:
    return tuple(_curve(group, f"{prefix}{part} accuracy", _metric(f"{part}_accuracy"), "train.py") for part in ("train", "test"))


def _dynamics(regularizer: str) -> Callable[[Sequence[Group], View], list[Panel]]:
    def panels(groups: Sequence[Group], view: View) -> list[Panel]:
        return [
            Panel(
                *(_title(group), "complexity", (view.complexity(group),)),
                right=_accuracies(group),
                right_label="accuracy",
                unit="bytes",
            )
            for group in _with(groups, regularizer)
        ]

    return panels


def logarithmic_fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """(a, b, R²) of the least-squares fit y = a·ln x + b.

    >>> a, b, r2 = logarithmic_fit([1, 2, 4], [5, 3, 1])
    >>> round(a * math.log(2), 6), round(b, 6), round(r2, 6)
    (-2.0, 5.0, 1.0)
    """
    a, b = np.polyfit(np.log(x), y, 1)
    left = np.asarray(y) - (a * np.log(x) + b)
    spread = np.asarray(y) - np.mean(y)
    return float(a), float(b), float(1 - (left @ left) / (spread @ spread))


def _rate_distortion(groups: Sequence[Group], view: View) -> list[Panel]:
    curves: list[Curve] = []
    fits: list[Curve | None] = []
    for group in groups:
        remedy = view.command(group, " --last --eps 4 --eps 2 --eps 1 --eps 0.5 --eps 0.25")
        curve = _curve(group, _title(group, regularizer=True), lambda run: run.final(view.kind, view.bytes), remedy)
        if len(curve.x) < 3:
            raise MissingError(f"first run {remedy}")
        a, b, r2 = logarithmic_fit(curve.x, curve.mean)
        fitted = tuple(a * math.log(x) + b for x in curve.x)
        curves.append(curve)
        label = f"{a:,.0f}·ln ε + {b:,.0f}, R² = {r2:.3f}"
        fits.append(Curve(label, curve.x, fitted, (0.0,) * len(fitted)) if r2 >= 0 else None)
    title, x_label = "at the end of training", "ε (nats per example)"
    return [Panel(title, "complexity", tuple(curves), x_label=x_label, fits=tuple(fits), unit="bytes")]


def _at_several_eps(groups: Sequence[Group], view: View) -> list[Panel]:
    panels = []
    for group in _with(groups, "full"):
        texts = {float(line["eps"]) for run in group.runs for line in run.measurements.get(view.kind, [])}
        curves = [group.curve(f"ε = {eps:g}", lambda run, eps=eps: run.measured(view.kind, str(eps), view.bytes)) for eps in texts]
        whole = [curve for curve in curves if curve is not None and len(curve.x) > 1]
        if len(whole) < 2:
            raise MissingError(f"first run {view.command(group, ' --eps 4 --eps 1 --eps 0.25')}")
        whole.sort(key=lambda curve: -curve.mean[-1])
        panels.append(Panel(_title(group), "complexity", tuple(whole), unit="bytes"))
    return panels


def _eq4(line: Line, n: int) -> float:
    """The right side of Eq. 4, for the error of the decoded weights, with K in bits: not cut off at 1."""
    nats = paper_bits(line["bits"]) * math.log(2) + math.log(1 / FAILURE_PROBABILITY)
    return float(line["coarse_train_error"] + math.sqrt(nats / (2 * n)))


def _kl(line: Line, n: int) -> float:
    risk = line["coarse_train_error"]
    return bound(line["bits"], risk=risk, n=n, delta=FAILURE_PROBABILITY, self_delimiting=False).value


def _least(run: Run, kind: str, value: Callable[[Line, int], float]) -> Series:
    """The least value over the measured ε, by epoch. The bound holds for all files of a code at once, so the best one may be chosen."""
    found: dict[float, float] = {}
    for line in run.measurements.get(kind, []):
        here = value(line, run.training_examples)
        found[line["epoch"]] = min(here, found.get(line["epoch"], math.inf))
    return found


def _bounds(groups: Sequence[Group], view: View) -> list[Panel]:
    panels = []
    for family in _by_operation(groups):
        curves = []
        for group in family:
            name, remedy = group.config.regularizer, view.command(group)
            curves += [
                _curve(group, f"{name}, Eq. 4", lambda run: _least(run, view.kind, _eq4), remedy),
                _curve(group, f"{name}, kl", lambda run: _least(run, view.kind, _kl), remedy),
                _curve(group, f"{name}, test error", lambda run: {x: 1 - y for x, y in run.metric("test_accuracy").items()}, ""),
            ]
        chance = 1 - 1 / family[0].config.prime
        panels.append(Panel(_title(family[0]), "error", tuple(curves), log_y=True, levels=((chance, "chance"),)))
    return panels


def _by_quantization(groups: Sequence[Group], view: View) -> list[Panel]:
    alone = View("quantize", view.eps, view.paper_bytes, view.distortion)
    return [
        Panel(
            _title(group),
            "complexity",
            (view.complexity(group, view.method), alone.complexity(group, "Algorithm 2")),
            right=_accuracies(group),
            right_label="accuracy",
            unit="bytes",
        )
        for group in _with(groups, "full")
    ]


def _compared(y_label: str, series: Callable[[Run], Series], *, unit: str = "") -> Callable[[Sequence[Group], View], list[Panel]]:
    def panels(groups: Sequence[Group], view: View) -> list[Panel]:  # noqa: ARG001 -- all figures have the same arguments
        return [
            Panel(
                *(_title(family[0]), y_label),
                tuple(_curve(group, group.config.regularizer, series, "train.py") for group in family),
                unit=unit,
            )
            for family in _by_operation(groups)
        ]

    return panels


def _all_accuracies(groups: Sequence[Group], view: View) -> list[Panel]:  # noqa: ARG001 -- all figures have the same arguments
    return [
        Panel(
            _title(family[0]),
            "accuracy",
            tuple(curve for group in family for curve in _accuracies(group, f"{group.config.regularizer}, ")),
        )
        for family in _by_operation(groups)
    ]


def _description_length(groups: Sequence[Group], view: View) -> list[Panel]:
    def total(run: Run) -> Series:
        def total_bytes(line: Line) -> float:
            length = description_length(8 * view.bytes(line), loss=line["coarse_loss"], n=run.training_examples)
            return length.total_bits / 8

        return run.measured(view.method, view.eps, total_bytes)

    return [
        Panel(
            _title(family[0]),
            "description length",
            tuple(_curve(group, group.config.regularizer, total, view.command(group)) for group in family),
            unit="bytes",
        )
        for family in _by_operation(groups)
    ]


FIGURES = {
    1: Figure("Complexity with and without regularization", _against_unregularized),
    2: Figure("Complexity and accuracy, regularized", _dynamics("full")),
    3: Figure("Complexity and accuracy, unregularized", _dynamics("none")),
    4: Figure("Rate-distortion curves of the trained networks", _rate_distortion),
    5: Figure("Complexity at several ε", _at_several_eps),
    6: Figure("Generalization bounds", _bounds),
    7: Figure("Complexity by quantization alone", _by_quantization),
    8: Figure("Effective rank", _compared("effective rank", _metric("effective_rank"))),
    9: Figure("bzip2 of the raw weights", _compared("bzip2", Run.raw_bytes, unit="bytes")),
    10: Figure("Accuracy of all regularizers", _all_accuracies),
    11: Figure("Total description length of model and training labels", _description_length),
}
"""The paper's figures by number."""
