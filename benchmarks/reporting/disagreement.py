"""The table of bounds on the original network: the decoded network's bound, and the limit on their disagreement."""

from benchmarks.cases.record import Content
from benchmarks.reporting.markdown import table


def disagreement(content: Content) -> str:
    """A table with one row for each network, distortion and ε."""
    head = ["network", "distortion", "ε", "bits", "bound, decoded", "bound, original", "difference", "answers that differ"]
    lines = []
    for row in content["rows"]:
        of = f"{row['disagreements']} of {row['m']} ({row['disagreements'] / row['m']:.3f})"
        bounds = [f"{row[name]:.3f}" for name in ("decoded_bound", "original_bound")]
        difference = f"{row['original_bound'] - row['decoded_bound']:.3f}"
        lines.append([row["case"], row["distortion"], f"{row['eps']:g}", f"{row['bits']:,}", *bounds, difference, of])
    return table(head, lines)
