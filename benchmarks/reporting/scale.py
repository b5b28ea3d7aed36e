"""Tables of the cost of a measurement as networks grow, and estimates for networks that were not measured."""

from typing import Any

from benchmarks.cases.record import Content
from benchmarks.cases.sizes import SIZES
from benchmarks.reporting.markdown import table
from nncomplexity.words import duration_in_words

PROJECTED = {"7B": (7e9, 4096), "70B": (70e9, 8192)}
"""Parameters and width."""
BUDGETS = (30, 400)


def scale(content: Content) -> str:
    """A row for each network and method, smallest network first."""
    order, methods = list(SIZES), ("tight", "allocate", "quantize")
    lines = []
    for row in sorted(content["rows"], key=lambda row: (methods.index(row["method"]), order.index(row["case"]))):
        lines.append(
            [
                row["case"],
                f"`{row['method']}`",
                f"{row['parameters']:,}",
                f"{row['evaluations']:.0f}",
                *(f"{row[f'{part}seconds']:.1f} s" for part in ("", "loss_", "decomposition_", "coding_", "decoding_")),
                f"{1e6 * (row['seconds'] - row['loss_seconds']) / row['parameters']:.2f} µs",
                f"{row['peak_bytes'] / 2**20:,.0f} MiB",
                f"{row['peak_bytes'] / row['checkpoint_bytes']:.1f}",
                f"{row['bytes']:,}" + ("" if row["within"] else " *"),
                f"{row['distortion']:.3f}",
            ]
        )
    header = ["network", "method", "parameters", "evaluations", "time", "loss", "decompositions", "coding", "decoding"]
    header += ["outside the loss, a parameter", "memory", "of the checkpoint", "bytes", "distortion"]
    return table(header, lines)


def constants(content: Content) -> dict[str, float]:
    """a, d and m of docs/scaling.md, for the largest network that `tight` measured."""
    row: dict[str, Any] = max((row for row in content["rows"] if row["method"] == "tight"), key=lambda row: row["parameters"])
    rest = row["seconds"] - row["loss_seconds"] - row["decomposition_seconds"]
    return {
        "parameters": row["parameters"],
        "a": rest / (row["parameters"] * row["evaluations"]),
        "d": row["decomposition_seconds"] / (row["parameters"] * SIZES[row["case"]][1]),
        "m": row["peak_bytes"] / row["parameters"],
    }


def projection(content: Content) -> str:
    """The constants, and the estimates for larger networks."""
    found = constants(content)
    lines = [
        [
            name,
            f"{budget}",
            duration_in_words(found["a"] * parameters * budget),
            duration_in_words(found["d"] * parameters * width),
            f"{found['m'] * parameters / 1e9:,.0f} GB",
            f"{DENSE_BYTES * parameters / 1e9:,.0f} GB",
        ]
        for name, (parameters, width) in PROJECTED.items()
        for budget in BUDGETS
    ]
    first = (
        f"Of {found['parameters']:,.0f} parameters: a = {1e9 * found['a']:.1f} ns, d = {1e9 * found['d']:.2f} ns, "
        f"m = {found['m']:.1f} bytes.\n\n"
    )
    header = ["network", "evaluations E", "a·P·E", "d·P·w", "m·P", "a dense descent"]
    return first + table(header, lines)


DENSE_BYTES = 14
"""Bytes for each parameter in a descent of dense latents: 4 latent, 4 two moments in bfloat16, 4 the loss's copy, 2 symbols."""
