"""Charts as pictures by matplotlib, which is loaded when the first picture is drawn."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nncomplexity.errors import InputError
from nncomplexity.file import save_bytes
from nncomplexity.show.plots.elements import Axis, Chart, Tick, place, ticks
from nncomplexity.show.plots.fonts import fonts_for, missing_sentence
from nncomplexity.show.plots.lettering import breadth, one_line, shortened, wrapped
from nncomplexity.show.plots.palette import GREY, INK
from nncomplexity.show.plots.panels import FONT, PANEL_INCHES, draw_panel, sign
from nncomplexity.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
WIDTH_INCHES = 3.5
"""The width of one column of a paper, in inches."""
LONGEST_LABEL, MOST_LABELS = 16, 7
"""The largest length and number of labels next to the curves. Longer or more labels are in a legend below."""
NOTE = 70
"""Letters in a line of the notes."""
SMALL = FONT - 1.5
"""The size of the legend's and the notes' letters, in points."""
HEADING = 42
"""Letters in a line of the title."""
LONGEST_ENTRY = 58
"""Letters of an entry of the legend."""
_STYLE: dict[Any, Any] = {
    "font.size": FONT,
    "axes.linewidth": 0.6,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.hashsalt": "nncomplexity",  # otherwise the names of an SVG's parts are random, and the same chart gives other bytes
    "svg.fonttype": "none",  # text stays text, which can be searched and needs no font here
    "text.parse_math": False,  # a dollar sign in a user's title or name is not mathematics
}


def draw(chart: Chart, *, title: str | None = None) -> "Figure":
    """The chart as a matplotlib figure, one column wide. `title` replaces the default title; "" leaves it out.

    Raises:
        InputError: matplotlib is missing.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("matplotlib: figures need this package; pip install 'nncomplexity[plots]'") from None
    heading = chart.title if title is None else title
    fonts = fonts_for(_texts(chart, heading))
    with rc_context({**_STYLE, "font.family": list(fonts.families)}), _quiet():
        heights = [panel.share for panel in chart.panels]
        # 0.75 inches are for the title and the labels of the horizontal axis.
        figure = Figure(figsize=(WIDTH_INCHES, PANEL_INCHES * sum(heights) + 0.75), layout="constrained")
        # matplotlib's own margins are for larger figures.
        figure.get_layout_engine().set(h_pad=0.03, w_pad=0.03, hspace=0.04)  # type: ignore[union-attr, call-arg]
        if heading:
            figure.suptitle("\n".join(wrapped(one_line(heading), HEADING)), fontsize=FONT + 1, fontweight="bold", x=0.02, ha="left")
        grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
        labelled_ends = _labels_fit(chart)
        handles: dict[str, Any] = {}
        inches = _across(chart, labelled_ends=labelled_ends)
        for axes, panel in zip(grid[:, 0], chart.panels, strict=True):
            found = draw_panel(axes, panel, chart.x, labelled_ends=labelled_ends)
            # `ticks` limits the number of round values, but a tick at each given value may leave its label no room.
            if chart.x.names or chart.x.marks:
                shown = with_room(ticks(chart.x), chart.x, inches)
                axes.set_xticks([tick.value for tick in shown], [tick.label for tick in shown])
            handles |= {name: handle for name, handle in found.items() if name not in handles}
        grid[-1, 0].set_xlabel(chart.x.heading)
        signs = {key.label: sign(key) for key in chart.keys}
        _add_below(figure, signs if labelled_ends else handles | signs, chart.notes)
    return figure


def save(chart: Chart, path: str | os.PathLike[str], *, title: str | None = None, made_by: str = "") -> str | None:
    """Write the chart as PNG, SVG or PDF, according to the name's ending, completely or not at all.

    Its metadata say which version drew it, and which versions measured (`made_by`). Returns a sentence on characters that no
    font of the machine has, or None. For an SVG it is None: its texts are stored as text, and the reader's fonts are used.

    Raises:
        InputError: the ending is another one, the file can't be written, or matplotlib is missing.
    """
    form = picture_format(path)
    figure = draw(chart, title=title)
    content = io.BytesIO()
    from matplotlib import rc_context

    about = ", ".join(part for part in (made_by and f"measured by {made_by}", f"drawn by nncomplexity {__version__}") if part)
    # No dates, so that the same chart gives the same bytes.
    metadata: dict[str, Any] = {
        "svg": {"Date": None, "Creator": None, "Description": about},
        "pdf": {"CreationDate": None, "Subject": about},
        "png": {"Software": None, "Description": about},
    }[form]
    fonts = fonts_for(_texts(chart, chart.title if title is None else title))
    # The settings are needed a second time, because matplotlib reads those of the file format when it saves.
    with rc_context({**_STYLE, "pdf.fonttype": 3 if fonts.postscript else 42}), _quiet():
        figure.savefig(content, format=form, dpi=220, metadata=metadata)
    save_bytes(path, content.getvalue())
    return f"{path}: {missing_sentence(fonts.missing)}" if fonts.missing and form != "svg" else None


