"""Bits beside the local learning coefficient: the table and the picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import correlation

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt

from benchmarks.cases.record import Content, Row
from benchmarks.reporting.calibration import ranks
from benchmarks.reporting.markdown import table

KINDS = {"loss": "loss", "kl": "outputs (KL)"}
STYLES = {"perceptron": ("#D55E00", "o"), "convolutional": ("#0072B2", "s"), "recurrent": ("#009E73", "^")}
ALL = "all"


def learning_coefficient(content: Content) -> str:
    """R² of bits and λ, R² of their logarithms, and the correlation of their ranks, by architecture and distortion."""
    rows = content["rows"]
    groups = {name: [row for row in rows if row["network"] == name] for name in dict.fromkeys(row["network"] for row in rows)}
    lines = []
    for name, these in {**groups, ALL: rows}.items():
        cells = [name, str(len(these))]
        for kind in KINDS:
            bits, coefficients = _pairs(these, kind)
            logs = ([math.log(value) for value in values] for values in (bits, coefficients))
            cells += [
                f"{correlation(bits, coefficients) ** 2:.2f}",
                f"{correlation(*logs) ** 2:.2f}",
                f"{correlation(ranks(bits), ranks(coefficients)):.2f}",
            ]
        lines.append(cells)
    header = [f"{told}, {kind}" for kind in KINDS.values() for told in ("R²", "R² of logarithms", "Spearman's ρ")]
    return table(["architecture", "checkpoints", *header], lines)


def checkpoints(content: Content) -> str:
    """Every checkpoint with its bits and its coefficient."""
    lines = [
        [
            row["network"],
            f"{row['share']:.0%}",
            f"{row['loss']:.4f}",
            f"{row['bits_loss']:,}",
            f"{row['bits_kl']:,}",
            f"{row['llc']:.1f} ± {row['llc_error']:.1f}",
            f"{row['llc_drift']:+.1f}",
        ]
        for row in content["rows"]
    ]
    return table(["architecture", "of its training", "loss", "bits, loss", "bits, outputs (KL)", "λ", "drift"], lines)


def draw(content: Content, path: Path, *, made_by: str) -> None:
    """Write the picture: a panel for each distortion, with a point for each checkpoint. It doesn't depend on the time or the machine."""
    with plt.rc_context({"svg.hashsalt": "nncomplexity", "svg.fonttype": "none", "font.size": 9}):
        drawing, axes = plt.subplots(1, len(KINDS), figsize=(8.5, 3.4), squeeze=False, sharex=True, layout="constrained")
        for axis, (kind, told) in zip(axes[0], KINDS.items(), strict=True):
            for name, (colour, mark) in STYLES.items():
                these = [row for row in content["rows"] if row["network"] == name]
                if these:
                    bits, coefficients = _pairs(these, kind)
                    axis.plot(coefficients, bits, c=colour, marker=mark, linewidth=0.6, label=name)
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_title(f"distortion: {told}", fontsize=9)
            axis.set_xlabel("local learning coefficient λ")
            axis.set_ylabel("bits")
            axis.grid(axis="both", which="both", linewidth=0.4, alpha=0.5)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0, 0].legend(frameon=False, fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(path, metadata={"Date": None, "Creator": None, "Description": f"measured by {made_by}"})
        plt.close(drawing)


def _pairs(rows: Sequence[Row], kind: str) -> tuple[list[float], list[float]]:
    """Bits and λ of the checkpoints where both are above 0, so that they have logarithms."""
    pairs = [(float(row[f"bits_{kind}"]), row["llc"]) for row in rows if row[f"bits_{kind}"] > 0 and row["llc"] > 0]
    return [bits for bits, _ in pairs], [coefficient for _, coefficient in pairs]
