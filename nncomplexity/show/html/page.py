"""A page of results in one file. It needs no network, and can be read without scripts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files

from nncomplexity.errors import InputError
from nncomplexity.show.html.controls import inert
from nncomplexity.show.html.data import embedded, page_data
from nncomplexity.show.html.sections import (
    bound_section,
    failures,
    figure,
    key_strip,
    layers_table,
    least_of_each,
    provenance,
)
from nncomplexity.show.html.summary import first_eps, first_network, name_of, page_title, verdict
from nncomplexity.show.plots.bounds import bounds
from nncomplexity.show.plots.description_length import description_length
from nncomplexity.show.plots.dynamics import dynamics
from nncomplexity.show.plots.elements import Chart, Panel
from nncomplexity.show.plots.layers import layers
from nncomplexity.show.plots.measures import other_measures
from nncomplexity.show.plots.rate_distortion import rate_distortion
from nncomplexity.show.plots.results import Results
from nncomplexity.show.plots.runs import runs_note, runs_of, steps_of, trained

MOST_PICTURES = 60
"""The largest number of pictures of layers on a page. If there would be more, only the first ε has one for each run."""


def page(results: Results, *, title: str | None = None) -> str:
    """The page as HTML. Every text from the data is escaped.

    Args:
        results: the result of `nncomplexity.show.plots.read_results`.
        title: replaces the default title.

    Returns:
        A whole HTML page, which needs no other file.
    """
    eps = first_eps(results)
    network = first_network(results, eps)
    number = next(index for index, one in enumerate(results.networks) if one is network)
    charts: dict[str, Chart] = {}
    body = "".join(_sections(results, eps, charts))
    heading = title or page_title(results)
    data = embedded(page_data(results, charts, eps=eps, network=number))
    return inert(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{escape(heading)}</title><style>{_file('page.css')}</style>"
        '<script>document.documentElement.classList.add("js")</script></head><body>'
        f'<header><h1>{escape(heading)}</h1><p class="verdict">{escape(verdict(results, eps))}</p></header>'
        f"{_controls(results, eps, number)}<main>{body}</main>"
        f'<script type="application/json" id="data">{data}</script><script>{_file("page.js")}</script></body></html>\n'
    )


def _sections(results: Results, eps: float, charts: dict[str, Chart]) -> Iterator[str]:
    network = first_network(results, eps)
    point = network.at(eps)
    assert point is not None
    yield key_strip(name_of(network, results), eps, network, point)
    if trained(results):
        yield _dynamics(results, eps, charts)
    yield _rate_distortion(results, charts)
    yield _layers(results, eps, charts)
    yield bound_section(results, point, _optional(lambda: bounds(results), "bounds", charts))
    if any(point.mdl_bits is not None for one in results.networks for point in one.points):
        yield _description_length(results, charts)
    yield _measures(results, charts)
    yield failures(results) if results.failures or results.cut_lines else ""
    yield provenance(results)


def _dynamics(results: Results, eps: float, charts: dict[str, Chart]) -> str:
    stepped = {point.eps for network in results.networks if network.step is not None for point in network.points}
    each = [(one, dynamics(results, eps=[one])) for one in results.eps_over_training if one in stepped]
    shown = []
    for index, (one, chart) in enumerate(_with_shared_limits(each)):
        charts[f"dynamics-{index}"] = chart
        caption = f"The size of the smallest file found within ε = {one:g}" + (
            ", and below it the accuracy of the original weights." if len(chart.panels) > 1 else "."
        )
        if results.calibrations and chart.panels[0].levels:
            caption += f" Dashed: {', '.join(level.label for level in chart.panels[0].levels)}, the calibrations."
        caption = " ".join((caption, *chart.notes))
        shown.append(figure(chart, f"dynamics-{index}", caption, chosen=one == eps, eps=one))
    return _section("dynamics", "Complexity over training", "".join(shown))


def _with_shared_limits(each: Sequence[tuple[float, Chart]]) -> list[tuple[float, Chart]]:
    """The charts with the same vertical axis for all ε, so that the slider moves only the curve."""
    firsts = [chart.panels[0].y for _, chart in each]
    limits = [axis.limits or (0.0, 1.0) for axis in firsts]
    log = any(axis.log for axis in firsts)
    # A logarithmic axis has no place for 0, so only limits above 0 count.
    low = min((low for low, _ in limits if low > 0), default=1.0) if log else min(low for low, _ in limits)
    high = max(high for _, high in limits)
    found = []
    for eps, chart in each:
        axis = replace(chart.panels[0].y, limits=(low, high), log=log)
        panels: tuple[Panel, ...] = (replace(chart.panels[0], y=axis), *chart.panels[1:])
        found.append((eps, replace(chart, panels=panels)))
    return found


def _rate_distortion(results: Results, charts: dict[str, Chart]) -> str:
    try:
        chart = rate_distortion(results)
    except InputError:
        return ""
    if not any(len(line.x) > 1 for panel in chart.panels for line in panel.lines):
        return ""
    charts["rate-distortion"] = chart
    caption = "Each mark is a file, with its size and the distance of its loss from the original's."
    if any(line.drawn and not line.faint and len(line.x) > 1 for line in chart.panels[0].lines):
        caption += " The line is the lower convex hull. Its pieces would be straight on linear axes."
    if any(line.faint for line in chart.panels[0].lines):
        caption += " The dotted line is the better of two fits."
    caption = " ".join((caption, *(note if note.endswith(".") else f"{note}." for note in chart.notes)))
    which = "At the end of training" if trained(results) else "More detail takes more bytes"
    return _section("rate-distortion", "Rate and distortion", f"<p>{which}.</p>" + figure(chart, "rate-distortion", caption))


def _layers(results: Results, eps: float, charts: dict[str, Chart]) -> str:
    network = first_network(results, eps)
    runs = runs_of(results)
    own = next(run.label for run in runs if network in run.networks)
    wanted = [(run.label, one) for run in runs for one in (results.eps_over_training if trained(results) else (eps,))]
    # Each picture is in the page twice, for wide and narrow screens. Many runs at many ε would make a page of megabytes.
    if len(wanted) > MOST_PICTURES:
        wanted = [(run, one) for run, one in wanted if one == eps]
    pictures: list[str] = []
    for run, one in wanted:
        try:
            chart = layers(results, eps=[one] if trained(results) else (), run=run)
        except InputError:
            continue
        name = f"layers-{len(pictures)}"
        charts[name] = chart
        caption = f"Size by layer of {run} within ε = {one:g}." if trained(results) else "Size by layer at each ε."
        # The chart's note on ε would repeat the caption.
        caption = " ".join((caption, *(note for note in chart.notes if not note.startswith("At ε"))))
        if trained(results):
            chosen = (run, one) == (own, eps)
            pictures.append(figure(chart, name, caption, chosen=chosen, eps=one, run=run, alternative=not chosen))
        else:
            pictures.append(
                figure(chart, name, caption, run=run if len(runs) > 1 else None, chosen=run == own, alternative=run != own)
            )
    point = network.at(eps)
    table = layers_table(point, name_of(network, results), eps) if point is not None and point.layers else ""
    return _section("layers", "Where the bits are", "".join(pictures) + table) if pictures or table else ""


def _description_length(results: Results, charts: dict[str, Chart]) -> str:
    text = (
        "<p>Bits of the model, plus bits of the training labels given the model: bits + n·loss/ln 2. The ε with the smallest sum is "
        "the choice of minimum description length.</p>"
    )
    return _section(
        "description-length",
        "Description length",
        text
        + _optional(lambda: description_length(results), "description-length", charts)
        + least_of_each(results, lambda point: point.mdl_bits, lambda bits: f"{bits / 8:,.0f} bytes"),
    )


def _measures(results: Results, charts: dict[str, Chart]) -> str:
    """The other measures over training, with a panel for each."""
    panels = other_measures(results) if trained(results) else []
    if not panels:
        return ""
    x = steps_of(panels, results.step_name)
    charts["measures"] = Chart("measures", "Other measures", x, tuple(panels), stepped=True)
    caption = " ".join(("All are of the original weights.", *runs_note(results, mean=False)))
    return _section("measures", "Other measures over training", figure(charts["measures"], "measures", caption))


def _optional(make: Callable[[], Chart], name: str, charts: dict[str, Chart]) -> str:
    try:
        chart = make()
    except InputError:
        return ""
    charts[name] = chart
    return figure(chart, name, " ".join(chart.notes))


def _section(name: str, heading: str, content: str) -> str:
    return f'<section id="{name}"><h2>{heading}</h2>{content}</section>'


def _controls(results: Results, eps: float, number: int) -> str:
    index = results.eps.index(eps)
    several = "" if len(results.eps) > 1 else " hidden"
    options = "".join(
        f'<option value="{at}"{" selected" if at == number else ""}>{escape(name_of(one, results))}</option>'
        for at, one in enumerate(results.networks)
    )
    choice = "" if len(results.networks) > 1 else " hidden"
    return (
        '<form class="controls js-only" id="controls" aria-label="What is shown">'
        f'<label{several}>ε <output id="eps-shown">{eps:g}</output><input type="range" id="eps" min="0" max="{len(results.eps) - 1}" '
        f'step="1" value="{index}" aria-valuetext="ε = {eps:g}"></label>'
        f'<label{choice}>checkpoint <select id="network">{options}</select></label></form>'
    )


def _file(name: str) -> str:
    return files("nncomplexity.show.html").joinpath(name).read_text(encoding="utf-8")