def _texts(chart: Chart, heading: str) -> Iterator[str]:
    """All texts from the data or the user."""
    yield from (heading, chart.x.label, *chart.x.names, *chart.notes)
    for panel in chart.panels:
        yield from (panel.title, panel.y.label, *(line.label for line in panel.lines), *(level.label for level in panel.levels))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide matplotlib's warnings about missing characters and missing bold fonts.

    `save` reports missing characters in one sentence.
    """
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Glyph \d+ ")
            warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support")
            yield
    finally:
        log.setLevel(level)


def picture_format(path: str | os.PathLike[str]) -> str:
    """The format that a file's ending names. Raises InputError if it is not png, svg or pdf."""
    form = Path(path).suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise InputError(f"{path}: expected a name that ends in .png, .svg or .pdf; choose such a name")
    return form


def with_room(found: Sequence[Tick], axis: Axis, inches: float) -> list[Tick]:
    """The ticks whose labels don't overlap on an axis of this length, from left to right."""
    kept: list[Tick] = []
    last = -1.0
    for tick in found:
        at, half = place(axis, tick.value) * inches, _length(tick.label) / 2
        if at - half > last + _length("0"):
            kept.append(tick)
            last = at + half
    return kept


def _across(chart: Chart, *, labelled_ends: bool) -> float:
    """The approximate length of the horizontal axis."""
    levels = [level.label for panel in chart.panels for level in panel.levels]
    labels = [*levels, *(line.label for panel in chart.panels for line in panel.lines if labelled_ends)]
    # 0.55 inches are for the labels of the vertical axis.
    return WIDTH_INCHES - 0.55 - max((_length(label) for label in labels), default=0.0)


def _length(text: str) -> float:
    """The approximate width in inches. A digit of the usual font is 0.64 of its size."""
    return 0.64 * FONT / 72 * breadth(text)


def _labels_fit(chart: Chart) -> bool:
    for panel in chart.panels:
        labels = [line.label for line in panel.lines if line.label] + [level.label for level in panel.levels]
        if len(labels) > MOST_LABELS * panel.share or any(breadth(label) > LONGEST_LABEL for label in labels):
            return False
    return True


def _add_below(figure: "Figure", handles: dict[str, Any], notes: Sequence[str]) -> None:
    """The legend and the notes, in small print below the axes. The figure becomes higher for their lines."""
    widest = max(map(breadth, handles), default=0)
    # The columns of the legend must fit beside each other into the width of the figure.
    columns = 1 if widest > 30 else 2 if widest > 11 else 4
    rows = -(-len(handles) // columns)
    lines = [part for note in notes for part in wrapped(one_line(note), NOTE)]
    # In inches; a point is 1/72 inch. The factors are the heights of a line of the legend and of a note, relative to the font.
    legend, text = rows * SMALL * 1.42 / 72, len(lines) * FONT * 1.15 / 72
    below = legend + text + (0.1 if legend else 0.0) + (0.08 if text else 0.0)
    if not below:
        return
    whole = figure.get_figheight() + below
    figure.set_figheight(whole)
    figure.get_layout_engine().set(rect=(0, below / whole, 1, 1 - below / whole))  # type: ignore[union-attr, call-arg]
    if handles:
        names = [shortened(one_line(name), LONGEST_ENTRY) for name in handles]
        figure.legend(
            list(handles.values()), names, loc="lower left", bbox_to_anchor=(0.01, (text + 0.06) / whole), ncols=columns, frameon=False,
            fontsize=SMALL, handlelength=2.0, columnspacing=1.2, labelspacing=0.35, borderpad=0,
        )  # fmt: skip
    figure.text(0.02, 0.04 / whole, "\n".join(lines), fontsize=SMALL, color="#4B5563", va="bottom", linespacing=1.25)
