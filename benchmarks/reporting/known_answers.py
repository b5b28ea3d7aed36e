"""The table of known answers: what three searches find for networks whose size is known."""

import math

from benchmarks.cases.record import Content
from benchmarks.reporting.markdown import table

_METHODS = ("allocate", "tight", "quantize")


def known_answers(content: Content) -> str:
    """Geometric means over seeds of found / planted, with the range if there are several seeds; and those over all networks.

    Networks with rescaled units have a line of their own at the end: they compute the planted function with other weights.
    """
    rows = content["rows"]
    methods = sorted({row["method"] for row in rows}, key=_METHODS.index)
    lines = []
    for case, eps in dict.fromkeys((row["case"], row["eps"]) for row in rows):
        found = [[row["ratio"] for row in rows if (row["case"], row["eps"], row["method"]) == (case, eps, one)] for one in methods]
        lines.append([case, f"{eps:g}", *map(_cell, found)])
    for told, rescaled in (("all, without rescaled units", False), ("all with rescaled units", True)):
        those = [row for row in rows if row["case"].endswith("rescaled") == rescaled]
        lines.append([told, "", *(_cell([row["ratio"] for row in those if row["method"] == one]) for one in methods)])
    return table(["network", "ε", *methods], lines)


def _cell(ratios: list[float]) -> str:
    if not ratios:
        return ""
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return f"{mean:.2f}" + (f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else "")
