"""Bits beside the local learning coefficient: the table and the picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import correlation

import matplotlib
from scipy.stats import spearmanr

matplotlib.use("svg")

from matplotlib import pyplot as plt

from benchmarks.cases.record import Content, Row
from benchmarks.reporting.markdown import table

QUANTITIES = {
    "bits_loss": "bits, loss",
    "bits_kl": "bits, outputs (KL)",
    "critical_bits_loss": "critical bits, loss",
    "critical_bits_kl": "critical bits, outputs (KL)",
}
STYLES = {"perceptron": ("#D55E00", "o"), "convolutional": ("#0072B2", "s"), "recurrent": ("#009E73", "^")}
ALL = "all"


def learning_coefficient(content: Content) -> str:
    """How well λ explains each quantity, by architecture: R², the correlation of the ranks, and R² of the logarithms.

    A λ that isn't above 0, or a file of no bits, has no logarithm. The others have all checkpoints.
    """
    rows = content["rows"]
    groups = {name: [row for row in rows if row["network"] == name] for name in dict.fromkeys(row["network"] for row in rows)}
    lines = []
    for key, told in QUANTITIES.items():
        for name, these in {**groups, ALL: rows}.items():
            values, coefficients = _pairs(these, key)
            positive = _positive(values, coefficients)
            logs = ([math.log(value) for value in side] for side in positive)
            lines.append(
                [
                    told,
                    name,
                    str(len(values)),
                    f"{correlation(values, coefficients) ** 2:.2f}",
                    f"{spearmanr(values, coefficients).statistic:.2f}",
                    str(len(positive[0])),
                    f"{correlation(*logs) ** 2:.2f}",
                ]
            )
    header = ["quantity", "architecture", "checkpoints", "R² with λ", "Spearman's ρ", "with logarithms", "R² of logarithms"]
    return table(header, lines)


def checkpoints(content: Content) -> str:
    """Every checkpoint with its quantities and its coefficient."""
    lines = [
        [
            row["network"],
            f"{row['share']:.0%}",
            f"{row['loss']:.4f}",
            *(_number(row[key]) for key in QUANTITIES),
            f"{row['llc']:.1f} ± {row['llc_error']:.1f}",
            f"{row['llc_drift']:+.1f}",
        ]
        for row in content["rows"]
    ]
    return table(["architecture", "of its training", "loss", *QUANTITIES.values(), "λ", "drift"], lines)


def draw(content: Content, path: Path, *, made_by: str) -> None:
    """Write the picture: a panel for each quantity, with a point for each checkpoint. It doesn't depend on the time or the machine."""
    with plt.rc_context({"svg.hashsalt": "nncomplexity", "svg.fonttype": "none", "font.size": 9}):
        drawing, axes = plt.subplots(1, len(QUANTITIES), figsize=(13, 3.2), squeeze=False, sharex=True, layout="constrained")
        for axis, (key, told) in zip(axes[0], QUANTITIES.items(), strict=True):
            for name, (colour, mark) in STYLES.items():
                these = [row for row in content["rows"] if row["network"] == name]
                if these:
                    values, coefficients = _positive(*_pairs(these, key))
                    axis.plot(coefficients, values, c=colour, marker=mark, linewidth=0.6, label=name)
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_title(told, fontsize=9)
            axis.set_xlabel("local learning coefficient λ")
            axis.grid(axis="both", which="both", linewidth=0.4, alpha=0.5)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0, 0].legend(frameon=False, fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(path, metadata={"Date": None, "Creator": None, "Description": f"measured by {made_by}"})
        plt.close(drawing)


def _pairs(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    """A quantity and λ of the checkpoints that have both."""
    pairs = [(float(row[key]), row["llc"]) for row in rows if row[key] is not None]
    return [value for value, _ in pairs], [coefficient for _, coefficient in pairs]


def _positive(values: Sequence[float], coefficients: Sequence[float]) -> tuple[list[float], list[float]]:
    """The pairs that have logarithms."""
    pairs = [pair for pair in zip(values, coefficients, strict=True) if min(pair) > 0]
    return [value for value, _ in pairs], [coefficient for _, coefficient in pairs]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
