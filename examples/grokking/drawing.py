"""Panels as a picture."""

from collections.abc import Sequence
from pathlib import Path

from examples.grokking.curves import Curve
from examples.grokking.panels import Panel
from nncomplexity.errors import InputError

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError:
    raise InputError("matplotlib: the figures need it; pip install 'nncomplexity[plots]'") from None

LEAST_LOGARITHMIC = 0.005
PANEL_INCHES = (4.6, 3.4)
MOST_INSIDE = 4
"""Entries of a legend that still fits beside the curves."""
LEGEND_LINE_INCHES = 0.17


def draw(panels: Sequence[Panel], caption: str, path: Path) -> None:
    """Write the panels side by side, two in a row, to a file whose ending says its format."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    height = max(PANEL_INCHES[1] + LEGEND_LINE_INCHES * -(-_outside(panel) // 2) for panel in panels)
    figure = Figure(figsize=(PANEL_INCHES[0] * columns, height * rows + 0.4), layout="constrained")
    figure.suptitle(caption, fontsize="medium" if columns == 1 else "large")
    for place, panel in enumerate(panels, start=1):
        _draw_panel(figure.add_subplot(rows, columns, place), panel)
    figure.savefig(path, dpi=110)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize="medium")
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    handles = [_draw_curve(axes, curve, f"C{index}", "-") for index, curve in enumerate(panel.curves)]
    handles += [_draw_curve(axes, curve, f"C{index}", ":") for index, curve in enumerate(panel.fits)]
    for level, name in panel.levels:
        handles.append(axes.axhline(level, color="grey", linestyle=":", label=name))
    axes.set_ylim(bottom=LEAST_LOGARITHMIC if panel.log_y else 0)
    if panel.right:
        right = axes.twinx()
        right.set_ylabel(panel.right_label)
        right.set_ylim(-0.05, 1.05)
        first = len(panel.curves)
        handles += [_draw_curve(right, curve, f"C{first + index}", "--") for index, curve in enumerate(panel.right)]
    if _outside(panel):
        axes.legend(handles=handles, fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    else:
        axes.legend(handles=handles, fontsize="x-small")
    _tick_at_values(axes, panel)


def _outside(panel: Panel) -> int:
    """How many entries of the legend stand below the panel, since they would hide its curves: all or none."""
    entries = len(panel.curves) + len(panel.fits) + len(panel.levels) + len(panel.right)
    return entries if entries > MOST_INSIDE else 0


def _tick_at_values(axes: Axes, panel: Panel) -> None:
    """Ticks at the values themselves where a logarithmic axis would have few decades to mark."""
    values = sorted({x for curve in panel.curves for x in curve.x})
    if values[-1] < 100 * values[0]:
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()


def _draw_curve(axes: Axes, curve: Curve, color: str, style: str):  # type: ignore[no-untyped-def]
    """The line of the means, with their standard error shaded."""
    (line,) = axes.plot(curve.x, curve.mean, color=color, linestyle=style, marker=".", markersize=3, label=curve.label)
    if any(curve.error):
        low = [mean - error for mean, error in zip(curve.mean, curve.error, strict=True)]
        high = [mean + error for mean, error in zip(curve.mean, curve.error, strict=True)]
        axes.fill_between(curve.x, low, high, color=color, alpha=0.25, linewidth=0)
    return line
