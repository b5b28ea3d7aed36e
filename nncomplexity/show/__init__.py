"""Figures and pages of results. They are made from results files and plain values, never from networks.

- `plots`: figures: first a chart in plain data, then the picture by matplotlib
- `html`: web pages: a report in one file, and HTML for notebooks
"""

from nncomplexity.show.html.notebook import report_html
from nncomplexity.show.html.notebook_curve import curve_html
from nncomplexity.show.html.page import page
from nncomplexity.show.html.svg import svg
from nncomplexity.show.plots import KINDS, chart, default_kind, draw, read_results, save
from nncomplexity.show.plots.comparison import Side, Size, common_eps, comparison, differing_settings, side_by_side, sides_of
from nncomplexity.show.plots.drawing import picture_format
from nncomplexity.show.plots.results import Failure, LayerBits, Measurement, Network, Results
from nncomplexity.show.plots.runs import runs_of

__all__ = [
    "KINDS",
    "Failure",
    "LayerBits",
    "Measurement",
    "Network",
    "Results",
    "Side",
    "Size",
    "chart",
    "common_eps",
    "comparison",
    "curve_html",
    "default_kind",
    "differing_settings",
    "draw",
    "page",
    "picture_format",
    "read_results",
    "report_html",
    "runs_of",
    "save",
    "side_by_side",
    "sides_of",
    "svg",
]
