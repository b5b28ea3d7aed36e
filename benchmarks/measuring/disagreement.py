"""How far the bound on the original network is above that on the decoded one, on the shipped digits networks.

    python -m benchmarks.measuring.disagreement            # three minutes of one core
    python -m benchmarks.measuring.disagreement --table    # the table of what was measured

The files are found by `tight` under the difference of training losses, and under the divergence of the outputs on the training images. The
360 test images serve as unlabelled inputs: the original's bound is that of the decoded network plus the limit on their disagreement
(`nncomplexity.bounds.disagreement`). Writes benchmarks/results/disagreement.json, row by row.
"""

from functools import partial

import torch

from benchmarks.cases.networks import ROOT, Case, find_cases
from benchmarks.cases.record import Record, Row, record_options
from benchmarks.reporting.disagreement import disagreement
from examples.digits import task
from nncomplexity import Divergence, estimate
from nncomplexity.bounds import disagreement_bound

OUTPUT = ROOT / "benchmarks" / "results" / "disagreement.json"
EPS = (0.1, 0.01)
DELTA, CHANCE = 0.05, 0.9


def measured(case: Case, distortion: str, eps: float) -> Row:
    """One row: the bits, both bounds, the limit between them, and the counts that they come from."""
    train, test = (task.split(name)[0] for name in ("train", "test"))
    loss = task.loss if distortion == "loss" else Divergence(task.logits, train, probe=0)
    report = estimate(case.weights, loss, eps)
    decoded = report.coarse_weights()
    with torch.no_grad():
        original, answers = (task.logits(weights, test).argmax(1) for weights in (case.weights, decoded))
    risk = task.error(decoded)
    of_original = disagreement_bound(
        report.bits,
        risk=risk,
        n=len(train),
        disagreements=int((original != answers).sum()),
        m=len(test),
        delta=DELTA,
        chance=CHANCE,
    )
    return {
        "bits": report.bits,
        "train_error": risk,
        "test_error": task.error(decoded, "test"),
        "original_test_error": task.error(case.weights, "test"),
        "decoded_bound": report.bound(risk=risk, n=len(train), delta=DELTA, chance=CHANCE).value,
        "original_bound": of_original.value,
        "disagreements": of_original.disagreements,
        "m": of_original.m,
        "limit": of_original.limit,
        "cpu_seconds": round(report.cpu_seconds, 1),
    }


def main() -> None:
    arguments = record_options(__doc__, OUTPUT).parse_args()
    torch.set_num_threads(1)
    record = Record.open(arguments.output, {"eps": EPS, "delta": DELTA, "chance": CHANCE})
    for case in () if arguments.table else find_cases([ROOT / "examples" / "digits"]):
        for distortion in ("loss", "kl"):
            for eps in EPS:
                key = {"case": case.name, "sha256": case.sha256, "distortion": distortion, "eps": eps}
                row = record.row(key, partial(measured, case, distortion, eps))
                print(f"{case.name}, {distortion}, ε = {eps:g}: {row['disagreements']} of {row['m']} answers differ", flush=True)
    print(disagreement({"rows": record.rows}))


if __name__ == "__main__":
    main()
