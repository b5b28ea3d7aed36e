"""Figures of results files, in three steps: plain values, a chart of plain data, and the picture.

>>> KINDS
('dynamics', 'measures', 'rate-distortion', 'layers', 'bounds', 'description-length')
"""

from collections.abc import Sequence

from nncomplexity.errors import InputError
from nncomplexity.show.plots.bounds import bounds
from nncomplexity.show.plots.description_length import description_length
from nncomplexity.show.plots.drawing import draw, save
from nncomplexity.show.plots.dynamics import dynamics
from nncomplexity.show.plots.elements import Chart
from nncomplexity.show.plots.layers import layers
from nncomplexity.show.plots.measures import measures
from nncomplexity.show.plots.rate_distortion import rate_distortion
from nncomplexity.show.plots.reading import read_results
from nncomplexity.show.plots.results import Results
from nncomplexity.show.plots.runs import trained
from nncomplexity.words import UNITS

KINDS = ("dynamics", "measures", "rate-distortion", "layers", "bounds", "description-length")


def default_kind(results: Results) -> str:
    """dynamics if a run has several steps; otherwise rate-distortion if a network has several ε; otherwise layers."""
    if trained(results):
        return "dynamics"
    return "rate-distortion" if any(len(network.points) > 1 for network in results.networks) else "layers"


def chart(
    results: Results,
    kind: str | None = None,
    *,
    eps: Sequence[float] = (),
    steps: Sequence[float] = (),
    mean: bool = False,
    unit: str = "bytes",
) -> Chart:
    """The chart of this kind. The default kind depends on the data.

    Args:
        results: the result of `read_results`.
        kind: one of `KINDS`.
        eps: which ε; the default is all of them.
        steps: for rate-distortion, the steps of the networks to draw; the default is the last ones.
        mean: the mean over runs and its standard error, instead of one line for each run.
        unit: "bytes" or "bits".

    Returns:
        The chart in plain data, to be drawn by matplotlib or written as SVG.

    Raises:
        InputError: the data have no such figure, the kind or unit is unknown, or the kind doesn't take an argument.
    """
    kind = kind or default_kind(results)
    if kind not in KINDS:
        raise InputError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    if unit not in UNITS:
        raise InputError(f"unit: expected bytes or bits, got {unit!r}")
    if steps and kind != "rate-distortion":
        raise InputError(f"step: only rate-distortion can show chosen steps, and {kind} shows all of them; leave step out")
    if mean and kind == "rate-distortion":
        raise InputError("mean: rate-distortion shows the curve of each network, and never a mean; leave mean out")
    if kind == "rate-distortion":
        return rate_distortion(results, eps=eps, steps=steps, unit=unit)
    if kind == "bounds":
        return bounds(results, eps=eps, mean=mean)
    figure = {"dynamics": dynamics, "measures": measures, "layers": layers, "description-length": description_length}[kind]
    return figure(results, eps=eps, mean=mean, unit=unit)


__all__ = [
    "KINDS", "Chart", "Results", "bounds", "chart", "default_kind", "description_length", "draw", "dynamics", "layers",
    "rate_distortion", "read_results", "save",
]  # fmt: skip
