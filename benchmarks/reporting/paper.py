"""Tables of the measurements about the paper: the authors' departures, and the times of the penalty and of a training epoch."""

from collections.abc import Sequence
from statistics import geometric_mean

from benchmarks.cases.record import Content
from benchmarks.reporting.markdown import table
from nncomplexity.bounds import rounded_up

TEXT = "text"
"""The variant with which the others are compared."""


def departures(contents: Sequence[Content]) -> str:
    """Bytes of each variant of Algorithm 1 relative to the text's, by case and ε, and their geometric mean."""
    rows = [row for content in contents for row in content["rows"]]
    columns = list(dict.fromkeys((row["case"], row["eps"]) for row in rows))
    readings = list(dict.fromkeys(row["departure"] for row in rows))
    found = {(row["departure"], row["case"], row["eps"]): row for row in rows}
    lines = []
    for reading in readings:
        if reading == TEXT:
            cells = [f"{found[reading, case, eps]['bytes']:,} bytes" for case, eps in columns]
            lines.append(["as the text says", *cells, "1"])
            continue
        over = [found[reading, case, eps]["over"] for case, eps in columns]
        known = [value for value in over if value is not None]
        lines.append([reading, *("–" if value is None else f"{value:.2f}" for value in over), f"{geometric_mean(known):.2f}"])
    return table(["", *(f"{case}, ε = {eps:g}" for case, eps in columns), "geometric mean"], lines)


def penalty(content: Content) -> str:
    """Milliseconds of the spectral-entropy penalty with its gradient, and the time of plain autograd relative to it."""
    lines = []
    for row in content["results"]:
        lines.append(
            [
                row["workload"].replace(" x ", " × "),
                str(row["threads"]),
                _milliseconds(row["penalty"]["seconds"]),
                f"{row['ratio_to_thin_svd']:.2f}",
                f"{row['ratio_to_full_svd']:.2f}",
                f"{row['penalty']['gradient_error']:.0e}",
                f"{row['thin_svd']['gradient_error']:.0e}",
            ]
        )
    header = ["matrices", "threads", "penalty", "thin SVD takes", "full SVD takes", "penalty's gradient error", "thin SVD's"]
    return table(header, lines)


def epoch(content: Content) -> str:
    """Milliseconds of a training epoch, and the share of each part."""
    lines = []
    for row in content["results"]:
        seconds = row["seconds_per_epoch"]
        lines.append(
            [
                row["operation"],
                str(row["threads"]),
                *(_milliseconds(value) for value in seconds.values()),
                ", ".join(f"{part} {share:.0%}" for part, share in row["part_shares"].items()),
            ]
        )
    header = ["task", "threads", *content["results"][0]["seconds_per_epoch"], "shares of the first"]
    return table(header, lines)


def bounds(content: Content) -> str:
    """Bytes, errors of the decoded weights and their bound, by case, budget and ε."""
    lines = []
    for row in content["rows"]:
        lines.append(
            [
                row["case"],
                f"{row['budget']:,}",
                f"{row['eps']:g}",
                f"{row['bytes']:,}",
                f"{row['train_error']:.1%}",
                f"{row['test_error']:.1%}",
                rounded_up(row["bound"], 3) + (" (vacuous)" if row["vacuous"] else ""),
                f"{row['bytes_needed']:,}",
                f"{row['cpu_seconds']:.0f} s",
            ]
        )
    header = [
        "network",
        "budget",
        "ε",
        "bytes",
        "training error",
        "test error",
        "bound",
        "not vacuous up to, bytes",
        "processor time",
    ]
    return table(header, lines)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f} ms"
