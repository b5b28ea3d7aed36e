"""The table of networks that others trained: bits of three methods, and how faithful their files are."""

import math
from collections.abc import Sequence

from benchmarks.cases.record import Content, Row
from benchmarks.reporting.markdown import table
from nncomplexity.search import DESCENT

_METHODS = ("allocate", "tight")


def strangers(content: Content) -> str:
    """A table with one row for each network and ε, with geometric means and the largest ratios, and where `tight` found its files."""
    rows, cases = content["rows"], content["cases"]
    ratios: dict[str, list[float]] = {method: [] for method in _METHODS}
    lines = []
    for case, eps in dict.fromkeys((row["case"], row["eps"]) for row in rows):
        own = {row["method"]: row for row in rows if (row["case"], row["eps"]) == (case, eps)}
        about, plain = cases[case], own.get("uniform")
        cells = [case, f"{about['parameters']:,}", f"{about['kind']}, {eps:g}", f"{plain['bits']:,}" if plain else "–"]
        for method in _METHODS:
            row = own.get(method)
            cells.append(f"{row['bits']:,}" if row else "–")
            if row and plain:
                ratios[method].append(row["bits"] / plain["bits"])
            cells.append(f"{ratios[method][-1]:.2f}" if row and plain else "–")
        cells.append(" / ".join(_agreement(own.get(method)) for method in ("uniform", *_METHODS)))
        cells.append(" / ".join(_share(own.get(method), eps) for method in ("uniform", *_METHODS)))
        cells.append(" / ".join(f"{row['cpu_seconds']:.0f}" if row else "–" for row in map(own.get, ("uniform", *_METHODS))))
        lines.append(cells)
    for name, of in (("geometric mean", _mean), ("largest", max)):
        told = [f"{of(values):.2f}" if values else "–" for values in ratios.values()]
        lines.append([name, "", "", "", "", told[0], "", told[1], "", "", ""])
    head = ["network", "parameters", "divergence, ε", "uniform", "`allocate`", "ratio", "`tight`", "ratio"]
    text = table([*head, "agreement on fresh inputs", "divergence on fresh inputs, in ε", "seconds"], lines)
    found = [row for row in rows if row["method"] == "tight"]
    if not found:
        return text
    descents = sum(row["origin"] == DESCENT for row in found)
    others = "by bit allocation or uniform quantization in the others"
    return f"{text}\n\n`tight` found its file by descent in {descents} of {len(found)} cases, and {others}.{_effort(rows)}"


def _effort(rows: Sequence[Row]) -> str:
    """A sentence on the evaluations of `allocate`, and on its time as a share of the time of `tight`; empty if there is nothing to compare."""
    tight = {(row["case"], row["eps"]): row["cpu_seconds"] for row in rows if row["method"] == "tight"}
    allocate = [row for row in rows if row["method"] == "allocate"]
    shares = [row["cpu_seconds"] / time for row in allocate if (time := tight.get((row["case"], row["eps"])))]
    if not shares:
        return ""
    most = max(row["evaluations"] for row in allocate)
    return f" `allocate` took at most {most:.0f} evaluations for an ε, and {min(shares):.2f} to {max(shares):.2f} of the time of `tight`."


def _mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _agreement(row: Row | None) -> str:
    return "–" if row is None or row["agreement_fresh"] is None else f"{row['agreement_fresh']:.3f}"


def _share(row: Row | None, eps: float) -> str:
    return "–" if row is None or row["distortion_fresh"] is None else f"{row['distortion_fresh'] / eps:.1f}"
