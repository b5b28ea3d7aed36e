"""The tables of curves: a network's at many ε, and a training's over its steps."""

from collections.abc import Sequence
from statistics import geometric_mean, mean

from benchmarks.cases.record import Content, Row
from benchmarks.reporting.markdown import table
from nncomplexity.measure import DEFAULT_EPS


def curve(content: Content) -> str:
    """For each network the bytes of both ways at the largest budget, for each ε, then the cost of the curve in single searches."""
    return _curve(_even(content))


def curve_default(content: Content) -> str:
    """The same for the default ε of a curve."""
    return _curve([row for row in content["rows"] if row["eps"] == list(DEFAULT_EPS)])


def _even(content: Content) -> list[Row]:
    return [row for row in content["rows"] if row["eps"] != list(DEFAULT_EPS)]


def _curve(rows: Sequence[Row]) -> str:
    """The table of one grid of ε; empty if it was not measured."""
    lines = []
    most = max((row["budget"] for row in rows), default=0)
    for row in (row for row in rows if row["budget"] == most):
        ratios = _ratios(row)
        cost = sum(row["curve_evaluations"]) / mean(row["single_evaluations"])
        time = row["curve_cpu_seconds"] / mean(row["single_cpu_seconds"])
        cells = [f"{together:,} ({alone:,})" for together, alone in zip(row["curve_bytes"], row["single_bytes"], strict=True)]
        lines.append([row["case"], *cells, f"{geometric_mean(ratios):.2f}", f"{max(ratios):.2f}", f"{cost:.2f}", f"{time:.2f}"])
    eps = [f"ε = {value:g}" for row in rows[:1] for value in row["eps"]]
    header = ["network", *eps, "ratio, geometric mean", "largest", "evaluations, in single searches", "time, in single searches"]
    return table(header, lines)


def curve_budgets(content: Content) -> str:
    """For each network and budget the bytes of a curve relative to single searches: geometric mean over ε, and the largest ratio with its ε."""
    rows = _even(content)
    budgets = sorted({row["budget"] for row in rows})
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        at = {row["budget"]: row for row in rows if row["case"] == case}
        cells = []
        for budget in budgets:
            ratios = _ratios(at[budget])
            largest, eps = max(zip(ratios, at[budget]["eps"], strict=True))
            cells.append(f"{geometric_mean(ratios):.2f}; {largest:.2f} at {eps:g}")
        lines.append([case, *cells])
    return table(["network", *(f"budget {budget:g}" for budget in budgets)], lines)


def _ratios(row: Row) -> list[float]:
    return [max(together, 1) / max(alone, 1) for together, alone in zip(row["curve_bytes"], row["single_bytes"], strict=True)]


def dynamics(content: Content) -> str:
    """For each step and budget the bytes at each ε, and in brackets those of the smallest file of any checkpoint that is within ε there."""
    rows = [row for row in content["rows"] if row["start"] == "cold"]
    pairs = list(dict.fromkeys((row["eps"], row["budget"]) for row in rows))
    lines = []
    for step in dict.fromkeys(row["step"] for row in rows):
        at = {(row["eps"], row["budget"]): row for row in rows if row["step"] == step}
        first = at[pairs[0]]
        cells = [f"{at[pair]['bytes']:,} ({at[pair]['shared_bytes']:,})" for pair in pairs]
        lines.append([f"{step:g}", f"{first['loss']:.4f}", f"{first['test_error']:.1%}", *cells])
    return table(["step", "training loss", "test error", *(f"ε = {eps:g}, budget {budget}" for eps, budget in pairs)], lines)
