"""Draws panels as a picture, with the code of `nncomplexity plot`."""

from collections.abc import Sequence
from pathlib import Path

from examples.grokking.curves import Curve
from examples.grokking.panels import Panel
from nncomplexity.show import save
from nncomplexity.show.plots.elements import LOW, Axis, Chart, Level, Line, heights, steps_axis, values_axis
from nncomplexity.show.plots.elements import Panel as ChartPanel

LEAST_LOGARITHMIC = 0.005


def draw(panels: Sequence[Panel], caption: str, path: Path, *, made_by: str = "") -> None:
    """Write the panels, one below the other over one axis of epochs or ε, to a file. Its ending decides the format."""
    save(chart_of(panels, caption), path, made_by=made_by)


def chart_of(panels: Sequence[Panel], caption: str) -> Chart:
    """The panels as a chart. The curves of a right axis become a low panel of their own."""
    found: list[ChartPanel] = []
    notes: list[str] = []
    for panel in panels:
        lines = [_line(curve, index) for index, curve in enumerate(panel.curves)]
        fits = [(curve, index) for index, curve in enumerate(panel.fits) if curve]
        quantity = panel.unit or panel.y_label
        notes += [f"Dotted, {panel.curves[index].label}: {quantity} = {curve.label}" for curve, index in fits]
        lines += [_line(curve, index, label="", dash="dotted", faint=True) for curve, index in fits]
        levels = tuple(Level(value, name) for value, name in panel.levels)
        found.append(ChartPanel(_axis(panel, lines, levels), tuple(lines), levels, title=panel.title))
        if panel.right:
            right = [_line(curve, index) for index, curve in enumerate(panel.right)]
            found.append(ChartPanel(Axis(panel.right_label, limits=(-0.03, 1.03)), tuple(right), share=LOW))
    if any(line.error for panel in found for line in panel.lines):
        notes.append("Mean over seeds; the band is ± one standard error.")
    x = steps_axis((line for panel in found for line in panel.lines), panels[0].x_label)
    return Chart("grokking", caption, x, tuple(found), tuple(notes))


def _axis(panel: Panel, lines: Sequence[Line], levels: Sequence[Level]) -> Axis:
    if panel.log_y:
        return Axis(panel.y_label, log=True, limits=(LEAST_LOGARITHMIC, 1.25 * max(heights(lines, levels))))
    return values_axis(panel.y_label, heights(lines, levels), log=False, unit=panel.unit)


def _line(curve: Curve, index: int, *, label: str | None = None, dash: str = "solid", faint: bool = False) -> Line:
    error = curve.error if any(curve.error) else ()
    label = curve.label if label is None else label
    return Line(label, curve.x, curve.mean, error=error, colour=index, dash=dash, faint=faint)
