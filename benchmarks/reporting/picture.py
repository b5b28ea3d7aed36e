"""The picture of the comparison: bytes by network and method, one panel for each ε."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from benchmarks.reporting.comparison import Content, figure, points, rows_of

# Okabe and Ito's colours, which colour-blind readers can distinguish; the marks differ, too.
STYLES = {
    "tight": ("#D55E00", "o", "tight"),
    "bayes": ("#0072B2", "s", "bayes (median of the seeds)"),
    "quantize": ("#56B4E9", "v", "quantize"),
    "int8_zstd": ("#999999", "^", "int8 + zstd-19"),
    "nncodec": ("#009E73", "D", "NNCodec"),
    "nncodec_per_tensor": ("#CC79A7", "P", "NNCodec, a step per tensor"),
}


def draw(contents: Sequence[Content], path: Path, *, made_by: str) -> None:
    """Write the picture, with the versions that measured it in its metadata. It doesn't depend on the time or the machine."""
    networks = [(content, case) for content in contents for case in content["cases"]]
    every_eps = sorted({eps for content in contents for _, eps in points(content)}, reverse=True)
    style = {"svg.hashsalt": "nncomplexity", "svg.fonttype": "none", "font.size": 9}
    with plt.rc_context(style):
        size = (3.1 * len(every_eps) + 1.4, 0.38 * len(networks) + 1.7)
        drawing, axes = plt.subplots(1, len(every_eps), figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained")
        for axis, eps in zip(axes[0], every_eps, strict=True):
            for method, (colour, mark, label) in STYLES.items():
                found = [figure(rows_of(content, case, eps, method), "bytes") for content, case in networks]
                known = [(size, row) for row, size in enumerate(found) if size is not None]
                if known:
                    axis.scatter(*zip(*known, strict=True), c=colour, marker=mark, s=34, label=label, zorder=3)
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_title(f"ε = {eps:g} nats", fontsize=9)
            axis.set_xlabel("bytes")
            axis.grid(axis="both", linewidth=0.4, alpha=0.5)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0, 0].set_yticks(range(len(networks)), [case for _, case in networks])
        axes[0, 0].set_ylim(len(networks) - 0.5, -0.5)
        handles, labels = max((axis.get_legend_handles_labels() for axis in axes[0]), key=lambda found: len(found[1]))
        drawing.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(path, metadata={"Date": None, "Creator": None, "Description": f"measured by {made_by}"})
        plt.close(drawing)
