"""One panel of a chart by matplotlib: its axes, lines, bands, marks and levels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nncomplexity.show.plots.elements import NEUTRAL, Axis, Key, Level, Line, Panel, drawn_at, place, spread, ticks
from nncomplexity.show.plots.lettering import one_line, wrapped
from nncomplexity.show.plots.palette import INK, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_INCHES = 1.75
"""The height of a panel whose share is 1."""
FONT = 8
TITLE = 52
"""Letters in a line of a panel's title."""


def draw_panel(axes: "Axes", panel: Panel, x: Axis, *, labelled_ends: bool) -> dict[str, Any]:
    """Draw a panel on axes of matplotlib.

    Args:
        axes: where it is drawn.
        panel: what is drawn.
        x: the axis that panels of a figure share.
        labelled_ends: whether lines are named at their ends, not in a legend.

    Returns:
        What the legend shows, by label.
    """
    _frame(axes, panel, x)
    handles: dict[str, Any] = {}
    ends: list[tuple[float, str, int]] = []
    for line in panel.lines:
        handle = _draw_line(axes, line, x, bars=panel.bars)
        if line.label and line.label not in handles:
            handles[line.label] = handle
            height = line.y[-1] if not line.base else (line.y[-1] + line.base[-1]) / 2
            ends.append((place(panel.y, height), line.label, line.colour))
    for level in panel.levels:
        _draw_level(axes, level)
        ends.append((place(panel.y, level.value), level.label, level.colour))
    if not labelled_ends:
        # Levels are not in the legend, so they are named here in any case.
        ends = ends[len(ends) - len(panel.levels) :]
    if ends:
        # The height of a line of text, as a part of the panel's height.
        gap = FONT * 1.25 / (72 * PANEL_INCHES * panel.share)
        for at, (_, label, index) in zip(spread([end[0] for end in ends], gap, 0.02, 0.98), ends, strict=True):
            axes.annotate(
                one_line(label), (1, at), xycoords="axes fraction", xytext=(5, 0), textcoords="offset points", va="center", color=colour(index),
                fontsize=FONT - 1, annotation_clip=False,
            )  # fmt: skip
    return handles


def _frame(axes: "Axes", panel: Panel, x: Axis) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.35)
    axes.set_axisbelow(True)
    if panel.title:
        axes.set_title("\n".join(wrapped(one_line(panel.title), TITLE)), fontsize=FONT - 1, loc="left", color=INK, pad=4)
    axes.set_ylabel(one_line(panel.y.heading))
    for axis, which, most in ((x, "x", 5), (panel.y, "y", 5 if panel.share >= 1 else 3)):
        if axis.log:
            getattr(axes, f"set_{which}scale")("log")
        low, high = axis.limits or (0.0, 1.0)
        margin = (high / low) ** 0.02 if axis.log else (high - low) * 0.02
        # The limits of the vertical axis, and those of bars, include a margin already.
        if which == "x" and not axis.names:
            low, high = (low / margin, high * margin) if axis.log else (low - margin, high + margin)
        getattr(axes, f"set_{which}lim")(low, high)
        found = ticks(axis, most)
        getattr(axes, f"set_{which}ticks")([tick.value for tick in found], [tick.label for tick in found])
        # matplotlib would also label minor ticks on a logarithmic axis shorter than a decade.
        getattr(axes, f"{which}axis").set_minor_locator(_no_ticks())


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _draw_line(axes: "Axes", line: Line, x: Axis, *, bars: bool) -> Any:
    at, shade = drawn_at(x, line.x), colour(line.colour)
    if line.base and bars:
        height = [top - low for top, low in zip(line.y, line.base, strict=True)]
        if line.error:
            axes.errorbar(at, line.y, yerr=list(line.error), fmt="none", ecolor=INK, elinewidth=0.8, capsize=2, zorder=3)
        return axes.bar(at, height, bottom=list(line.base), width=0.62, color=shade, linewidth=0.4, edgecolor="white")
    if line.base:
        if line.error:
            _draw_band(axes, at, line, INK)
        return axes.fill_between(at, line.base, line.y, color=shade, alpha=0.9, linewidth=0.3, edgecolor="white")
    if line.error:
        _draw_band(axes, at, line, shade)
    width = 0.0 if not line.drawn else 1.0 if line.faint else 1.4
    dashes = line.dash if line.drawn else "none"
    (handle,) = axes.plot(at, line.y, color=shade, linestyle=dashes, linewidth=width, alpha=0.75 if line.faint else 1.0)
    if marked := line.marked:
        fills = ["white" if hollow else shade for _, _, hollow in marked]
        places = drawn_at(x, [one for one, _, _ in marked])
        axes.scatter(places, [y for _, y, _ in marked], s=14, facecolors=fills, edgecolors=shade, linewidths=1.0, zorder=3)
    return handle if line.drawn else axes.plot([], [], color=shade, linewidth=0, marker="o", markersize=3.5)[0]


def _draw_band(axes: "Axes", at: Sequence[float], line: Line, shade: str) -> None:
    low = [value - error for value, error in zip(line.y, line.error, strict=True)]
    high = [value + error for value, error in zip(line.y, line.error, strict=True)]
    axes.fill_between(at, low, high, color=shade, alpha=0.2, linewidth=0, zorder=2 if line.base else None)


def sign(key: Key) -> Any:
    """The sign of an entry of the legend that applies to all colours."""
    from matplotlib.lines import Line2D

    grey = colour(NEUTRAL)
    if key.mark in ("filled", "hollow"):
        face = grey if key.mark == "filled" else "white"
        return Line2D([], [], linewidth=0, marker="o", markersize=3.8, markerfacecolor=face, markeredgecolor=grey)
    return Line2D([], [], color=grey, linestyle=":", linewidth=1.0)


def _draw_level(axes: "Axes", level: Level) -> None:
    axes.axhline(level.value, color=colour(level.colour), linestyle=(0, (4, 3)), linewidth=0.9)
