"""The pages that quote what the benchmarks recorded: the marked sections of docs/benchmarks.md and docs/scaling.md, and the picture.

    python -m benchmarks.reporting.docs

rewrites them. They quote nothing else.
"""

import re
from collections.abc import Mapping

from benchmarks.cases.networks import ROOT
from benchmarks.reporting import (
    comparison,
    convergence,
    curve,
    disagreement,
    families,
    foldings,
    known_answers,
    mnist,
    paper,
    scale,
    stale,
    strangers,
)
from benchmarks.reporting.comparison import RESULTS, read, recorded
from benchmarks.reporting.picture import draw

DOCS = ROOT / "docs" / "benchmarks.md"
SCALING = ROOT / "docs" / "scaling.md"
PICTURE = ROOT / "docs" / "images" / "tight_vs_peers.svg"
MNIST_PICTURE = ROOT / "docs" / "images" / "mnist.svg"


def sections() -> dict[str, str]:
    """The contents of the marked sections of docs/benchmarks.md."""
    contents = recorded()
    found = {"setting": comparison.setting(contents)}
    for name, tell in {
        "ratios": comparison.ratios,
        "sizes": comparison.sizes,
        "costs": comparison.costs,
        "budgets": comparison.budgets,
    }.items():
        found[name] = _signed(tell(contents), "tight_vs_peers*.json")
    if departures := [read(path) for path in sorted(RESULTS.glob("paper_departures*.json"))]:
        found["departures"] = _signed(paper.departures(departures), "paper_departures*.json")
    tables = {
        "spectral_penalty": paper.penalty,
        "grokking_epoch": paper.epoch,
        "grokking_bounds": paper.bounds,
        "curve": curve.curve,
        "dynamics": curve.dynamics,
        "families": families.families,
        "foldings": foldings.foldings,
        "scale": scale.scale,
        "known_answers": known_answers.known_answers,
        "convergence": convergence.convergence,
        "mnist": mnist.all_points,
        "mnist_bound": mnist.all_bounds,
        "strangers": strangers.strangers,
        "disagreement": disagreement.disagreement,
    }
    for name, tell in tables.items():
        if (RESULTS / f"{name}.json").exists():
            found[name] = _signed(tell(read(RESULTS / f"{name}.json")), f"{name}.json")
    if "mnist" in found:
        bounds = read(RESULTS / "mnist_bound.json") if "mnist_bound" in found else None
        found["front"] = _signed(mnist.front(read(RESULTS / "mnist.json"), bounds), "mnist.json", "mnist_bound.json")
    if "curve" in found:
        found["curve_default"] = _signed(curve.curve_default(read(RESULTS / "curve.json")), "curve.json")
        found["curve_budgets"] = _signed(curve.curve_budgets(read(RESULTS / "curve.json")), "curve.json")
    return found


def _signed(text: str, *patterns: str) -> str:
    """The text, and a line on the versions and sources that measured these records."""
    paths = [path for pattern in patterns for path in sorted(RESULTS.glob(pattern))]
    return f"{text}\n\n*{stale.caption([str(path.relative_to(ROOT)) for path in paths])}*"


def rewritten(text: str, found: Mapping[str, str]) -> str:
    """The text with each marked section replaced. Raises ValueError for a section without marks."""
    for name, section in found.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)"
        text, count = re.subn(pattern, lambda marks, section=section: f"{marks[1]}{section}\n{marks[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(
                f"docs/benchmarks.md: expected one section between <!-- {name} --> and <!-- end {name} -->, got {count}"
            )
    return text


def write_docs() -> None:
    """Rewrite the marked sections, also those of docs/scaling.md, and the picture."""
    DOCS.write_text(rewritten(DOCS.read_text(encoding="utf-8"), sections()), encoding="utf-8")
    if (RESULTS / "scale.json").exists():
        SCALING.write_text(rewritten(SCALING.read_text(encoding="utf-8"), scaling()), encoding="utf-8")
    draw(recorded(), PICTURE, made_by=stale.made("benchmarks/results/tight_vs_peers.json").as_text())
    if (RESULTS / "mnist.json").exists():
        mnist.draw(read(RESULTS / "mnist.json"), MNIST_PICTURE, made_by=stale.made("benchmarks/results/mnist.json").as_text())


def scaling() -> dict[str, str]:
    """The content of the marked section of docs/scaling.md."""
    return {"projection": _signed(scale.projection(read(RESULTS / "scale.json")), "scale.json")}


if __name__ == "__main__":
    write_docs()
