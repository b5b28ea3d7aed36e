"""The table of bit allocation beside rate-aware rounding."""

from statistics import mean, stdev

from benchmarks.cases.record import Content
from benchmarks.reporting.markdown import table


def rate_aware_rounding(content: Content) -> str:
    """Mean bytes over seeds, with standard deviations, by network and ε."""
    lines = []
    for case, eps in dict.fromkeys((row["case"], row["eps"]) for row in content["rows"]):
        cells = [case, f"{eps:g}"]
        for method, key in (("rate_aware_rounding", "bytes"), ("rate_aware_rounding", "nncodec_bytes"), ("allocate", "bytes")):
            rows = [row for row in content["rows"] if (row["case"], row["eps"], row["method"]) == (case, eps, method)]
            sizes = [row[key] for row in rows if row.get(key) is not None]
            spread = f" ± {stdev(sizes):,.0f}" if len(sizes) > 1 else ""
            cells.append(f"{mean(sizes):,.0f}{spread}" if sizes else "–")
        lines.append(cells)
    return table(["network", "ε", "rate-aware rounding", "the same, NNCodec's coder", "`allocate`"], lines)
