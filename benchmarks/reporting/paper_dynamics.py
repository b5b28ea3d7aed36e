"""The tables of a paper-preset run under the function distortion: its sizes over epochs, and peak / end at three efforts."""

from collections.abc import Sequence
from statistics import geometric_mean

from benchmarks.cases.record import Content, Row
from benchmarks.reporting.markdown import table

EFFORTS = {"quarter": "a quarter", "default": "default", "twice": "twice"}


def peak_of(rows: Sequence[Row]) -> int:
    """The epoch with the largest size in the scan."""
    epoch: int = max((row for row in rows if row["effort"] == "scan"), key=lambda row: row["bits"])["epoch"]
    return epoch


def scan(content: Content) -> str:
    """Sizes over the epochs of the scan, with the run's losses and its accuracy on the test equations."""
    lines = []
    for row in (row for row in content["rows"] if row["effort"] == "scan"):
        about = content["cases"][str(row["epoch"])]
        losses = [f"{about[name]:.4f}" for name in ("train_loss", "test_loss")]
        lines.append([str(row["epoch"]), *losses, f"{about['test_accuracy']:.1%}", f"{row['bits']:,}"])
    return table(["epoch", "training loss", "test loss", "test accuracy", "bits at a quarter of the effort"], lines)


def efforts(content: Content) -> str:
    """For each effort and seed the bits at the peak and at the end, and peak / end; for each effort also the geometric means."""
    rows = content["rows"]
    peak, lines = peak_of(rows), []
    for effort, name in EFFORTS.items():
        bits = {(row["epoch"] == peak, row["seed"]): row["bits"] for row in rows if row["effort"] == effort}
        seeds = sorted(seed for at_peak, seed in bits if at_peak and (False, seed) in bits)
        pairs = [(bits[True, seed], bits[False, seed]) for seed in seeds]
        lines += [[name, str(seed), *_cells(*pair)] for seed, pair in zip(seeds, pairs, strict=True)]
        if len(pairs) > 1:
            lines.append([name, "mean", *_cells(*(geometric_mean(some) for some in zip(*pairs, strict=True)))])
    return table(["effort", "search seed", f"epoch {peak}, bits", "end, bits", "peak / end"], lines)


def _cells(peak: float, end: float) -> list[str]:
    return [f"{peak:,.0f}", f"{end:,.0f}", f"{peak / end:.1f}"]
