"""Measures and draws the pictures of README and docs/search.md, and writes a file for each with the version and source that measured it.

    python docs/images/make.py                all: some fifteen minutes on one core
    python docs/images/make.py sizes          the digits networks at several ε by every method: sizes.json, sizes.svg
    python docs/images/make.py dynamics       the grokking example's quick run, trained again and tracked: dynamics.json, .jsonl, .svg
    python docs/images/make.py search         the course of one search: search.json, search.svg
    python docs/images/make.py --draw         draw what was measured, without measuring

Floating-point sums differ between machines, so a size may change by a few per cent. `python -m benchmarks.reporting.stale` says whether the
source has changed since.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trace import draw, trace_of

from benchmarks.cases.networks import ROOT
from benchmarks.cases.source import made_by
from benchmarks.reporting.stale import made
from examples.digits import task
from examples.grokking.complexity import Settings
from examples.grokking.config import preset
from examples.grokking.folder import RunFolder
from examples.grokking.recording import train_run
from nncomplexity import estimate
from nncomplexity.show import chart, read_results, save

FOLDER = ROOT / "docs" / "images"
SIZES, DYNAMICS, SEARCH = FOLDER / "sizes.json", FOLDER / "dynamics.json", FOLDER / "search.json"

NETWORKS = {"mlp": "64-128-64-10 perceptron", "convnet": "convnet with batch norm"}
EPS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
# Okabe and Ito's colours, which colour-blind readers can distinguish; marks and dashes differ, too.
STYLES = {
    "tight": ("#D55E00", "o", "-", "tight (default)"),
    "bayes": ("#0072B2", "s", "--", "bayes (Algorithm 1)"),
    "quantize": ("#009E73", "^", "-.", "quantize (Algorithm 2)"),
}
LOSSLESS = ("#555555", ":", "lossless, best codec")
TRACKED_EPS = ("1", "0.1")
FUNCTIONS = "examples.grokking.task"

PICTURES = ("sizes", "dynamics", "search")

Content = Mapping[str, Mapping[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help="which; all unless given")
    parser.add_argument("--draw", action="store_true", help="draw what was measured, without measuring")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = arguments.pictures or list(PICTURES)
    if unknown := set(chosen) - set(PICTURES):
        parser.error(f"expected some of {', '.join(PICTURES)}, got {', '.join(sorted(unknown))}")
    if "sizes" in chosen:
        if not arguments.draw:
            _write(SIZES, {"settings": settings(seed=0), "networks": {name: sizes_of(name) for name in NETWORKS}})
        draw_sizes(json.loads(SIZES.read_text(encoding="utf-8")), SIZES.with_suffix(".svg"))
    if "dynamics" in chosen:
        if not arguments.draw:
            track_quick_run(DYNAMICS.with_suffix(".jsonl"))
            _write(DYNAMICS, {"settings": settings(preset="quick", eps=TRACKED_EPS, seed=0)})
        results = read_results(DYNAMICS.with_suffix(".jsonl"))
        save(chart(results, "dynamics"), DYNAMICS.with_suffix(".svg"), made_by=made("docs/images/dynamics.json").as_text())
    if "search" in chosen:
        if not arguments.draw:
            weights = load_file(ROOT / "examples" / "digits" / "checkpoints" / "mlp.safetensors")
            _write(SEARCH, {"settings": settings(network="mlp", seed=0), **asdict(trace_of(weights, task.loss, 0.1))})
        about = f"measured by {made('docs/images/search.json').as_text()}"
        draw(json.loads(SEARCH.read_text(encoding="utf-8")), about, SEARCH.with_suffix(".svg"))


def settings(**more: Any) -> dict[str, Any]:
    """What the figures depend on."""
    return {**more, "threads": 1, "torch": torch.__version__, **made_by()}


def sizes_of(network: str) -> dict[str, Any]:
    """Bytes of the payload by method, at each ε, with the methods' default budgets."""
    weights = load_file(ROOT / "examples" / "digits" / "checkpoints" / f"{network}.safetensors")
    entry: dict[str, Any] = {"eps": EPS}
    for method in STYLES:
        reports = estimate(weights, task.loss, EPS, method=method, seed=0)
        entry[method] = [report.bits // 8 for report in reports]
        entry["lossless"] = min(reports[0].subject.lossless_bits.values()) // 8
    return entry


def track_quick_run(out: Path) -> None:
    """Train the quick run and track it, as examples/grokking/README.md says, but for the measurements while it trains."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "quick")
        train_run(RunFolder(run, preset("quick"), Settings(method="quantize", budget=2)))
        command = [sys.executable, "-m", "nncomplexity", "track", "quick/checkpoints/*.safetensors", "--out", "rows.jsonl"]
        command += ["--outputs", f"{FUNCTIONS}:outputs", "--inputs", f"{FUNCTIONS}:inputs"]
        command += [part for eps in TRACKED_EPS for part in ("--eps", eps)]
        command += ["--risk-fn", f"{FUNCTIONS}:error", "--n", "884"]
        command += ["--metric", f"train_error={FUNCTIONS}:error", "--metric", f"test_error={FUNCTIONS}:test_error"]
        environment = {**os.environ, "GROKKING_RUN": str(run), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=folder, env=environment, check=True)
        out.write_bytes(Path(folder, "rows.jsonl").read_bytes())


def draw_sizes(content: Content, path: Path) -> None:
    """Write the picture; nothing in it depends on the time or the machine."""
    sizes = content["networks"]
    with rc_context({"svg.hashsalt": "nncomplexity", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        axes = figure.subplots(1, len(sizes), sharey=True, squeeze=False)
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
        about = f"measured by {made('docs/images/sizes.json').as_text()}"
        figure.savefig(path, metadata={"Date": None, "Creator": None, "Description": about})


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
