"""The table of what bit allocation takes on a sentence encoder of 22.7 million parameters."""

from benchmarks.cases.record import Content
from benchmarks.reporting.markdown import table


def encoder_table(content: Content) -> str:
    """A row for each network, ε and method; and what the loss and the network alone take."""
    lines = []
    for row in content["rows"]:
        plain = [one for one in content["rows"] if (one["case"], one["eps"], one["method"]) == (row["case"], row["eps"], "uniform")]
        lines.append(
            [
                row["case"],
                f"{row['eps']:g}",
                f"`{row['method']}`" if row["method"] != "uniform" else "uniform",
                f"{row['bits']:,}",
                f"{row['bits'] / plain[0]['bits']:.2f}" if plain else "–",
                f"{row['evaluations']:.0f}",
                f"{row['seconds']:.0f} s",
                f"{row['cpu_seconds']:.0f} s",
                f"{row['loss_seconds']:.2f} s",
                f"{row['peak_bytes'] / 2**20:,.0f} MiB",
                f"{(row['peak_bytes'] - row['alone_bytes']) / 2**20:,.0f} MiB",
                f"{limit(row) / 2**20:,.0f} MiB",
            ]
        )
    head = ["network", "ε", "method", "bits", "ratio", "evaluations", "time", "processor time", "one loss"]
    return table([*head, "peak of the process", "more than the loss alone", "2.5 checkpoints + 1 GiB"], lines)


def limit(row: Content) -> float:
    """2.5 times the checkpoint plus 1 GiB, in bytes."""
    return 2.5 * float(row["checkpoint_bytes"]) + 2**30
