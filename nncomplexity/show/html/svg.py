"""Charts as SVG, without matplotlib.

Colours are CSS classes, and the style sheet of the page defines them for light and dark mode.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from nncomplexity.show.plots.elements import NEUTRAL, Axis, Chart, Key, Line, Panel, place, spread, ticks
from nncomplexity.show.plots.lettering import breadth, shortened
from nncomplexity.show.plots.palette import LIGHT

PANEL = 210
"""Height of a panel's axes in pixels."""
LEFT, TOP, BETWEEN, BOTTOM = 50, 26, 42, 40
"""Space in pixels: left of the axes, above the first panel, between two panels, and below the last."""
ROOM_PER_LETTER = 7.6
"""In the widest common font."""
LONGEST_LABEL = 17
LINE_HEIGHT = 15


def svg(chart: Chart, width: int, *, name: str = "") -> str:
    """A picture of this width in pixels, with a legend inside. `name` becomes its data-chart.

    Every text from the data is escaped. data-axes has the positions of the axes, from which a script finds the data under the
    pointer.
    """
    labels = [line.label for panel in chart.panels for line in panel.lines if line.label]
    # A narrow picture has no room for labels beside the axes, and many labels would cover each other.
    labelled_ends = width >= 420 and len(labels) <= 9 and all(breadth(label) <= LONGEST_LABEL for label in labels)
    levels = [level.label for panel in chart.panels for level in panel.levels]
    written = [*labels, *levels] if labelled_ends else levels
    right = width - max(14.0, 14 + 1.1 * ROOM_PER_LETTER * max(map(breadth, written), default=0))
    parts, axes, top = [], [], TOP
    for panel in chart.panels:
        bottom = top + PANEL * panel.share
        parts.append(_panel(panel, chart.x, (LEFT, right), (top, bottom), labelled_ends=labelled_ends))
        axes.append([round(top), round(bottom)])
        top = round(bottom) + BETWEEN
    foot = float(top - BETWEEN)
    parts.append(_x_axis(chart.x, LEFT, right, foot, width))
    height = foot + BOTTOM
    entries = [*([] if labelled_ends else _entries(chart)), *((key.label, _sign(key)) for key in chart.keys)]
    legend, height = _legend(entries, width, height)
    parts.append(legend)
    place_ = {"left": LEFT, "right": round(right), "panels": axes}
    about = f' data-chart="{escape(name)}" data-axes="{escape(json.dumps(place_))}"' if name else ""
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(_summary(chart))}"{about}>{"".join(parts)}</svg>'
    )


def _summary(chart: Chart) -> str:
    said, unit = [], chart.panels[0].y.unit
    for panel in chart.panels:
        for line in panel.lines:
            if line.label and line.y:
                said.append(f"{line.label}: {line.y[0]:.4g} to {line.y[-1]:.4g}")
    # A screen reader reads all of this aloud, so it has only the first lines.
    return f"{chart.title}. {chart.panels[0].y.label}{unit and f', {unit}'}, by {chart.x.label}. {'; '.join(said[:8])}"


def _panel(panel: Panel, x: Axis, across: tuple[float, float], down: tuple[float, float], *, labelled_ends: bool) -> str:
    (left, right), (top, bottom) = across, down
    parts = [f'<text class="axis-label" x="{left - 44}" y="{top - 11:.0f}">{escape(_heading(panel))}</text>']
    for tick in ticks(panel.y, 5 if panel.share >= 1 else 3):
        y = _y(panel.y, tick.value, down)
        if top - 1 <= y <= bottom + 1:
            parts.append(f'<path class="grid" d="M{left} {y:.1f}H{right:.1f}"/>')
            parts.append(f'<text class="tick" x="{left - 7}" y="{y + 4:.1f}" text-anchor="end">{escape(tick.label)}</text>')
    parts.append(f'<path class="axis" d="M{left} {bottom:.1f}H{right:.1f}"/>')
    ends: list[tuple[float, str, int]] = []
    for level in panel.levels:
        y = _y(panel.y, level.value, down)
        parts.append(f'<path class="level {_colour(level.colour)}" d="M{left} {y:.1f}H{right:.1f}"/>')
    for line in panel.lines:
        parts.append(_line(line, x, panel, across, down))
        # Lines of one run, such as its accuracies, have one label, which is drawn once.
        if line.label and labelled_ends and line.label not in [label for _, label, _ in ends]:
            height = line.y[-1] if not line.base else (line.y[-1] + line.base[-1]) / 2
            ends.append((_y(panel.y, height, down), line.label, line.colour))
    ends += [(_y(panel.y, level.value, down), level.label, level.colour) for level in panel.levels]
    # Labels of lines that end close together are moved apart, so that they don't overlap.
    for (_, label, index), y in zip(ends, spread([end[0] for end in ends], LINE_HEIGHT, top + 2, bottom - 2), strict=True):
        parts.append(f'<text class="label {_colour(index)}" x="{right + 8:.1f}" y="{y + 4:.1f}">{escape(label)}</text>')
    return "".join(parts)


def _heading(panel: Panel) -> str:
    label = panel.y.heading
    # The title of the accuracies begins with the axis's own label.
    return f"{label}, {panel.title}" if panel.title and not panel.title.startswith("accuracy") else panel.title or label


