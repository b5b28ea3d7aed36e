"""The table of a training's dynamics over its steps, under the difference of losses."""

from benchmarks.cases.record import Content
from benchmarks.reporting.markdown import table


def dynamics(content: Content) -> str:
    """For each step and budget the bytes at each ε, and in brackets those of the smallest file of any checkpoint that is within ε there."""
    rows = content["rows"]
    pairs = list(dict.fromkeys((row["eps"], row["budget"]) for row in rows))
    lines = []
    for step in dict.fromkeys(row["step"] for row in rows):
        at = {(row["eps"], row["budget"]): row for row in rows if row["step"] == step}
        first = at[pairs[0]]
        cells = [f"{at[pair]['bytes']:,} ({at[pair]['shared_bytes']:,})" for pair in pairs]
        lines.append([f"{step:g}", f"{first['loss']:.4f}", f"{first['test_error']:.1%}", *cells])
    return table(["step", "training loss", "test error", *(f"ε = {eps:g}, budget {budget}" for eps, budget in pairs)], lines)
