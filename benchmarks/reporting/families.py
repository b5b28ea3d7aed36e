"""The table of networks of many architectures, measured by `tight`."""

from benchmarks.cases.record import Content
from benchmarks.reporting.markdown import table


def families(content: Content) -> str:
    """A row for each network: its size, its file, and whether the decoded file has the reported loss."""
    lines = [
        [
            row["case"],
            f"{row['parameters']:,}",
            f"{row['tensors']}",
            f"{row['eps']:g}",
            f"{row['bits'] // 8:,}",
            f"{row['lossless_bits'] // 8:,}",
            f"{row['distortion']:.3f}",
            f"{row['evaluations']:,.0f}",
            f"{row['seconds']:.1f} s",
            "yes" if row["exact"] else "no",
        ]
        for row in content["rows"]
    ]
    header = ["network", "parameters", "tensors", "ε", "bytes", "lossless", "distortion", "evaluations", "time", "exact"]
    return table(header, lines)
