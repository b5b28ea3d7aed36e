"""A report in a notebook: the figures, a picture of bits by layer, and a table of the layers."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from nncomplexity.show.html.controls import inert
from nncomplexity.words import Relative, form_in_words, or_dash, shape_in_words

ROW, WIDTH, NAMES = 20, 560, 190
"""In pixels: the height of a row of the picture, the width of the picture, and the width of its names."""
MOST_BARS = 12
_CELL = ' style="text-align:right;padding:2px 10px"'
_WORD = ' style="text-align:left;padding:2px 10px"'


def report_html(result: Mapping[str, Any], subject: Mapping[str, Any], status: str) -> str:
    """One report (an entry of report.json's `results`) and its network, as HTML with an SVG picture.

    Colours are those of the notebook, light or dark. Every name is escaped.
    """
    raw, bzip2 = subject["raw_bits"], subject["lossless_bits"].get("bzip2")
    shares = f"{_percent(result['bits'], raw)} of raw" + (f", {_percent(result['bits'], bzip2)} of bzip2" if bzip2 else "")
    beyond = " beyond the base" if subject.get("relative_to") else ""
    share = "" if result["eps_relative"] is None else f" ({Relative(result['eps_relative'])})"
    head = (
        f"<p style='margin:4px 0'><b>{result['bits']:,} bits</b>{beyond} ({result['bits'] // 8:,} bytes: {shares}) within "
        f"ε = {result['eps']:.4g}{share}; loss {subject['loss']:.4g} → {result['coarse_loss']:.4g}, distortion {result['distortion']:.4g}. "
        f"<span style='opacity:.7'>{subject['parameters']:,} parameters; {escape(result['method'])}, by {escape(result['origin'])}, "
        f"{result['evaluations']:,.0f} evaluations, {result['seconds']:,.1f} s.</span></p>"
    )
    said = [] if result["within"] and not result["interrupted"] else [status]
    said += [f"Warning: {text}" for text in result["warnings"]]
    head += "".join(f"<p style='margin:4px 0'>{escape(text)}</p>" for text in _faithful(result))
    warning = "".join(f"<p style='margin:4px 0'><b>{escape(text)}</b></p>" for text in said)
    return inert(f"<div>{head}{warning}{_picture(result['layers'])}{_table(result)}</div>")


def _faithful(result: Mapping[str, Any]) -> list[str]:
    """How faithful the file is, and the spread of several searches."""
    found, spread = result.get("faithfulness") or {}, result.get("spread")
    parts = {"the searched inputs": found.get("searched"), "held-out inputs": found.get("held_out")}
    agreed = [f"{part['agreement']:.4g} on {name}" for name, part in parts.items() if part and part["agreement"] is not None]
    lines = [f"Agreement with the original: {', '.join(agreed)}."] if agreed else []
    if spread:
        size = math.exp(spread["mean_ln_bits"]) / 8
        lines.append(f"{spread['searches']} searches: {size:,.0f} ± {size * spread['sd_ln_bits']:,.0f} bytes.")
    return lines


def _picture(layers: list[Mapping[str, Any]]) -> str:
    """A bar for each of the largest layers."""
    largest = sorted(layers, key=lambda layer: -layer["bits"])[:MOST_BARS]
    most = max((layer["bits"] for layer in largest), default=0.0) or 1.0
    rows = []
    for index, layer in enumerate(largest):
        y, length = index * ROW, (WIDTH - NAMES - 80) * layer["bits"] / most
        rows.append(
            f'<text x="{NAMES - 8}" y="{y + 14}" text-anchor="end">{escape(_short(layer["name"]))}</text>'
            f'<rect x="{NAMES}" y="{y + 3}" width="{max(length, 0.5):.1f}" height="{ROW - 6}" rx="2" fill="#3a8fc4"/>'
            f'<text x="{NAMES + length + 6:.1f}" y="{y + 14}">{layer["bits"]:,.0f}</text>'
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {ROW * len(largest)}" width="{WIDTH}" height="{ROW * len(largest)}" role="img" '
        f'aria-label="bits by layer" style="max-width:100%;font:12px sans-serif;fill:currentColor">{"".join(rows)}</svg>'
    )


def _table(result: Mapping[str, Any]) -> str:
    rows = []
    for layer in result["layers"]:
        shape = shape_in_words(layer["shape"])
        words = (" = ".join(layer["names"] or (layer["name"],)), shape, form_in_words(layer["form"], layer["layout"]))
        figures = (or_dash(layer["rank"], ","), or_dash(layer["effective_rank"], ".1f"), or_dash(layer["step"], ".3g"))
        cells = "".join(f"<td{_WORD}>{escape(word)}</td>" for word in words)
        cells += "".join(f"<td{_CELL}>{figure}</td>" for figure in (*figures, f"{layer['bits']:,.0f}"))
        rows.append(f"<tr>{cells}</tr>")
    rows.append(f"<tr><td{_WORD}>(shared by all)</td>{'<td></td>' * 5}<td{_CELL}>{result['shared_bits']:,.0f}</td></tr>")
    heads = "".join(f"<th{_WORD}>{name}</th>" for name in ("layer", "shape", "form"))
    heads += "".join(f"<th{_CELL}>{name}</th>" for name in ("rank", "eff. rank", "step", "bits"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "–"
