"""Which figures in README and the docs were measured by an older source than today's.

    python -m benchmarks.reporting.stale

prints a line for each record, and ends with exit code 1 if some are older. A record is older if the searches, the file format or the
codecs have changed since (`benchmarks.cases.source`). Its figures may still be right; measuring them again decides.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cases.networks import ROOT
from benchmarks.cases.source import ROOT as SEARCHES
from benchmarks.cases.source import source_digest
from nncomplexity.training import spectral_entropy_penalty

UNKNOWN = "not recorded"
GROKKING, GROKKING_KL = "examples/grokking/results", "examples/grokking/results-kl"
"""A folder of runs. Each line of their measurements has its version."""
GALLERY = sorted((ROOT / "docs" / "gallery").glob("*.json"))
"""The records of the gallery's pictures."""
PICTURES = {
    "docs/images/sizes.svg": "docs/images/sizes.json",
    "docs/images/dynamics.svg": "docs/images/dynamics.json",
    "docs/images/search.svg": "docs/images/search.json",
    "docs/images/mnist.svg": "benchmarks/results/mnist.json",
    "docs/images/learning_coefficient.svg": "benchmarks/results/learning_coefficient.json",
    "docs/images/measures.svg": "benchmarks/results/measures.json",
    "docs/images/tight_vs_peers.svg": "benchmarks/results/tight_vs_peers.json",
    **{path.with_suffix(".svg").as_posix(): path.as_posix() for path in (found.relative_to(ROOT) for found in GALLERY)},
    **{f"examples/grokking/figures/figure_{number:02d}.png": GROKKING for number in range(1, 12)},
    **{f"examples/grokking/figures/figure_{number:02d}_kl.png": GROKKING_KL for number in (1, 2, 3, 5)},
}
"""Each picture on a page, and its record."""
TRAINING = spectral_entropy_penalty.__module__
ROOTS = {f"benchmarks/results/{name}.json": TRAINING for name in ("spectral_penalty", "grokking_epoch")}
"""Records that don't depend on the searches."""


@dataclass(frozen=True)
class Made:
    """The versions and the sources of a record's rows; `UNKNOWN` if a row doesn't say."""

    record: str
    versions: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def state(self) -> str:
        """Whether it was measured by today's source, by an older one, or by a source that wasn't recorded."""
        if self.sources == (source_digest(ROOTS.get(self.record, SEARCHES)),):
            return "today's"
        return UNKNOWN if UNKNOWN in self.sources else "older"

    def as_text(self) -> str:
        """The text for captions and pictures."""
        if self.versions == self.sources == (UNKNOWN,):
            return "nncomplexity, version and source not recorded"
        return f"nncomplexity {' and '.join(self.versions)}, source {' and '.join(self.sources)}"


def records() -> list[str]:
    """The records of pictures, and the results of all benchmarks."""
    results = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks" / "results").glob("*.json"))
    return list(dict.fromkeys([*PICTURES.values(), *results]))


def made(record: str) -> Made:
    """What measured a record, from its rows, else from its settings and its machine."""
    stamps = list(_stamps(record))
    versions = {str(stamp.get("nncomplexity", UNKNOWN)) for stamp in stamps}
    sources = {str(stamp.get("source", UNKNOWN)) for stamp in stamps}
    return Made(record, tuple(sorted(versions)), tuple(sorted(sources)))


def caption(records: Sequence[str]) -> str:
    """The caption below a table or a picture of these records."""
    return f"Measured by {'; '.join(dict.fromkeys(made(record).as_text() for record in records))}."


def main() -> int:
    found = [made(record) for record in records()]
    for one in found:
        print(f"{one.state:>12}  {one.record}: {one.as_text()}")
    print(f"{'':>12}  today's source: {source_digest()}; of what makes training simpler: {source_digest(TRAINING)}")
    return int(any(one.state != "today's" for one in found))


def _stamps(record: str) -> Iterator[Mapping[str, Any]]:
    path = ROOT / record
    if path.is_dir():
        for file in sorted(path.rglob("measurements/*.jsonl")):
            lines = (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
            yield from ({"nncomplexity": line["version"]} if "version" in line else {} for line in lines)
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    whole = {**content.get("machine", {}), **content.get("settings", {})}
    rows = content.get("rows") or [{}]
    yield from ({**whole, **row} for row in rows) if any("source" in row for row in rows) else [whole]


if __name__ == "__main__":
    sys.exit(main())
