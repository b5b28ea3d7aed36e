"""The table of convergence: sizes over seeds and over effort."""

import math
from statistics import mean, stdev

from benchmarks.cases.record import Content
from benchmarks.reporting.markdown import table


def convergence(content: Content) -> str:
    """A table with one row for each case: the geometric mean and the spread over seeds, and sizes at other efforts relative to seed 0's."""
    rows, lines = content["rows"], []
    found = dict.fromkeys((row["network"], row["distortion"], row["eps"]) for row in rows)
    ratios: dict[str, list[float]] = {"400": [], "quarter": [], "four times": []}
    spreads = []
    for case in found:
        own = [row for row in rows if (row["network"], row["distortion"], row["eps"]) == case]
        default = [row for row in own if row["effort"] == "default"]
        logs = [math.log(row["bits"]) for row in default]
        spreads.append(stdev(logs) if len(logs) > 1 else 0.0)
        cells = []
        for effort, collected in ratios.items():
            other = [row["bits"] / default[0]["bits"] for row in own if row["effort"] == effort]
            collected += other
            cells.append(f"{other[0]:.2f}" if other else "–")
        seconds = mean(row["cpu_seconds"] for row in default)
        lines.append(
            [
                case[0],
                case[1],
                f"{case[2]:g}",
                f"{math.exp(mean(logs)):,.0f}",
                f"{spreads[-1]:.3f}",
                *cells,
                f"{seconds:.0f}",
            ]
        )
    means = [f"{math.exp(mean(map(math.log, values))):.2f}" if values else "–" for values in ratios.values()]
    lines.append(["mean", "", "", "", f"{mean(spreads):.3f}", *means, ""])
    head = ["network", "distortion", "ε", "bits", "sd of ln over seeds", "400 evaluations", "a quarter", "four times", "seconds"]
    return table(head, lines)
