"""Bits beside the local learning coefficient: the table and the picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import correlation

import matplotlib
from scipy.stats import spearmanr

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.ticker import StrMethodFormatter

from benchmarks.cases.record import Content, Row
from benchmarks.reporting.markdown import table

QUANTITIES = {
    "bits_loss": "bits, loss",
    "bits_kl": "bits, outputs (KL)",
    "critical_bits_loss": "critical bits, loss",
    "critical_bits_kl": "critical bits, outputs (KL)",
}
LOCALIZATIONS = (1000, 100)
STYLES = {"perceptron": ("#D55E00", "o"), "convolutional": ("#0072B2", "s"), "recurrent": ("#009E73", "^")}
ALL = "all"


def learning_coefficient(content: Content) -> str:
    """How well λ explains each quantity, by architecture and localization: R² and the correlation of the ranks, of all checkpoints and of those
    whose λ is above 0."""
    rows = content["rows"]
    groups = {name: [row for row in rows if row["network"] == name] for name in dict.fromkeys(row["network"] for row in rows)}
    lines = []
    for key, told in QUANTITIES.items():
        for name, these in {**groups, ALL: rows}.items():
            line = [told, name]
            for localization in LOCALIZATIONS:
                for least in (-math.inf, 0.0):
                    values, coefficients = _pairs(these, key, localization, least)
                    line.append(
                        f"{correlation(values, coefficients) ** 2:.2f}, {spearmanr(values, coefficients).statistic:.2f} ({len(values)})"
                    )
            lines.append(line)
    header = [
        f"γ = {localization}, {which}" for localization in LOCALIZATIONS for which in ("all checkpoints", "those with λ above 0")
    ]
    return table(["quantity", "architecture", *header], lines)


def checkpoints(content: Content) -> str:
    """Every checkpoint with its quantities and its coefficients."""
    lines = []
    for row in content["rows"]:
        line = [row["network"], f"{row['share']:.0%}", f"{row['loss']:.4f}", *(_number(row[key]) for key in QUANTITIES)]
        for localization in LOCALIZATIONS:
            value, error, drift = (row[f"llc_{localization}{end}"] for end in ("", "_error", "_drift"))
            line += [f"{value:.1f} ± {error:.1f}", f"{drift:+.1f}"]
        lines.append(line)
    header = ["architecture", "of its training", "loss", *QUANTITIES.values()]
    for localization in LOCALIZATIONS:
        header += [f"λ, γ = {localization}", "drift"]
    return table(header, lines)


def draw(content: Content, path: Path, *, made_by: str) -> None:
    """Write the picture: a column for each quantity, a row for each localization, a point for each checkpoint whose λ is above 0.

    It doesn't depend on the time or the machine.
    """
    with plt.rc_context({"svg.hashsalt": "nncomplexity", "svg.fonttype": "none", "font.size": 9}):
        shape = (len(LOCALIZATIONS), len(QUANTITIES))
        drawing, axes = plt.subplots(*shape, figsize=(13, 5.8), squeeze=False, sharex="row", sharey="col", layout="constrained")
        for localization, line in zip(LOCALIZATIONS, axes, strict=True):
            for axis, (key, told) in zip(line, QUANTITIES.items(), strict=True):
                for name, (colour, mark) in STYLES.items():
                    these = [row for row in content["rows"] if row["network"] == name]
                    values, coefficients = _pairs(these, key, localization, 0.0)
                    if values:
                        axis.plot(coefficients, values, c=colour, marker=mark, linewidth=0.6, label=name)
                axis.set_xlim(0, None)
                axis.set_ylim(0, None)
                axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
                axis.set_title(told, fontsize=9)
                axis.set_xlabel(f"local learning coefficient λ, γ = {localization}")
                axis.grid(axis="both", which="both", linewidth=0.4, alpha=0.5)
                axis.spines[["top", "right"]].set_visible(False)
        axes[0, 0].legend(frameon=False, fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(path, metadata={"Date": None, "Creator": None, "Description": f"measured by {made_by}"})
        plt.close(drawing)


def _pairs(rows: Sequence[Row], key: str, localization: int, least: float) -> tuple[list[float], list[float]]:
    """A quantity and λ of the checkpoints that have both, and whose λ is above the least one."""
    pairs = [(float(row[key]), row[f"llc_{localization}"]) for row in rows if row[key] is not None]
    above = [pair for pair in pairs if pair[1] > least]
    return [value for value, _ in above], [coefficient for _, coefficient in above]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