def _x_axis(x: Axis, left: float, right: float, bottom: float, width: float) -> str:
    parts, last = [], -1e9
    for tick in ticks(x, 6):
        at = _x(x, tick.value, (left, right))
        half = ROOM_PER_LETTER * breadth(tick.label) / 2
        middle = min(at, width - half)  # a label at the end of the axis must stay within the picture
        if left - 1 <= at <= right + 1 and middle - half > last + 4:
            last = middle + half
            parts.append(f'<path class="axis" d="M{at:.1f} {bottom:.1f}v4"/>')
            parts.append(
                f'<text class="tick" x="{middle:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{escape(tick.label)}</text>'
            )
    parts.append(
        f'<text class="axis-label" x="{(left + right) / 2:.1f}" y="{bottom + 34:.1f}" text-anchor="middle">{escape(x.heading)}</text>'
    )
    return "".join(parts)


def _line(line: Line, x: Axis, panel: Panel, across: tuple[float, float], down: tuple[float, float]) -> str:
    points = [(_x(x, at, across), _y(panel.y, value, down)) for at, value in zip(line.x, line.y, strict=True)]
    shade = _colour(line.colour)
    ends = [
        (at, _y(panel.y, value - error, down), _y(panel.y, value + error, down))
        # `error` is empty for a line without a band.
        for (at, _), value, error in zip(points, line.y, line.error, strict=False)
    ]
    if line.base:
        lows = [_y(panel.y, value, down) for value in line.base]
        if panel.bars:
            # Less than half of the distance between bars, so that there is a gap.
            half = min(26.0, (across[1] - across[0]) / max(len(x.names), 1) * 0.31)
            bars = "".join(
                f'<path class="area {shade}" d="M{at - half:.1f} {high:.1f}H{at + half:.1f}V{low:.1f}H{at - half:.1f}Z"/>'
                for (at, high), low in zip(points, lows, strict=True)
            )
            return bars + "".join(
                f'<path class="whisker" d="M{at - 4:.1f} {low:.1f}h8m-4 0V{high:.1f}m-4 0h8"/>' for at, low, high in ends
            )
        back = [(at, low) for (at, _), low in zip(points, lows, strict=True)][::-1]
        return f'<path class="area {shade}" d="{_path(points + back)}Z"/>{_band(ends, "ink")}'
    parts = [_band(ends, shade)]
    if line.drawn and len(points) > 1:
        style = f"{line.dash}{' faint' if line.faint else ''}"
        parts.append(f'<path class="line {shade} {style}" d="{_path(points)}"/>')
    # A line of one point would be invisible, so the point gets a mark.
    marked = line.marked if line.marks or len(points) > 1 else replace(line, marks=True).marked
    for at, y, empty in marked:
        place_ = f'cx="{_x(x, at, across):.1f}" cy="{_y(panel.y, y, down):.1f}"'
        parts.append(f'<circle class="mark {shade}{" hollow" if empty else ""}" {place_} r="4"/>')
    return "".join(parts)


def _band(ends: Sequence[tuple[float, float, float]], shade: str) -> str:
    """The area between the lower and the upper ends. Empty if there are none."""
    corners = [(at, high) for at, _, high in ends] + [(at, low) for at, low, _ in reversed(ends)]
    return f'<path class="band {shade}" d="{_path(corners)}Z"/>' if corners else ""


def _entries(chart: Chart) -> list[tuple[str, str]]:
    """Each label with its sign, which is 20 pixels wide and has its baseline at 0, 0."""
    found: dict[str, str] = {}
    for line in (line for panel in chart.panels for line in panel.lines if line.label):
        shade = _colour(line.colour)
        sign = f'<path class="line {line.dash} {shade}" d="M0 -4h20"/>'
        if line.base:
            sign = f'<path class="area {shade}" d="M0 -9h20v10h-20Z"/>'
        elif not line.drawn:
            sign = f'<circle class="mark {shade}" cx="10" cy="-4" r="4"/>'
        found.setdefault(line.label, sign)
    return list(found.items())


def _sign(key: Key) -> str:
    if key.mark == "dotted":
        return '<path class="line dotted faint cn" d="M0 -4h20"/>'
    return f'<circle class="mark cn{" hollow" if key.mark == "hollow" else ""}" cx="10" cy="-4" r="4"/>'


def _legend(entries: Sequence[tuple[str, str]], width: int, top: float) -> tuple[str, float]:
    """Labels with their signs below the axes, from left to right, and the height at which they end."""
    if not entries:
        return "", top
    parts, x, y = [], 6.0, top + 14
    for label, sign in entries:
        shown = shortened(label, (width - 50) / ROOM_PER_LETTER)
        room = 40 + ROOM_PER_LETTER * breadth(shown)
        if x > 6 and x + room > width:
            x, y = 6.0, y + 19
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{sign}</g>')
        parts.append(f'<text class="tick" x="{x + 26:.1f}" y="{y:.1f}">{escape(shown)}</text>')
        x += room
    return "".join(parts), y + 10


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _x(axis: Axis, value: float, across: tuple[float, float]) -> float:
    # 6 pixels are left free at both ends, so that a mark there is not on the vertical axis.
    return across[0] + 6 + place(axis, value) * (across[1] - across[0] - 12)


def _y(axis: Axis, value: float, down: tuple[float, float]) -> float:
    # A value outside of the axis is drawn just beyond its end, so that it doesn't reach into another panel.
    share = min(max(place(axis, value), -0.05), 1.05)
    return down[1] - share * (down[1] - down[0])


def _colour(index: int) -> str:
    # page.css has a class for each colour of the palette.
    return "cn" if index == NEUTRAL else f"c{index % len(LIGHT)}"
