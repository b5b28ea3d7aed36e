"""Tables that compare runs: the networks, and then a row for each ε and run."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from nncomplexity.cli.table import WIDTH, page_of, text_table
from nncomplexity.words import printable

if TYPE_CHECKING:
    from rich.table import Table

    from nncomplexity.show import Side

_MOST_METRICS = 3
"""The largest number of metrics in the table, which has only 80 columns."""


def compared(sides: Sequence[Side], eps: Sequence[float], differing: dict[str, list[str]], *, width: int = WIDTH) -> str:
    """The networks with their losses and metrics, their sizes at each ε with the ratio to the first, and settings that differ.

    Args:
        sides: the runs. The others are compared with the first.
        eps: the ε, from large to small.
        differing: the settings that are not the same for all runs, with their values.
        width: the number of columns of the page.
    """
    sizes = text_table("ε", "run", "searches", "loss after", "bytes", "spread", "of first", left=("run",))
    lossless = False
    for one in eps:
        first = sides[0].size(one)
        for side in sides:
            size = side.size(one)
            if size is None:
                continue
            lossless |= not size.within
            ratio, error = size.relative_to(first) if first and side is not sides[0] else (1.0, 0.0)
            sizes.add_row(
                f"{one:g}" if side is sides[0] or first is None else "",
                printable(side.label),
                str(size.searches),
                _mean([point.coarse_loss for point in side.points(one)]),
                f"{size.bits / 8:,.0f}{'' if size.within else ' *'}",
                f"± {100 * size.sd:.1f} %" if size.searches > 1 else "-",
                "-" if first is None or side is sides[0] else f"{ratio:.3g}" + (f" ± {error:.2g}" if error else ""),
            )
    parts: list[str | Table] = [_networks(sides), "", sizes]
    parts += ["* nothing within this ε was smaller than the lossless file for some search"] if lossless else []
    if any(size.searches > 1 for side in sides for one in eps if (size := side.size(one))):
        parts += [
            "",
            "Bytes are geometric means over searches; spread is one standard deviation of ln(bits); ± is a standard error.",
        ]
    parts += [
        f"Different settings: {name} is {', '.join(map(printable, values))}, in this order." for name, values in differing.items()
    ]
    return page_of(parts, width)


def _networks(sides: Sequence[Side]) -> Table:
    names = [name for side in sides for network in side.seeds for name in network.metrics]
    metrics = list(dict.fromkeys(names))[:_MOST_METRICS]
    table = text_table("run", "step", "parameters", "loss", *map(printable, metrics), left=("run",))
    for side in sides:
        network = side.seeds[0]
        table.add_row(
            printable(side.label),
            "-" if network.step is None else f"{network.step:,g}",
            "-" if network.parameters is None else f"{network.parameters:,}",
            _mean([one.loss for one in side.seeds]),
            *(_mean([one.metrics.get(name) for one in side.seeds]) for name in metrics),
        )
    return table


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):.4g}" if known else "-"
