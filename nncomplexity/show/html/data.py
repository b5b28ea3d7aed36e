"""The data for the page's script, as JSON inside a script element."""

import json
from typing import Any

from nncomplexity.show.html.sections import promise
from nncomplexity.show.html.summary import key_figures, name_of, run_labels, verdict
from nncomplexity.show.plots.bounds import chance_of
from nncomplexity.show.plots.elements import Axis, Chart
from nncomplexity.show.plots.results import LayerBits, Measurement, Results
from nncomplexity.words import form_in_words, shape_in_words


def page_data(results: Results, charts: dict[str, Chart], *, eps: float, network: int) -> dict[str, Any]:
    """All networks with their layers at each ε, the points of the charts, and the first choice."""
    names: dict[str, int] = {}
    labels, chance = run_labels(results), chance_of(results)
    networks = []
    for one in results.networks:
        points = {
            f"{point.eps:g}": _point(point, names) | {"key": key_figures(one, point), "promise": promise(point, chance)}
            for point in one.points
        }
        networks.append({"name": name_of(one, results), "run": labels[id(one)], "step": one.step, "points": points})
    return {
        "eps": [f"{value:g}" for value in results.eps],
        "verdicts": [verdict(results, value) for value in results.eps],
        "first": {"eps": f"{eps:g}", "network": network},
        "networks": networks,
        "names": list(names),
        "charts": {name: _chart(chart) for name, chart in charts.items()},
    }


def embedded(data: dict[str, Any]) -> str:
    """JSON that can't end its script element.

    >>> embedded({"a": "</script>"})
    '{"a":"\\\\u003c/script\\\\u003e"}'
    """
    # A browser can't parse NaN, so it is an error here, and not on the page.
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # < and > could end the element or begin a comment. U+2028 and U+2029 end a line for older scripts.
    for sign, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):
        text = text.replace(sign, code)
    return text


def _point(point: Measurement, names: dict[str, int]) -> dict[str, Any]:
    return {"layers": [_layer(layer, names) for layer in point.layers], "shared": _rounded(point.shared_bits)}


def _layer(layer: LayerBits, names: dict[str, int]) -> list[Any]:
    # A page has each layer at each ε of each network. So it has each name once, and the layers have its number.
    number = names.setdefault(layer.name, len(names))
    form = form_in_words(layer.form, layer.layout)
    shape = shape_in_words(layer.shape)
    return [number, _rounded(layer.bits), shape, form, layer.rank, _rounded(layer.effective_rank), _rounded(layer.step)]


def _chart(chart: Chart) -> dict[str, Any]:
    panels = []
    for panel in chart.panels:
        lines = [
            {
                "label": line.label,
                "colour": line.colour,
                "x": [_rounded(x) for x in line.x],
                "y": [_rounded(y - low) for y, low in zip(line.y, line.base or (0.0,) * len(line.y), strict=True)],
            }
            # Lines without a label, such as hulls, only accompany others, and the box at the pointer has no name for them.
            for line in panel.lines
            if line.label
        ]
        unit, size = panel.y.scale
        panels.append({"label": panel.y.label, "title": panel.title, "unit": unit, "size": size, "lines": lines})
    return {"x": _axis(chart.x), "stepped": chart.stepped, "panels": panels}


def _axis(axis: Axis) -> dict[str, Any]:
    low, high = axis.limits or (0.0, 1.0)
    return {"label": axis.label, "log": axis.log, "low": low, "high": high, "zero": axis.zero_at, "names": list(axis.names)}


def _rounded(value: float | None) -> float | None:
    # float(value), because a `Share` would be written as a percentage.
    return None if value is None else float(f"{float(value):.6g}")
