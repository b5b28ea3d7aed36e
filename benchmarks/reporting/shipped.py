"""The tables of the shipped networks: the spread of their sizes over seeds, and memorised / grokked at two efforts."""

import math
from statistics import geometric_mean, mean, stdev

from benchmarks.cases.record import Content, Row
from benchmarks.reporting.markdown import table

EFFORTS = ("quarter", "default")


def shipped(content: Content) -> str:
    """The table over seeds and, if the grokking pair was measured, that of its ratios."""
    pair = any(row["network"].startswith("grokking/") for row in content["rows"])
    return "\n\n".join([repeats(content), *([efforts(content)] if pair else [])])


def repeats(content: Content) -> str:
    """For each network and distortion, by the default search: the sizes over seeds and their spread."""
    lines = []
    rows = [row for row in content["rows"] if row["effort"] == "default"]
    for case in dict.fromkeys((row["network"], row["distortion"], row["eps"]) for row in rows):
        own = [row for row in rows if (row["network"], row["distortion"], row["eps"]) == case]
        bits = [row["bits"] for row in own]
        spread = f"{stdev(map(math.log, bits)):.3f}" if len(bits) > 1 else "–"
        sizes = [f"{size:,.0f}" for size in (geometric_mean(bits), min(bits), max(bits))]
        converged = f"{sum(row['converged'] for row in own)} of {len(own)}"
        lines.append(
            [
                case[0],
                case[1],
                f"{case[2]:g}",
                f"{len(own)}",
                *sizes,
                spread,
                converged,
                f"{mean(row['cpu_seconds'] for row in own):.0f}",
            ]
        )
    head = ["network", "distortion", "ε", "seeds", "bits, geometric mean", "smallest", "largest", "sd of ln over seeds"]
    return table([*head, "converged", "seconds"], lines)


def efforts(content: Content) -> str:
    """For each seed the grokking pair's bits at both efforts, memorised / grokked, and by how much the two ratios differ."""
    rows: list[Row] = [row for row in content["rows"] if row["network"].startswith("grokking/") and row["distortion"] == "kl"]
    bits = {(row["network"].split("/")[1], row["effort"], row["seed"]): row["bits"] for row in rows}
    lines = []
    for seed in sorted({row["seed"] for row in rows}):
        cells, ratios = [], []
        for effort in EFFORTS:
            pair = [bits.get((name, effort, seed)) for name in ("memorised", "grokked")]
            ratios += [pair[0] / pair[1]] if None not in pair else []
            cells += [*("–" if size is None else f"{size:,}" for size in pair), "–" if None in pair else f"{ratios[-1]:.1f}"]
        lines.append([str(seed), *cells, f"{max(ratios) / min(ratios) - 1:.0%}" if len(ratios) == len(EFFORTS) else "–"])
    head = [f"{name}, {effort}" for effort in ("a quarter", "default") for name in ("memorised", "grokked", "ratio")]
    return table(["seed", *head, "ratios apart"], lines)
