"""The pages that quote what the benchmarks recorded: the marked sections of docs/benchmarks.md, docs/benchmarks/ and docs/scaling.md, and the
pictures.

    python -m benchmarks.reporting.docs

rewrites them. They quote nothing else. Each section stands on one page, between `<!-- NAME -->` and `<!-- end NAME -->`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.cases.networks import ROOT
from benchmarks.reporting import (
    before,
    comparison,
    convergence,
    curve_agreement,
    disagreement,
    dynamics,
    encoder,
    families,
    foldings,
    known_answers,
    learning_coefficient,
    measures,
    mnist,
    paper,
    paper_dynamics,
    rate_aware_rounding,
    scale,
    settings,
    shipped,
    stale,
    strangers,
)
from benchmarks.reporting.comparison import RESULTS, read, recorded
from benchmarks.reporting.picture import draw

DOCS = ROOT / "docs"
PICTURES = DOCS / "images"


def pages() -> list[Path]:
    """The pages with marked sections."""
    return [DOCS / "benchmarks.md", *sorted((DOCS / "benchmarks").glob("*.md")), DOCS / "scaling.md"]


def sections() -> dict[str, str]:
    """The contents of the marked sections."""
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
    # A section's name, the record's name, and how it is told.
    tables = (
        ("spectral_penalty", "spectral_penalty", paper.penalty),
        ("grokking_epoch", "grokking_epoch", paper.epoch),
        ("grokking_bounds", "grokking_bounds", paper.bounds),
        ("dynamics", "dynamics", dynamics.dynamics),
        ("families", "families", families.families),
        ("foldings", "foldings", foldings.foldings),
        ("scale", "scale", scale.scale),
        ("projection", "scale", scale.projection),
        ("encoder", "encoder", encoder.encoder_table),
        ("known_answers", "known_answers", known_answers.known_answers),
        ("convergence", "convergence", convergence.convergence),
        ("shipped", "shipped", shipped.shipped),
        ("curve_agreement", "curve_agreement", curve_agreement.agreement),
        ("settings", "settings", settings.settings),
        ("paper_dynamics_scan", "paper_dynamics", paper_dynamics.scan),
        ("paper_dynamics", "paper_dynamics", paper_dynamics.efforts),
        ("rate_aware_rounding", "rate_aware_rounding", rate_aware_rounding.rate_aware_rounding),
        ("measures_best", "measures", measures.best),
        ("measures", "measures", measures.against_known),
        ("measures_least", "measures", measures.against_least),
        ("learning_coefficient", "learning_coefficient", learning_coefficient.learning_coefficient),
        ("checkpoints", "learning_coefficient", learning_coefficient.checkpoints),
        ("mnist", "mnist", mnist.all_points),
        ("mnist_bound", "mnist_bound", mnist.all_bounds),
        ("strangers", "strangers", strangers.strangers),
        ("disagreement", "disagreement", disagreement.disagreement),
    )
    for name, record, tell in tables:
        if (RESULTS / f"{record}.json").exists():
            found[name] = _signed(tell(read(RESULTS / f"{record}.json")), f"{record}.json")
    if (RESULTS / "before.json").exists():
        records = [path for name in ("before", "convergence", "shipped") if (path := RESULTS / f"{name}.json").exists()]
        found["before"] = _signed(before.before(*map(read, records)), *(path.name for path in records))
    if "mnist" in found:
        bounds = read(RESULTS / "mnist_bound.json") if "mnist_bound" in found else None
        found["mnist_picture"] = _caption("mnist.json")
        found["front"] = _signed(mnist.front(read(RESULTS / "mnist.json"), bounds), "mnist.json", "mnist_bound.json")
    return found


def _signed(text: str, *patterns: str) -> str:
    """The text, and a line on the versions and sources that measured these records."""
    return f"{text}\n\n{_caption(*patterns)}"


def _caption(*patterns: str) -> str:
    paths = [path for pattern in patterns for path in sorted(RESULTS.glob(pattern))]
    return f"*{stale.caption([str(path.relative_to(ROOT)) for path in paths])}*"


def rewritten(texts: Mapping[Path, str], found: Mapping[str, str]) -> dict[Path, str]:
    """The texts of the pages with each marked section replaced. Raises ValueError for a section that isn't on exactly one page."""
    texts = dict(texts)
    for name, section in found.items():
        pattern, count = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", flags=re.DOTALL), 0
        for page, text in texts.items():
            texts[page], here = pattern.subn(lambda marks, section=section: f"{marks[1]}{section}\n{marks[2]}", text)
            count += here
        if count != 1:
            raise ValueError(f"docs: expected one section between <!-- {name} --> and <!-- end {name} -->, got {count}")
    return texts


def write_docs() -> None:
    """Rewrite the marked sections and draw the pictures."""
    texts = {page: page.read_text(encoding="utf-8") for page in pages()}
    for page, text in rewritten(texts, sections()).items():
        page.write_text(text, encoding="utf-8")
    draw(recorded(), PICTURES / "tight_vs_peers.svg", made_by=_made("tight_vs_peers"))
    for name, drawing in {
        "mnist": mnist.draw,
        "measures": measures.draw,
        "learning_coefficient": learning_coefficient.draw,
    }.items():
        if (RESULTS / f"{name}.json").exists():
            drawing(read(RESULTS / f"{name}.json"), PICTURES / f"{name}.svg", made_by=_made(name))


def _made(name: str) -> str:
    return stale.made(f"benchmarks/results/{name}.json").as_text()


if __name__ == "__main__":
    write_docs()
