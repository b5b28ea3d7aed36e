"""The table of curves beside single searches at the default effort."""

from statistics import geometric_mean

from benchmarks.cases.record import Content
from benchmarks.reporting.markdown import table

AGREED = 0.15
"""The share by which two sizes at one ε may differ."""


def agreement(content: Content) -> str:
    """A line for each network, seed and ε: bits by both, their ratio, and whether it is within 15 %. Last, the mean and the farthest ratio."""
    lines, ratios = [], []
    for row in content["rows"]:
        for eps, together, alone in zip(row["eps"], row["curve_bits"], row["single_bits"], strict=True):
            ratio = max(together, 8) / max(alone, 8)
            ratios.append(ratio)
            within = "yes" if max(ratio, 1 / ratio) <= 1 + AGREED else "no"
            lines.append([row["network"], str(row["seed"]), f"{eps:g}", f"{together:,}", f"{alone:,}", f"{ratio:.2f}", within])
    if ratios:
        farthest = max(ratios, key=lambda ratio: max(ratio, 1 / ratio))
        lines += [
            ["geometric mean", *[""] * 4, f"{geometric_mean(ratios):.2f}", ""],
            ["farthest from 1", *[""] * 4, f"{farthest:.2f}", ""],
        ]
    return table(["network", "seed", "ε", "curve, bits", "measure, bits", "curve / measure", "within 15 %"], lines)
