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

PANEL_INCHES = (4.6, 3.4)


def draw(panels: Sequence[Panel], caption: str, path: Path) -> None:
    """Write the panels side by side, two in a row, to a file whose ending says its format."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows + 0.4), layout="constrained")
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
    if not panel.log_y:
        axes.set_ylim(bottom=0)
    if panel.right:
        right = axes.twinx()
        right.set_ylabel(panel.right_label)
        right.set_ylim(-0.05, 1.05)
        first = len(panel.curves)
        handles += [_draw_curve(right, curve, f"C{first + index}", "--") for index, curve in enumerate(panel.right)]
    axes.legend(handles=handles, fontsize="x-small")


def _draw_curve(axes: Axes, curve: Curve, color: str, style: str):  # type: ignore[no-untyped-def]
    """The line of the means, with their standard error shaded."""
    (line,) = axes.plot(curve.x, curve.mean, color=color, linestyle=style, marker=".", markersize=3, label=curve.label)
    if any(curve.error):
        low = [mean - error for mean, error in zip(curve.mean, curve.error, strict=True)]
        high = [mean + error for mean, error in zip(curve.mean, curve.error, strict=True)]
        axes.fill_between(curve.x, low, high, color=color, alpha=0.25, linewidth=0)
    return line
