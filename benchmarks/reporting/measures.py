"""Which measure tells the truth: the tables and the picture of measures against the known sizes of networks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt

from benchmarks.cases.record import Content
from benchmarks.reporting.calibration import Calibration
from benchmarks.reporting.markdown import table

LABELS = "random labels"
RESCALED = ", rescaled"
STYLES = {
    "sparse": ("#D55E00", "o"),
    "live": ("#0072B2", "s"),
    "low rank": ("#009E73", "^"),
    "signs": ("#CC79A7", "D"),
    LABELS: ("#777777", "x"),
}
"""Okabe and Ito's colours, which colour-blind readers can distinguish; the marks differ, too."""
IN_BITS = ("tight", "allocate", "bayes", "quantize", "NNCodec", "bzip2 of float16", "bzip2 of float32")
"""The measures whose value is a number of bits, so that their ratio to the known bits has a meaning."""


@dataclass(frozen=True)
class Point:
    """A measure of one network: its kind, its known bits and the value."""

    case: str
    kind: str
    known: float
    value: float

    @property
    def rescaled(self) -> bool:
        return self.kind.endswith(RESCALED)


def points(content: Content, measure: str) -> list[Point]:
    """The networks of which this measure has a value above 0, which has a logarithm."""
    return [
        Point(row["case"], content["cases"][row["case"]]["kind"], content["cases"][row["case"]]["known_bits"], row["value"])
        for row in content["rows"]
        if row["measure"] == measure and (row["value"] or 0) > 0
    ]


def against_known(content: Content) -> str:
    """Slope, R², largest error and order of each measure on the planted networks, the best first."""
    lines = []
    for measure, found in ranked(content):
        plain = [point for point in found if not point.rescaled]
        fit = calibration(plain)
        ratios = [point.value / point.known for point in plain]
        lines.append(
            [
                measure,
                str(len(plain)),
                f"{fit.slope:.2f}",
                f"{fit.r_squared:.2f}",
                f"{fit.largest:.1f} ×",
                f"{fit.spearman:.2f}",
                f"{fit.kendall:.2f}",
                f"{_geometric(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if measure in IN_BITS else "",
                f"{calibration(found).r_squared:.2f}",
            ]
        )
    header = ["measure", "networks", "slope", "R²", "largest error", "Spearman's ρ", "Kendall's τ", "measured / known bits"]
    return table([*header, "R² with rescaled units too"], lines)


def against_least(content: Content) -> str:
    """The measures in bits of networks of random labels, beside the least size of a file."""
    measures = [measure for measure in IN_BITS if points(content, measure)]
    lines = []
    for case, about in content["cases"].items():
        if about["kind"] == LABELS:
            found = {row["measure"]: row["value"] for row in content["rows"] if row["case"] == case and row["value"]}
            sizes = [f"{found[measure]:,.0f}" if measure in found else "–" for measure in measures]
            lines.append([case, f"{about['parameters']:,}", f"{about['known_bits']:,.0f}", *sizes])
    return table(["network", "parameters", "least bits", *measures], lines)


def best(content: Content) -> str:
    """The most telling columns of the table, for the first page."""
    lines = []
    for measure, found in ranked(content):
        fit = calibration([point for point in found if not point.rescaled])
        lines.append([measure, f"{fit.r_squared:.2f}", f"{fit.largest:.1f} ×", f"{fit.kendall:.2f}"])
    return table(["measure", "R²", "largest error", "Kendall's τ"], lines)


def ranked(content: Content) -> list[tuple[str, list[Point]]]:
    """The measures with their planted networks, by R² on those whose units are not rescaled."""
    measures = dict.fromkeys(row["measure"] for row in content["rows"])
    found = [(measure, [point for point in points(content, measure) if point.kind != LABELS]) for measure in measures]
    found = [(measure, these) for measure, these in found if sum(not point.rescaled for point in these) >= 3]
    return sorted(found, key=lambda entry: -calibration([one for one in entry[1] if not one.rescaled]).r_squared)


def calibration(found: Sequence[Point]) -> Calibration:
    return Calibration.of([point.value for point in found], [point.known for point in found])


def draw(content: Content, path: Path, *, made_by: str) -> None:
    """Write the picture: a panel for each measure, with a point for each network. It doesn't depend on the time or the machine."""
    measures = ranked(content)
    columns = 4
    rows = math.ceil(len(measures) / columns)
    with plt.rc_context({"svg.hashsalt": "nncomplexity", "svg.fonttype": "none", "font.size": 8}):
        drawing, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 2.4 * rows + 0.5), squeeze=False, layout="constrained")
        for axis in axes.flat[len(measures) :]:
            axis.set_axis_off()
        for axis, (measure, _) in zip(axes.flat, measures, strict=False):
            found = points(content, measure)
            for kind, (colour, mark) in STYLES.items():
                for rescaled in (False, True):
                    here = [point for point in found if point.kind == kind + RESCALED * rescaled]
                    if here:
                        hollow = {"facecolors": "none"} if rescaled else {}
                        label = kind + RESCALED * rescaled
                        x, y = [point.known for point in here], [point.value for point in here]
                        colours = {"edgecolors": colour, **hollow} if rescaled else {"c": colour}
                        axis.scatter(x, y, marker=mark, s=18, label=label, linewidths=0.9, zorder=3, **colours)
            known = [point.known for point in found]
            if measure in IN_BITS:
                axis.plot([min(known), max(known)], [min(known), max(known)], c="#555555", linewidth=0.8, linestyle=":")
            axis.set_xscale("log")
            axis.set_yscale("log")
            fit = calibration([point for point in found if point.kind != LABELS and not point.rescaled])
            axis.set_title(f"{measure}, R² = {fit.r_squared:.2f}", fontsize=8)
            axis.grid(axis="both", linewidth=0.4, alpha=0.5)
            axis.spines[["top", "right"]].set_visible(False)
        for axis in axes.flat[max(0, len(measures) - columns) : len(measures)]:
            axis.set_xlabel("known bits")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(path, metadata={"Date": None, "Creator": None, "Description": f"measured by {made_by}"})
        plt.close(drawing)


def _geometric(ratios: Sequence[float]) -> float:
    return math.exp(fmean(map(math.log, ratios)))
