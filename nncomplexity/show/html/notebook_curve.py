"""A curve in a notebook: a picture of bytes against distortion, and a table with a row for each ε."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from nncomplexity.bounds import rounded_up
from nncomplexity.linalg import along_hull
from nncomplexity.show.html.controls import inert
from nncomplexity.words import Relative, number_in, unit_for

WIDTH, HEIGHT, LEFT, BOTTOM, MARGIN = 560, 240, 56, 40, 14
"""In pixels: the picture, the space for labels left of and below the axes, and the margin."""
_CELL = ' style="text-align:right;padding:2px 10px"'
_SHADE = "#3a8fc4"


@dataclass(frozen=True)
class _Point:
    eps: float
    distortion: float
    size: float
    on_hull: bool


def curve_html(
    results: Sequence[Mapping[str, Any]],
    subject: Mapping[str, Any],
    summary: Mapping[str, Any],
    *,
    bounds: Sequence[float | None],
    lengths: Sequence[float | None],
    promise: str | None = None,
) -> str:
    """A curve as HTML with an SVG picture. Colours are those of the notebook, light or dark.

    Args:
        results: entries of report.json's `results`.
        subject: the entries on the network.
        summary: the key `curve` of curve.json.
        bounds: the value of the bound of each result, None where there is none.
        lengths: the description length of each result in bits, None where there is none.
        promise: the sentence of the best bound.

    Returns:
        A fragment of HTML.
    """
    head = (
        f"<p style='margin:4px 0'><b>{len(results)} ε</b>: loss {subject['loss']:.4g}, {subject['raw_bits'] // 8:,} bytes raw. "
        f"<span style='opacity:.7'>{subject['parameters']:,} parameters; {escape(results[0]['method'])}, "
        f"{summary['evaluations']:,.0f} evaluations, {summary['seconds']:,.1f} s.</span></p>"
    )
    best = [f"the least description length at ε = {summary['mdl']['eps']:g}"] if summary["mdl"] else []
    best += [f"the best bound at ε = {summary['best_bound']['eps']:g}"] if summary["best_bound"] else []
    foot = f"<p style='margin:4px 0'>{' and '.join(best).capitalize()}.</p>" if best else ""
    foot += f"<p style='margin:4px 0'>{escape(promise)}</p>" if promise else ""
    foot += "".join(f"<p style='margin:4px 0'><b>Warning:</b> {escape(text)}</p>" for one in results for text in one["warnings"])
    return inert(f"<div>{head}{_picture(results, summary['hull'])}{_table(results, summary['hull'], bounds, lengths)}{foot}</div>")


def _picture(results: Sequence[Mapping[str, Any]], hull: Sequence[float]) -> str:
    """A mark for each file.

    Marks on the lower convex hull are filled and joined by a line. Lossless files can't be on a logarithmic axis.
    """
    points = [
        _Point(one["eps"], one["distortion"], one["bits"] / 8, one["eps"] in hull) for one in results if one["distortion"] > 0
    ]
    points.sort(key=lambda point: point.distortion)
    # The axis needs two different ends.
    if len({point.distortion for point in points}) < 2:
        return ""
    low, high = math.log10(points[0].distortion), math.log10(points[-1].distortion)
    top = max(point.size for point in points) * 1.06 or 1.0
    unit, size = unit_for("bytes", top)

    def across(distortion: float) -> float:
        return LEFT + MARGIN + (math.log10(distortion) - low) / (high - low) * (WIDTH - LEFT - 3 * MARGIN)

    def down(size: float) -> float:
        return HEIGHT - BOTTOM - size / top * (HEIGHT - BOTTOM - 2 * MARGIN)

    foot, axis = HEIGHT - BOTTOM, 'stroke="currentColor" stroke-opacity=".35"'
    parts = [f'<path d="M{LEFT} {2 * MARGIN}V{foot}H{WIDTH - MARGIN}" fill="none" {axis}/>']
    every = math.ceil((math.floor(high) - math.ceil(low) + 1) / 6) or 1
    places = range(math.ceil(low), math.floor(high) + 1, every)
    # An axis with fewer than two powers of ten has labels at its ends instead.
    for value in [10.0**power for power in places] if len(places) > 1 else [points[0].distortion, points[-1].distortion]:
        parts.append(f'<text x="{across(value):.1f}" y="{foot + 16}" text-anchor="middle">{value:.3g}</text>')
    # 0, half of the largest size, and the largest: `top` is 1.06 times as large.
    for value in (0.0, top / 2.12, top / 1.06):
        parts.append(f'<text x="{LEFT - 6}" y="{down(value) + 4:.1f}" text-anchor="end">{number_in(value / size)}</text>')
    corners = dict.fromkeys((point.distortion, point.size) for point in points if point.on_hull)
    line = "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y in along_hull(list(corners)))
    parts.append(f'<path d="M{line}" fill="none" stroke="{_SHADE}" stroke-width="2"/>' if line else "")
    for point in points:
        parts.append(
            f'<circle cx="{across(point.distortion):.1f}" cy="{down(point.size):.1f}" r="4" stroke="{_SHADE}" '
            f'fill="{_SHADE if point.on_hull else "none"}"><title>ε = {point.eps:g}: {point.size:,.0f} bytes</title></circle>'
        )
    parts.append(f'<text x="{LEFT - 6}" y="12" text-anchor="end">{unit}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">distortion</text>')
    signs = (("●", "on the lower convex hull", True), ("○", "above it", False))
    used = [(sign, label) for sign, label, on_hull in signs if any(point.on_hull == on_hull for point in points)]
    legend = "\u2003".join(f'<tspan fill="{_SHADE}">{sign}</tspan> {label}' for sign, label in used)
    parts.append(f'<text x="{WIDTH - MARGIN}" y="12" text-anchor="end">{legend}</text>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="bytes by distortion" '
        f'style="max-width:100%;font:12px sans-serif;fill:currentColor">{"".join(parts)}</svg>'
    )


def _table(
    results: Sequence[Mapping[str, Any]], hull: Sequence[float], bounds: Sequence[float | None], lengths: Sequence[float | None]
) -> str:
    names = ["ε", "bits", "bytes", "loss after", "distortion", "on the hull"]
    names += ["bound"] if any(value is not None for value in bounds) else []
    names += ["MDL bits"] if any(value is not None for value in lengths) else []
    rows = []
    for result, bound, length in zip(results, bounds, lengths, strict=True):
        share = "" if result["eps_relative"] is None else f" ({Relative(result['eps_relative'])})"
        cells = [f"{result['eps']:.4g}{share}{'' if result['within'] else ' (lossless)'}"]
        cells += [f"{result['bits']:,}", f"{result['bits'] // 8:,}"]
        cells += [f"{result['coarse_loss']:.4g}", f"{result['distortion']:.4g}", "yes" if result["eps"] in hull else ""]
        cells += ["–" if bound is None else rounded_up(bound, 4)] if "bound" in names else []
        cells += ["–" if length is None else f"{length:,.0f}"] if "MDL bits" in names else []
        rows.append(f"<tr>{''.join(f'<td{_CELL}>{cell}</td>' for cell in cells)}</tr>")
    heads = "".join(f"<th{_CELL}>{name}</th>" for name in names)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
