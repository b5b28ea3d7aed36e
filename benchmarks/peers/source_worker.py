"""Measures with the source of the package in the current folder, for `benchmarks.peers.earlier`.

    python -m benchmarks.peers.source_worker

Each line of standard input asks for a search, each line of standard output answers. Only what earlier versions have, too, is used here.
"""

import json
import sys
from typing import Any

import torch

from benchmarks.cases.source import source_digest
from benchmarks.cases.subjects import given
from nncomplexity import estimate


def answer(network: str, distortion: str, eps: float, budget: float | None, seed: int) -> dict[str, Any]:
    """Bits of one search by `tight`; the default budget where it is None."""
    subject, loss = given(network, distortion)
    options = {} if budget is None else {"budget": budget}
    report = estimate(subject, loss, eps, seed=seed, **options)
    return {
        "bits": report.bits,
        "reached": report.distortion,
        "evaluations": report.evaluations,
        "cpu_seconds": round(report.cpu_seconds, 1),
        "measured_by": source_digest(),
    }


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
