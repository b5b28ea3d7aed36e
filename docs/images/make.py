"""Measures the digits networks at several ε by every method and draws their sizes.

    python docs/images/make.py          measure (sizes.json), then draw (sizes.svg)
    python docs/images/make.py --draw   draw what sizes.json holds

Measuring takes about a minute on one core. The machine's floating point can move a size by a few per cent.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import torch
from safetensors.torch import load_file

matplotlib.use("svg")
from matplotlib import pyplot as plt

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
DATA, PICTURE = FOLDER / "sizes.json", FOLDER / "sizes.svg"

NETWORKS = {"mlp": "64-128-64-10 perceptron", "convnet": "convnet with batch norm"}
EPS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
# Okabe and Ito's colours, which stay apart for colour-blind readers; marks and dashes tell the methods apart without colour.
STYLES = {
    "tight": ("#D55E00", "o", "-", "tight (default)"),
    "bayes": ("#0072B2", "s", "--", "bayes (Algorithm 1)"),
    "quantize": ("#009E73", "^", "-.", "quantize (Algorithm 2)"),
}
LOSSLESS = ("#555555", ":", "lossless, best codec")

Content = Mapping[str, Mapping[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", action="store_true", help="draw what sizes.json holds, without measuring")
    if not parser.parse_args().draw:
        DATA.write_text(json.dumps(measure(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(json.loads(DATA.read_text(encoding="utf-8")), PICTURE)


def measure() -> Content:
    """Bytes of the payload by network and method, at each ε, with the methods' default budgets; and how they were measured."""
    sys.path.insert(0, str(ROOT))
    from examples.digits import task
    from nncomplexity import __version__, estimate

    torch.set_num_threads(1)
    sizes: dict[str, dict[str, Any]] = {}
    for network in NETWORKS:
        weights = load_file(ROOT / "examples" / "digits" / "checkpoints" / f"{network}.safetensors")
        entry: dict[str, Any] = {"eps": EPS}
        for method in STYLES:
            reports = estimate(weights, task.loss, EPS, method=method, seed=0)
            entry[method] = [report.bits // 8 for report in reports]
            entry["lossless"] = min(reports[0].subject.lossless_bits.values()) // 8
        sizes[network] = entry
    settings = {"seed": 0, "threads": 1, "torch": torch.__version__, "nncomplexity": __version__}
    return {"settings": settings, "networks": sizes}


def draw(content: Content, path: Path) -> None:
    """Write the picture; nothing in it depends on the time or the machine."""
    sizes = content["networks"]
    with plt.rc_context({"svg.hashsalt": "nncomplexity", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = plt.subplots(1, len(sizes), figsize=(8, 3.4), sharey=True, squeeze=False, layout="constrained")
        for axis, (network, entry) in zip(axes[0], sizes.items(), strict=True):
            for method, (colour, mark, dashes, label) in STYLES.items():
                axis.plot(entry["eps"], entry[method], color=colour, marker=mark, linestyle=dashes, markersize=4.5, label=label)
            colour, dashes, label = LOSSLESS
            axis.axhline(entry["lossless"], color=colour, linestyle=dashes, label=label)
            axis.set(xscale="log", yscale="log", xlabel="ε (nats per example)", title=NETWORKS[network])
            axis.grid(which="major", linewidth=0.4, alpha=0.5)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0, 0].set_ylabel("bytes of the file's payload")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
